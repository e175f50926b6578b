# SPDX-License-Identifier: Apache-2.0
"""The world of the state machine: two accounts of one OpenTalk, an OpenMeetings, two calendars, a feed, and a clock.

Everything can be made to fail, and records what syncd does to it.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from msgspec.structs import replace

from syncd import config as configuration
from syncd.config.secret import Secret
from syncd.dav.calendar import CalDAVCalendar
from syncd.errors import BadEvent, NeedsYou, Stopped, SyncdError
from syncd.jobs.jobs import Jobs
from syncd.jobs.servers import Servers
from syncd.ledger.ledger import Ledger
from syncd.model import Feed, Found, Identity, Invite, Meeting, Override, Seen, Snapshot, Stored, Visitor, Window
from syncd.plan.links import WAYS
from syncd.sync.ports import Calendar
from syncd.sync.pull import ListingSettings
from tests.support.calendar_objects import digest_in, revision_of, uid_of
from tests.support.calendar_servers import Server
from tests.support.meetings import DAY, NOW
from tests.support.memory_servers import MemoryCalendar, MemoryLinkMaker, MemorySource
from tests.support.occurrences import is_endless, occurrences

FOREVER = datetime(2100, 1, 1, tzinfo=UTC)
FEED = Feed("phone", "0" * 64, (), "guests", False, "", NOW)


class Faults:
    """The faults to come: verb, error, how often. The empty verb is any."""

    def __init__(self) -> None:
        self._waiting: list[list[object]] = []

    def add(self, verb: str, error: SyncdError, times: int, *, done: bool = False) -> None:
        self._waiting.append([verb, error, times, done])

    def clear(self) -> None:
        self._waiting.clear()

    @contextmanager
    def met(self, verb: str) -> Iterator[None]:
        """Raise a fault that is due for this verb: before the work, or after it if the answer is lost."""
        fault = next((each for each in self._waiting if each[0] in ("", verb)), None)
        if fault is None:
            yield
            return
        _, error, times, done = fault
        assert isinstance(error, SyncdError)
        assert isinstance(times, int)
        fault[2] = times - 1
        if times <= 1:
            self._waiting.remove(fault)
        if not done:
            raise error
        yield
        raise error


class FailingAccount(MemorySource):
    """An account with ``faults``. If it ``lies``, its next listing is empty.

    ``gone`` are the events that it has reported as gone: only they may be deleted anywhere."""

    def __init__(self, person: Identity, invites: dict[str, str]) -> None:
        super().__init__()
        self.person = person
        self.invites = invites
        self.faults = Faults()
        self.lies = False
        self.gone: set[str] = set()
        self.given: Counter[str] = Counter()

    def _ask(self, what: str) -> None:
        self.requests[what] += 1
        with self.faults.met(what.removeprefix("full ")):
            pass

    def snapshot(self, window: Window | None, have: Mapping[str, str] = {}) -> Snapshot:
        if self.lies:
            self._ask("snapshot" if window else "full snapshot")
            self.lies = False
            return Snapshot({}, window)
        return super().snapshot(window, have)

    def _listed(self, window: Window | None) -> dict[str, Meeting]:
        listed = super()._listed(window)
        shown = {event: each if window is None else _as_listed(each, window) for event, each in listed.items()}
        for event in shown.keys() - self.unreadable.keys():
            (self.gone.discard if is_live(shown[event]) else self.gone.add)(event)
        return shown

    def event(self, event_id: str) -> Meeting | None:
        found = super().event(event_id)
        if event_id in self.unreadable:
            raise BadEvent(event_id, self.unreadable[event_id])
        if found is None or not is_live(found):
            self.gone.add(event_id)
        return found

    def invite(self, meeting: Meeting) -> Invite | None:
        found = super().invite(meeting)
        self.given[meeting.id] += found is not None
        return found


def _as_listed(each: Meeting, window: Window) -> Meeting:
    """A windowed listing hides the exceptions that lie outside the window, as controllers from 0.33 on do."""
    return replace(each, overrides=tuple(one for one in each.overrides if _touches(one, window)))


def _touches(one: Override, window: Window) -> bool:
    moments = [when.utc for when in (one.original, one.start, one.end) if when]
    return max(moments) >= window.since and min(moments) <= window.until


def is_live(each: Meeting) -> bool:
    """Whether a meeting is shown in calendars at all: not declined, and with an occurrence left."""
    if each.invite_status == "declined" or each.start is None:
        return False
    return is_endless(each) or bool(occurrences(each, each.start.utc - 100 * DAY, FOREVER))


class FailingLinkMaker(MemoryLinkMaker):
    """An OpenMeetings with ``faults``."""

    def __init__(self) -> None:
        super().__init__()
        self.faults = Faults()

    def make(self, event: str, title: str, visitor: Visitor) -> str:
        with self.faults.met("hash"):
            return super().make(event, title, visitor)


class UserCalendar(Protocol):
    """A calendar as its user has it open."""

    calendar: Calendar

    def objects(self) -> dict[str, bytes]: ...
    def put(self, href: str, body: bytes) -> None: ...
    def delete(self, href: str) -> None: ...
    def close(self) -> None: ...


class MemoryUserCalendar:
    def __init__(self, name: str) -> None:
        self._memory = MemoryCalendar(name)
        self.calendar: Calendar = self._memory

    def objects(self) -> dict[str, bytes]:
        return {href: found.body for href, found in self._memory.objects.items()}

    def put(self, href: str, body: bytes) -> None:
        self._memory.user_puts(href, body)

    def delete(self, href: str) -> None:
        self._memory.user_deletes(href)

    def close(self) -> None:
        """Nothing is open."""


class ServerUserCalendar:
    """The same on a real server; what did not change is not fetched again."""

    def __init__(self, server: Server) -> None:
        url = server.fresh_calendar()
        self._syncd = server.calendar(url)
        self._somebody: CalDAVCalendar = server.calendar(url)
        self._known: dict[tuple[str, str], bytes] = {}
        self.calendar: Calendar = self._syncd

    def objects(self) -> dict[str, bytes]:
        etags = self._somebody.seen(None).etags
        return {href: self._body(href, etag or "") for href, etag in etags.items()}

    def _body(self, href: str, etag: str) -> bytes:
        body = self._known.get((href, etag))
        if body is None:
            found = self._somebody.fetch(href)
            assert found
            body = self._known[href, etag] = found.body
        return body

    def put(self, href: str, body: bytes) -> None:
        found = self._somebody.fetch(href)
        if found:
            self._somebody.update(href, body, found.etag)
        else:
            self._somebody.create(href, body)

    def delete(self, href: str) -> None:
        self._somebody.delete(href, None)

    def close(self) -> None:
        self._syncd.close()
        self._somebody.close()


class WatchedCalendar:
    """A calendar between syncd and its user, with ``faults``, that records what both do.

    ``foreign`` are objects, by href, that syncd must not touch. ``written`` are the revisions that syncd gave, by
    UID, as long as the object lives. ``added`` is what the user added, ``edited`` are the UIDs of what they changed,
    ``titles`` are the users' titles with the meeting's title then, ``deleted`` the versions of a meeting for which its
    entry may stay deleted.
    ``adrift`` are entries of an earlier ledger, or of this one under another name.
    """

    def __init__(self, user: UserCalendar) -> None:
        self.user = user
        self.faults = Faults()
        self.gone = False
        self.cursors = 0
        self.log: list[tuple[str, str]] = []
        self.foreign: dict[str, bytes] = {}
        self.written: dict[str, int] = {}
        self.added: dict[str, set[bytes]] = {}
        self.edited: set[str] = set()
        self.titles: dict[str, tuple[bytes, str]] = {}
        self.deleted: dict[str, set[Meeting]] = {}
        self.adrift: set[str] = set()
        self.lost: list[datetime] = []
        self.trash: list[tuple[str, bytes]] = []

    @property
    def url(self) -> str:
        return self.user.calendar.url

    def check(self) -> None:
        with self._met("check", ""):
            self.user.calendar.check()

    def seen(self, cursor: str | None) -> Seen:
        with self._met("seen", ""):
            age, _, real = (cursor or "").partition(" ")
            seen = self.user.calendar.seen(None if age != str(self.cursors) else real)
            return Seen(seen.etags, f"{self.cursors} {seen.cursor}" if seen.cursor else None, seen.complete)

    def create(self, href: str, body: bytes) -> Stored:
        with self._met("create", href):
            stored = self.user.calendar.create(href, body)
            self._wrote(body)
        return stored

    def update(self, href: str, body: bytes, etag: str | None) -> Stored:
        with self._met("update", href):
            stored = self.user.calendar.update(href, body, etag)
            self._wrote(body)
        return stored

    def delete(self, href: str, etag: str | None) -> None:
        with self._met("delete", href):
            self.user.calendar.delete(href, etag)

    def fetch(self, href: str) -> Found | None:
        with self._met("fetch", href):
            return self.user.calendar.fetch(href)

    @contextmanager
    def _met(self, verb: str, href: str) -> Iterator[None]:
        self.log.append((verb, href))
        with self.faults.met(verb):
            if self.gone:
                raise NeedsYou("the calendar is not there")
            yield

    def _wrote(self, body: bytes) -> None:
        uid, revision = uid_of(body), revision_of(body)
        assert revision >= self.written.get(uid, 0), f"the SEQUENCE of {uid} went down"
        self.written[uid] = revision

    def writes(self) -> list[tuple[str, str]]:
        return [call for call in self.log if call[0] in ("create", "update", "delete")]

    def forget_own_writes(self) -> None:
        """Begin anew with an empty ledger: objects with our marker may be adopted, others are foreign."""
        self.written.clear()
        self.titles.clear()
        self.lost.clear()
        for href, body in self.user.objects().items():
            if digest_in(body) is None:
                self.foreign.setdefault(href, body)
            self.written[uid_of(body)] = revision_of(body)
            self.adrift.add(uid_of(body))


class World:
    """All of it; ``accounts`` and ``calendars`` have names that never change, ``names`` are the configured ones."""

    def __init__(self, calendars: Mapping[str, WatchedCalendar], rules: Mapping[str, tuple[str, str]]) -> None:
        self.now = NOW
        self.calendars = dict(calendars)
        self.rules = rules
        invites: dict[str, str] = {}
        people = (("work", "Alice", "Adams"), ("home", "Bob", "Burton"))
        self.accounts = {
            name: FailingAccount(
                Identity("https://id.example.org", f"sub-{name}", f"user-{name}", first, last), invites
            )
            for name, first, last in people
        }
        self.archive: dict[str, dict[str, Meeting]] = {name: {} for name in self.accounts}
        self.link_maker = FailingLinkMaker()
        self.names = {name: name for name in (*self.accounts, *self.calendars)}
        self.language = "en"
        self.version = 1
        self.past, self.ahead = 3 * DAY, 30 * DAY
        self.stop_after: int | None = None
        self.ledger: Ledger = Ledger.in_memory()
        self.jobs: Jobs
        self.shown: set[str] = set()
        self.dropped: list[datetime] = []
        self._subscribe()
        self.configure()

    def orders(self) -> dict[str, tuple[str, ...]]:
        """The accounts of each calendar and of the feed, in order of preference."""
        return {"mine": ("work",), "team": ("home", "work"), "phone": ("work", "home")}

    def configured(self, what: str) -> tuple[str, ...]:
        return tuple(self.names[account] for account in self.orders()[what])

    def configure(self) -> None:
        """Make the jobs anew of the configuration, as a restart does."""
        password = Secret("x", "env", "X", Path("x"), {"X": "x"})
        accounts = {
            self.names[name]: configuration.Account(
                name=self.names[name], url="https://meet.example.org", past=self.past, ahead=self.ahead
            )
            for name in self.accounts
        }
        calendars = {self.names[name]: self._calendar(name, password) for name in self.calendars}
        om = "https://om.example.org/openmeetings"
        config = configuration.Config(
            path=Path("config.toml"),
            state=Path("memory"),
            language=self.language,  # type: ignore[arg-type]
            accounts=accounts,
            ways=WAYS,
            makers={
                "openmeetings": configuration.OpenMeetings(url=om, public_url=om, username="syncd", password=password)
            },
            calendars=calendars,
            feeds=None,
        )
        servers = Servers(
            {self.names[name]: account for name, account in self.accounts.items()},
            {"openmeetings": self.link_maker},
            {self.names[name]: calendar for name, calendar in self.calendars.items()},
            lambda: None,
        )
        self.jobs = Jobs(config, self.ledger, servers, lambda: self.now, self._progress, workers=1, jitter=lambda: 0.0)
        for name, profile in self.jobs.profiles.items():
            self.jobs.profiles[name] = replace(profile, versions=(str(self.version),))

    def _calendar(self, name: str, password: Secret) -> configuration.Calendar:
        return configuration.Calendar(
            name=self.names[name],
            url="https://dav.example.org/",
            username="alice",
            password=password,
            accounts=self.configured(name),
            ways_in=("opentalk", "openmeetings"),
            audience="owner" if name == "mine" else "guests",
            passwords=name == "mine",
            on_edit=self.rules[name][0],  # type: ignore[arg-type]
            on_delete=self.rules[name][1],  # type: ignore[arg-type]
        )

    def _progress(self, _name: str, _done: int, _total: int) -> None:
        if self.stop_after is not None:
            self.stop_after -= 1
            if self.stop_after < 0:
                self.stop_after = None
                raise Stopped("syncd is ending")

    def _subscribe(self) -> None:
        self.ledger.feeds.add(replace(FEED, accounts=self.configured("phone")))

    def lose_ledger(self) -> None:
        self.ledger.close()
        self.ledger = Ledger.in_memory()
        self.link_maker.made.clear()
        for account in self.accounts.values():
            account.given.clear()
        for calendar in self.calendars.values():
            calendar.forget_own_writes()
        self.shown.clear()
        self.dropped.clear()
        self._subscribe()
        self.configure()

    def close(self) -> None:
        self.ledger.close()
        for calendar in self.calendars.values():
            calendar.user.close()

    def window(self) -> Window:
        return ListingSettings(self.past, self.ahead).window(self.now)

    def seen_by(self, event: str, what: str) -> tuple[str, Meeting] | None:
        """A meeting that is not declined, as the first account of a calendar or the feed has it, and that account."""
        for name in self.orders()[what]:
            each = self.accounts[name].meetings.get(event)
            if each is not None and each.invite_status != "declined" and each.start is not None:
                return name, each
        return None

    def versions(self, event: str, what: str) -> set[Meeting]:
        """A meeting as its account has it now, and as the ledger has it."""
        origin, here = self.ledger.meetings.origins(self.configured(what)).get(event), self.seen_by(event, what)
        there = self.ledger.meetings.get(origin.account, event) if origin else None
        return {replace(each, updated=each.created) for each in (there, here and here[1]) if each}

    def feed_bodies(self) -> dict[str, bytes]:
        """What the feed shows, by UID."""
        feed = self.ledger.feeds.all()["phone"]
        if feed.built is None:
            return {}
        bodies = [body for *_, body in self.ledger.feeds.edition_bodies(feed)]
        result = {uid_of(body): body for body in bodies}
        assert len(result) == len(bodies), "the feed shows an event twice"
        return result

    def change(self, event: str, edit: Callable[[Meeting], Meeting]) -> None:
        """Edit an event for all accounts, and for those that are no longer invited to it."""
        for name, account in self.accounts.items():
            for meetings in (account.meetings, self.archive[name]):
                if event in meetings:
                    meetings[event] = edit(meetings[event])


@lru_cache(maxsize=10_000)
def unfolded(body: bytes) -> bytes:
    return re.sub(rb"\r?\n[ \t]", b"", body)


def in_events(body: bytes, edit: Callable[[bytes], bytes]) -> bytes:
    """The object with its events edited, and its zones as they are."""
    pattern = re.compile(rb"^BEGIN:VEVENT\r?$.*?^END:VEVENT\r?$", re.DOTALL | re.MULTILINE)
    return pattern.sub(lambda found: edit(found[0]), unfolded(body))
