# SPDX-License-Identifier: Apache-2.0
"""When something is due, and when it is tried again; nothing else computes that. Pure: the clock is an argument."""

from datetime import datetime, timedelta

from msgspec import Struct

from syncd.errors import LONGEST_RETRY_AFTER
from syncd.model import Audited, Link, Scope

FULL_LISTING = timedelta(days=1)
"""How often all events of an account are listed, also those without a time, which no window has."""

FULL_AUDIT = timedelta(days=1)
"""How often all of a calendar is listed: some servers forget changes since a sync token."""

LINK_RETRY = timedelta(days=1)
"""How long nobody is asked for a link that was not to be had."""

HOUSEKEEPING = timedelta(days=1)
FIRST_HOUSEKEEPING = timedelta(hours=1)
"""How long after the start of a daemon: when the first pulls and pushes are done."""

LINKS_GRACE = timedelta(seconds=10)
"""How long calendars wait for links that are being made: a slow link maker delays no meeting by more."""

LONGEST_WAIT = timedelta(minutes=15)
"""The longest wait after a failure, unless the interval or a Retry-After is longer."""


class Listed(Struct, frozen=True):
    """When an account's window was last listed completely, and when everything was."""

    window: datetime | None
    everything: datetime | None


def is_due(last: datetime | None, interval: timedelta, now: datetime) -> bool:
    """True if ``interval`` has passed since ``last``, or never happened.

    A ``last`` in the future means that the clock was wrong, and is ignored.
    """
    return last is None or not timedelta(0) <= now - last < interval


def listing_due(listed: Listed, now: datetime, every: timedelta, *, soon: bool) -> Scope:
    """What of an account is to be listed: everything at first and then daily, the window at its interval.

    In between the next days are enough if ``soon``, else the window is listed all the same.
    """
    if is_due(listed.everything, FULL_LISTING, now):
        return "everything"
    return "soon" if soon and not is_due(listed.window, every, now) else "window"


def audit_due(audited: Audited | None, every: timedelta, now: datetime) -> bool:
    """Whether a calendar is to be audited."""
    return is_due(audited.at if audited else None, every, now)


def full_audit_due(audited: Audited | None, url: str, now: datetime) -> bool:
    """Whether all of a calendar is to be listed: at first, then daily, and where ``url`` is another calendar."""
    return audited is None or audited.url != url or is_due(audited.whole, FULL_AUDIT, now)


def link_due(link: Link, now: datetime) -> bool:
    """Whether a link that was not to be had is to be asked for again."""
    return link.code is None and is_due(link.at, LINK_RETRY, now)


def link_retry(link: Link) -> datetime:
    """When a link that was not to be had is asked for again."""
    return link.at + LINK_RETRY


def push_after_links(now: datetime) -> datetime:
    """When calendars are pushed that wait for links, if these have not been made before."""
    return now + LINKS_GRACE


def first_housekeeping(now: datetime) -> datetime:
    """When a daemon that starts now does its first housekeeping."""
    return now + FIRST_HOUSEKEEPING


def is_paused(until: datetime | None, now: datetime) -> bool:
    """Whether a host is not to be asked before ``until``.

    A moment more than a day ahead was set by a wrong clock, and is ignored.
    """
    return until is not None and timedelta(0) < until - now <= LONGEST_RETRY_AFTER


def next_try(failures: int, retry_after: float | None, interval: timedelta, jitter: float) -> timedelta:
    """How long to wait after a failure: the interval, doubled for each failure up to 15 min, or Retry-After if longer.

    ``failures`` in a row, this one included. ``retry_after`` in seconds (RFC 9110, 10.2.3). ``jitter`` in [0, 1)
    spreads the tries of many over a tenth of what is added to the interval.
    """
    longest = min(interval * 2.0 ** min(failures, 10), max(interval, LONGEST_WAIT))
    wait = longest - (longest - interval) * jitter / 10
    return max(wait, timedelta(seconds=retry_after)) if retry_after else wait
