# SPDX-License-Identifier: Apache-2.0
"""Entries as calendars may give them back: in other forms of the same, with additions, edited."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

from tests.support.meetings import BERLIN

ALARM = ["BEGIN:VALARM", "ACTION:DISPLAY", "DESCRIPTION:Bald", "TRIGGER:-PT10M", "END:VALARM"]


def unfolded(body: bytes) -> list[str]:
    return body.replace(b"\r\n ", b"").decode().removesuffix("\r\n").split("\r\n")


def folded(lines: list[str], width: int = 70, fold: bytes = b"\r\n ") -> bytes:
    """Folded by octets, also inside a character, as RFC 5545 lets one."""
    parts = [line.encode() for line in lines]
    return b"".join(fold.join(p[i : i + width] for i in range(0, len(p), width)) + fold[:-1] for p in parts)


def blocks(body: bytes) -> list[list[str]]:
    """Each VEVENT as its lines."""
    found: list[list[str]] = []
    for line in unfolded(body):
        if line == "BEGIN:VEVENT":
            found.append([])
        if found and (not found[-1] or found[-1][-1] != "END:VEVENT"):
            found[-1].append(line)
    return found


def edit(body: bytes, change: Callable[[list[str]], list[str]], event: int = 0) -> bytes:
    """The object with one of its events changed."""
    lines = unfolded(body)
    begin = [at for at, line in enumerate(lines) if line == "BEGIN:VEVENT"][event]
    end = lines.index("END:VEVENT", begin)
    return folded([*lines[: begin + 1], *change(lines[begin + 1 : end]), *lines[end:]])


def put(name: str, *now: str) -> Callable[[list[str]], list[str]]:
    """An edit: other lines in place of those of a name."""

    def change(event: list[str]) -> list[str]:
        at = next((at for at, line in enumerate(event) if re.match(rf"{name}[:;]", line)), 0)
        rest = [line for line in event if not re.match(rf"{name}[:;]", line)]
        return [*rest[:at], *now, *rest[at:]]

    return change


def add(*lines: str) -> Callable[[list[str]], list[str]]:
    return lambda event: [*event, *lines]


def forms(line: str, *, series: bool) -> list[str]:
    """A line of an event as other programs write it; an empty one is left out."""
    head, value = line.split(":", 1)
    name = head.split(";")[0]
    other: list[str] = []
    match name:
        case "DTSTAMP" | "LAST-MODIFIED" | "CREATED":
            other = ["", f"{name}:20270101T000000Z"]
        case "SEQUENCE":
            other = ["SEQUENCE:9"]
        case "STATUS" | "TRANSP":
            other = [line.lower(), line.replace("TRANSP:OPAQUE", "")]
        case "SUMMARY" | "DESCRIPTION" | "LOCATION":
            escapes = {"\\n": "\\N", "\\,": ",", "\\;": ";"}
            loose = re.sub(r"\\.", lambda found: escapes.get(found[0], found[0]), value)
            other = [f"{head}:{loose}", f'{head.lower()};LANGUAGE=de;X-A=":":{value} ']
        case "RRULE":
            other = [f"{head}:{';'.join(value.split(';')[::-1])};WKST=MO", f"{head}:{value.lower()}"]
        case "CONFERENCE":
            other = [";".join([name, *head.split(";")[:0:-1]]) + f":{value}", line.replace(";VALUE=URI", "")]
        case "DTSTART" | "DTEND" | "EXDATE" | "RECURRENCE-ID" if f"TZID={BERLIN}" in head and "," not in value:
            other = _in_other_zones(line, utc=not (series and name == "DTSTART"))
    return [line, *other]


def _in_other_zones(line: str, *, utc: bool) -> list[str]:
    """A time of Berlin's with the zone by other names, or in UTC."""
    head, value = line.split(":", 1)
    zones = ["W. Europe Standard Time", f'"/x.org/1/{BERLIN}"', f"{BERLIN};VALUE=DATE-TIME"]
    wall = datetime.fromisoformat(value).replace(tzinfo=ZoneInfo(BERLIN))
    in_utc = [f"{head.split(';')[0]}:{wall.astimezone(UTC):%Y%m%dT%H%M%SZ}"] if utc else []
    return [*(line.replace(BERLIN, zone) for zone in zones), *in_utc]


@st.composite
def other_forms(draw: st.DrawFn, body: bytes) -> bytes:
    """The same object as another program or server may write it."""
    lines: list[str] = []
    for event in blocks(body):
        series = any(re.match("R(RULE|DATE)[:;]", line) for line in event)
        cut = event.index("BEGIN:VALARM") if "BEGIN:VALARM" in event else -1
        written = [draw(st.sampled_from(forms(line, series=series))) for line in event[1:cut]]
        lines += ["BEGIN:VEVENT", *draw(st.permutations([line for line in written if line])), *event[cut:]]
    zone = ["BEGIN:VTIMEZONE", "TZID:Europe/Berlin", "X-LIC-LOCATION:Europe/Berlin", "END:VTIMEZONE"]
    head = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//x//y//EN", *draw(st.sampled_from([zone, []]))]
    fold = draw(st.sampled_from([b"\r\n ", b"\r\n\t", b"\n "]))
    return folded([*head, *lines, "END:VCALENDAR"], draw(st.integers(20, 75)), fold)


def escaped(value: str) -> str:
    """A TEXT value as RFC 5545, 3.3.11, has it."""
    return re.sub(r"[\\,;]", lambda found: "\\" + found[0], value)


def a_text(name: str) -> st.SearchStrategy[list[str]]:
    plain = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=90)
    return plain.map(lambda value: [f"{name}:{escaped(value)}"])


ADDITIONS = st.lists(
    st.sampled_from(
        [
            ALARM,
            [*ALARM[:-1], "ACKNOWLEDGED:20261102T075000Z", "X-MOZ-LASTACK:20261102T075000Z", "END:VALARM"],
            ["BEGIN:VALARM", "ACTION:AUDIO", "TRIGGER;VALUE=DATE-TIME:20261102T070000Z", "UID:x", "END:VALARM"],
            ["CATEGORIES:Arbeit,Wichtig"],
            ["CATEGORIES:Rot"],
            ["COLOR:turquoise"],
            ["PRIORITY:1"],
            ["X-MOZ-GENERATION:4"],
            ["X-MOZ-LASTACK:20261102T075000Z"],
            ['X-APPLE-TRAVEL-ADVISORY-BEHAVIOR;X-A="b:c;d":AUTOMATIC'],
            ["ATTACH;FMTTYPE=text/plain:https://files.example.org/a,b;c"],
            ["REQUEST-STATUS:2.0;Success"],
        ]
    )
    | a_text("COMMENT")
    | a_text("X-NOTE"),
    max_size=5,
)


@st.composite
def additions_to(draw: st.DrawFn, body: bytes) -> list[list[str]]:
    """Lines that a user adds to each event of an object."""
    return [[line for lines in draw(ADDITIONS) for line in lines] for _ in blocks(body)]


def with_additions(body: bytes, added: list[list[str]]) -> bytes:
    for number, lines in enumerate(added):
        body = edit(body, lambda event, lines=lines: in_order([*event, *lines]), number)  # type: ignore[misc]
    return body


def in_order(lines: list[str]) -> list[str]:
    """The lines with all properties before all components, as a program writes them."""
    parts: tuple[list[str], list[str]] = [], []
    inside = False
    for line in lines:
        inside = inside or line == "BEGIN:VALARM"
        parts[inside].append(line)
        inside = inside and line != "END:VALARM"
    return parts[False] + parts[True]


EDITS = st.sampled_from(
    [
        put("SUMMARY", "SUMMARY:Meine Besprechung"),
        put("SUMMARY"),
        put("DESCRIPTION", "DESCRIPTION:Notiz\\, meine"),
        put("LOCATION", "LOCATION:Raum 3"),
        put("URL"),
        put("CONFERENCE"),
        put("CLASS", "CLASS:CONFIDENTIAL"),
        put("TRANSP", "TRANSP:TRANSPARENT"),
        put("DTSTART", "DTSTART:20270301T100000Z"),
        put("DTEND", "DURATION:PT3H"),
        put("RRULE", "RRULE:FREQ=DAILY;COUNT=2"),
        put("X-SYNCD-DIGEST", "X-SYNCD-DIGEST:0"),
        put("STATUS", "STATUS:CANCELLED"),
        put("EXDATE", "EXDATE;TZID=Europe/Berlin:20261123T090000,20261130T090000"),
    ]
)


@st.composite
def copies(draw: st.DrawFn, body: bytes) -> bytes:
    """Any copy of an object: edits and additions, in any form."""
    for _ in range(draw(st.integers(0, 3))):
        body = edit(body, draw(EDITS), draw(st.integers(0, len(blocks(body)) - 1)))
    body = with_additions(body, draw(additions_to(body)))
    if draw(st.booleans()):
        inner = put("EXDATE")(put("RRULE")(blocks(body)[0]))[1:]
        own = ["BEGIN:VEVENT", "RECURRENCE-ID:20261214T080000Z", *inner]
        body = folded([*unfolded(body)[:-1], *own, "END:VCALENDAR"])
    return draw(other_forms(body)) if draw(st.booleans()) else body
