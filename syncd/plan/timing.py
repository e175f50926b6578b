# SPDX-License-Identifier: Apache-2.0
"""What is due, and when something is tried again. Pure: the clock is an argument."""

from datetime import datetime, timedelta

from msgspec import Struct

from syncd.model import Scope

FULL_LISTING = timedelta(days=1)

LONGEST_WAIT = timedelta(minutes=15)


class Listed(Struct, frozen=True):
    """When an account's window was last listed to its end, and when everything was."""

    window: datetime | None
    everything: datetime | None


def listing_due(listed: Listed, now: datetime, every: timedelta, *, soon: bool) -> Scope:
    """What is to be listed: everything at first and then daily, the window at its interval.

    Before that the next days alone will do if ``soon``. A last time that lies in the future is that of a clock
    which was wrong, and counts for nothing.
    """
    if is_over(listed.everything, FULL_LISTING, now):
        return "everything"
    return "soon" if soon and not is_over(listed.window, every, now) else "window"


def is_over(last: datetime | None, interval: timedelta, now: datetime) -> bool:
    """Whether it is time again; a last time that lies in the future counts for nothing."""
    return last is None or not timedelta(0) <= now - last < interval


def next_try(failures: int, retry_after: float | None, interval: timedelta, jitter: float) -> timedelta:
    """When to try again: at the interval, doubled for each failure up to 15 min, not before Retry-After.

    ``jitter`` in [0, 1) spreads the tries of many over a tenth of what is added to the interval.
    """
    longest = min(interval * 2.0 ** min(failures, 10), max(interval, LONGEST_WAIT))
    wait = longest - (longest - interval) * jitter / 10
    return max(wait, timedelta(seconds=retry_after)) if retry_after else wait
