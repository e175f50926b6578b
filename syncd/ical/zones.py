# SPDX-License-Identifier: Apache-2.0
"""Time zones: wall time, and the VTIMEZONE that defines it for a calendar.

All of it comes from the ``tzdata`` package, never from the host, so that the same meeting gives the same
bytes on every machine. It must not look at a clock: what a VTIMEZONE covers depends on the meeting alone.
"""

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import cache
from importlib.resources import files
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

FIRST_YEAR = 2025
HORIZON = 2060
UTC_NAMES = frozenset(
    ("UTC", "UCT", "Universal", "Zulu", "Etc/UTC", "Etc/UCT", "Etc/Universal", "Etc/Zulu")
)  # the aliases that tzdata's file "backward" has for it

_WEEKDAYS = ("SU", "MO", "TU", "WE", "TH", "FR", "SA")
_LAST = 5
_FOOTER = re.compile(
    r"(?:[A-Za-z]+|<[^>]+>)[-+\d:]+(?:[A-Za-z]+|<[^>]+>)(?:[-+\d:]+)?"
    r",M(\d+)\.(\d)\.(\d)(?:/([-+\d:]+))?,M(\d+)\.(\d)\.(\d)(?:/([-+\d:]+))?"
)


class YearlyChange(NamedTuple):
    """One of the two changes of a year, as POSIX has it.

    It is on the ``week``-th ``weekday`` (0 is Sunday, week 5 the last) of a month, ``seconds`` after that day's
    midnight in the wall time before the change.
    """

    month: int
    week: int
    weekday: int
    seconds: int


class Change(NamedTuple):
    """A change of the clocks: ``wall`` is the naive wall time *before* it (RFC 5545, 3.6.5)."""

    wall: datetime
    before: timedelta
    after: timedelta
    name: str
    daylight: bool

    @property
    def kind(self) -> tuple[timedelta, timedelta, str, bool]:
        """What the changes of one observance have in common, whatever their year."""
        return self[1:]


@cache
def names() -> frozenset[str]:
    """Every zone name of tzdata, aliases such as Europe/Kiev included."""
    return frozenset(files("tzdata").joinpath("zones").read_text(encoding="ascii").split())


@cache
def zone(tzid: str) -> ZoneInfo:
    """A zone by its IANA name; raises ZoneInfoNotFoundError (a KeyError) for any other name."""
    if tzid not in names():
        raise ZoneInfoNotFoundError("tzdata has no time zone of this name")
    with files("tzdata").joinpath("zoneinfo", *tzid.split("/")).open("rb") as stream:
        return ZoneInfo.from_file(stream, key=tzid)


def is_utc(tzid: str) -> bool:
    """Whether times of this zone are written as ``...Z``, without a VTIMEZONE."""
    return tzid in UTC_NAMES


def vtimezone(tzid: str, first_year: int) -> bytes:
    """The VTIMEZONE of a zone, right for every instant from the beginning of ``first_year`` on.

    The two yearly changes become RRULEs; whatever is irregular (Ramadan in Casablanca, Cairo's "24:00 of
    the last Thursday", a law that begins in three years) is written change by change, up to ``HORIZON``.
    Years from ``FIRST_YEAR`` on share one block, so that the entries of a feed share it too; years before
    1970 get that of 1970. Raises ZoneInfoNotFoundError.
    """
    return _vtimezone(tzid, max(1970, min(first_year, FIRST_YEAR)))


@cache
def _vtimezone(tzid: str, first_year: int) -> bytes:
    start = first_year - 1  # a whole year ahead: every yearly rule has had its first onset by then
    changes = list(_changes(zone(tzid), start, HORIZON))
    rules = _yearly_rules(tzid)
    regular = _regular_since(rules, changes, start)
    lines = ["BEGIN:VTIMEZONE", f"TZID:{tzid}"]
    if not any(change.wall.year == start for change in changes):
        lines += _observance([_initial(zone(tzid), start)])
    for kind in dict.fromkeys(change.kind for change in changes):
        same_kind = [change for change in changes if change.kind == kind]
        single = [change for change in same_kind if change.wall.year < regular]
        if single:
            lines += _observance(single)
        if len(single) < len(same_kind):
            lines += _observance(same_kind[len(single) :][:1], _rrule(_rule_of(rules, same_kind[-1])))
    return ("\r\n".join([*lines, "END:VTIMEZONE"]) + "\r\n").encode("ascii")


def _observance(changes: list[Change], rrule: str | None = None) -> list[str]:
    first = changes[0]
    component = "DAYLIGHT" if first.daylight else "STANDARD"
    return [
        f"BEGIN:{component}",
        f"DTSTART:{first.wall:%Y%m%dT%H%M%S}",
        *([f"RRULE:{rrule}"] if rrule else []),
        *(f"RDATE:{change.wall:%Y%m%dT%H%M%S}" for change in changes[1:]),
        f"TZOFFSETFROM:{_offset(first.before)}",
        f"TZOFFSETTO:{_offset(first.after)}",
        f"TZNAME:{first.name}",
        f"END:{component}",
    ]


def _offset(offset: timedelta) -> str:
    seconds = int(offset.total_seconds())
    hours, rest = divmod(abs(seconds), 3600)
    minutes, odd = divmod(rest, 60)
    return f"{'-' if seconds < 0 else '+'}{hours:02}{minutes:02}" + (f"{odd:02}" if odd else "")


def _initial(tz: ZoneInfo, year: int) -> Change:
    """The offset and name in force on 1 January; the only observance of a zone without changes."""
    at = datetime(year, 1, 1, tzinfo=tz)
    offset = at.utcoffset() or timedelta()
    return Change(at.replace(tzinfo=None), offset, offset, at.tzname() or "", daylight=False)


def _changes(tz: ZoneInfo, first: int, last: int) -> Iterator[Change]:
    """Every change of offset or name, in order, found by looking once a week (none undo each other)."""
    week = timedelta(days=7)
    low, end = datetime(first, 1, 1, tzinfo=UTC), datetime(last, 1, 1, tzinfo=UTC)
    before = _offset_and_name(tz, low)
    while low < end:
        high = min(low + week, end)
        after = _offset_and_name(tz, high)
        if after != before:
            yield _bisect(tz, low, high)
        low, before = high, after


def _offset_and_name(tz: ZoneInfo, at: datetime) -> tuple[timedelta | None, str | None]:
    local = at.astimezone(tz)
    return local.utcoffset(), local.tzname()


def _bisect(tz: ZoneInfo, low: datetime, high: datetime) -> Change:
    before = _offset_and_name(tz, low)
    while high - low > timedelta(seconds=1):
        middle = low + timedelta(seconds=(high - low) // timedelta(seconds=2))
        low, high = (middle, high) if _offset_and_name(tz, middle) == before else (low, middle)
    old, new = low.astimezone(tz), high.astimezone(tz)
    old_offset, new_offset = old.utcoffset() or timedelta(), new.utcoffset() or timedelta()
    # Dublin and Casablanca have their "daylight saving" in winter, backwards; clients expect the summer's
    seasonal = bool(old.dst() or new.dst())
    wall = high.replace(tzinfo=None) + old_offset
    return Change(wall, old_offset, new_offset, new.tzname() or "", seasonal and new_offset > old_offset)


def _yearly_rules(tzid: str) -> tuple[YearlyChange, ...]:
    """The two rules of the POSIX footer of a TZif file (RFC 8536, 3.3); none without daylight saving."""
    data = files("tzdata").joinpath("zoneinfo", *tzid.split("/")).read_bytes()
    match = _FOOTER.fullmatch(data.rstrip(b"\n").rpartition(b"\n")[2].decode("ascii"))
    if match is None:
        return ()
    parts = match.groups()
    return tuple(
        YearlyChange(int(month), int(week), int(weekday), _seconds(time or "2"))
        for month, week, weekday, time in (parts[:4], parts[4:])
    )


def _seconds(time: str) -> int:
    sign = -1 if time.startswith("-") else 1
    hours, minutes, seconds = (*map(int, time.lstrip("+-").split(":")), 0, 0)[:3]
    return sign * (hours * 3600 + minutes * 60 + seconds)


def _onset(rule: YearlyChange, year: int) -> datetime:
    """The naive wall time of a rule's change in one year."""
    first = date(year, rule.month, 1)
    day = first + timedelta(days=(rule.weekday - first.isoweekday()) % 7 + 7 * (rule.week - 1))
    if day.month != rule.month:  # the fifth of a weekday that a month has only four of is the last
        day -= timedelta(days=7)
    return datetime(day.year, day.month, day.day) + timedelta(seconds=rule.seconds)  # noqa: DTZ001 -- wall


def _rule_of(rules: tuple[YearlyChange, ...], change: Change) -> YearlyChange:
    return next(rule for rule in rules if _onset(rule, change.wall.year) == change.wall)


def _regular_since(rules: tuple[YearlyChange, ...], changes: list[Change], start: int) -> int:
    """The first year from which the changes are those of the rules, if an RRULE can express all of those."""
    if not all(_rrule(rule) for rule in rules):
        return HORIZON
    kinds = {change.kind for change in changes[-len(rules) :]} if rules else set()
    for year in range(HORIZON - 1, start - 1, -1):
        of_year = [change for change in changes if change.wall.year == year]
        expected = sorted(_onset(rule, year) for rule in rules)
        if [change.wall for change in of_year] != expected or {change.kind for change in of_year} != kinds:
            return year + 1
    return start


def _rrule(rule: YearlyChange) -> str:
    """An RRULE for a rule; empty where RFC 5545 cannot express it.

    Times beyond their day move to the day they fall on: Jerusalem's 26:00 of the fourth Thursday is 02:00
    of the Friday between the 23rd and the 29th.
    """
    days = rule.seconds // 86400
    weekday = _WEEKDAYS[(rule.weekday + days) % 7]
    yearly = f"FREQ=YEARLY;BYMONTH={rule.month};BYDAY="
    if not days:
        return f"{yearly}{-1 if rule.week == _LAST else rule.week}{weekday}"
    length = (date(2023, rule.month % 12 + 1, 1) - timedelta(days=1)).day
    first = (length - 6 if rule.week == _LAST else 7 * rule.week - 6) + days
    if first < 1 or first + 6 > length:  # Cairo's 24:00 of the last Thursday may be in the next month
        return ""
    return f"{yearly}{weekday};BYMONTHDAY={','.join(str(day) for day in range(first, first + 7))}"
