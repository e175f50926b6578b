# SPDX-License-Identifier: Apache-2.0
"""What the ledger records of a write to a calendar: the placement, and the decision with its reason. Pure."""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from syncd.model import Decision, Entry, Placement, RunKey


class Place(Struct, frozen=True):
    """An object lies in a calendar, or is on its way; ``body`` are our own bytes, the base of a later merge."""

    placement: Placement
    body: bytes = b""
    decision: Decision | None = None


class Unplace(Struct, frozen=True):
    """A calendar has no object of ours for an event any more, or never had.

    ``lost_at`` is when it was deleted, if that uses up what may go within a day.
    """

    event: str
    decision: Decision | None = None
    lost_at: datetime | None = None


class Attempt(Struct, frozen=True):
    """The object of an event is about to be replaced or deleted.

    Recorded first: if we are killed before the outcome is recorded, the next push does not take the object for the one
    that was there, and writes it whatever the meeting is by then.
    """

    event: str


Record = Place | Unplace | Attempt


def placement(
    calendar: str,
    entry: Entry,
    href: str,
    etag: str | None,
    *,
    state: Literal["placed", "left"] = "placed",
    edited: bool = False,
) -> Placement:
    """The placement of an entry."""
    return Placement(
        calendar, entry.event, href, etag, entry.revision, entry.digest, entry.start, entry.end, state, edited
    )


def intent(calendar: str, entry: Entry, href: str) -> Place:
    """A new object that is about to be put.

    Recorded first: if we are killed between the PUT and its record, and the meeting is then deleted, we can still find
    the object.
    """
    return Place(replace(placement(calendar, entry, href, None), digest="", state="placing"))


def without_intent(event: str, before: Mapping[str, Placement]) -> Record:
    """What undoes an intent whose object was never put: the placement as it was ``before``, if there was one."""
    return Place(before[event]) if event in before else Unplace(event)


def removed(entry: Entry, there: Placement, now: datetime) -> Place:
    """Somebody deleted our object; it is not put again until the meeting changes."""
    note = replace(there, etag=None, digest=entry.inputs.digest if entry.inputs else "", state="removed", edited=False)
    why = "somebody deleted it in the calendar; it comes back when the meeting changes"
    return Place(note, decision=decision(there.calendar, entry.event, now, "removed", why))


def decision(calendar: str, event: str, now: datetime, word: str, why: str) -> Decision:
    """What a push decided about an event."""
    return Decision(event, now, RunKey("push", calendar), word, why)
