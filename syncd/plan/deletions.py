# SPDX-License-Identifier: Apache-2.0
"""What may be deleted, and what waits for a person: all that stands between a mistake and somebody's calendar. Pure.

Calendars and feeds are judged alike: first what is to go, then how much of that may go within a day.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta

from msgspec import Struct

from syncd.ical.mark import Mark
from syncd.model import Entry, Placement

HELD_SHARE = 0.2
HELD_COUNT = 5
EMPTIED = 3
LATELY = timedelta(days=1)
"""Deletions need a confirmation if they are more than ``HELD_SHARE`` of the coming entries and more than
``HELD_COUNT`` within ``LATELY``; of an account that has no meetings left, if they are ``EMPTIED`` or more."""

FEED_HOLDS = "feed/"
"""Begins the names under which the deletions of feeds are held and counted."""

Ends = Mapping[str, datetime | None]
"""Events with their ends; ``None`` is a series without one."""


class Delete(Struct, frozen=True):
    """Delete an entry. ``counts``: it uses up what may go within a day (not for past or confirmed ones)."""

    event: str
    counts: bool = True


class Forget(Struct, frozen=True):
    """Forget a placement that is no object of ours: somebody else's copy, or what somebody deleted."""

    event: str


class Hold(Struct, frozen=True):
    """Deletions that wait for a person: ``events`` would go, out of ``coming`` entries that are not over."""

    events: tuple[str, ...]
    coming: int


class Guard(Struct, frozen=True):
    """What the deletions in one calendar or feed are judged by, besides its entries.

    ``gone`` are the events that the servers of its accounts have said to be gone; nothing else is ever deleted from a
    calendar. ``emptied`` are those of accounts that have no meeting left. ``lately`` is how many coming entries were
    deleted within a day and not confirmed, ``held`` are the events that wait for a person, ``confirmed`` those that a
    person has confirmed.
    """

    gone: frozenset[str] = frozenset()
    emptied: frozenset[str] = frozenset()
    lately: int = 0
    held: frozenset[str] = frozenset()
    confirmed: frozenset[str] = frozenset()


def hold_name(feed: str) -> str:
    """The name under which a feed's deletions are held and counted; for a calendar it is the calendar's own."""
    return FEED_HOLDS + feed


def allowance_start(now: datetime) -> datetime:
    """Since when unconfirmed deletions use up what may go within a day."""
    return now - LATELY


def calendar_deletions(
    entries: Mapping[str, Entry], placements: Mapping[str, Placement], now: datetime, guard: Guard
) -> list[Delete | Forget | Hold]:
    """The deletions in a calendar: entries without content, and those whose meeting a server has said to be gone.

    An edit of the configuration alone deletes nothing: what no account has any more, and no server has said to be
    gone, stays.
    """
    unwanted = [place for event, place in placements.items() if _is_unwanted(event, entries.get(event), guard)]
    others = [Forget(place.event) for place in unwanted if place.state in ("left", "removed")]
    losses = {place.event: place.end for place in unwanted if place.state in ("placed", "placing")}
    ends = {event: place.end for event, place in placements.items() if place.state in ("placed", "placing")}
    return [*others, *_judge(losses, ends, now, guard)]


def _is_unwanted(event: str, entry: Entry | None, guard: Guard) -> bool:
    if entry and entry.inputs:  # its meeting is there; the entry is empty where every occurrence is cancelled
        return not entry.digest
    return event in guard.gone


def feed_deletions(content: Ends, next_content: Ends, now: datetime, guard: Guard) -> list[Delete | Hold]:
    """The deletions in a feed: of what it shows now (``content``) and not after its next build (``next_content``)."""
    losses = {event: end for event, end in content.items() if event not in next_content}
    return _judge(losses, {**content, **next_content}, now, guard)


def _judge(losses: Ends, ends: Ends, now: datetime, guard: Guard) -> list[Delete | Hold]:
    """Delete ``losses``, but hold those that are coming if they are too many within a day, or all that an account had.

    ``ends`` are those of all entries that are there now. What was held stays held until a person confirms it, though
    it may be over by then.
    """
    coming = sum(_is_coming(end, now) for end in ends.values())
    doubtful = {
        event
        for event, end in losses.items()
        if event not in guard.confirmed and (_is_coming(end, now) or event in guard.held)
    }
    emptied = len(doubtful & guard.emptied) >= EMPTIED
    if not (emptied or doubtful & guard.held or _is_too_much(len(doubtful) + guard.lately, coming + guard.lately)):
        return [Delete(event, event in doubtful) for event in losses]
    free: list[Delete | Hold] = [Delete(event, counts=False) for event in losses if event not in doubtful]
    held = tuple(event for event in losses if event in doubtful)
    return [*free, Hold(held, coming)] if held else free


def _is_coming(end: datetime | None, now: datetime) -> bool:
    """Whether an entry is not over yet."""
    return end is None or end >= now


def _is_too_much(count: int, coming: int) -> bool:
    """Whether losing ``count`` of ``coming`` entries within a day needs a confirmation."""
    return count > max(HELD_COUNT, HELD_SHARE * coming)


def is_carried_out(guard: Guard, placements: Iterable[str]) -> bool:
    """Whether no entry whose deletion was confirmed is among ``placements`` any more; until then the hold remains."""
    return not any(event in guard.confirmed and event in guard.gone for event in placements)


def may_delete(place: Placement, mark: Mark | None) -> bool:
    """Whether the object that lies where we placed an entry may be deleted, by its mark.

    It must be ours. Programs drop properties that they do not know: what was placed is ours without our marks, too.
    One to which a user added guests is not: deleting it would send them a cancellation.
    """
    if mark is None or mark.uid != place.event or mark.people:
        return False
    return mark.digest is not None or place.state == "placed"


def is_wiped(missing: Collection[object], placements: Collection[object]) -> bool:
    """Whether so many of our entries are missing that nobody has deleted them one by one.

    A calendar that was emptied, or restored from an old backup, gets them back.
    """
    return len(missing) == len(placements) >= EMPTIED or len(missing) > max(HELD_COUNT, len(placements) / 2)
