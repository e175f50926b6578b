# SPDX-License-Identifier: Apache-2.0
"""Brings a feed up to date: its entries are rendered, and what it would lose is judged as in a calendar.

An entry that is erased stays in a feed until the feed has released it; so nobody who subscribes loses their
meetings to a mistake.
"""

from datetime import datetime

from msgspec.structs import replace

from syncd.model import Feed, Profile, Run, RunKey
from syncd.plan.deletions import LATELY, Delete, Hold, deletions
from syncd.sync.ports import FeedLedger, Progress
from syncd.sync.render import render_entries, summary


def build_feed(feed: Feed, profile: Profile, ledger: FeedLedger, now: datetime, progress: Progress) -> Run | None:
    """Render what a feed lacks, and let go what its accounts have no more, unless a person has to say so first.

    It shows its former profile until all of the new one is rendered. ``None`` before all of its accounts have
    been listed completely. Counts: ``changed`` entries, ``held`` ones.
    """
    standings = ledger.history.standings()
    listed = (standings.get(RunKey("pull", account)) for account in profile.accounts)
    if not all(each and each.last_success for each in listed):
        return None
    name = f"feed/{feed.name}"
    rendering = render_entries(ledger, profile, now, progress)
    if feed.built != profile.key:
        ledger.feeds.build(feed, profile.key, ledger.meetings.origins(profile.accounts).keys())
    shown = ledger.feeds.content(replace(feed, built=profile.key))
    lost = {event: end for event, (end, erased) in shown.items() if erased}
    guard = ledger.deletions.guard(name, profile.accounts, now - LATELY)
    judged = deletions(lost, {event: end for event, (end, _) in shown.items()}, now, guard)
    let_go = [action for action in judged if isinstance(action, Delete)]
    held = next((action for action in judged if isinstance(action, Hold)), None)
    if let_go:
        ledger.feeds.release(feed, [each.event for each in let_go], {each.event for each in let_go if each.counts}, now)
    ledger.deletions.save_hold(name, held, now)
    state, message = "ok", summary(rendering.problems)
    if message:
        state = "needs_you"
    elif held:
        state, message = "held", f"would drop {len(held.events)} of {held.coming}: syncd confirm {feed.name}"
    counts = {"changed": rendering.changed, "held": len(held.events) if held else 0}
    return Run(RunKey("feed", feed.name), now, state, counts=counts, message=message)
