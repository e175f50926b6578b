# SPDX-License-Identifier: Apache-2.0
"""What stands between a mistake and somebody's calendar: which deletions wait for a person. Pure."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from msgspec import Struct

HELD_SHARE = 0.2
HELD_COUNT = 5
EMPTIED = 3
LATELY = timedelta(days=1)

Ends = Mapping[str, datetime | None]
"""Events with their ends; ``None`` is a series without one."""


class Delete(Struct, frozen=True):
    """Let an entry go; it ``counts`` against what may go within a day unless it is over or was confirmed."""

    event: str
    counts: bool = True


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


def deletions(lost: Ends, there: Ends, now: datetime, guard: Guard) -> list[Delete | Hold]:
    """Delete what is lost, but hold what is coming if it is too much within a day, or all that an account had.

    ``there`` is all that is there now. What was held stays held until a person confirms it, though it may be
    over by then.
    """
    coming = sum(is_coming(end, now) for end in there.values())
    doubtful = {
        event
        for event, end in lost.items()
        if event not in guard.confirmed and (is_coming(end, now) or event in guard.held)
    }
    emptied = len(doubtful & guard.emptied) >= EMPTIED
    if not (emptied or doubtful & guard.held or is_held(len(doubtful) + guard.lately, coming + guard.lately)):
        return [Delete(event, event in doubtful) for event in lost]
    free: list[Delete | Hold] = [Delete(event, counts=False) for event in lost if event not in doubtful]
    held = tuple(event for event in lost if event in doubtful)
    return [*free, Hold(held, coming)] if held else free


def is_coming(end: datetime | None, now: datetime) -> bool:
    """Whether an entry is not over yet."""
    return end is None or end >= now


def is_held(lost: int, coming: int) -> bool:
    """Whether losing ``lost`` of ``coming`` entries within a day needs a person's word."""
    return lost > max(HELD_COUNT, HELD_SHARE * coming)
