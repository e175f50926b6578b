# SPDX-License-Identifier: Apache-2.0
"""Brings a feed up to date: renders its entries, and carries out what ``plan.feed`` decides about the rest.

An entry that is erased stays in a feed until the feed has released it; so nobody who subscribes loses their
meetings to a mistake.
"""

from collections.abc import Sequence
from datetime import datetime

from syncd.model import Feed, Profile, Run, RunKey
from syncd.plan.deletions import Delete, Hold, allowance_start, hold_name
from syncd.plan.feed import Carry, FeedAction, are_listed, feed_actions
from syncd.sync.ports import FeedLedger, Progress
from syncd.sync.render import Rendering, render_entries, summary


def build_feed(feed: Feed, profile: Profile, ledger: FeedLedger, now: datetime, progress: Progress) -> Run | None:
    """Render the entries that a feed lacks, and delete those of meetings that are gone, unless a person must confirm.

    The feed shows its former profile until all of the new one is rendered. ``None`` before all of its accounts have
    been listed completely. Counts: ``changed`` entries, ``held`` deletions.
    """
    if not are_listed(profile.accounts, ledger.history.standings()):
        return None
    rendering = render_entries(ledger, profile, now, progress)
    guard = ledger.deletions.guard(hold_name(feed.name), profile.accounts, allowance_start(now))
    actions = feed_actions(ledger.feeds.content(feed), rendering.entries, rendering.present, now, guard)
    _carry_out(actions, feed, profile, ledger, now)
    return _run(feed, rendering, actions, now)


def _carry_out(actions: Sequence[FeedAction], feed: Feed, profile: Profile, ledger: FeedLedger, now: datetime) -> None:
    if feed.built != profile.key:
        ledger.feeds.build(feed, profile.key, [each for each in actions if isinstance(each, Carry)])
    deletions = [each for each in actions if isinstance(each, Delete)]
    if deletions:
        ledger.feeds.release(feed, deletions, now)
    ledger.deletions.save_hold(hold_name(feed.name), _hold(actions), now)


def _run(feed: Feed, rendering: Rendering, actions: Sequence[FeedAction], now: datetime) -> Run:
    """The run of a build: its state, counts and message."""
    hold = _hold(actions)
    state, message = "ok", summary(rendering.problems)
    if message:
        state = "needs_you"
    elif hold:
        state, message = "held", f"would drop {len(hold.events)} of {hold.coming}: syncd confirm {feed.name}"
    counts = {"changed": rendering.changed, "held": len(hold.events) if hold else 0}
    return Run(RunKey("feed", feed.name), now, state, counts=counts, message=message)


def _hold(actions: Sequence[FeedAction]) -> Hold | None:
    return next((each for each in actions if isinstance(each, Hold)), None)
