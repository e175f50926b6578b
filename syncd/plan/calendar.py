# SPDX-License-Identifier: Apache-2.0
"""What is to be written into a calendar, pure: its entries against what we placed there and what was seen there.

Only what our ledger has noted, or what bears our mark where we meant to write, is ever changed or removed.
"""

from collections.abc import Mapping
from datetime import datetime

from msgspec import Struct

from syncd.ical.mark import Mark
from syncd.model import Entry, Placement, Window, overlaps
from syncd.plan.deletions import Delete, Forget, Guard, Hold, calendar_deletions


class Create(Struct, frozen=True):
    """Put an entry where none of ours is."""

    event: str


class Update(Struct, frozen=True):
    """Put an entry over the one we placed."""

    event: str


class Look(Struct, frozen=True):
    """The calendar does not say of our object what we noted: look at it, and write it anew if need be.

    If it is gone, somebody deleted it: it is put again only to ``restore`` it.
    """

    event: str
    restore: bool


Write = Create | Update | Delete | Forget | Look
"""What can be carried out; a ``Hold`` is for a person."""

CalendarAction = Write | Hold


def calendar_actions(
    wanted: Mapping[str, Entry], placed: Mapping[str, Placement], window: Window, now: datetime, guard: Guard
) -> list[CalendarAction]:
    """Compare a profile's entries with what we placed in a calendar.

    New entries are those that overlap the window; placed ones stay when it leaves them behind, and when an
    edit of the configuration does not want them any more. What somebody deleted comes back when the meeting
    changes. Too many deletions are held (see ``plan.deletions``).
    """
    puts = (_put(entry, placed.get(event), window) for event, entry in wanted.items() if entry.digest)
    actions: list[CalendarAction] = [put for put in puts if put]
    return [*actions, *calendar_deletions(wanted, placed, now, guard)]


def _put(entry: Entry, there: Placement | None, window: Window) -> Create | Update | None:
    if there is None:
        return Create(entry.event) if overlaps(entry.start, entry.end, window) else None
    if there.state == "removed":
        return Create(entry.event) if entry.inputs and entry.inputs.digest != there.digest else None
    if there.digest == entry.digest:
        return None
    return Update(entry.event) if there.state == "placed" else Create(entry.event)


class Adopt(Struct, frozen=True):
    """The object at our href is ours, of this revision."""

    revision: int


class Leave(Struct, frozen=True):
    """The object is somebody else's, or somebody added people to it: do not touch it."""

    why: str


def after_conflict(entry: Entry, mark: Mark | None, *, placed: bool) -> Adopt | Leave:
    """What to do with the object that lies where we meant to put an entry.

    Programs drop properties that they do not know: what was ``placed`` is ours without our marks, too. A copy to
    which a user added guests is left: rewriting it without them would send them a cancellation.
    """
    if mark is None or mark.uid != entry.event or (mark.digest is None and not placed):
        return Leave("there is another event of this name in the calendar")
    if mark.people:
        return Leave("somebody added people to this event in the calendar")
    return Adopt(mark.revision)
