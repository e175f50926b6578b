# SPDX-License-Identifier: Apache-2.0
"""What a listing changes. Pure: takes the ledger's meetings and the listing, returns a list of small actions.

``sync.pull`` carries the actions out. Which meetings are gone is decided here; which entries are then deleted,
``plan.deletions`` decides.
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
"""Events that are asked for by id after one listing; what is missing beyond them is asked for after the next ones."""

NOT_WANTED = "it was declined, or is an instant meeting now"


class KnownMeeting(Struct, frozen=True, gc=False):
    """The ledger's row of a meeting, as far as decisions need it.

    ``start`` is ``None`` for a time-independent event; an ``end`` of ``None`` beside a start is a series
    without an end. ``unlisted`` means that a windowed listing lacked the event though it exists: its time
    filters go by the start of a series' last occurrence, and by columns that may be wrong.
    """

    digest: str
    start: datetime | None
    end: datetime | None
    unlisted: bool = False


class Keep(Struct, frozen=True):
    """Write this version of a meeting into the ledger, as this row; ``fresh`` if the ledger has none yet."""

    meeting: Meeting
    row: KnownMeeting
    fresh: bool = False


class Ask(Struct, frozen=True):
    """An event is missing from a listing that should have it: ask for it by its id."""

    event: str


class Drop(Struct, frozen=True):
    """The meeting is gone for this account, or is not to be published any more."""

    event: str
    why: str = ""


def with_overrides_outside(meeting: Meeting, before: Meeting, window: Window) -> Meeting:
    """The meeting with those of its overrides ``before`` that lie outside the window.

    Controllers from 0.33 on filter exceptions by their own times, so that a windowed listing says nothing
    of those outside. A series that was itself moved has lost its exceptions (OpenTalk deletes them).
    """
    if (meeting.start, meeting.recurrence) != (before.start, before.recurrence):
        return meeting
    originals = {override.original for override in meeting.overrides}
    outside = [each for each in before.overrides if each.original not in originals and _is_outside(each, window)]
    if not outside:
        return meeting
    return with_overrides(meeting, sorted((*meeting.overrides, *outside), key=_by_original))


def _is_outside(override: Override, window: Window) -> bool:
    moments = [when.utc for when in (override.original, override.start, override.end) if when]
    return max(moments) < window.since or min(moments) > window.until


def _by_original(override: Override) -> datetime:
    return override.original.utc


def publishes(meeting: Meeting, *, adhoc: bool, declined: bool) -> bool:
    """Whether this meeting is published: instant and declined ones only where the account's settings say so."""
    return (adhoc or not meeting.adhoc) and (declined or meeting.invite_status != "declined")


def row_of(meeting: Meeting, *, unlisted: bool = False) -> KnownMeeting:
    """The ledger's row of a meeting."""
    start = meeting.start.utc if meeting.start else None
    return KnownMeeting(meeting_digest(meeting), start, last_end(meeting) if start else None, unlisted)


def ledger_changes(
    snapshot: Snapshot, rows: Iterable[tuple[str, KnownMeeting]], window: Window, *, adhoc: bool, declined: bool
) -> list[Keep | Ask | Drop]:
    """Compare a complete listing with the ledger's ``rows`` by event; without an action a meeting stays as it is.

    ``rows`` is iterated once, so that it may be a stream. That an event is missing is a question (``Ask``), never an
    answer. Meetings before the window are neither asked for nor dropped; meetings beyond it are not added yet, unless
    they have no time. A meeting that is not wanted any more is dropped when it changes: an edit of the configuration
    alone deletes nothing. ``adhoc`` and ``declined`` say whether instant meetings and declined ones are wanted.
    """
    changes: list[Keep | Ask | Drop] = []
    asks: list[Keep | Ask | Drop] = []
    matches: set[str] = set()
    for event, row in rows:
        if event in snapshot.same:
            continue
        meeting = snapshot.meetings.get(event)
        if meeting is None:
            if event not in snapshot.unreadable and len(asks) < ASKS and _is_expected(row, snapshot, window):
                asks.append(Ask(event))
            continue
        matches.add(meeting.id)
        if row.digest != meeting_digest(meeting):
            changes.append(_keep_or_drop(meeting, adhoc=adhoc, declined=declined))
        elif row.unlisted and snapshot.window:
            changes.append(Keep(meeting, row_of(meeting)))
    return [*changes, *_new_meetings(snapshot, matches, window, adhoc=adhoc, declined=declined), *asks]


def _new_meetings(
    snapshot: Snapshot, matches: set[str], window: Window, *, adhoc: bool, declined: bool
) -> Iterator[Keep]:
    """The meetings of the listing that the ledger does not have yet, except those whose time is not in the window."""
    for event, meeting in snapshot.meetings.items():
        if event not in matches and publishes(meeting, adhoc=adhoc, declined=declined):
            row = row_of(meeting)
            if row.start is None or overlaps(row.start, row.end, window):
                yield Keep(meeting, row, fresh=True)


def _is_expected(row: KnownMeeting, snapshot: Snapshot, window: Window) -> bool:
    """Whether a listing should have had the meeting."""
    if snapshot.window is None:
        return row.start is None or row.end is None or row.end >= window.since
    return row.start is not None and not row.unlisted and overlaps(row.start, row.end, snapshot.window)


def after_ask(ask: Ask, meeting: Meeting | None, *, windowed: bool, adhoc: bool, declined: bool) -> Keep | Drop:
    """What the answer to an ``Ask`` means: ``None`` if the server says that the event is gone for the account.

    ``windowed``: the listing that lacked the event had a time filter.
    """
    if meeting is None:
        return Drop(ask.event, "its account has it no more")
    return _keep_or_drop(meeting, unlisted=windowed, adhoc=adhoc, declined=declined)


def _keep_or_drop(meeting: Meeting, *, unlisted: bool = False, adhoc: bool, declined: bool) -> Keep | Drop:
    if not publishes(meeting, adhoc=adhoc, declined=declined):
        return Drop(meeting.id, NOT_WANTED)
    return Keep(meeting, row_of(meeting, unlisted=unlisted))


def unreadable_after(snapshot: Snapshot, before: Iterable[Unreadable]) -> tuple[Unreadable, ...]:
    """The events of an account that cannot be read after a listing; those ``before`` that it lacks remain."""
    events = snapshot.meetings.keys() | snapshot.same | snapshot.unreadable.keys()
    return *snapshot.unreadable.values(), *(each for each in before if each.event not in events)


def is_emptied(changes: Iterable[Keep | Drop], size: int) -> bool:
    """Whether a short listing of this ``size`` came back empty although the ledger had meetings there.

    The caller then lists everything, so that the guard of deletions can tell an empty account from an empty day.
    """
    return size == 0 and any(isinstance(change, Drop) for change in changes)
