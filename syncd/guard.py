# SPDX-License-Identifier: Apache-2.0
"""What stands between a mistake and somebody's calendar: which deletions wait for a person. Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from msgspec import Struct

from syncd.model import Placement

HELD_SHARE = 0.2
HELD_COUNT = 5
EMPTIED = 3


class Delete(Struct, frozen=True):
    """Remove an entry that we placed."""

    event: str


class Hold(Struct, frozen=True):
    """Deletions that wait for a person: ``events`` would go, out of ``coming`` entries that are not over."""

    events: tuple[str, ...]
    coming: int


class Guard(Struct, frozen=True):
    """What a deletion is judged by.

    ``gone`` are the events whose absence a server has stated; nothing else is ever deleted. ``emptied`` are
    those of accounts that have no meeting left. ``lately`` counts the coming entries that were deleted within
    a day without being asked for, ``held`` are the events that wait for a person, ``confirmed`` those that may go.
    """

    gone: frozenset[str] = frozenset()
    emptied: frozenset[str] = frozenset()
    lately: int = 0
    held: frozenset[str] = frozenset()
    confirmed: frozenset[str] = frozenset()


def deletions(
    ours: Sequence[Placement], placed: Mapping[str, Placement], now: datetime, guard: Guard
) -> list[Delete | Hold]:
    """Delete, but hold what is coming if it is too much within a day, or all that an account had.

    What was held stays held until a person confirms it, though it may be over by then.
    """
    coming = sum(is_coming(place, now) for place in placed.values() if place.state == "placed")
    doubtful = {
        place.event
        for place in ours
        if place.event not in guard.confirmed and (is_coming(place, now) or place.event in guard.held)
    }
    emptied = len(doubtful & guard.emptied) >= EMPTIED
    if not (emptied or doubtful & guard.held or is_held(len(doubtful) + guard.lately, coming + guard.lately)):
        return [Delete(place.event) for place in ours]
    free: list[Delete | Hold] = [Delete(place.event) for place in ours if place.event not in doubtful]
    held = tuple(place.event for place in ours if place.event in doubtful)
    return [*free, Hold(held, coming)] if held else free


def is_coming(place: Placement, now: datetime) -> bool:
    """Whether an entry in a calendar is not over yet."""
    return place.end is None or place.end >= now


def is_held(lost: int, coming: int) -> bool:
    """Whether losing ``lost`` of ``coming`` entries within a day needs a person's word."""
    return lost > max(HELD_COUNT, HELD_SHARE * coming)
