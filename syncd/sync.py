# SPDX-License-Identifier: Apache-2.0
"""The shell: carries the plan's decisions out. The Protocols say what it needs of the edges.

``pull`` writes what the meetings are, ``render_entries`` makes entries of them and of the links that ``minting``
makes (``push`` puts them into calendars). None waits for another, and none holds a transaction while a socket is
in use. The clock is an argument.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import count
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from syncd import plan
from syncd.errors import BadEvent, Unavailable
from syncd.ical.render import render, with_revision
from syncd.links import ways_in
from syncd.model import (
    Entry,
    Identity,
    Invite,
    Link,
    Meeting,
    Profile,
    Run,
    Scope,
    Snapshot,
    Standing,
    Visitor,
    Window,
    meeting_digest,
)

log = logging.getLogger(__name__)

BATCH = 200
"""Entries that are rendered between two transactions."""

SOON = timedelta(days=2)
"""How far ahead meetings are looked at more often."""

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


class LinkMinter(Protocol):
    """An OpenMeetings."""

    def hash(self, event: str, name: str, visitor: Visitor) -> str:
        """A new entry hash for an event; ``name`` names its room."""

    def check(self) -> None:
        """Raise what stands in the way of making one."""


class Ledger(Protocol):
    """What a sync needs of the ledger; ``store.Ledger`` tells what each method does."""

    # fmt: off
    def identify(self, name: str, identity: Identity, names: Collection[str]) -> None: ...
    def identity(self, name: str) -> Identity | None: ...
    def digests(self, account: str) -> dict[str, str]: ...
    def known(self, account: str) -> Iterator[tuple[str, plan.Known]]: ...
    def sizes(self) -> dict[tuple[str, str], int]: ...
    def standings(self) -> Mapping[tuple[str, str], Standing]: ...
    def last_listed(self, account: str) -> plan.Listed: ...
    def save_pull(self, account: str, changes: Iterable[plan.Keep | plan.Drop], run: Run) -> None: ...
    def meeting(self, account: str, event: str) -> Meeting | None: ...
    def sources(self, accounts: Sequence[str]) -> dict[str, plan.Source]: ...
    def links(self, accounts: Sequence[str] | None = None) -> dict[plan.LinkKey, Link]: ...
    def probe(self) -> None: ...
    def save_link(self, link: Link, by: str) -> None: ...
    def entries(self, profile: str) -> dict[str, Entry]: ...
    def body(self, profile: str, event: str) -> bytes: ...
    def versions(self, event: str) -> list[tuple[int, str]]: ...
    def save_entries(
        self, profile: str, entries: Iterable[tuple[Entry, bytes]], erased: Iterable[str], changed: datetime
    ) -> None: ...
    # fmt: on


class Listing(Struct, frozen=True):
    """What an account wants listed: how far back and ahead, and which meetings.

    ``names`` are those of all accounts of the configuration. ``every`` and ``soon_every`` say how often the
    window and the next days are listed.
    """

    past: timedelta
    ahead: timedelta
    adhoc: bool = False
    declined: bool = False
    names: tuple[str, ...] = ()
    every: timedelta = timedelta(minutes=5)
    soon_every: timedelta = timedelta(minutes=1)

    @property
    def wishes(self) -> dict[str, bool]:
        """Which meetings, as ``plan`` takes it."""
        return {"adhoc": self.adhoc, "declined": self.declined}

    def window(self, now: datetime) -> Window:
        """The window at this moment, in whole seconds as OpenTalk takes it."""
        now = now.replace(microsecond=0)
        return Window(now - self.past, now + self.ahead)


def pull(account: str, source: Source, ledger: Ledger, listing: Listing, now: datetime, *, soon: bool = False) -> Run:
    """Bring the ledger's meetings of an account up to date: everything or nothing.

    With ``soon`` the next days alone are listed while the window is not due. Counts: ``meetings`` in the ledger
    afterwards, ``changed``, ``gone``, ``asked``, ``unreadable``.
    """
    ledger.identify(account, source.identity(), listing.names)
    listed = ledger.last_listed(account)
    scope = plan.listing_due(listed, now, listing.every, soon=soon)
    changes, told = _listed(account, source, ledger, listing, now, scope)
    if scope == "soon" and plan.is_emptied(changes, told.listed):  # look at the rest before any of it is let go
        scope = "everything"
        changes, told = _listed(account, source, ledger, listing, now, scope)
    before = ledger.standings().get(("pull", account)) if scope == "soon" and not told.message else None
    if before and before.latest.state == "ok":  # what is further away is as unreadable as it was
        told = replace(told, unreadable=before.latest.counts.get("unreadable", 0), message=before.latest.message)
    kept = [change for change in changes if isinstance(change, plan.Keep)]
    gone = len(changes) - len(kept)
    run = Run(
        kind="pull",
        name=account,
        ended=now,
        state="retrying" if told.unanswered else "ok",
        scope=scope,
        counts={
            "meetings": told.known + sum(change.fresh for change in kept) - gone,
            "changed": len(kept),
            "gone": gone,
            "asked": told.asked,
            "unreadable": told.unreadable,
        },
        message=told.unanswered or told.message,
        next_try=_next_listing(listed, listing, now, scope),
    )
    ledger.save_pull(account, changes, run)
    return run


class _Told(Struct, frozen=True):
    """What a listing told besides its changes."""

    listed: int
    known: int
    asked: int
    unanswered: str
    unreadable: int
    message: str | None


def _listed(
    account: str, source: Source, ledger: Ledger, listing: Listing, now: datetime, scope: Scope
) -> tuple[list[plan.Keep | plan.Drop], _Told]:
    """List, and find what has changed."""
    window = listing.window(now)
    snapshot = source.snapshot({"soon": _soon(now), "window": window}.get(scope), ledger.digests(account))
    before = count()  # how many the ledger has: counting them apart would read them all again
    known = (row for row, _ in zip(ledger.known(account), before, strict=False))
    planned = plan.ledger_changes(snapshot, known, window, **listing.wishes)
    planned = list(_with_overrides_outside(planned, account, ledger, snapshot.window))
    changes, asked, unanswered = _answered(planned, source, listing, windowed=scope != "everything")
    for event, reason in snapshot.unreadable.items():
        log.debug("opentalk.%s: event %s is left as it was: %s", account, event, reason)
    there = len(snapshot.meetings) + len(snapshot.same) + len(snapshot.unreadable)
    told = _Told(there, next(before), asked, unanswered, len(snapshot.unreadable), _unreadable(snapshot))
    return changes, told


def _soon(now: datetime) -> Window:
    """What is going on or comes next, in whole seconds; a series counts by the start of its last occurrence."""
    now = now.replace(microsecond=0)
    return Window(now - SOON / 2, now + SOON)


def _next_listing(listed: plan.Listed, listing: Listing, now: datetime, scope: Scope) -> datetime:
    """When to list again: when the window is due, or sooner what comes soon."""
    window = listed.window if scope == "soon" and listed.window else now
    due = window + listing.every
    return min(due, now + listing.soon_every)


def _with_overrides_outside(
    planned: Iterable[plan.Keep | plan.Ask | plan.Drop], account: str, ledger: Ledger, window: Window | None
) -> Iterator[plan.Keep | plan.Ask | plan.Drop]:
    """The plan of a windowed listing without what only seems to have changed because the window hides it."""
    for change in planned:
        if window and isinstance(change, plan.Keep) and not change.fresh and change.meeting.recurrence:
            known = ledger.meeting(account, change.meeting.id)
            if known:
                meeting = plan.with_overrides_outside(change.meeting, known, window)
                if meeting != change.meeting and meeting_digest(meeting) == meeting_digest(known):
                    continue
                yield plan.Keep(meeting, plan.known_as(meeting))
                continue
        yield change


def _answered(
    planned: Iterable[plan.Keep | plan.Ask | plan.Drop], source: Source, listing: Listing, *, windowed: bool
) -> tuple[list[plan.Keep | plan.Drop], int, str]:
    """The plan with its questions answered, how many were asked, and why the rest was not, if so.

    What is not answered stays as it is: an outage is no word about an event.
    """
    changes: list[plan.Keep | plan.Drop] = []
    asked, unanswered = 0, ""
    for change in planned:
        if not isinstance(change, plan.Ask):
            changes.append(change)
        elif not unanswered:
            asked += 1
            try:
                meeting = source.event(change.event)
            except BadEvent as error:  # it is there, and cannot be read
                log.warning("%s", error)
                continue
            except Unavailable as error:
                unanswered = str(error)
                continue
            changes.append(plan.answered(change, meeting, windowed=windowed, **listing.wishes))
    return changes, asked, unanswered


def _unreadable(snapshot: Snapshot) -> str | None:
    if not snapshot.unreadable:
        return None
    event, reason = next(iter(snapshot.unreadable.items()))
    others = f", and {len(snapshot.unreadable) - 1} more" if len(snapshot.unreadable) > 1 else ""
    return f"event {event} is left as it was: {reason}{others}"


class Rendering(Struct, frozen=True):
    """What rendering did: how many entries it made or erased, and what it could not render."""

    changed: int
    problems: tuple[str, ...]


def summary(problems: Sequence[str]) -> str | None:
    """The first problems in one line, which is what a run has room for; ``None`` without any."""
    return "; ".join(problems[:3]) or None


def render_entries(ledger: Ledger, profile: Profile, now: datetime, progress: Progress) -> Rendering:
    """Make a profile's entries agree with its meetings and links.

    An entry that cannot be rendered any more stays as it was.
    """
    sources, links = ledger.sources(profile.accounts), ledger.links(profile.accounts)
    changes = plan.entry_changes(sources, links, ledger.entries(profile.key), profile)
    problems: list[str] = []
    for first in range(0, len(changes), BATCH):
        rendered: list[tuple[Entry, bytes]] = []
        for change in changes[first : first + BATCH]:
            if isinstance(change, plan.Render):
                try:
                    rendered.append(_render_one(ledger, profile, change, sources[change.event], links))
                except BadEvent as error:
                    problems.append(str(error))
        erased = [change.event for change in changes[first : first + BATCH] if isinstance(change, plan.Erase)]
        ledger.save_entries(profile.key, rendered, erased, now)
        progress("entries", first + len(rendered), len(changes))
    return Rendering(len(changes) - len(problems), tuple(problems))


def _render_one(
    ledger: Ledger,
    profile: Profile,
    change: plan.Render,
    source: plan.Source,
    links: Mapping[plan.LinkKey, Link],
) -> tuple[Entry, bytes]:
    meeting = ledger.meeting(source.account, change.event)
    if meeting is None:
        raise BadEvent(change.event, "it left the ledger while it was rendered; it is looked at again")
    drawn = render(meeting, ways_in(meeting, source, profile, links), profile, 0)
    digest = drawn.digest if drawn else ""
    revision = plan.revision_of(digest, ledger.versions(change.event))
    entry = Entry(change.event, change.inputs, digest, revision, source.start, source.end)
    return entry, with_revision(drawn.body, revision) if drawn else b""
