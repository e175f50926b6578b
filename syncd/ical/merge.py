# SPDX-License-Identifier: Apache-2.0
"""What becomes of a user's edits of our entry in their calendar when it is written again.

What syncd writes is ours; what it never writes, a user or their program added: alarms, categories, colours,
what they have acknowledged. It must not lose that, must not put what is there already, and must never raise,
whatever lies in a calendar. Other people in an entry are not its business: such copies are left alone before.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from syncd.ical import zones
from syncd.ical.meaning import Said, meaning, moment, plain, whole, zone_name
from syncd.ical.reading import Component, Property, read_calendar, write

Events = Mapping[str, Component]
"""The events of a series by the occurrence that they replace; the master by the empty text."""

_RHYTHM = frozenset(("DTSTART", "RRULE", "RDATE", "EXRULE"))
_SPAN = _RHYTHM | {"DTEND", "DURATION"}
_TIMES = _SPAN | {"EXDATE"}
_TEXTS = ("SUMMARY", "DESCRIPTION", "LOCATION", "URL", "STATUS", "CLASS", "TRANSP")
_ABOUT_IT = frozenset(("UID", "RECURRENCE-ID", "SEQUENCE", "DTSTAMP", "LAST-MODIFIED", "CREATED"))
_PEOPLE = frozenset(("ORGANIZER", "ATTENDEE"))
# CLASS and TRANSP are people's where we say nothing of them
_OURS = _ABOUT_IT | _TIMES | _PEOPLE | {"SUMMARY", "DESCRIPTION", "LOCATION", "URL", "STATUS", "CONFERENCE"}
_SYNCD = "X-SYNCD-"
_NUMBER = re.compile("[0-9]{1,18}")

# What other programs say of a property of ours; where ours is another now it would be wrong: an old link in an
# Outlook text, a snoozed alarm of the old time
_COMPANIONS = (
    ("X-ALT-DESC", "DESCRIPTION"),
    ("X-APPLE-STRUCTURED-LOCATION", "LOCATION"),
    ("X-MICROSOFT-CDO-ALLDAYEVENT", "DTSTART"),
    ("X-MOZ-SNOOZE-TIME", "DTSTART"),
)


class Merged(Struct, frozen=True):
    """What is to be put; where it is not ``needed``, what lies there says it already: only its ETag is to be noted."""

    body: bytes
    needed: bool


class _Three(NamedTuple):
    """What an event said when we wrote it, says where it lies, and is to say."""

    was: Said
    there: Said
    ours: Said

    def they_changed(self, names: Collection[str]) -> bool:
        return _differ(self.was, self.there, names)

    def we_changed(self, names: Collection[str]) -> bool:
        return _differ(self.was, self.ours, names)


def merge(base: bytes, theirs: bytes, ours: bytes, *, keep: bool) -> Merged:
    """What to put so that an object says ``ours`` and loses nothing that a user added.

    ``theirs`` lies in the calendar; ``base`` is the ``ours`` of the last time, not the merged body, or empty if
    that is unknown. It counts only with ``keep``: what people changed against it stays, unless we changed the
    same. All times of an event are one such thing: a start without its end and its rule is none. Alarms of ours
    are for new events only. A body that is needed has a SEQUENCE above theirs (SOGo answers 403 on a lower
    one). What is no calendar, or has another UID, is replaced by ours.
    """
    wanted, there = read_calendar(ours), read_calendar(theirs)
    if wanted is None or there is None:
        return Merged(ours, needed=True)
    mine, seen = _events(wanted), _events(there)
    if _uids(wanted) != _uids(there) or "" not in mine:
        return Merged(ours, needed=True)
    last = read_calendar(base) if keep else None
    events = _kept(_events(last), seen, mine) if last else dict(mine)
    result = _with_all_additions(events, mine, seen)
    needed = _says(result) != _says(_vevents(there))
    if needed:
        result = _raised(result, _revision(_vevents(there)))
    blocks = [part for part in wanted.parts if part.name != "VEVENT"]
    merged = replace(wanted, parts=(*blocks, *_missing_zones(result, blocks, there), *result))
    return Merged(ours if merged == wanted else write(merged), needed)


def _vevents(calendar: Component) -> list[Component]:
    return [part for part in calendar.parts if part.name == "VEVENT"]


def _events(calendar: Component) -> dict[str, Component]:
    """The first event of each occurrence; a second one makes the object another than any of ours."""
    result: dict[str, Component] = {}
    for event in _vevents(calendar):
        result.setdefault(next(map(moment, event.named("RECURRENCE-ID")), ""), event)
    return result


def _uids(calendar: Component) -> set[str]:
    return {plain(item) for event in _vevents(calendar) for item in event.named("UID")}


def _says(events: list[Component]) -> Counter[frozenset[tuple[str, tuple[str, ...]]]]:
    """What an object says. Our marks are on the master only; programs copy them to the overrides they make."""
    result: list[Said] = []
    for event in events:
        said = meaning(event)
        override = "RECURRENCE-ID" in said
        result.append({name: told for name, told in said.items() if not (override and name.startswith(_SYNCD))})
    return Counter(frozenset(said.items()) for said in result)


def _differ(one: Said, other: Said, names: Collection[str]) -> bool:
    return any(one.get(name) != other.get(name) for name in names)


def _with_all_additions(events: Events, mine: Events, seen: Events) -> list[Component]:
    """Our events with what was added to each; an occurrence that is new has the additions of its series."""
    names = {item.name for event in (*mine.values(), *events.values()) for item in event.properties}
    return [_with_additions(event, seen.get(key) or seen.get(""), names) for key, event in events.items()]


def _with_additions(event: Component, seen: Component | None, names: Collection[str]) -> Component:
    """Our event with what the user and their programs added to it, or, where it is new, to its series.

    An alarm of ours that they removed stays removed; one that they changed is theirs.
    """
    if seen is None:
        return event
    now, then = meaning(event), meaning(seen)
    added = []
    for item in seen.properties:
        stale = any(item.name.startswith(name) and _differ(now, then, [of]) for name, of in _COMPANIONS)
        if not (stale or item.name in _OURS or item.name in names or item.name.startswith(_SYNCD)):
            added.append(item)
    our_parts = {whole(part): part for part in event.parts}
    parts = tuple(our_parts.get(whole(part), part) for part in seen.parts)
    return replace(event, properties=(*event.properties, *added), parts=parts)


def _kept(base: Events, seen: Events, mine: Events) -> dict[str, Component]:
    """Our events with what people changed against the base; an event that the base has not is ours."""
    if "" not in base.keys() & seen.keys():
        return dict(mine)
    series = _series_is_theirs(base, seen, mine)
    result: dict[str, Component] = {}
    for key, event in mine.items():
        if key in base and key in seen:
            result[key] = _edited(base[key], seen[key], event, times=series or key != "")
        elif not (series and _is_unchanged(base.get(key), event)):  # else they removed it
            result[key] = event
    if series:
        result |= _occurrences_they_changed(base, seen, mine)
    dates = [item for item in result[""].named("EXDATE") if moment(item) not in result]
    result[""] = _replaced(result[""], dates, ["EXDATE"])
    return result


def _series_is_theirs(base: Events, seen: Events, mine: Events) -> bool:
    """Whether occurrences that people moved, removed or excluded can stay so: not if we moved the series.

    Nor if they moved it and we changed its length or an occurrence, which their series could not tell.
    """
    said = _Three(meaning(base[""]), meaning(seen[""]), meaning(mine[""]))
    if said.we_changed(_RHYTHM):
        return False
    return not said.they_changed(_RHYTHM) or not (said.we_changed(["DTEND", "EXDATE"]) or base.keys() != mine.keys())


def _is_unchanged(base: Component | None, event: Component) -> bool:
    return base is not None and meaning(base) == meaning(event)


def _occurrences_they_changed(base: Events, seen: Events, mine: Events) -> Events:
    """Those of which only the calendar has an event of its own, and that we have not cancelled."""
    gone = {moment(item) for item in mine[""].named("EXDATE")}
    own = seen.keys() - base.keys() - mine.keys() - gone
    return {
        key: _edited(base[""], event, _occurrence(mine[""], event), times=True)
        for key, event in seen.items()
        if key in own
    }


def _edited(base: Component, seen: Component, event: Component, *, times: bool) -> Component:
    """Our event with the texts, and the ``times`` if they may, that people changed and we did not."""
    said = _Three(meaning(base), meaning(seen), meaning(event))
    for name in _TEXTS:
        if said.they_changed([name]) and not said.we_changed([name]):
            event = _replaced(event, seen.named(name), [name])
    if not times:
        return event
    if said.they_changed(_SPAN) and not said.we_changed(_SPAN):
        event = _replaced(event, [item for item in seen.properties if item.name in _SPAN], _SPAN)
    return _replaced(event, _cancelled(said, seen, event), ["EXDATE"])


def _cancelled(said: "_Three", seen: Component, event: Component) -> list[Property]:
    """Our EXDATEs without those that they took away, and those that they added."""
    was, there = said.was.get("EXDATE", ()), said.there.get("EXDATE", ())
    dates = [item for item in event.named("EXDATE") if moment(item) in there or moment(item) not in was]
    return dates + [item for item in seen.named("EXDATE") if moment(item) not in (*was, *map(moment, dates))]


def _occurrence(master: Component, moved: Component) -> Component:
    """Our event of an occurrence that they moved or changed: what the series says, at their time."""
    names = {*_TIMES, "RECURRENCE-ID"}
    times = [item for item in moved.properties if item.name in names]
    ours = [item for item in master.properties if not item.name.startswith(_SYNCD)]
    return _replaced(replace(master, properties=tuple(ours)), times, names)


def _replaced(event: Component, items: list[Property], names: Collection[str]) -> Component:
    """The event with other properties of these names, where the first of them was, else at the end."""
    rest = [item for item in event.properties if item.name not in names]
    first = next((at for at, item in enumerate(event.properties) if item.name in names), len(rest))
    return replace(event, properties=(*rest[:first], *items, *rest[first:]))


def _revision(events: list[Component]) -> int:
    values = [item.value.strip() for event in events for item in event.named("SEQUENCE")]
    return max((int(value) for value in values if _NUMBER.fullmatch(value)), default=0)


def _raised(events: list[Component], above: int) -> list[Component]:
    if _revision(events) > above:
        return events
    number = [Property("SEQUENCE", f"SEQUENCE:{above + 1}", str(above + 1))]
    return [_replaced(event, number, ["SEQUENCE"]) for event in events]


def _missing_zones(events: list[Component], blocks: list[Component], there: Component) -> Iterator[Component]:
    """The VTIMEZONEs of times that are theirs: as they wrote them, else, by the name they gave it, from our zones."""
    named = {item.parameters.get("TZID", "") for event in events for item in event.properties}
    known = {_tzid(block): block for block in there.parts if block.name == "VTIMEZONE"}
    for tzid in sorted(named - {_tzid(block) for block in blocks} - {""}):
        name = zone_name(tzid)
        if tzid in known:
            yield known[tzid]
        elif name:
            made = read_calendar(b"BEGIN:VCALENDAR\r\n%bEND:VCALENDAR" % zones.vtimezone(name, zones.FIRST_YEAR))
            for part in made.parts if made else ():
                yield _replaced(part, [Property("TZID", f"TZID:{tzid}", tzid)], ["TZID"])


def _tzid(block: Component) -> str:
    return next((item.value.strip() for item in block.named("TZID")), "")
