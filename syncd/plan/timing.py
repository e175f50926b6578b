# SPDX-License-Identifier: Apache-2.0
"""When something is due, and when it is tried again; nothing else computes that. Pure: the clock is an argument."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from msgspec import Struct

from syncd.errors import LONGEST_RETRY_AFTER
from syncd.model import Link, Run, Scope

FULL_LISTING = timedelta(days=1)
"""How often all events of an account are listed, also those without a time, which no window has."""

FULL_AUDIT = timedelta(days=1)
"""How often all of a calendar is listed: some servers forget changes since a sync token."""

LINK_RETRY = timedelta(days=1)
"""How long a link that could not be had is not requested again."""

HOUSEKEEPING_EVERY = timedelta(days=1)
"""How often the ledger is cleaned of what nobody needs any more."""

FIRST_HOUSEKEEPING = timedelta(hours=1)
"""How long after the start of a daemon the first housekeeping is: when the first pulls and pushes are done."""

LINKS_GRACE = timedelta(seconds=10)
"""How long calendars wait for links that are being made: a slow link maker delays no meeting by more."""

LONGEST_WAIT = timedelta(minutes=15)
"""The longest wait after a failure, unless the interval or a Retry-After is longer."""


class LastListings(Struct, frozen=True):
    """When an account's window was last listed completely, and when all of its events were."""

    window: datetime | None
    everything: datetime | None


class LastAudit(Struct, frozen=True):
    """The last audit of a calendar: ``at`` is when; ``whole`` is when all of the calendar was last listed.

    ``cursor`` is the sync token that the calendar at ``url`` gave.
    """

    at: datetime
    whole: datetime
    url: str
    cursor: str | None


def is_due(last: datetime | None, interval: timedelta, now: datetime) -> bool:
    """True if ``interval`` has passed since ``last``, or never happened.

    A ``last`` in the future means that the clock was wrong, and is ignored.
    """
    return last is None or not timedelta(0) <= now - last < interval


def listing_due(last: LastListings, now: datetime, every: timedelta, *, soon: bool) -> Scope:
    """What of an account is to be listed: everything at first and then daily, the window at its interval.

    In between the next days are enough if ``soon``, else the window is listed all the same.
    """
    if is_due(last.everything, FULL_LISTING, now):
        return "everything"
    return "soon" if soon and not is_due(last.window, every, now) else "window"


def audit_due(last: LastAudit | None, every: timedelta, now: datetime) -> bool:
    """Whether a calendar is to be audited."""
    return is_due(last.at if last else None, every, now)


def full_audit_due(last: LastAudit | None, url: str, now: datetime) -> bool:
    """Whether all of a calendar is to be listed: at first, then daily, and where ``url`` is another calendar."""
    return last is None or last.url != url or is_due(last.whole, FULL_AUDIT, now)


def link_due(link: Link, now: datetime) -> bool:
    """Whether a link that could not be had is to be requested again."""
    return link.code is None and is_due(link.at, LINK_RETRY, now)


def link_retry(link: Link) -> datetime:
    """When a link that could not be had is requested again."""
    return link.at + LINK_RETRY


def push_after_links(now: datetime) -> datetime:
    """When calendars are pushed that wait for links, if these have not been made before."""
    return now + LINKS_GRACE


def first_housekeeping(now: datetime) -> datetime:
    """When a daemon that starts now does its first housekeeping."""
    return now + FIRST_HOUSEKEEPING


def pause_end(retry_after: float, now: datetime) -> datetime:
    """Until when a host wants not to be asked; ``retry_after`` in seconds (RFC 9110, 10.2.3)."""
    return now + timedelta(seconds=retry_after)


def is_paused(until: datetime | None, now: datetime) -> bool:
    """Whether a host is not to be asked before ``until``.

    A moment more than a day ahead was set by a wrong clock, and is ignored.
    """
    return until is not None and timedelta(0) < until - now <= LONGEST_RETRY_AFTER


class Rhythm(Struct, frozen=True):
    """How often something runs: ``every`` looks at all of it, ``soon_every`` at an account's next days.

    After a failure ``retry`` is the wait that is doubled.
    """

    every: timedelta
    soon_every: timedelta
    retry: timedelta


def next_run(run: Run, rhythm: Rhythm) -> datetime | None:
    """When a run that went well is due again; ``None`` if only another run makes it run."""
    match run.key.kind:
        case "pull":
            return min((run.last_look or run.ended) + rhythm.every, run.ended + rhythm.soon_every)
        case "push" | "housekeeping":
            return (run.last_look or run.ended) + rhythm.every
        case "mint" | "maker" if run.cut_short:
            return run.ended
    return None


def retry_at(
    run: Run, failures: int, paused_until: datetime | None, rhythm: Rhythm, now: datetime, jitter: float
) -> datetime:
    """When a run that did not go well is tried again: not while its host is paused.

    ``failures`` in a row, this one included; ``jitter`` as of ``backoff``.
    """
    moment = now + backoff(failures, run.retry_after, rhythm.retry, jitter)
    return max(moment, paused_until) if paused_until else moment


def retry_unforeseen(now: datetime) -> datetime:
    """When a run that ended with an unforeseen exception is tried again: it may take long, and end so each time."""
    return now + LONGEST_WAIT


def backoff(failures: int, retry_after: float | None, interval: timedelta, jitter: float) -> timedelta:
    """How long to wait after a failure: the interval, doubled for each failure up to 15 min, or Retry-After if longer.

    ``retry_after`` in seconds (RFC 9110, 10.2.3). ``jitter`` in [0, 1) spreads the tries of many over a tenth of
    what is added to the interval.
    """
    longest = min(interval * 2.0 ** min(failures, 10), max(interval, LONGEST_WAIT))
    wait = longest - (longest - interval) * jitter / 10
    return max(wait, timedelta(seconds=retry_after)) if retry_after else wait


def soonest(runs: Iterable[Run]) -> datetime | None:
    """When the first of several runs is due again."""
    return min((run.next_try for run in runs if run.next_try), default=None)
