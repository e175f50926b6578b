# SPDX-License-Identifier: Apache-2.0
"""A calendar in memory that keeps every promise a CalDAV calendar makes, and can be told to break down."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

from msgspec import Struct

from syncd.errors import BadAnswer, Changed, NeedsYou, SyncdError, UidTaken
from syncd.model import Found, Stored


class _Fault(Struct):
    error: SyncdError
    verb: str | None
    href: str | None
    after: int
    times: int
    done: bool


class MemoryCalendar:
    """Objects with ETags; ``log`` are the calls as (verb, href), in the order of their arrival.

    ``user_puts`` and ``user_deletes`` are what somebody does in their calendar program: they are neither logged nor
    spoilt. ``gone`` is a calendar that was deleted as a whole.
    """

    def __init__(self, name: str = "memory") -> None:
        self.name = name
        self.url = f"memory:/{name}/"
        self.gone = False
        self.log: list[tuple[str, str]] = []
        self._objects: dict[str, Found] = {}
        self._faults: list[_Fault] = []
        self._lock = RLock()
        self._versions = 0

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
            self._objects.pop(href, None)

    def fetch(self, href: str) -> Found | None:
        with self._call("fetch", href):
            return self._objects.get(href)

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
            del self._objects[href]

    def fail(
        self,
        error: SyncdError,
        *,
        verb: str | None = None,
        href: str | None = None,
        times: int = 1,
        after: int = 0,
    ) -> None:
        """Raise this instead of doing anything; ``after`` matching calls pass before."""
        self._faults.append(_Fault(error, verb, href, after, times, done=False))

    def lose_answer(self, *, verb: str, href: str | None = None, times: int = 1, after: int = 0) -> None:
        """Do what was asked and break the connection instead of telling so."""
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
        if any(_uid(each.body) == uid for each in self._objects.values() if each.href != href):
            raise UidTaken(f"calendar {self.name}: another object has the UID")
        self._versions += 1
        found = Found(href, f'"{self._versions}"', body)
        self._objects[href] = found
        return Stored(href, found.etag)


def _uid(body: bytes) -> bytes:
    found = re.search(rb"^UID:(.*?)\r?$", re.sub(rb"\r?\n[ \t]", b"", body), re.MULTILINE)
    assert found, "an object without a UID"
    return found[1]
