# SPDX-License-Identifier: Apache-2.0
"""What an event says, whatever its form: two copies of equal meaning need no PUT.

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

Said = dict[str, tuple[str, ...]]

_UNSAID = frozenset(("DTSTAMP", "LAST-MODIFIED", "CREATED", "SEQUENCE", "ORGANIZER", "ATTENDEE", "DURATION"))
_MOMENTS = frozenset(("DTSTART", "DTEND", "RECURRENCE-ID", "EXDATE", "RDATE"))
_DEFAULTS = frozenset((("TRANSP", "OPAQUE"), ("CLASS", "PUBLIC")))
_WORDS = frozenset(("TRANSP", "CLASS", "STATUS"))
_SILENT = frozenset(("VALUE", "ALTREP", "LANGUAGE", "RELATED=START"))
_MOMENT = re.compile(r"([0-9]{8})(?:T([0-9]{6})(Z?))?", re.IGNORECASE)
_DURATION = re.compile(
    r"\+?P(?:([0-9]{1,6})W)?(?:([0-9]{1,6})D)?(?:T(?:([0-9]{1,6})H)?(?:([0-9]{1,6})M)?(?:([0-9]{1,6})S)?)?"
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_YEAR = [timedelta(days=30) * month for month in range(13)]


def meaning(event: Component) -> Said:
    """What an event says, by property; what it leaves out is said by its absence or by the default.

    Of stamps and people nothing is said: they change without an edit of the event. The end of an event without
    one is told as DTEND (RFC 5545, 3.6.1).
    """
    said: dict[str, list[str]] = defaultdict(list)
    for item in event.properties:
        value = _value(item, event)
        if item.name not in _UNSAID and (item.name, value) not in _DEFAULTS:
            said[item.name].append(value)
    if "DTSTART" in said and "DTEND" not in said:
        said["DTEND"].append(_end(event))
    if "DTSTART" in said and ("RRULE" in said or "RDATE" in said):  # a series goes on in the wall time of its zone
        said["DTSTART"].append(_offsets(event.named("DTSTART")[0]))
    if event.parts:
        said["BEGIN"] = [whole(part) for part in event.parts]
    return {name: tuple(sorted(values)) for name, values in said.items()}


def whole(part: Component) -> str:
    """All that a part of an event, such as an alarm, says."""
    return repr((part.name, sorted(plain(item) for item in part.properties), sorted(map(whole, part.parts))))


def plain(item: Property) -> str:
    r"""A text with the parameters that matter.

    A backslash before an N counts as a line break also where it is text: Xandikos, with icalendar 7.3, turns
    the one of ``C:\New`` into it, and would be corrected for ever.
    """
    text = _ESCAPE.sub(lambda found: "\n" if found[1] in "nN" else found[1], item.value)
    told = {
        f"{name}={','.join(sorted(value.casefold().split(',')))}"
        for name, value in item.parameters.items()
        if not (name.startswith("X-") or {name, f"{name}={value.upper()}"} & _SILENT)
    }
    return ";".join([*sorted(told), text.replace("\\N", "\n").strip()])


def moment(item: Property) -> str:
    """A date, an instant in UTC, or (of a zone that nobody knows, or none) a wall time with its zone."""
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
    """The IANA name of a zone by any name that programs give it: of Windows, or behind a maker's prefix."""
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
    """The end of an event that has a DURATION, or nothing: a day for a date, else no time at all."""
    start = event.named("DTSTART")[0]
    begin = _moment(start.value.strip(), start.parameters.get("TZID", ""))
    if isinstance(begin, str):
        return repr([item.value for item in event.named("DURATION")])
    lasts = timedelta(days=0 if isinstance(begin, datetime) else 1)
    for item in event.named("DURATION"):
        match = _DURATION.fullmatch(item.value.strip().upper())
        weeks, days, hours, minutes, seconds = (int(count or 0) for count in match.groups()) if match else (0,) * 5
        lasts = timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)
    try:
        return str(begin + lasts)
    except OverflowError:
        return ""


def _offsets(start: Property) -> str:
    """The distance from UTC through the year that begins with a series: zones in which it is the same mean the same."""
    tzid = start.parameters.get("TZID", "")
    begin, zone = _moment(start.value.strip(), tzid), UTC if start.value.strip()[-1:] in "zZ" else _zone(tzid)
    if not isinstance(begin, datetime) or not zone:
        return ""
    try:
        return repr([str((begin + month).astimezone(zone).utcoffset()) for month in _YEAR])
    except (ValueError, OverflowError):
        return ""


def _rule(text: str, start: Mapping[str, str]) -> str:
    """A recurrence rule: its parts in any order, the lists in them too, without what is the default."""
    parts = set()
    for part in text.upper().strip().split(";"):
        name, _, value = part.strip().partition("=")
        if name == "UNTIL":
            value = str(_moment(value, start.get("TZID", "")))
        if part and (name, value) not in (("INTERVAL", "1"), ("WKST", "MO")):
            parts.add(f"{name}={','.join(sorted(one.strip().lstrip('+') for one in value.split(',')))}")
    return ";".join(sorted(parts))
