# SPDX-License-Identifier: Apache-2.0
"""What to write into a calendar: its entries are compared with what we placed there and with what an audit saw. Pure.

Only what the ledger has placed, or what bears our mark where we meant to write, is ever changed or removed.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
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
    """Fetch an object that is not as the ledger has it, and write it anew if need be.

    If it is gone, somebody deleted it: it is put again only to ``restore`` it.
    """

    event: str
    restore: bool


Write = Create | Update | Delete | Forget | Look
"""What a push carries out; a ``Hold`` waits for a person."""

CalendarAction = Write | Hold


def calendar_actions(
    entries: Mapping[str, Entry],
    placements: Mapping[str, Placement],
    window: Window,
    now: datetime,
    guard: Guard,
    looks: Sequence[Look] = (),
) -> list[CalendarAction]:
    """Compare a profile's ``entries`` with what we placed in a calendar: at most one action for each event.

    Deletions come first, then the nearest meeting. An entry is new if it overlaps the window; what is placed stays when
    the window has passed it, and when an edit of the configuration does not want it any more. What somebody deleted is
    put again when the meeting changes. Too many deletions are held (see ``plan.deletions``). ``looks`` are an audit's.
    """
    puts = (_put(entry, placements.get(event), window) for event, entry in entries.items() if entry.digest)
    losses = calendar_deletions(entries, placements, now, guard)
    writes: list[Write] = [put for put in puts if put]
    writes += [loss for loss in losses if not isinstance(loss, Hold)]
    holds = [loss for loss in losses if isinstance(loss, Hold)]
    held_events = {event for hold in holds for event in hold.events}
    looks_by_event = _looks(looks, entries, writes, held_events)
    work = [*looks_by_event.values(), *(write for write in writes if write.event not in looks_by_event)]
    return [*sorted(work, key=lambda write: _turn(write, entries, window, now)), *holds]


def _put(entry: Entry, there: Placement | None, window: Window) -> Create | Update | None:
    if there is None:
        return Create(entry.event) if overlaps(entry.start, entry.end, window) else None
    if there.state == "removed":
        return Create(entry.event) if entry.inputs and entry.inputs.digest != there.digest else None
    if there.digest == entry.digest:
        return None
    return Update(entry.event) if there.state == "placed" else Create(entry.event)


def _looks(
    looks: Iterable[Look], entries: Mapping[str, Entry], writes: Iterable[Write], held_events: Collection[str]
) -> dict[str, Look]:
    """The looks to carry out, by event: a look replaces an update, because it writes what is needed, and nothing else.

    What somebody deleted is put again if the entry changed as well.
    """
    writes_by_event = {write.event: write for write in writes}
    found = {}
    for look in looks:
        entry, write = entries.get(look.event), writes_by_event.get(look.event)
        if entry and entry.digest and look.event not in held_events and (write is None or isinstance(write, Update)):
            found[look.event] = Look(look.event, look.restore or write is not None)
    return found


def _turn(write: Write, entries: Mapping[str, Entry], window: Window, now: datetime) -> datetime:
    """Deletions before all, then the nearest meeting."""
    return window.since if isinstance(write, Delete | Forget) else max(entries[write.event].start, now)


class Adopt(Struct, frozen=True):
    """The object at our href is ours; ``revision`` is its SEQUENCE."""

    revision: int


class Leave(Struct, frozen=True):
    """The object is somebody else's, or somebody added people to it: it is not touched, for this reason."""

    why: str


def after_conflict(entry: Entry, mark: Mark | None, *, placed: bool) -> Adopt | Leave:
    """What to do with the object that lies where we meant to put an entry; ``mark`` is ``None`` for one without a UID.

    Programs drop properties that they do not know: what was ``placed`` is ours without our marks, too. A copy to
    which a user added guests is left alone: rewriting it without them would send them a cancellation.
    """
    if mark is None or mark.uid != entry.event or (mark.digest is None and not placed):
        return Leave("there is another event of this name in the calendar")
    if mark.people:
        return Leave("somebody added people to this event in the calendar")
    return Adopt(mark.revision)
