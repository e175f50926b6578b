# SPDX-License-Identifier: Apache-2.0
"""What a listing changes, pure: what is known and what was listed in, a list of small actions out.

Nothing here does I/O or reads a clock; ``sync`` carries the actions out. So a dry run, an explanation and
a test are the same call.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime

from msgspec import Struct

from syncd.ical.recurrence import last_end, with_overrides
from syncd.model import (
    Meeting,
    Override,
    Snapshot,
    Unreadable,
    Window,
    meeting_digest,
    overlaps,
)

ASKS = 200
NOT_WANTED = "it was declined, or is an instant meeting now"


class KnownMeeting(Struct, frozen=True, gc=False):
    """What the ledger has of a meeting, as far as decisions need it.

    ``start`` is ``None`` for a time-independent event; an ``end`` of ``None`` beside a start is a series
    without an end. ``unlisted`` means that a windowed listing lacked the event though it exists: its time
    filters go by the start of a series' last occurrence, and by columns that may be wrong.
    """

    digest: str
    start: datetime | None
    end: datetime | None
    unlisted: bool = False


class Keep(Struct, frozen=True):
    """Write this version of a meeting into the ledger; ``fresh`` if it has none yet."""

    meeting: Meeting
    known: KnownMeeting
    fresh: bool = False


class Ask(Struct, frozen=True):
    """An event is missing from a listing that should have it: ask for it by its id."""

    event: str


class Drop(Struct, frozen=True):
    """The meeting is gone for this account, or is not to be published any more."""

    event: str
    why: str = ""


def with_overrides_outside(meeting: Meeting, known: Meeting, window: Window) -> Meeting:
    """The meeting with the overrides that lie outside the window as they were known.

    Controllers from 0.33 on filter exceptions by their own times, so that a windowed listing says nothing
    of those outside. A series that was itself moved has lost its exceptions (OpenTalk deletes them).
    """
    if (meeting.start, meeting.recurrence) != (known.start, known.recurrence):
        return meeting
    listed = {override.original for override in meeting.overrides}
    outside = [each for each in known.overrides if each.original not in listed and _is_outside(each, window)]
    if not outside:
        return meeting
    return with_overrides(meeting, sorted((*meeting.overrides, *outside), key=_by_original))


def _is_outside(override: Override, window: Window) -> bool:
    moments = [when.utc for when in (override.original, override.start, override.end) if when]
    return max(moments) < window.since or min(moments) > window.until


def _by_original(override: Override) -> datetime:
    return override.original.utc


def publishes(meeting: Meeting, *, adhoc: bool, declined: bool) -> bool:
    """Whether the account wants this meeting at all."""
    return (adhoc or not meeting.adhoc) and (declined or meeting.invite_status != "declined")


def known_as(meeting: Meeting, *, unlisted: bool = False) -> KnownMeeting:
    """What the ledger will know of a meeting."""
    start = meeting.start.utc if meeting.start else None
    return KnownMeeting(meeting_digest(meeting), start, last_end(meeting) if start else None, unlisted)


def ledger_changes(
    snapshot: Snapshot, known: Iterable[tuple[str, KnownMeeting]], window: Window, *, adhoc: bool, declined: bool
) -> list[Keep | Ask | Drop]:
    """Compare a complete listing with the ledger; what does not appear in the answer stays as it is.

    ``known`` are the ledger's meetings, (event, Known); it is read once, so that it may come row by row.
    Absence is a question (``Ask``), never an answer. What the window has left behind is neither asked for
    nor dropped; what it has not reached yet is not taken up, but for time-independent events. A meeting that
    is not wanted any more is dropped when it changes: an edit of the configuration alone deletes nothing.
    """
    changes: list[Keep | Ask | Drop] = []
    asks: list[Keep | Ask | Drop] = []
    seen: set[str] = set()
    for event, have in known:
        if event in snapshot.same:
            continue
        meeting = snapshot.meetings.get(event)
        if meeting is None:
            if event not in snapshot.unreadable and len(asks) < ASKS and _expected(have, snapshot, window):
                asks.append(Ask(event))
            continue
        seen.add(meeting.id)
        if have.digest != meeting_digest(meeting):
            changes.append(_keep_or_drop(meeting, adhoc=adhoc, declined=declined))
        elif have.unlisted and snapshot.window:
            changes.append(Keep(meeting, known_as(meeting)))
    return [*changes, *_taken_up(snapshot, seen, window, adhoc=adhoc, declined=declined), *asks]


def _taken_up(snapshot: Snapshot, seen: set[str], window: Window, *, adhoc: bool, declined: bool) -> Iterator[Keep]:
    """Meetings that the ledger does not know yet, but for those whose time is not in the window."""
    for event, meeting in snapshot.meetings.items():
        if event not in seen and publishes(meeting, adhoc=adhoc, declined=declined):
            known = known_as(meeting)
            if known.start is None or overlaps(known.start, known.end, window):
                yield Keep(meeting, known, fresh=True)


def _expected(have: KnownMeeting, snapshot: Snapshot, window: Window) -> bool:
    if snapshot.window is None:
        return have.start is None or have.end is None or have.end >= window.since
    return have.start is not None and not have.unlisted and overlaps(have.start, have.end, snapshot.window)


def answered(ask: Ask, meeting: Meeting | None, *, windowed: bool, adhoc: bool, declined: bool) -> Keep | Drop:
    """What the answer to an ``Ask`` means; ``None`` is the server's word that the event is gone for us."""
    if meeting is None:
        return Drop(ask.event, "its account has it no more")
    return _keep_or_drop(meeting, unlisted=windowed, adhoc=adhoc, declined=declined)


def _keep_or_drop(meeting: Meeting, *, unlisted: bool = False, adhoc: bool, declined: bool) -> Keep | Drop:
    if not publishes(meeting, adhoc=adhoc, declined=declined):
        return Drop(meeting.id, NOT_WANTED)
    return Keep(meeting, known_as(meeting, unlisted=unlisted))


def unreadable_after(snapshot: Snapshot, before: Iterable[Unreadable]) -> tuple[Unreadable, ...]:
    """What of an account cannot be read after a listing; ``before`` is what it says nothing of unless it has it."""
    listed = snapshot.meetings.keys() | snapshot.same | snapshot.unreadable.keys()
    return *snapshot.unreadable.values(), *(each for each in before if each.event not in listed)


def is_emptied(changes: Iterable[Keep | Drop], listed: int) -> bool:
    """Whether a part of the window turned empty: then all of it may have, which is another thing."""
    return listed == 0 and any(isinstance(change, Drop) for change in changes)
