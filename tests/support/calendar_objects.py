# SPDX-License-Identifier: Apache-2.0
"""A calendar object such as syncd writes, its name in the calendar, and what the icalendar library reads in one."""

from functools import lru_cache

from icalendar import Calendar, Event

UID = "3f0c2a5e-7d1b-4c55-9a80-1f2e3d4c5b6a"
HREF = f"syncd-{UID}.ics"


def calendar_object(title: str = "Jour fixe", *, uid: str = UID, extra: str = "") -> bytes:
    """An object of one event with our marker; ``extra`` are further lines of the event, each with its line end."""
    lines = (
        "BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:-//syncd//EN\nBEGIN:VEVENT\n"
        f"UID:{uid}\nDTSTAMP:20261122T080000Z\nDTSTART:20261124T090000Z\nDTEND:20261124T100000Z\n"
        f"SUMMARY:{title}\nX-SYNCD-INSTALLATION:0123abcd\nX-SYNCD-DIGEST:fedcba98\n{extra}END:VEVENT\nEND:VCALENDAR\n"
    )
    return lines.replace("\n", "\r\n").encode()


@lru_cache(maxsize=10_000)
def events_of(body: bytes) -> tuple[Event, ...]:
    """The events of an object, which have one UID. They are cached: do not change them."""
    events = tuple(Calendar.from_ical(body).events)
    assert len({str(each["UID"]) for each in events}) == 1
    return events


def uid_of(body: bytes) -> str:
    return str(events_of(body)[0]["UID"])


def revision_of(body: bytes) -> int:
    """The SEQUENCE of the series; of its exceptions, if there is nothing else."""
    numbers = {"RECURRENCE-ID" in each: int(each.get("SEQUENCE", 0)) for each in events_of(body)}
    return numbers.get(False, max(numbers.values()))


def digest_in(body: bytes) -> str | None:
    """The digest in our marker; ``None`` if it has no marker."""
    return next((str(each["X-SYNCD-DIGEST"]) for each in events_of(body) if "X-SYNCD-DIGEST" in each), None)


def has_people(body: bytes) -> bool:
    return any("ORGANIZER" in each or "ATTENDEE" in each for each in events_of(body))
