# SPDX-License-Identifier: Apache-2.0
"""A calendar, an account and a link maker in memory; each can be made to fail.

The calendar keeps every promise that a CalDAV calendar makes (``tests/contract``)."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import RLock

from msgspec import Struct

from syncd.errors import BadAnswer, Changed, NeedsYou, SyncdError, UidTaken
from syncd.model import (
    Found,
    Identity,
    Invite,
    Meeting,
    Seen,
    Snapshot,
    Stored,
    Unreadable,
    Visitor,
    Window,
    meeting_digest,
)
from tests.support.occurrences import is_listed


class _Fault(Struct):
    error: SyncdError
    verb: str | None
    href: str | None
    after: int
    times: int
    done: bool


class MemoryCalendar:
    """A calendar; ``log`` has the calls as (verb, href), in the order of their arrival; ``seen`` has an empty href.

    ``user_puts`` and ``user_deletes`` are edits in somebody's calendar program: they are neither logged nor do they
    fail. ``gone`` means that the whole calendar was deleted.
    """

    def __init__(self, name: str = "memory") -> None:
        self.name = name
        self.url = f"memory:/{name}/"
        self.gone = False
        self.log: list[tuple[str, str]] = []
        self._objects: dict[str, Found] = {}
        self._uids: dict[bytes, str] = {}
        self._faults: list[_Fault] = []
        self._lock = RLock()
        self._versions = 0
        self._changes: dict[str, int] = {}  # href -> version of its latest change
        self._made: dict[str, int] = {}  # href -> version of its making
        self._forgotten = 0

    def create(self, href: str, body: bytes) -> Stored:
        with self._call("create", href):
            if href in self._objects:
                raise Changed(f"calendar {self.name}: there is an object already")
            return self._store(href, body)

    def update(self, href: str, body: bytes, etag: str | None) -> Stored:
        with self._call("update", href):
            found = self._objects.get(href)
            if found is None or etag not in (None, found.etag):
                raise Changed(f"calendar {self.name}: the object is not the one we remember")
            return self._store(href, body)

    def delete(self, href: str, etag: str | None) -> None:
        with self._call("delete", href):
            found = self._objects.get(href)
            if found is not None and etag not in (None, found.etag):
                raise Changed(f"calendar {self.name}: the object is not the one we remember")
            if found is not None:
                self._remove(href)

    def fetch(self, href: str) -> Found | None:
        with self._call("fetch", href):
            return self._objects.get(href)

    def seen(self, cursor: str | None) -> Seen:
        with self._call("seen", ""):
            now = f"{self.name}/{self._versions}"
            since = self._version(cursor)
            if since is None:
                return Seen({href: found.etag for href, found in self._objects.items()}, now, complete=True)
            changed = {href: self._etag(href) for href, version in self._changes.items() if version > since}
            # as Xandikos does: what was made and deleted since the cursor never was
            etags = {href: etag for href, etag in changed.items() if etag or self._made[href] <= since}
            return Seen(etags, now, complete=False)

    def check(self) -> None:
        with self._call("check", ""):
            pass

    def close(self) -> None:
        """Nothing is open."""

    @property
    def objects(self) -> dict[str, Found]:
        """What lies in the calendar, by href."""
        with self._lock:
            return dict(self._objects)

    def user_puts(self, href: str, body: bytes) -> Found:
        """Somebody edits an object, or adds one of their own."""
        with self._lock:
            self._store(href, body)
            return self._objects[href]

    def user_deletes(self, href: str) -> None:
        with self._lock:
            self._remove(href)

    def expire_cursors(self) -> None:
        """Forget what changed: no cursor given so far is valid any more."""
        with self._lock:
            self._versions += 1
            self._forgotten = self._versions

    def fail(
        self,
        error: SyncdError,
        *,
        verb: str | None = None,
        href: str | None = None,
        times: int = 1,
        after: int = 0,
    ) -> None:
        """Raise this in the next ``times`` matching calls instead of doing anything, ``after`` so many have passed."""
        self._faults.append(_Fault(error, verb, href, after, times, done=False))

    def lose_answer(self, *, verb: str, href: str | None = None, times: int = 1, after: int = 0) -> None:
        """Do what was asked, but break the connection before the answer."""
        lost = BadAnswer(f"calendar {self.name} broke off its answer")
        self._faults.append(_Fault(lost, verb, href, after, times, done=True))

    @contextmanager
    def _call(self, verb: str, href: str) -> Iterator[None]:
        with self._lock:
            self.log.append((verb, href))
            fault = self._next_fault(verb, href)
            if fault is not None and not fault.done:
                raise fault.error
            if self.gone:
                raise NeedsYou(f"calendar {self.name} is not there")
            yield
            if fault is not None:
                raise fault.error

    def _next_fault(self, verb: str, href: str) -> _Fault | None:
        for fault in self._faults:
            if fault.times and fault.verb in (None, verb) and fault.href in (None, href):
                if fault.after:
                    fault.after -= 1
                    continue
                fault.times -= 1
                return fault
        return None

    def _store(self, href: str, body: bytes) -> Stored:
        uid = _uid(body)
        if self._uids.get(uid, href) != href:
            raise UidTaken(f"calendar {self.name}: another object has the UID")
        if href in self._objects:
            del self._uids[_uid(self._objects[href].body)]
        self._uids[uid] = href
        new = href not in self._objects
        found = Found(href, f'"{self._change(href)}"', body)
        if new:
            self._made[href] = self._versions
        self._objects[href] = found
        return Stored(href, found.etag)

    def _remove(self, href: str) -> None:
        del self._uids[_uid(self._objects.pop(href).body)]
        self._change(href)

    def _change(self, href: str) -> int:
        self._versions += 1
        self._changes[href] = self._versions
        return self._versions

    def _etag(self, href: str) -> str | None:
        found = self._objects.get(href)
        return found.etag if found else None

    def _version(self, cursor: str | None) -> int | None:
        """The version that a cursor stands for; ``None`` if it is not one of this calendar, or too old."""
        name, _, version = (cursor or "").rpartition("/")
        known = name == self.name and version.isdecimal() and self._forgotten <= int(version) <= self._versions
        return int(version) if known else None


def _uid(body: bytes) -> bytes:
    found = re.search(rb"^UID:(.*?)\r?$", re.sub(rb"\r?\n[ \t]", b"", body), re.MULTILINE)
    assert found, "an object without a UID"
    return found[1]


class MemorySource:
    """An account whose ``meetings`` tests edit; ``requests`` counts its requests, ``broken`` are errors by request."""

    def __init__(self, *meetings: Meeting) -> None:
        self.meetings = {each.id: each for each in meetings}
        self.unreadable: dict[str, str] = {}
        self.invites: dict[str, str] = {}
        self.requests: Counter[str] = Counter()
        self.broken: dict[str, SyncdError] = {}
        self._digests: dict[str, tuple[Meeting, str]] = {}
        self.person = Identity("https://id.example.org", "alice", "u1", "Alice", "Adams")

    def _ask(self, what: str) -> None:
        self.requests[what] += 1
        if what in self.broken:
            raise self.broken[what]

    def identity(self) -> Identity:
        return self.person

    def snapshot(self, window: Window | None, have: Mapping[str, str] = {}) -> Snapshot:
        self._ask("snapshot" if window else "full snapshot")
        listed = {event: each for event, each in self._listed(window).items() if event not in self.unreadable}
        same = frozenset(event for event, each in listed.items() if have.get(event) == self._digest(each))
        rest = {event: each for event, each in listed.items() if event not in same}
        wrong = {event: Unreadable(event, reason) for event, reason in self.unreadable.items()}
        return Snapshot(rest, window, wrong, same)

    def _listed(self, window: Window | None) -> dict[str, Meeting]:
        return {event: each for event, each in self.meetings.items() if window is None or is_listed(each, window)}

    def _digest(self, each: Meeting) -> str:
        """Its digest in the ledger, which ``have`` brings back; computed once for each version of a meeting."""
        meeting, digest = self._digests.get(each.id, (None, ""))
        if meeting is not each:
            digest = meeting_digest(each)
            self._digests[each.id] = (each, digest)
        return digest

    def event(self, event_id: str) -> Meeting | None:
        self._ask("event")
        return self.meetings.get(event_id)

    def find_invite(self, meeting: Meeting) -> Invite | None:
        code = self.invites.get(meeting.id)
        return Invite(code, made=False) if code else None

    def invite(self, meeting: Meeting) -> Invite | None:
        self._ask("invite")
        if meeting.id not in self.invites:
            if not meeting.own or meeting.e2e:
                return None
            self.invites[meeting.id] = f"code-{meeting.id}"
            return Invite(self.invites[meeting.id], made=True)
        return self.find_invite(meeting)


class MemoryLinkMaker:
    """A link maker; ``made`` are the events and visitors of its links, ``broken`` is the error it raises."""

    def __init__(self) -> None:
        self.made: list[tuple[str, Visitor]] = []
        self.broken: SyncdError | None = None

    def make(self, event: str, title: str, visitor: Visitor) -> str:  # noqa: ARG002
        if self.broken:
            raise self.broken
        self.made.append((event, visitor))
        return f"hash-{len(self.made)}"

    def check(self) -> str:
        return ""
