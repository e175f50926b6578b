# SPDX-License-Identifier: Apache-2.0
"""Merges a user's edits of our entry in their calendar with a new version of it.

What syncd writes is ours; what it never writes, a user or their program added: alarms, categories, colours,
what they have acknowledged. It must not lose that, must not put what is there already, and must never raise,
whatever lies in a calendar. It never gets an entry with other people in it: callers leave those alone.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from syncd.ical import zones
from syncd.ical.meaning import Meaning, meaning, moment, part_meaning, plain, zone_name
from syncd.ical.reading import Component, Property, read_calendar, write

Events = Mapping[str, Component]
"""The events of a series by the occurrence that they replace; the master by the empty text."""

_RHYTHM = frozenset(("DTSTART", "RRULE", "RDATE", "EXRULE"))
_SPAN = _RHYTHM | {"DTEND", "DURATION"}
_TIMES = _SPAN | {"EXDATE"}
_TEXTS = ("SUMMARY", "DESCRIPTION", "LOCATION", "URL", "STATUS", "CLASS", "TRANSP")
_ABOUT_IT = frozenset(("UID", "RECURRENCE-ID", "SEQUENCE", "DTSTAMP", "LAST-MODIFIED", "CREATED"))
_PEOPLE = frozenset(("ORGANIZER", "ATTENDEE"))
# not CLASS and TRANSP: where we write none, people may add theirs
_OURS = _ABOUT_IT | _TIMES | _PEOPLE | {"SUMMARY", "DESCRIPTION", "LOCATION", "URL", "STATUS", "CONFERENCE"}
_SYNCD = "X-SYNCD-"
_NUMBER = re.compile("[0-9]{1,18}")

# Properties by which other programs repeat one of ours; dropped where ours changes: an old link in an Outlook
# text, a snoozed alarm of the old time
_COMPANIONS = (
    ("X-ALT-DESC", "DESCRIPTION"),
    ("X-APPLE-STRUCTURED-LOCATION", "LOCATION"),
    ("X-MICROSOFT-CDO-ALLDAYEVENT", "DTSTART"),
    ("X-MOZ-SNOOZE-TIME", "DTSTART"),
)


class MergeResult(Struct, frozen=True):
    """The object to put. It is not ``needed`` if the one in the calendar means the same: then only record its ETag."""

    body: bytes
    needed: bool


class _Versions(NamedTuple):
    """One event in three versions: as last written, as in the calendar now, as rendered now."""

    base: Meaning
    theirs: Meaning
    ours: Meaning

    def they_changed(self, names: Collection[str]) -> bool:
        return _differ(self.base, self.theirs, names)

    def we_changed(self, names: Collection[str]) -> bool:
        return _differ(self.base, self.ours, names)


def merge(base: bytes, theirs: bytes, ours: bytes, *, keep: bool) -> MergeResult:
    """What to put so that an object says ``ours`` and loses nothing that a user added.

    ``theirs`` lies in the calendar; ``base`` is the ``ours`` of the last write, not the merged body, or empty if
    that is unknown. With ``keep``, what people changed since ``base`` stays, unless we changed the same; start, end
    and rule of an event count as one thing then. Without it ``base`` is not used. Alarms of ours are for new events
    only. A body that is needed has a SEQUENCE above theirs (SOGo answers 403 on a lower one). If ``theirs`` is no
    calendar, or has another UID, it is replaced by ``ours``.
    """
    our_calendar, their_calendar = read_calendar(ours), read_calendar(theirs)
    if our_calendar is None or their_calendar is None:
        return MergeResult(ours, needed=True)
    our_events, their_events = _events(our_calendar), _events(their_calendar)
    if _uids(our_calendar) != _uids(their_calendar) or "" not in our_events:
        return MergeResult(ours, needed=True)
    last = read_calendar(base) if keep else None
    events = _with_all_edits(_events(last), their_events, our_events) if last else dict(our_events)
    result = _with_all_additions(events, our_events, their_events)
    needed = _meanings(result) != _meanings(_vevents(their_calendar))
    if needed:
        result = _with_sequence_above(result, _revision(_vevents(their_calendar)))
    blocks = [part for part in our_calendar.parts if part.name != "VEVENT"]
    merged = replace(our_calendar, parts=(*blocks, *_missing_zones(result, blocks, their_calendar), *result))
    return MergeResult(ours if merged == our_calendar else write(merged), needed)


def _vevents(calendar: Component) -> list[Component]:
    return [part for part in calendar.parts if part.name == "VEVENT"]


def _events(calendar: Component) -> dict[str, Component]:
    """The events by occurrence. Of two of one only the first: the object then differs from ours, and is put anew."""
    result: dict[str, Component] = {}
    for event in _vevents(calendar):
        result.setdefault(next(map(moment, event.named("RECURRENCE-ID")), ""), event)
    return result


def _uids(calendar: Component) -> set[str]:
    return {plain(item) for event in _vevents(calendar) for item in event.named("UID")}


def _meanings(events: list[Component]) -> Counter[frozenset[tuple[str, tuple[str, ...]]]]:
    """The meanings of events. Our marks count on the master only: programs copy them to the overrides they make."""
    result: list[Meaning] = []
    for event in events:
        values = meaning(event)
        override = "RECURRENCE-ID" in values
        result.append({name: each for name, each in values.items() if not (override and name.startswith(_SYNCD))})
    return Counter(frozenset(values.items()) for values in result)


def _differ(one: Meaning, other: Meaning, names: Collection[str]) -> bool:
    return any(one.get(name) != other.get(name) for name in names)


def _with_all_additions(events: Events, ours: Events, theirs: Events) -> list[Component]:
    """Our events with what people added to each; a new occurrence gets the additions of its series."""
    names = {item.name for event in (*ours.values(), *events.values()) for item in event.properties}
    return [_with_additions(event, theirs.get(key) or theirs.get(""), names) for key, event in events.items()]


def _with_additions(event: Component, theirs: Component | None, names: Collection[str]) -> Component:
    """Our event with what the user and their programs added to ``theirs``; our event alone if that is ``None``.

    An alarm of ours that they removed stays removed; one that they changed is theirs.
    """
    if theirs is None:
        return event
    our_meaning, their_meaning = meaning(event), meaning(theirs)
    added = []
    for item in theirs.properties:
        stale = any(
            item.name.startswith(name) and _differ(our_meaning, their_meaning, [of]) for name, of in _COMPANIONS
        )
        if not (stale or item.name in _OURS or item.name in names or item.name.startswith(_SYNCD)):
            added.append(item)
    our_parts = {part_meaning(part): part for part in event.parts}
    parts = tuple(our_parts.get(part_meaning(part), part) for part in theirs.parts)
    return replace(event, properties=(*event.properties, *added), parts=parts)


def _with_all_edits(base: Events, theirs: Events, ours: Events) -> dict[str, Component]:
    """Our events with people's changes since our last write (base); one that base lacks is taken as rendered."""
    if "" not in base.keys() & theirs.keys():
        return dict(ours)
    series = _series_is_theirs(base, theirs, ours)
    result: dict[str, Component] = {}
    for key, event in ours.items():
        if key in base and key in theirs:
            result[key] = _with_edits(base[key], theirs[key], event, times=series or key != "")
        elif not (series and _is_unchanged(base.get(key), event)):  # else they removed it
            result[key] = event
    if series:
        result |= _occurrences_they_changed(base, theirs, ours)
    dates = [item for item in result[""].named("EXDATE") if moment(item) not in result]
    result[""] = _with_properties(result[""], dates, ["EXDATE"])
    return result


def _series_is_theirs(base: Events, theirs: Events, ours: Events) -> bool:
    """Whether occurrences that people moved, removed or excluded can stay so: not if we moved the series.

    Nor if they moved it and we changed its length or an occurrence, which has no place in their series.
    """
    versions = _Versions(meaning(base[""]), meaning(theirs[""]), meaning(ours[""]))
    if versions.we_changed(_RHYTHM):
        return False
    return not versions.they_changed(_RHYTHM) or not (
        versions.we_changed(["DTEND", "EXDATE"]) or base.keys() != ours.keys()
    )


def _is_unchanged(base: Component | None, event: Component) -> bool:
    return base is not None and meaning(base) == meaning(event)


def _occurrences_they_changed(base: Events, theirs: Events, ours: Events) -> Events:
    """The occurrences that only the calendar has an override of, and that we have not cancelled."""
    exclusions = {moment(item) for item in ours[""].named("EXDATE")}
    own = theirs.keys() - base.keys() - ours.keys() - exclusions
    return {
        key: _with_edits(base[""], event, _occurrence(ours[""], event), times=True)
        for key, event in theirs.items()
        if key in own
    }


def _with_edits(base: Component, theirs: Component, event: Component, *, times: bool) -> Component:
    """Our event with the texts, and with ``times`` the times, too, that people changed and we did not."""
    versions = _Versions(meaning(base), meaning(theirs), meaning(event))
    for name in _TEXTS:
        if versions.they_changed([name]) and not versions.we_changed([name]):
            event = _with_properties(event, theirs.named(name), [name])
    if not times:
        return event
    if versions.they_changed(_SPAN) and not versions.we_changed(_SPAN):
        event = _with_properties(event, [item for item in theirs.properties if item.name in _SPAN], _SPAN)
    return _with_properties(event, _exclusions(versions, theirs, event), ["EXDATE"])


def _exclusions(versions: _Versions, theirs: Component, event: Component) -> list[Property]:
    """Our EXDATEs less those that people removed, and those that people added."""
    before, now = versions.base.get("EXDATE", ()), versions.theirs.get("EXDATE", ())
    dates = [item for item in event.named("EXDATE") if moment(item) in now or moment(item) not in before]
    return dates + [item for item in theirs.named("EXDATE") if moment(item) not in (*before, *map(moment, dates))]


def _occurrence(master: Component, theirs: Component) -> Component:
    """Our event of an occurrence that people moved or changed: the content of our series at their time."""
    names = {*_TIMES, "RECURRENCE-ID"}
    times = [item for item in theirs.properties if item.name in names]
    ours = [item for item in master.properties if not item.name.startswith(_SYNCD)]
    return _with_properties(replace(master, properties=tuple(ours)), times, names)


def _with_properties(event: Component, items: list[Property], names: Collection[str]) -> Component:
    """The event with ``items`` instead of its properties of these names: where the first was, else at the end."""
    rest = [item for item in event.properties if item.name not in names]
    first = next((at for at, item in enumerate(event.properties) if item.name in names), len(rest))
    return replace(event, properties=(*rest[:first], *items, *rest[first:]))


def _revision(events: list[Component]) -> int:
    values = [item.value.strip() for event in events for item in event.named("SEQUENCE")]
    return max((int(value) for value in values if _NUMBER.fullmatch(value)), default=0)


def _with_sequence_above(events: list[Component], above: int) -> list[Component]:
    if _revision(events) > above:
        return events
    number = [Property("SEQUENCE", f"SEQUENCE:{above + 1}", str(above + 1))]
    return [_with_properties(event, number, ["SEQUENCE"]) for event in events]


def _missing_zones(events: list[Component], blocks: list[Component], theirs: Component) -> Iterator[Component]:
    """The VTIMEZONEs of zones that only people's times are in: theirs, or else ours under the name they use."""
    tzids = {item.parameters.get("TZID", "") for event in events for item in event.properties}
    their_zones = {_tzid(block): block for block in theirs.parts if block.name == "VTIMEZONE"}
    for tzid in sorted(tzids - {_tzid(block) for block in blocks} - {""}):
        name = zone_name(tzid)
        if tzid in their_zones:
            yield their_zones[tzid]
        elif name:
            calendar = read_calendar(b"BEGIN:VCALENDAR\r\n%bEND:VCALENDAR" % zones.vtimezone(name, zones.FIRST_YEAR))
            for part in calendar.parts if calendar else ():
                yield _with_properties(part, [Property("TZID", f"TZID:{tzid}", tzid)], ["TZID"])


def _tzid(block: Component) -> str:
    return next((item.value.strip() for item in block.named("TZID")), "")
