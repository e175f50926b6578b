# SPDX-License-Identifier: Apache-2.0
"""What an account, a link maker, a calendar and the ledger must do for ``sync``, as Protocols."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from syncd.model import (
    Entry,
    Feed,
    Found,
    Identity,
    Invite,
    Link,
    Meeting,
    Placement,
    Run,
    RunKey,
    Seen,
    Snapshot,
    Standing,
    Stored,
    Unreadable,
    Visitor,
    Window,
)
from syncd.plan.deletions import Delete, Guard, Hold
from syncd.plan.feed import Carry
from syncd.plan.links import LinkKey, Origin
from syncd.plan.pull import Drop, Keep, KnownMeeting
from syncd.plan.records import Record
from syncd.plan.timing import LastAudit, LastListings

Progress = Callable[[str, int, int], None]
"""Called before every step: with what is being done, how many are done, and of how many. May raise Stopped."""


class Source(Protocol):
    """An OpenTalk account."""

    def identity(self) -> Identity:
        """Who the account is."""

    def snapshot(self, window: Window | None, have: Mapping[str, str] = ...) -> Snapshot:
        """The complete listing of a window, or of everything; ``have`` are digests by event, see ``Snapshot.same``."""

    def event(self, event_id: str) -> Meeting | None:
        """One event by its id; ``None`` if it is gone for this account."""

    def find_invite(self, meeting: Meeting) -> Invite | None:
        """A permanent guest invite, if there is one."""

    def invite(self, meeting: Meeting) -> Invite | None:
        """A permanent guest invite, found or made; ``None`` if there is none to be had."""


class LinkMaker(Protocol):
    """A conference server that makes links into its rooms."""

    def make(self, event: str, title: str, visitor: Visitor) -> str:
        """Make a link by which ``visitor`` enters the room of an event, and return its code; ``title`` names the room.

        Raises Refused if there is none to be had for this event.
        """

    def check(self) -> str:
        """Find out whether links could be made, and return in a few words what was tried. Raises what is in the way."""


class Calendar(Protocol):
    """A CalDAV calendar; ``href`` is relative to it."""

    @property
    def url(self) -> str:
        """Where it is."""

    def check(self) -> None:
        """Raise NeedsYou if this is not a calendar that can be written."""

    def seen(self, cursor: str | None) -> Seen:
        """What is there, or what changed since a cursor."""

    def create(self, href: str, body: bytes) -> Stored:
        """Put an object where none is. Raises Changed if one is."""

    def update(self, href: str, body: bytes, etag: str | None) -> Stored:
        """Put an object over the one with this ETag. Raises Changed if it has another, or is gone."""

    def delete(self, href: str, etag: str | None) -> None:
        """Remove the object with this ETag; fine if it is gone. Raises Changed if it has another."""

    def fetch(self, href: str) -> Found | None:
        """What lies there."""


# Of the ledger, table by table, what each consumer calls; the tables in ``ledger`` describe each method.
# fmt: off


class PullLedger(Protocol):
    """What a pull needs of the ledger."""

    @property
    def accounts(self) -> "PulledAccounts": ...
    @property
    def meetings(self) -> "PulledMeetings": ...
    @property
    def history(self) -> "PullHistory": ...


class PulledAccounts(Protocol):
    """The people behind the accounts."""

    def identify(self, name: str, identity: Identity, names: Collection[str]) -> None: ...


class PulledMeetings(Protocol):
    """The meetings that a pull compares with a listing, and changes."""

    def get(self, account: str, event: str) -> Meeting | None: ...
    def digests(self, account: str) -> dict[str, str]: ...
    def of(self, account: str) -> Iterator[tuple[str, KnownMeeting]]: ...
    def unreadable(self, account: str) -> list[Unreadable]: ...
    def save_pull(
        self, account: str, changes: Iterable[Keep | Drop], run: Run, unreadable: Iterable[Unreadable]
    ) -> None: ...


class PullHistory(Protocol):
    """When an account was listed before."""

    def last_listings(self, account: str) -> LastListings: ...


class MintLedger(Protocol):
    """What the making of links needs of the ledger."""

    @property
    def accounts(self) -> "Identities": ...
    @property
    def meetings(self) -> "Meetings": ...
    @property
    def links(self) -> "MintedLinks": ...


class Identities(Protocol):
    """The people behind the accounts."""

    def identity(self, name: str) -> Identity | None: ...


class Meetings(Protocol):
    """The meetings of accounts."""

    def get(self, account: str, event: str) -> Meeting | None: ...
    def origins(self, accounts: Sequence[str]) -> dict[str, Origin]: ...


class MintedLinks(Protocol):
    """The links that are there, and room for more."""

    def all(self) -> dict[LinkKey, Link]: ...
    def probe(self) -> None: ...
    def save(self, links: Iterable[tuple[Link, RunKey]]) -> None: ...


class RenderLedger(Protocol):
    """What rendering needs of the ledger."""

    @property
    def meetings(self) -> Meetings: ...
    @property
    def links(self) -> "Links": ...
    @property
    def entries(self) -> "Entries": ...


class Links(Protocol):
    """The links of accounts' meetings."""

    def of(self, accounts: Sequence[str]) -> dict[LinkKey, Link]: ...


class Entries(Protocol):
    """The entries of profiles."""

    def of(self, profile: str) -> dict[str, Entry]: ...
    def versions(self, event: str) -> list[tuple[int, str]]: ...
    def save(
        self, profile: str, entries: Iterable[tuple[Entry, bytes]], erased: Iterable[str], changed: datetime
    ) -> None: ...


class PushLedger(RenderLedger, Protocol):
    """What a push needs of the ledger."""

    @property
    def entries(self) -> "PushedEntries": ...
    @property
    def placements(self) -> "Placements": ...
    @property
    def audits(self) -> "Audits": ...
    @property
    def deletions(self) -> "Deletions": ...


class PushedEntries(Entries, Protocol):
    """The entries of profiles, with their bytes."""

    def bodies(self, profile: str, events: Sequence[str]) -> dict[str, bytes]: ...


class Placements(Protocol):
    """Our entries in calendars."""

    def of(self, calendar: str) -> dict[str, Placement]: ...
    def body(self, calendar: str, event: str) -> bytes: ...
    def record(self, calendar: str, records: Iterable[Record]) -> None: ...


class Audits(Protocol):
    """When calendars were looked at, and what was found there that is not placed."""

    def last(self, calendar: str) -> LastAudit | None: ...
    def save(self, calendar: str, audit: LastAudit, leftovers: Mapping[str, bool]) -> None: ...
    def leftovers(self, calendar: str) -> dict[str, bool]: ...


class Deletions(Protocol):
    """The deletions that wait for a person."""

    def guard(self, name: str, accounts: Sequence[str], since: datetime) -> Guard: ...
    def save_hold(self, name: str, hold: Hold | None, at: datetime) -> None: ...


class FeedLedger(RenderLedger, Protocol):
    """What a feed needs of the ledger."""

    @property
    def feeds(self) -> "Feeds": ...
    @property
    def deletions(self) -> Deletions: ...
    @property
    def history(self) -> "FeedHistory": ...


class Feeds(Protocol):
    """What each feed shows."""

    def build(self, feed: Feed, profile: str, carries: Iterable[Carry]) -> None: ...
    def content(self, feed: Feed) -> dict[str, datetime | None]: ...
    def release(self, feed: Feed, deletions: Iterable[Delete], at: datetime) -> None: ...


class FeedHistory(Protocol):
    """Which accounts have been listed."""

    def standings(self) -> Mapping[RunKey, Standing]: ...


# fmt: on
