# SPDX-License-Identifier: Apache-2.0
"""What a feed shows and deletes. Pure: the build of a feed and its explanation call the same function."""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime

from msgspec import Struct

from syncd.model import Entry, RunKey, Standing
from syncd.plan.deletions import Delete, Ends, Guard, Hold, feed_deletions


def are_listed(accounts: Iterable[str], standings: Mapping[RunKey, Standing]) -> bool:
    """Whether all of these accounts have been listed completely; before that their feeds have nothing to show."""
    pulls = (standings.get(RunKey("pull", account)) for account in accounts)
    return all(each and each.last_success for each in pulls)


class Carry(Struct, frozen=True):
    """Take over what a feed shows of an event from its former profile, ``erased`` where the meeting is gone."""

    event: str
    erased: bool


FeedAction = Carry | Delete | Hold


def feed_actions(
    content: Ends, entries: Mapping[str, Entry], present: Collection[str], now: datetime, guard: Guard
) -> list[FeedAction]:
    """Compare what a feed shows with the ``entries`` of the profile that it shows from now on.

    ``content`` are the events that the feed shows, with their ends. All entries that are not erased are shown at once.
    An event without an entry, because the profile is another one than before, is carried over; it stays if its meeting
    is ``present`` and only could not be rendered. The others are deleted or held like the deletions in a calendar.
    """
    live = {event: entry.end for event, entry in entries.items() if entry.digest}
    former = {event: end for event, end in content.items() if event not in entries}
    next_content = live | {event: end for event, end in former.items() if event in present}
    actions: list[FeedAction] = [Carry(event, event not in next_content) for event in former]
    return [*actions, *feed_deletions(content, next_content, now, guard)]
