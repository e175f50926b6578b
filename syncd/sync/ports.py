# SPDX-License-Identifier: Apache-2.0
"""What a sync needs of an account, of a maker of links, of a calendar and of the ledger."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from syncd.model import (
    Entry,
    Found,
    Identity,
    Invite,
    Link,
    Meeting,
    Run,
    Seen,
    Snapshot,
    Standing,
    Stored,
    Visitor,
    Window,
)
from syncd.plan.links import LinkKey, Origin
from syncd.plan.pull import Drop, Keep, KnownMeeting
from syncd.plan.timing import Listed

Progress = Callable[[str, int, int], None]
"""Hears before every step: of what, how many are done, of how many. May raise Stopped."""


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
    """An OpenMeetings."""

    def hash(self, event: str, name: str, visitor: Visitor) -> str:
        """A new entry hash for an event; ``name`` names its room."""

    def check(self) -> None:
        """Raise what stands in the way of making one."""


class Ledger(Protocol):
    """What a sync needs of the ledger; ``ledger.Ledger`` tells what each method does."""

    # fmt: off
    def identify(self, name: str, identity: Identity, names: Collection[str]) -> None: ...
    def identity(self, name: str) -> Identity | None: ...
    def digests(self, account: str) -> dict[str, str]: ...
    def known(self, account: str) -> Iterator[tuple[str, KnownMeeting]]: ...
    def sizes(self) -> dict[tuple[str, str], int]: ...
    def standings(self) -> Mapping[tuple[str, str], Standing]: ...
    def last_listed(self, account: str) -> Listed: ...
    def save_pull(self, account: str, changes: Iterable[Keep | Drop], run: Run) -> None: ...
    def meeting(self, account: str, event: str) -> Meeting | None: ...
    def sources(self, accounts: Sequence[str]) -> dict[str, Origin]: ...
    def links(self, accounts: Sequence[str] | None = None) -> dict[LinkKey, Link]: ...
    def probe(self) -> None: ...
    def save_link(self, link: Link, by: str) -> None: ...
    def entries(self, profile: str) -> dict[str, Entry]: ...
    def body(self, profile: str, event: str) -> bytes: ...
    def versions(self, event: str) -> list[tuple[int, str]]: ...
    def save_entries(
        self, profile: str, entries: Iterable[tuple[Entry, bytes]], erased: Iterable[str], changed: datetime
    ) -> None: ...
    # fmt: on


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
