# SPDX-License-Identifier: Apache-2.0
"""When meetings take place and which of them OpenTalk lists, computed with dateutil; and when calendar programs show
them, computed by recurring_ical_events.

It must not use syncd's own computation: tests compare that with this one.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

import recurring_ical_events
from dateutil.rrule import rruleset, rrulestr  # type: ignore[import-untyped]
from icalendar import Calendar

from syncd.model import Meeting, Override, Window

DAY = timedelta(days=1)
CHANGE = timedelta(hours=3)
CENTURY = timedelta(days=36525)


class Occurrence(NamedTuple):
    """One time at which a meeting takes place; whole days begin and end at midnight UTC.

    Spaces around the title are not compared.
    """

    start: datetime
    end: datetime
    title: str


def occurrences(meeting: Meeting, since: datetime, until: datetime) -> set[Occurrence]:
    """The occurrences of a meeting that begin at ``since`` or later and before ``until``."""
    found = {_moved(meeting, each) for each in meeting.overrides if not each.cancelled}
    replaced = {each.original.utc for each in meeting.overrides}
    for start in _starts(meeting, since, until):
        if start not in replaced:
            end = _agreed_end(start, start + _length(meeting), _local(meeting).tzinfo)
            found.add(Occurrence(start, end, meeting.title.strip()))
    return {each for each in found if since <= each.start < until}


def starts(meeting: Meeting, since: datetime, until: datetime) -> list[datetime]:
    """The planned starts of its occurrences in that time, moved and cancelled ones included."""
    return list(_starts(meeting, since, until))


def is_endless(meeting: Meeting) -> bool:
    """Whether a rule of it has no end."""
    return any("FREQ=" in line and "COUNT=" not in line and "UNTIL=" not in line for line in meeting.recurrence)


def last_end(meeting: Meeting) -> datetime | None:
    """When the last occurrence is over, cancelled or not; ``None`` if that is never."""
    if meeting.start is None or is_endless(meeting):
        return None
    moved = [_moved_end(meeting, each) for each in meeting.overrides if not each.cancelled]
    return max([_last_start(meeting.recurrence, _local(meeting)).astimezone(UTC) + _length(meeting), *moved])


def touches(meeting: Meeting, window: Window) -> bool:
    """Whether the time from its first to its last occurrence touches the window."""
    end = last_end(meeting)
    return meeting.start is not None and meeting.start.utc <= window.until and (end is None or end >= window.since)


def is_listed(meeting: Meeting, window: Window) -> bool:
    """Whether OpenTalk lists a meeting with ``time_min`` and ``time_max``, as controller 0.30 filters.

    It compares two columns of its database, ``starts_at`` and ``ends_at``, with both included. They are empty without a
    time: such a meeting is not listed. ``ends_at`` of a series is the *start* of its last occurrence, computed from
    the UTC wall clock as if it were local; without an end, it is a century after the start. Exceptions do not count.
    """
    if meeting.start is None:
        return False
    starts, ends = meeting.start.utc, meeting.end.utc if meeting.end else meeting.start.utc
    if is_endless(meeting):
        ends = starts + CENTURY
    elif meeting.recurrence:
        wrong = meeting.start.utc.replace(tzinfo=ZoneInfo(meeting.start.zone))
        ends = _last_start(meeting.recurrence, wrong).astimezone(UTC)
    begins_or_ends = any(window.since <= each <= window.until for each in (starts, ends))
    return begins_or_ends or any(starts <= each <= ends for each in (window.since, window.until))


def occurrences_in(body: bytes, since: datetime, until: datetime) -> set[Occurrence]:
    """The occurrences that an object shows in a calendar program."""
    found = set()
    for each in recurring_ical_events.of(Calendar.from_ical(body)).between(since, until):
        start, end = moment_of(each["DTSTART"].dt), moment_of(each["DTEND"].dt)
        end = _agreed_end(start, end, getattr(each["DTSTART"].dt, "tzinfo", UTC))
        found.add(Occurrence(start, end, str(each["SUMMARY"]).strip()))
    return {each for each in found if since <= each.start < until}


def moment_of(value: date) -> datetime:
    """A time in UTC; of a date its midnight."""
    return value.astimezone(UTC) if isinstance(value, datetime) else datetime.combine(value, time(0), UTC)


def _agreed_end(start: datetime, end: datetime, zone: tzinfo | None) -> datetime:
    """The end of an occurrence; but its start, if clocks are changed about then, where programs disagree.

    RFC 5545, 3.8.5.3, has every occurrence last as long as the first, recurring_ical_events until the same wall time.
    """
    before, after = (moment.astimezone(zone).utcoffset() for moment in (start - CHANGE, end + CHANGE))
    return end if before == after else start


def _starts(meeting: Meeting, since: datetime, until: datetime) -> Iterator[datetime]:
    if meeting.start is None:
        return
    if not meeting.recurrence:
        yield from [meeting.start.utc] if since <= meeting.start.utc < until else []
        return
    for start in _rules(meeting.recurrence, _local(meeting)).xafter(since, inc=True):
        if start >= until:
            return
        yield start.astimezone(UTC)


def _local(meeting: Meeting) -> datetime:
    """Its start in the zone in which it recurs; UTC for whole days."""
    assert meeting.start
    return meeting.start.utc if meeting.all_day else meeting.start.utc.astimezone(ZoneInfo(meeting.start.zone))


def _rules(lines: tuple[str, ...], start: datetime) -> rruleset:
    return rrulestr("\n".join(lines), dtstart=start, forceset=True, tzids=ZoneInfo)


@lru_cache(maxsize=10_000)
def _last_start(lines: tuple[str, ...], start: datetime) -> datetime:
    return max(_rules(lines, start), default=start) if lines else start


def _length(meeting: Meeting) -> timedelta:
    assert meeting.start
    lasts = (meeting.end or meeting.start).utc - meeting.start.utc
    return max(lasts, DAY if meeting.all_day else timedelta(0))


def _moved(meeting: Meeting, override: Override) -> Occurrence:
    start = override.start or override.original
    zone = UTC if meeting.all_day else ZoneInfo(start.zone)
    title = meeting.title if override.title is None else override.title
    return Occurrence(start.utc, _agreed_end(start.utc, _moved_end(meeting, override), zone), title.strip())


def _moved_end(meeting: Meeting, override: Override) -> datetime:
    start = (override.start or override.original).utc
    lasts = override.end.utc - start if override.end else _length(meeting)
    return start + max(lasts, DAY if meeting.all_day else timedelta(0))
