# SPDX-License-Identifier: Apache-2.0
"""What an event means, whatever its form: two copies of equal meaning need no PUT.

Calendar programs and servers write the same thing in many ways: other escapes, other names of a zone, DURATION
for DTEND, parameters that are the default anyway. It must not know what is ours, and must never raise.
"""

import re
from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache

from syncd.ical import zones
from syncd.ical.reading import Component, Property

Meaning = dict[str, tuple[str, ...]]
"""The values of an event's properties, normalised and sorted, by the name of the property."""

_MEANINGLESS = frozenset(("DTSTAMP", "LAST-MODIFIED", "CREATED", "SEQUENCE", "ORGANIZER", "ATTENDEE", "DURATION"))
_MOMENTS = frozenset(("DTSTART", "DTEND", "RECURRENCE-ID", "EXDATE", "RDATE"))
_DEFAULTS = frozenset((("TRANSP", "OPAQUE"), ("CLASS", "PUBLIC")))
_WORDS = frozenset(("TRANSP", "CLASS", "STATUS"))
_DEFAULT_PARAMETERS = frozenset(("VALUE", "ALTREP", "LANGUAGE", "RELATED=START"))
_MOMENT = re.compile(r"([0-9]{8})(?:T([0-9]{6})(Z?))?", re.IGNORECASE)
_DURATION = re.compile(
    r"\+?P(?:([0-9]{1,6})W)?(?:([0-9]{1,6})D)?(?:T(?:([0-9]{1,6})H)?(?:([0-9]{1,6})M)?(?:([0-9]{1,6})S)?)?"
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_YEAR = [timedelta(days=30) * month for month in range(13)]


def meaning(event: Component) -> Meaning:
    """The meaning of an event. Properties that have their default value are left out.

    So are stamps and people: they change without an edit of the event. An event without DTEND gets the one that
    follows from its DURATION or its start (RFC 5545, 3.6.1).
    """
    values: dict[str, list[str]] = defaultdict(list)
    for item in event.properties:
        value = _value(item, event)
        if item.name not in _MEANINGLESS and (item.name, value) not in _DEFAULTS:
            values[item.name].append(value)
    if "DTSTART" in values and "DTEND" not in values:
        values["DTEND"].append(_end(event))
    # a series goes on in the wall time of its zone
    if "DTSTART" in values and ("RRULE" in values or "RDATE" in values):
        values["DTSTART"].append(_offsets(event.named("DTSTART")[0]))
    if event.parts:
        values["BEGIN"] = [part_meaning(part) for part in event.parts]
    return {name: tuple(sorted(each)) for name, each in values.items()}


def part_meaning(part: Component) -> str:
    """The meaning of a component of an event, such as an alarm."""
    return repr((part.name, sorted(plain(item) for item in part.properties), sorted(map(part_meaning, part.parts))))


def plain(item: Property) -> str:
    r"""A text with those of its parameters that are not the default.

    A backslash before an N counts as a line break also where it is text: Xandikos, with icalendar 7.3, turns
    the one of ``C:\New`` into one, and would be corrected for ever.
    """
    text = _ESCAPE.sub(lambda found: "\n" if found[1] in "nN" else found[1], item.value)
    parameters = {
        f"{name}={','.join(sorted(value.casefold().split(',')))}"
        for name, value in item.parameters.items()
        if not (name.startswith("X-") or {name, f"{name}={value.upper()}"} & _DEFAULT_PARAMETERS)
    }
    return ";".join([*sorted(parameters), text.replace("\\N", "\n").strip()])


def moment(item: Property) -> str:
    """A date, an instant in UTC, or, where its zone is unknown or missing, a wall time with the zone's name."""
    return str(_moment(item.value.strip(), item.parameters.get("TZID", "")))


def _value(item: Property, event: Component) -> str:
    if item.name in _MOMENTS:
        return moment(item)
    if item.name in ("RRULE", "EXRULE"):
        return _rule(item.value, next((start.parameters for start in event.named("DTSTART")), {}))
    if item.name in _WORDS:
        return item.value.strip().upper()
    return plain(item)


def _moment(text: str, tzid: str) -> date | str:
    match = _MOMENT.fullmatch(text)
    if not match:
        return text
    try:
        day = date.fromisoformat(match[1])
        if not match[2]:
            return day
        wall = datetime.fromisoformat(f"{match[1]}T{match[2]}")
        zone = UTC if match[3] else _zone(tzid)
        return wall.replace(tzinfo=zone).astimezone(UTC) if zone else f"{wall} {tzid}"
    except (ValueError, OverflowError):
        return text


@lru_cache(maxsize=1000)
def zone_name(tzid: str) -> str | None:
    """The IANA name of a zone that a program calls otherwise: as Windows does, or with a prefix of its own."""
    if tzid in zones.names():
        return tzid
    from icalendar.timezone.windows_to_olson import WINDOWS_TO_OLSON  # noqa: PLC0415 -- takes 0.03 s, and few need it

    steps = tzid.split("/")
    names = (WINDOWS_TO_OLSON.get(tzid, ""), *("/".join(steps[-length:]) for length in (3, 2, 1)))
    return next((name for name in names if name in zones.names()), None)


def _zone(tzid: str) -> tzinfo | None:
    name = zone_name(tzid)
    return zones.zone(name) if name else None


def _end(event: Component) -> str:
    """The end of an event without DTEND: by its DURATION, else a day after a date, or the start itself."""
    start = event.named("DTSTART")[0]
    begin = _moment(start.value.strip(), start.parameters.get("TZID", ""))
    if isinstance(begin, str):
        return repr([item.value for item in event.named("DURATION")])
    duration = timedelta(days=0 if isinstance(begin, datetime) else 1)
    for item in event.named("DURATION"):
        match = _DURATION.fullmatch(item.value.strip().upper())
        weeks, days, hours, minutes, seconds = (int(count or 0) for count in match.groups()) if match else (0,) * 5
        duration = timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)
    try:
        return str(begin + duration)
    except OverflowError:
        return ""


def _offsets(start: Property) -> str:
    """The offsets from UTC in the year after a series begins: zones that agree in all of them count as the same."""
    tzid = start.parameters.get("TZID", "")
    begin, zone = _moment(start.value.strip(), tzid), UTC if start.value.strip()[-1:] in "zZ" else _zone(tzid)
    if not isinstance(begin, datetime) or not zone:
        return ""
    try:
        return repr([str((begin + month).astimezone(zone).utcoffset()) for month in _YEAR])
    except (ValueError, OverflowError):
        return ""


def _rule(text: str, start: Mapping[str, str]) -> str:
    """A recurrence rule with its parts and their lists sorted, without parts that are the default."""
    parts = set()
    for part in text.upper().strip().split(";"):
        name, _, value = part.strip().partition("=")
        if name == "UNTIL":
            value = str(_moment(value, start.get("TZID", "")))
        if part and (name, value) not in (("INTERVAL", "1"), ("WKST", "MO")):
            parts.add(f"{name}={','.join(sorted(one.strip().lstrip('+') for one in value.split(',')))}")
    return ";".join(sorted(parts))
