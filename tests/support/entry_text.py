# SPDX-License-Identifier: Apache-2.0
"""What an entry must say of its meeting, put together by hand and compared with what icalendar reads.

It must not use syncd's own texts and addresses: tests compare entries with these.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from syncd.model import CallIn, Meeting, Override, Visitor
from tests.support.calendar_objects import events_of
from tests.support.occurrences import moment_of

OPENMEETINGS = "https://om.example.org/openmeetings"
NUMBERS = {"en": "1", "de": "2"}
"""What OpenMeetings calls the languages."""

LABELS = {
    "en": {
        "untitled": "Meeting",
        "guests": "For guests",
        "phone": "Phone",
        "id": "Conference ID",
        "password": "Password",
        "by": "Invited by",
    },
    "de": {
        "untitled": "Besprechung",
        "guests": "Für Gäste",
        "phone": "Telefon",
        "id": "Konferenz-ID",
        "password": "Passwort",
        "by": "Eingeladen von",
    },
}


class Readers(NamedTuple):
    """For whom an entry is: the owner of the account or guests, with or without passwords, in which language."""

    owner: bool
    passwords: bool
    language: str = "en"


class Links(NamedTuple):
    """The address of a meeting's room, the code of its guest invite and that of its OpenMeetings link."""

    room: str
    invite: str | None
    code: str | None


def link_codes(body: bytes) -> tuple[str | None, str | None]:
    """The codes of the guest invite and of the OpenMeetings link that an entry shows."""
    text = str(events_of(body)[0]["DESCRIPTION"])
    invite, code = re.search(r"\?invite=(\S+)", text), re.search(r"\?secure=([^&\s]+)", text)
    return invite[1] if invite else None, code[1] if code else None


def codes_made(made: Iterable[tuple[str, Visitor]], event: str, visitor: Visitor) -> set[str]:
    """The codes that a link maker in memory gave to a visitor of an event."""
    return {f"hash-{number}" for number, each in enumerate(made, 1) if each == (event, visitor)}


def assert_says(body: bytes, meeting: Meeting, links: Links, readers: Readers) -> None:
    """The entry says what the meeting and each of its exceptions say, however far away, and how to get in."""
    entries = {occurrence_of(each): each for each in events_of(body)}
    assert len(entries) == len(events_of(body)), "an occurrence is there twice"
    exceptions = {each.original.utc: each for each in meeting.overrides} if meeting.recurrence else {}
    shown = {moment: each for moment, each in exceptions.items() if not each.cancelled}
    assert entries.keys() == {None, *shown}, "each exception is there, and no other"
    assert set(excluded(entries[None])) == exceptions.keys() - shown.keys()
    assert rule_parts(entries[None]) == {
        part for line in meeting.recurrence for part in line[len("RRULE:") :].split(";")
    }
    for moment, entry in entries.items():
        assert_occurrence_says(entry, meeting, shown.get(moment) if moment else None, links, readers)


def occurrence_of(entry: Mapping[str, Any]) -> datetime | None:
    """The moment of the occurrence that an exception replaces; ``None`` for the meeting or the series itself."""
    return moment_of(entry["RECURRENCE-ID"].dt) if "RECURRENCE-ID" in entry else None


def excluded(entry: Mapping[str, Any]) -> Iterator[datetime]:
    found = entry.get("EXDATE", [])
    for line in found if isinstance(found, list) else [found]:
        yield from (moment_of(each.dt) for each in line.dts)


def rule_parts(entry: Mapping[str, Any]) -> set[str]:
    return set(entry["RRULE"].to_ical().decode().split(";")) if "RRULE" in entry else set()


def assert_occurrence_says(
    entry: Mapping[str, Any], meeting: Meeting, exception: Override | None, links: Links, readers: Readers
) -> None:
    title = exception.title if exception and exception.title is not None else meeting.title
    about = exception.description if exception and exception.description is not None else meeting.description
    assert str(entry["SUMMARY"]).strip() == (title.strip() or LABELS[readers.language]["untitled"])
    assert str(entry["DESCRIPTION"]).strip() == description(meeting, about, links, readers)
    addresses = ways(links, readers)
    first = next(iter(addresses.values()))
    assert (str(entry["LOCATION"]), str(entry["URL"])) == (first, first)
    found = entry["CONFERENCE"]
    conferences = {each.params["LABEL"]: str(each) for each in (found if isinstance(found, list) else [found])}
    assert conferences == addresses | dial(meeting.call_in, readers)
    tentative = meeting.invite_status in ("pending", "tentative")
    assert str(entry["STATUS"]).upper() == ("TENTATIVE" if tentative else "CONFIRMED")
    assert str(entry.get("CLASS", "PUBLIC")).upper() == ("PRIVATE" if readers.owner else "PUBLIC")
    assert isinstance(entry["DTSTART"].dt, datetime) != meeting.all_day


def ways(links: Links, readers: Readers) -> dict[str, str]:
    """The addresses at which the readers of an entry enter, by label: owners use the room, guests their link to it."""
    found = {"OpenTalk": links.room if readers.owner or not links.invite else f"{links.room}?invite={links.invite}"}
    if links.code:
        found["OpenMeetings"] = f"{OPENMEETINGS}/hash?secure={links.code}&language={NUMBERS[readers.language]}"
    return found


def dial(call_in: CallIn | None, readers: Readers) -> dict[str, str]:
    return {LABELS[readers.language]["phone"]: f"tel:{call_in.tel.replace(' ', '')}"} if call_in else {}


def description(meeting: Meeting, about: str, links: Links, readers: Readers) -> str:
    say, addresses = LABELS[readers.language], ways(links, readers)
    lines = [addresses["OpenTalk"]]
    if readers.owner and links.invite:
        lines.append(f"{say['guests']}: {links.room}?invite={links.invite}")
    if links.code:
        lines.append(f"OpenMeetings: {addresses['OpenMeetings']}")
    if meeting.call_in:
        pin = f" · PIN {meeting.call_in.pin}" if readers.passwords else ""
        lines.append(f"{say['phone']}: {meeting.call_in.tel} · {say['id']} {meeting.call_in.id}{pin}")
    if readers.passwords and meeting.password:
        lines.append(f"{say['password']}: {meeting.password}")
    by = [f"{say['by']} {meeting.creator}"] if readers.owner else []
    return "\n\n".join(["\n".join(lines), *filter(None, [about.strip()]), *by])
