# SPDX-License-Identifier: Apache-2.0
"""Writes what the meetings of an account are into the ledger.

It waits for no other work, and holds no transaction while a socket is in use. The clock is an argument.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import count, islice

from msgspec import Struct

from syncd.errors import BadEvent, Unavailable
from syncd.model import Run, RunKey, Scope, Unreadable, Window, meeting_digest
from syncd.plan.pull import (
    Ask,
    Drop,
    Keep,
    answered,
    is_emptied,
    known_as,
    ledger_changes,
    unreadable_after,
    with_overrides_outside,
)
from syncd.plan.timing import listing_due
from syncd.sync.ports import PullLedger, Source

log = logging.getLogger(__name__)

SOON = timedelta(days=2)
"""How far ahead meetings are looked at more often."""


class ListingSettings(Struct, frozen=True):
    """What an account wants listed: how far back and ahead, and which meetings.

    ``names`` are those of all accounts of the configuration. ``every`` is how often the window is listed.
    """

    past: timedelta
    ahead: timedelta
    adhoc: bool = False
    declined: bool = False
    names: tuple[str, ...] = ()
    every: timedelta = timedelta(minutes=5)

    @property
    def wishes(self) -> dict[str, bool]:
        """Which meetings, as ``plan`` takes it."""
        return {"adhoc": self.adhoc, "declined": self.declined}

    def window(self, now: datetime) -> Window:
        """The window at this moment, in whole seconds as OpenTalk takes it."""
        now = now.replace(microsecond=0)
        return Window(now - self.past, now + self.ahead)


def probe(source: Source, listing: ListingSettings, now: datetime) -> int:
    """Ask an account all that a sync may ask it, of meetings of one, and keep nothing; how many meetings there are.

    Raises what would keep a pull, or its links, from being made.
    """
    source.identity()
    source.snapshot(listing.window(now))
    meetings = source.snapshot(None).meetings
    for meeting in islice(meetings.values(), 1):
        source.event(meeting.id)
        source.find_invite(meeting)
    return len(meetings)


def pull(
    account: str,
    source: Source,
    ledger: PullLedger,
    listing: ListingSettings,
    now: datetime,
    timed: Callable[[Run], Run] = lambda run: run,
    *,
    soon: bool = False,
) -> Run:
    """Bring the ledger's meetings of an account up to date: everything or nothing.

    With ``soon`` the next days alone are listed while the window is not due. ``timed`` adds to the run when it is due
    again, before both are saved. Counts: ``meetings`` in the ledger afterwards, ``changed``, ``gone``, ``asked`` for by
    id, ``unreadable``.
    """
    ledger.accounts.identify(account, source.identity(), listing.names)
    listed = ledger.history.last_listed(account)
    scope = listing_due(listed, now, listing.every, soon=soon)
    changes, summary = _list(account, source, ledger, listing, now, scope)
    if scope == "soon" and is_emptied(changes, summary.listed):  # look at the rest before any of it is let go
        scope = "everything"
        changes, summary = _list(account, source, ledger, listing, now, scope)
    run = timed(_run(account, scope, now, changes, summary, listed.window if scope == "soon" else now))
    ledger.meetings.save_pull(account, changes, run, summary.unreadable)
    return run


class _ListingSummary(Struct, frozen=True):
    """What a pull reports of a listing besides its changes.

    How many events were ``listed``, how many meetings the ledger had ``before``, how many events were ``asked`` for by
    id; why the rest was ``unanswered``, empty if none was; and which events are ``unreadable``.
    """

    listed: int
    before: int
    asked: int
    unanswered: str
    unreadable: tuple[Unreadable, ...]


def _run(
    account: str,
    scope: Scope,
    now: datetime,
    changes: Sequence[Keep | Drop],
    summary: _ListingSummary,
    window_listed: datetime | None,
) -> Run:
    kept = [change for change in changes if isinstance(change, Keep)]
    gone = len(changes) - len(kept)
    return Run(
        key=RunKey("pull", account),
        ended=now,
        state="retrying" if summary.unanswered else "ok",
        scope=scope,
        counts={
            "meetings": summary.before + sum(change.fresh for change in kept) - gone,
            "changed": len(kept),
            "gone": gone,
            "asked": summary.asked,
            "unreadable": len(summary.unreadable),
        },
        message=summary.unanswered or _message(summary.unreadable),
        last_look=window_listed,
    )


def _list(
    account: str, source: Source, ledger: PullLedger, listing: ListingSettings, now: datetime, scope: Scope
) -> tuple[list[Keep | Drop], _ListingSummary]:
    """List an account's meetings; returns what has changed, and a summary."""
    window = listing.window(now)
    snapshot = source.snapshot({"soon": _soon(now), "window": window}.get(scope), ledger.meetings.digests(account))
    before = count()  # how many the ledger has: counting them apart would read them all again
    known = (row for row, _ in zip(ledger.meetings.of(account), before, strict=False))
    planned = ledger_changes(snapshot, known, window, **listing.wishes)
    planned = list(_with_overrides_outside(planned, account, ledger, snapshot.window))
    changes, asked, unanswered = _answered(planned, source, listing, windowed=scope != "everything")
    for each in snapshot.unreadable.values():
        log.debug("opentalk.%s: event %s is left as it was: %s", account, each.event, each.reason)
    unreadable = unreadable_after(snapshot, ledger.meetings.unreadable(account) if scope == "soon" else ())
    there = len(snapshot.meetings) + len(snapshot.same) + len(snapshot.unreadable)
    return changes, _ListingSummary(there, next(before), asked, unanswered, unreadable)


def _soon(now: datetime) -> Window:
    """What is going on or comes next, in whole seconds; a series counts by the start of its last occurrence."""
    now = now.replace(microsecond=0)
    return Window(now - SOON / 2, now + SOON)


def _with_overrides_outside(
    planned: Iterable[Keep | Ask | Drop], account: str, ledger: PullLedger, window: Window | None
) -> Iterator[Keep | Ask | Drop]:
    """The plan of a windowed listing without what only seems to have changed because the window hides it."""
    for change in planned:
        if window and isinstance(change, Keep) and not change.fresh and change.meeting.recurrence:
            known = ledger.meetings.get(account, change.meeting.id)
            if known:
                meeting = with_overrides_outside(change.meeting, known, window)
                if meeting != change.meeting and meeting_digest(meeting) == meeting_digest(known):
                    continue
                yield Keep(meeting, known_as(meeting))
                continue
        yield change


def _answered(
    planned: Iterable[Keep | Ask | Drop], source: Source, listing: ListingSettings, *, windowed: bool
) -> tuple[list[Keep | Drop], int, str]:
    """The plan with its questions answered, how many were asked, and why the rest was not, if so.

    What is not answered stays as it is: an outage is no word about an event.
    """
    changes: list[Keep | Drop] = []
    asked, unanswered = 0, ""
    for change in planned:
        if not isinstance(change, Ask):
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
            changes.append(answered(change, meeting, windowed=windowed, **listing.wishes))
    return changes, asked, unanswered


def _message(unreadable: Sequence[Unreadable]) -> str | None:
    """The first event that cannot be read, and how many others cannot; ``None`` if all can."""
    if not unreadable:
        return None
    others = f", and {len(unreadable) - 1} more" if len(unreadable) > 1 else ""
    return f"event {unreadable[0].event} is left as it was: {unreadable[0].reason}{others}"
