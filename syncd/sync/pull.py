# SPDX-License-Identifier: Apache-2.0
"""Lists the meetings of an account, and writes what has changed into the ledger; ``plan.pull`` decides what.

It waits for no other work, and holds no transaction while a socket is in use.
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
    after_ask,
    is_emptied,
    ledger_changes,
    row_of,
    unreadable_after,
    with_overrides_outside,
)
from syncd.plan.timing import listing_due
from syncd.sync.ports import PullLedger, Source

log = logging.getLogger(__name__)

SOON = timedelta(days=2)
"""How far ahead meetings are listed more often."""


class ListingSettings(Struct, frozen=True):
    """What of an account is listed: how far back and ahead, and which meetings.

    ``adhoc`` are instant meetings. ``names`` are those of all accounts of the configuration. ``every`` is how often the
    window is listed.
    """

    past: timedelta
    ahead: timedelta
    adhoc: bool = False
    declined: bool = False
    names: tuple[str, ...] = ()
    every: timedelta = timedelta(minutes=5)

    @property
    def filters(self) -> dict[str, bool]:
        """Which meetings are wanted, as arguments for ``plan.pull``."""
        return {"adhoc": self.adhoc, "declined": self.declined}

    def window(self, now: datetime) -> Window:
        """The window at this moment, in whole seconds as OpenTalk takes it."""
        now = now.replace(microsecond=0)
        return Window(now - self.past, now + self.ahead)


def probe(source: Source, listing: ListingSettings, now: datetime) -> int:
    """Try every request that a sync makes of an account, for one meeting, and save nothing.

    Returns how many meetings there are. Raises what would stand in the way of a pull or of links.
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
    with_next_try: Callable[[Run], Run] = lambda run: run,
    *,
    soon: bool = False,
) -> Run:
    """Bring the ledger's meetings of an account up to date, all of them or, if the listing fails, none.

    With ``soon`` only the next days are listed, unless the window or the daily full listing is due. ``with_next_try``
    returns the run with the moment when it is due again; the ledger saves it together with the changes.
    Counts: ``meetings`` in the ledger afterwards, ``changed``, ``gone``, ``asked`` for by id, ``unreadable``.
    """
    ledger.accounts.identify(account, source.identity(), listing.names)
    last = ledger.history.last_listings(account)
    scope = listing_due(last, now, listing.every, soon=soon)
    changes, summary = _list(account, source, ledger, listing, now, scope)
    if scope == "soon" and is_emptied(changes, summary.size):  # look at the rest before any of it is let go
        scope = "everything"
        changes, summary = _list(account, source, ledger, listing, now, scope)
    run = with_next_try(_run(account, scope, now, changes, summary, last.window if scope == "soon" else now))
    ledger.meetings.save_pull(account, changes, run, summary.unreadable)
    return run


class _ListingSummary(Struct, frozen=True):
    """What a pull reports of a listing besides its changes.

    ``size`` is how many events the listing had, ``before`` how many meetings the ledger had, ``requests`` how many
    events were asked for by id; ``failure`` is why the others could not be, empty if all were. ``unreadable`` are the
    events that cannot be read.
    """

    size: int
    before: int
    requests: int
    failure: str
    unreadable: tuple[Unreadable, ...]


def _run(
    account: str,
    scope: Scope,
    now: datetime,
    changes: Sequence[Keep | Drop],
    summary: _ListingSummary,
    window_listing: datetime | None,
) -> Run:
    keeps = [change for change in changes if isinstance(change, Keep)]
    gone = len(changes) - len(keeps)
    return Run(
        key=RunKey("pull", account),
        ended=now,
        state="retrying" if summary.failure else "ok",
        scope=scope,
        counts={
            "meetings": summary.before + sum(change.fresh for change in keeps) - gone,
            "changed": len(keeps),
            "gone": gone,
            "asked": summary.requests,
            "unreadable": len(summary.unreadable),
        },
        message=summary.failure or _message(summary.unreadable),
        last_look=window_listing,
    )


def _list(
    account: str, source: Source, ledger: PullLedger, listing: ListingSettings, now: datetime, scope: Scope
) -> tuple[list[Keep | Drop], _ListingSummary]:
    """List an account's meetings. Returns what has changed, and a summary."""
    window = listing.window(now)
    snapshot = source.snapshot({"soon": _soon(now), "window": window}.get(scope), ledger.meetings.digests(account))
    before = count()  # counts the ledger's meetings while they are read, so that they are read once
    rows = (row for row, _ in zip(ledger.meetings.of(account), before, strict=False))
    plan = ledger_changes(snapshot, rows, window, **listing.filters)
    plan = list(_with_overrides_outside(plan, account, ledger, snapshot.window))
    changes, requests, failure = _ask(plan, source, listing, windowed=scope != "everything")
    for each in snapshot.unreadable.values():
        log.debug("opentalk.%s: event %s is left as it was: %s", account, each.event, each.reason)
    unreadable = unreadable_after(snapshot, ledger.meetings.unreadable(account) if scope == "soon" else ())
    there = len(snapshot.meetings) + len(snapshot.same) + len(snapshot.unreadable)
    return changes, _ListingSummary(there, next(before), requests, failure, unreadable)


def _soon(now: datetime) -> Window:
    """The window of what is going on or comes next, in whole seconds.

    OpenTalk filters a series by the start of its last occurrence.
    """
    now = now.replace(microsecond=0)
    return Window(now - SOON / 2, now + SOON)


def _with_overrides_outside(
    plan: Iterable[Keep | Ask | Drop], account: str, ledger: PullLedger, window: Window | None
) -> Iterator[Keep | Ask | Drop]:
    """The plan of a windowed listing, without series that only seem to have changed: the window hides overrides."""
    for change in plan:
        if window and isinstance(change, Keep) and not change.fresh and change.meeting.recurrence:
            before = ledger.meetings.get(account, change.meeting.id)
            if before:
                meeting = with_overrides_outside(change.meeting, before, window)
                if meeting != change.meeting and meeting_digest(meeting) == meeting_digest(before):
                    continue
                yield Keep(meeting, row_of(meeting))
                continue
        yield change


def _ask(
    plan: Iterable[Keep | Ask | Drop], source: Source, listing: ListingSettings, *, windowed: bool
) -> tuple[list[Keep | Drop], int, str]:
    """Ask for every event that the plan wants asked for.

    Returns the changes, how many events were asked for, and why the rest was not, empty if all were. A meeting without
    an answer stays as it is: an outage says nothing about an event.
    """
    changes: list[Keep | Drop] = []
    requests, failure = 0, ""
    for change in plan:
        if not isinstance(change, Ask):
            changes.append(change)
        elif not failure:
            requests += 1
            try:
                meeting = source.event(change.event)
            except BadEvent as error:  # it is there, and cannot be read
                log.warning("%s", error)
                continue
            except Unavailable as error:
                failure = str(error)
                continue
            changes.append(after_ask(change, meeting, windowed=windowed, **listing.filters))
    return changes, requests, failure


def _message(unreadable: Sequence[Unreadable]) -> str | None:
    """The first event that cannot be read, and how many others cannot; ``None`` if all can."""
    if not unreadable:
        return None
    others = f", and {len(unreadable) - 1} more" if len(unreadable) > 1 else ""
    return f"event {unreadable[0].event} is left as it was: {unreadable[0].reason}{others}"
