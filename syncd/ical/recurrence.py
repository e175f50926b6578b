# SPDX-License-Identifier: Apache-2.0
"""Recurrence lines of a meeting, parsed and expanded to dates. Pure: no I/O, no clock.

OpenTalk evaluates a rule in the wall time of the start's zone and, unlike RFC 5545 calendars, does not add
the start itself where the rule does not match it. All-day meetings recur by dates, without a zone.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from heapq import merge
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

from msgspec import Struct
from msgspec.structs import replace

from syncd.ical import zones
from syncd.model import Meeting, Override, When, Window

HORIZON = timedelta(days=36525)
"""How far a rule is expanded: OpenTalk's server, too, takes what lasts longer than a century for endless."""

MOST_OCCURRENCES = 20_000

EARLIEST, LATEST = datetime(2, 1, 1), datetime(9998, 1, 1)  # noqa: DTZ001 -- wall time
"""Some write the last second of 9999 for "forever", which is too late for some zones."""

_CACHE_KEY = "recurrence"
_NAME = re.compile(r"(RRULE|EXRULE|RDATE|EXDATE)(?=[:;])", re.IGNORECASE)
_ANY_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]*[:;]")
_DATES = re.compile(r"(RDATE|EXDATE)((?:;[A-Z-]+=(?:\"[^\"]*\"|[^:;\"]*))*):(.+)", re.IGNORECASE)
_VALUE = re.compile(r"(\d{8})(?:T(\d{6})(Z?))?")
_NUMBERS = {
    "BYMONTH": r"[1-9]|1[0-2]",
    "BYMONTHDAY": r"[+-]?([1-9]|[12]\d|3[01])",
    "BYYEARDAY": r"[+-]?([1-9]\d?|[12]\d\d|3[0-5]\d|36[0-6])",
    "BYWEEKNO": r"[+-]?([1-9]|[1-4]\d|5[0-3])",
    "BYSETPOS": r"[+-]?([1-9]\d?|[12]\d\d|3[0-5]\d|36[0-6])",
    "BYHOUR": r"\d|1\d|2[0-3]",
    "BYMINUTE": r"\d|[1-5]\d",
    "BYSECOND": r"\d|[1-5]\d",
    "BYDAY": r"([+-]?([1-9]|[1-4]\d|5[0-3]))?(MO|TU|WE|TH|FR|SA|SU)",
}
_PARTS = {
    "FREQ": re.compile(r"YEARLY|MONTHLY|WEEKLY|DAILY|HOURLY"),
    "INTERVAL": re.compile(r"[1-9]\d{0,3}"),
    "COUNT": re.compile(r"[1-9]\d{0,5}"),
    "UNTIL": _VALUE,
    "WKST": re.compile(r"MO|TU|WE|TH|FR|SA|SU"),
    **{name: re.compile(rf"(?:{one})(?:,(?:{one}))*") for name, one in _NUMBERS.items()},
}

Day = datetime | date
"""An instant in UTC, or the date of something that lasts whole days."""


class RecurrenceRule(Struct, frozen=True):
    """An RRULE or EXRULE.

    ``value`` is what RFC 5545 wants behind the colon: UNTIL is a date for whole days and else in UTC. It has
    at most one of ``count`` and ``until``; with neither it is endless.
    """

    value: str
    count: int | None
    until: Day | None


class Recurrence(Struct, frozen=True):
    """Recurrence lines, typed. ``rdates`` and ``exdates`` are dates if ``all_day``, else instants in UTC.

    ``first`` is the first date that a rule gives, or without a rule the first of ``rdates``. Calendars need it as
    DTSTART, which they always show (RFC 5545, 3.8.5.3), but OpenTalk's start need not match the rule. COUNT goes on
    counting from it, and INTERVAL has the same beat from it. Excluded dates count as dates here.
    """

    all_day: bool
    first: Day
    rrules: tuple[RecurrenceRule, ...] = ()
    exrules: tuple[RecurrenceRule, ...] = ()
    rdates: tuple[Day, ...] = ()
    exdates: tuple[Day, ...] = ()


def normalise(lines: Sequence[str]) -> tuple[str, ...]:
    """OpenTalk's ``recurrence_pattern`` as RFC 5545 lines with their names.

    A line without a name is a rule; one element may hold several lines. Nothing is checked: see ``parse``.
    """
    return tuple(_named(line.strip().rstrip(";")) for element in lines for line in element.splitlines() if line.strip())


def _named(line: str) -> str:
    if found := _NAME.match(line):
        name, rest = found[1].upper(), line[found.end() :]
        return f"{name}:{rest[1:].strip().upper()}" if name.endswith("RULE") else f"{name}{rest}"
    return line if _ANY_NAME.match(line) else f"RRULE:{line.upper()}"


def zone(name: str) -> ZoneInfo:
    """The time zone of an IANA name. Raises ValueError for any other, as for Windows' names."""
    try:
        return zones.zone(name)
    except KeyError:
        raise ValueError(f"the time zone {name[:40]!r} is unknown") from None


def day_of(when: When) -> date:
    """The date that a start or end of whole days means.

    OpenTalk demands midnight in UTC of them, whatever the zone; old rows have local midnight.
    """
    return when.utc.date() if when.utc.time() == time() else when.utc.astimezone(zone(when.zone)).date()


def read(meeting: Meeting) -> Recurrence | None:
    """The recurrence of a meeting; ``None`` if it has none, or no time. Raises ValueError as ``parse``.

    It is parsed once: the result is cached on the meeting object, and is no field of it. It is not stored in the
    ledger, because times in a zone depend on the time zone database.
    """
    if not meeting.recurrence or meeting.start is None:
        return None
    cache: dict[str, Recurrence] = vars(meeting)
    if _CACHE_KEY not in cache:
        cache[_CACHE_KEY] = parse(meeting.recurrence, meeting.start, meeting.all_day)
    return cache[_CACHE_KEY]


def with_overrides(meeting: Meeting, overrides: Iterable[Override]) -> Meeting:
    """The meeting with other overrides; its recurrence is the same, and is not parsed again."""
    changed = replace(meeting, overrides=tuple(overrides))
    vars(changed).update(vars(meeting))
    return changed


def parse(lines: Sequence[str], start: When, all_day: bool) -> Recurrence:
    """Read the lines of ``normalise``; ``start`` is the meeting's.

    Raises ValueError, also if there is no occurrence at all; its text names the wrong part and quotes no more of the
    line.
    """
    rules: dict[str, list[RecurrenceRule]] = {"RRULE": [], "EXRULE": []}
    dates: dict[str, list[Day]] = {"RDATE": [], "EXDATE": []}
    for line in lines:
        name, _, value = line.partition(":")
        if name in rules:
            rules[name].append(_parse_rule(value, start, all_day))
        elif found := _DATES.fullmatch(line):
            dates[found[1].upper()] += _parse_dates(found[2], found[3], start, all_day)
        else:
            raise ValueError("its recurrence has a line that is neither a rule nor a list of dates")
    rdates = tuple(sorted(set(dates["RDATE"])))
    return Recurrence(
        all_day,
        first=_first((day for rule in rules["RRULE"] for day in _first_of(rule, start, all_day)), rdates),
        rrules=tuple(rules["RRULE"]),
        exrules=tuple(rules["EXRULE"]),
        rdates=rdates,
        exdates=tuple(sorted(set(dates["EXDATE"]))),
    )


def _parse_rule(value: str, start: When, all_day: bool) -> RecurrenceRule:
    parts = _parts_of(value)
    if "FREQ" not in parts:
        raise ValueError("its recurrence rule has no FREQ")
    if "COUNT" in parts and "UNTIL" in parts:
        raise ValueError("its recurrence rule has both COUNT and UNTIL (RFC 5545, 3.3.10)")
    until = _parse_date(parts["UNTIL"], start.zone, all_day, late=True) if "UNTIL" in parts else None
    if until is not None:
        parts["UNTIL"] = _text(until)
    count = int(parts["COUNT"]) if "COUNT" in parts else None
    return RecurrenceRule(";".join(f"{name}={text}" for name, text in parts.items()), count, until)


def _parts_of(rule: str) -> dict[str, str]:
    parts: dict[str, str] = {}
    for part in rule.split(";"):
        name, _, text = part.partition("=")
        if name not in _PARTS:
            raise ValueError("its recurrence rule has an unknown part")
        if name in parts:
            raise ValueError(f"its recurrence rule has {name} twice")
        if not _PARTS[name].fullmatch(text):
            raise ValueError(f"its recurrence rule has a {name} that cannot be")
        parts[name] = text
    return parts


def _text(day: Day) -> str:
    return f"{day:%Y%m%dT%H%M%SZ}" if isinstance(day, datetime) else f"{day:%Y%m%d}"


def _parse_dates(parameters: str, values: str, start: When, all_day: bool) -> list[Day]:
    named = dict(part.partition("=")[::2] for part in parameters.upper().split(";")[1:])
    if named.get("VALUE") == "PERIOD":
        raise ValueError("its recurrence has periods, which cannot be read")
    found = re.search(r";TZID=\"?([^\";]*)", parameters, re.IGNORECASE)
    name = found[1] if found else start.zone
    return [_parse_date(value.strip(), name, all_day) for value in values.split(",")]


def _parse_date(text: str, name: str, all_day: bool, *, late: bool = False) -> Day:
    """A date or a time; without a ``Z`` it is in the zone ``name``. A bare date is its beginning, or its end."""
    where, found = zone(name), _VALUE.fullmatch(text)
    bare = "235959" if late and not all_day else "000000"
    try:
        naive = datetime.strptime(f"{found[1]}{found[2] or bare}" if found else "", "%Y%m%d%H%M%S")  # noqa: DTZ007
    except ValueError:
        raise ValueError("its recurrence has a date that cannot be") from None
    naive, is_utc = min(max(naive, EARLIEST), LATEST), bool(found and found[3])
    instant = naive.replace(tzinfo=UTC if is_utc else where).astimezone(UTC)
    if not all_day:
        return instant
    return day_of(When(instant, name)) if is_utc else naive.date()


def _first(days: Iterable[Day], rdates: Sequence[Day]) -> Day:
    found = min(days, default=None) or next(iter(rdates), None)
    if found is None:
        raise ValueError("its recurrence yields no date")
    return found


def _first_of(rule: RecurrenceRule, start: When, all_day: bool) -> list[Day]:
    day: Day = day_of(start) if all_day else start.utc
    if "BY" not in rule.value and (rule.until is None or day <= rule.until):
        return [day]  # the common case: such a rule means what its start implies, nothing has to be expanded
    return list(islice(_days(rule, start, all_day), 1))


def _days(rule: RecurrenceRule, start: When, all_day: bool) -> Iterator[Day]:
    """The dates of one rule up to the horizon, where the search for one that never comes ends too (30 February)."""
    from dateutil.rrule import rrulestr  # type: ignore[import-untyped]  # noqa: PLC0415 -- `status` expands no rule

    local, until = _local(day_of(start) if all_day else start.utc, start), _local(_horizon(rule.until, start), start)
    beat = ";".join(part for part in rule.value.split(";") if not part.startswith(("COUNT=", "UNTIL=")))
    # dateutil looks for a first date until the year 9999, ten seconds for 30 February. The calendar repeats
    # itself every 400 years, so its search is moved to where that end is near.
    ahead = timedelta(days=146_097) * max((9899 - local.year) // 400, 0)
    begins = rrulestr(beat, dtstart=local + ahead).replace(until=until + ahead)
    for begin in islice(begins, rule.count):
        found = begin - ahead
        yield found.date() if all_day else found.replace(tzinfo=zone(start.zone)).astimezone(UTC)


def _horizon(until: Day | None, start: When) -> Day:
    """The last date to which a rule is expanded."""
    end = start.utc + HORIZON
    return end if until is None or _instant(until) > end else until


def _local(day: Day, start: When) -> datetime:
    """Naive wall time in the zone of the start, as dateutil takes it."""
    if isinstance(day, datetime):
        return day.astimezone(zone(start.zone)).replace(tzinfo=None)
    return datetime.combine(day, time())


def days(recurrence: Recurrence, start: When) -> Iterator[Day]:
    """All dates of a recurrence in order, each once, without the excluded ones. Overrides are not considered."""
    exclusions = merge(*(_days(rule, start, recurrence.all_day) for rule in recurrence.exrules), recurrence.exdates)
    exclusion = next(exclusions, None)
    previous: Day | None = None
    for day in merge(*(_days(rule, start, recurrence.all_day) for rule in recurrence.rrules), recurrence.rdates):
        while exclusion is not None and exclusion < day:
            exclusion = next(exclusions, None)
        if day not in (previous, exclusion):
            yield day
        previous = day


def last_end(meeting: Meeting) -> datetime | None:
    """The end of the last occurrence of a meeting, or later; ``None`` if it is endless or has no time.

    Moved overrides count; a cancelled or excluded occurrence may, too. Whole days end at midnight UTC. A rule that
    goes beyond ``HORIZON``, or has more than ``MOST_OCCURRENCES``, is endless. Raises ValueError as ``parse``.
    """
    if meeting.start is None:
        return None
    duration = _duration(meeting.start, meeting.end, meeting.all_day)
    recurrence = read(meeting)
    if recurrence is None:
        day: Day = day_of(meeting.start) if meeting.all_day else meeting.start.utc
        return _instant(day) + duration
    last = [_last_of(rule, meeting.start, meeting.all_day) for rule in recurrence.rrules] + [*recurrence.rdates[-1:]]
    ends = [_instant(day) + duration for day in last if day and _horizon(day, meeting.start) == day]
    if len(ends) < len(last):
        return None
    return max(ends + [_instant(span[1]) for span in map(partial(_override_span, meeting), meeting.overrides) if span])


def _last_of(rule: RecurrenceRule, start: When, all_day: bool) -> Day | None:
    if rule.until is not None or rule.count is None or rule.count > MOST_OCCURRENCES:
        return rule.until
    count, last = 0, None
    for last in _days(rule, start, all_day):  # noqa: B007 -- the last one is what is wanted
        count += 1
    return last if count == rule.count else None


def _duration(start: When, end: When | None, all_day: bool) -> timedelta:
    if all_day:
        days = day_of(end) - day_of(start) if end else timedelta(0)
        return max(days, timedelta(days=1))
    return max(end.utc - start.utc, timedelta(0)) if end else timedelta(0)


def _instant(day: Day) -> datetime:
    return day if isinstance(day, datetime) else datetime.combine(day, time(), UTC)


def _override_span(meeting: Meeting, override: Override) -> tuple[Day, Day] | None:
    """Beginning and end of an override; ``None`` if it is cancelled."""
    assert meeting.start is not None  # noqa: S101 -- only a meeting with a time has occurrences
    if override.cancelled:
        return None
    all_day = meeting.all_day if override.all_day is None else override.all_day
    start = override.start or override.original
    if override.end:
        duration = _duration(start, override.end, all_day)
    else:
        duration = _duration(meeting.start, meeting.end, meeting.all_day)
    begin: Day = day_of(start) if all_day else start.utc
    return begin, begin + duration


def occurrences(meeting: Meeting, window: Window) -> list[tuple[Day, Day]]:
    """Beginning and end of every occurrence that touches the window, in order.

    Raises ValueError as ``parse``.
    """
    if meeting.start is None:
        return []
    duration = _duration(meeting.start, meeting.end, meeting.all_day)
    first_day: Day = day_of(meeting.start) if meeting.all_day else meeting.start.utc
    recurrence = read(meeting)
    begins = days(recurrence, meeting.start) if recurrence else iter([first_day])
    override_spans = {
        day_of(override.original) if meeting.all_day else override.original.utc: _override_span(meeting, override)
        for override in meeting.overrides
    }
    plain = takewhile(lambda day: _instant(day) <= window.until, begins)
    spans = [(day, day + duration) for day in plain if day not in override_spans]
    spans += [span for span in override_spans.values() if span]
    touching = (span for span in spans if _instant(span[0]) <= window.until and _instant(span[1]) >= window.since)
    return sorted(touching, key=lambda span: _instant(span[0]))
