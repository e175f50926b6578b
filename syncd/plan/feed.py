# SPDX-License-Identifier: Apache-2.0
"""What a feed shows and lets go. Pure: whoever builds the feed and whoever explains it call the same function."""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime

from msgspec import Struct

from syncd.model import Entry, RunKey, Standing
from syncd.plan.deletions import Delete, Ends, Guard, Hold, feed_deletions


def are_listed(accounts: Iterable[str], standings: Mapping[RunKey, Standing]) -> bool:
    """Whether all of these accounts have been listed completely; before that their feeds have nothing to show."""
    pulled = (standings.get(RunKey("pull", account)) for account in accounts)
    return all(each and each.last_success for each in pulled)


class Carry(Struct, frozen=True):
    """Take over what a feed shows of an event from its former profile, ``erased`` where the meeting is gone."""

    event: str
    erased: bool


FeedAction = Carry | Delete | Hold


def feed_actions(
    shown: Ends, entries: Mapping[str, Entry], present: Collection[str], now: datetime, guard: Guard
) -> list[FeedAction]:
    """Compare what a feed shows with the ``entries`` of the profile that it shows from now on.

    All entries that are not erased are shown at once. What has no entry, because the profile is another one than
    before, is carried over; it stays if its meeting is ``present`` and only could not be rendered. What is erased is
    lost, and let go or held like the deletions in a calendar.
    """
    live = {event: entry.end for event, entry in entries.items() if entry.digest}
    carried = {event: end for event, end in shown.items() if event not in entries}
    stays = live | {event: end for event, end in carried.items() if event in present}
    actions: list[FeedAction] = [Carry(event, event not in stays) for event in carried]
    return [*actions, *feed_deletions(shown, stays, now, guard)]
