# SPDX-License-Identifier: Apache-2.0
"""The marks of an object in a calendar: its UID, its revision, our digest, and whether it has people in it.

Servers re-order, re-fold and re-encode what they keep, and much of what lies in a calendar is not ours:
this reads content lines only, whatever is between them, and must never raise.
"""

import re
from collections.abc import Iterator

from msgspec import Struct

from syncd.ical.reading import read_lines


class Mark(Struct, frozen=True):
    """The marks of an object in a calendar.

    ``digest`` is ``None`` if syncd did not write it. ``people`` is true if it has an ORGANIZER or an
    ATTENDEE, which syncd never writes.
    """

    uid: str
    revision: int
    digest: str | None
    people: bool


def read_mark(body: bytes) -> Mark | None:
    """The marks of an object; ``None`` if it is no VCALENDAR with events of one UID.

    A series' own SEQUENCE counts, not that of an override, unless there are only overrides. ORGANIZER
    and ATTENDEE count wherever they stand in an event, but not in its alarms (an e-mail alarm has one).
    """
    uids: set[str] = set()
    digest: str | None = None
    revisions: dict[bool, int] = {}
    people = False
    for values in _events(body):
        uids.add(values.get("UID", "").strip())
        override = "RECURRENCE-ID" in values
        revisions[override] = max(revisions.get(override, 0), _number(values.get("SEQUENCE", "")))
        digest = digest or values.get("X-SYNCD-DIGEST", "").strip() or None
        people = people or "ORGANIZER" in values or "ATTENDEE" in values
    if len(uids) != 1 or "" in uids:
        return None
    revision = revisions.get(False, revisions.get(True, 0))
    return Mark(uid=uids.pop(), revision=revision, digest=digest, people=people)


def _events(body: bytes) -> Iterator[dict[str, str]]:
    """The properties of each VEVENT of a VCALENDAR, without those of the components in it: name -> its last text."""
    path: list[str] = []
    event: dict[str, str] = {}
    for item in read_lines(body):
        if item.name == "BEGIN":
            path.append(item.value.strip().upper())
            if path == ["VCALENDAR", "VEVENT"]:
                event = {}
        elif item.name == "END":
            if path == ["VCALENDAR", "VEVENT"]:
                yield event
            path = path[:-1]
        elif path == ["VCALENDAR", "VEVENT"]:
            event[item.name] = item.text()


def _number(text: str) -> int:
    digits = text.strip()
    return int(digits) if re.fullmatch(r"[0-9]{1,18}", digits) else 0
