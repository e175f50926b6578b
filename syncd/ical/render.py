# SPDX-License-Identifier: Apache-2.0
"""A meeting as one iCalendar object: its VTIMEZONEs, the event or series, and the overrides of the series.

Equal input gives equal bytes: no clock, no randomness, nothing of the machine. It must never write what
makes a server mail people or refuse the object: no ORGANIZER, no ATTENDEE, no METHOD, and no VALARM.
"""

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from hashlib import blake2b
from zoneinfo import ZoneInfoNotFoundError

from msgspec import Struct

from syncd.errors import BadEvent
from syncd.ical import recurrence, zones
from syncd.ical.description import calls, describe
from syncd.ical.lines import PRODID, line, one_line, shorten, text
from syncd.ical.recurrence import Day, Recurrence
from syncd.ical.words import words
from syncd.model import Meeting, Override, Profile, WaysIn, When

_SUMMARY_OCTETS = 1000
_SEQUENCE = re.compile(rb"^SEQUENCE:[0-9]+", re.MULTILINE)


class Rendered(Struct, frozen=True):
    """An object, and the digest of its content.

    The digest leaves out the revision, and DTSTAMP and LAST-MODIFIED, which OpenTalk moves without a change:
    entries of equal digest have the same content.
    """

    body: bytes
    digest: str


class Span(Struct, frozen=True):
    """Start and end; with ``all_day`` only their dates count."""

    start: When
    end: When
    all_day: bool


class Series(Struct, frozen=True):
    """A recurrence as it is written: ``overrides`` by the occurrence they replace, ``exclusions`` as EXDATE."""

    recurrence: Recurrence
    overrides: dict[Day, Override]
    exclusions: tuple[Day, ...]


def render(meeting: Meeting, ways: WaysIn, profile: Profile, revision: int) -> Rendered | None:
    """The object of a meeting for a profile; ``revision`` is its SEQUENCE.

    ``None`` if there is nothing to show: the meeting has no time, or every occurrence is cancelled. Raises
    BadEvent if its times, zones or recurrence cannot be written as iCalendar.
    """
    try:
        components = _components(meeting, ways, profile)
    except (ValueError, OverflowError) as error:
        why = "its times are out of reach" if isinstance(error, OverflowError) else str(error)
        raise BadEvent(meeting.id, why) from None
    except ZoneInfoNotFoundError:
        raise BadEvent(meeting.id, "its time zone is unknown") from None
    if components is None:
        return None
    head, events = components
    digest = blake2b(b"\0".join([meeting.id.encode(), head, *events]), digest_size=16).hexdigest()
    stamps = [
        line("UID", text(one_line(meeting.id))),
        line("SEQUENCE", str(revision)),
        line("DTSTAMP", _utc(meeting.updated)),
        line("LAST-MODIFIED", _utc(meeting.updated)),
    ]
    marks = [line("X-SYNCD-INSTALLATION", text(profile.installation)), line("X-SYNCD-DIGEST", digest)]
    parts = [head]
    for event in events:
        parts += [b"BEGIN:VEVENT\r\n", *stamps, event, *marks, b"END:VEVENT\r\n"]
        marks = []  # on the master only
    return Rendered(b"".join((*parts, b"END:VCALENDAR\r\n")), digest)


def with_revision(body: bytes, revision: int) -> bytes:
    """The same object with another SEQUENCE, in every event of it."""
    return _SEQUENCE.sub(b"SEQUENCE:%d" % revision, body)


def _components(meeting: Meeting, ways: WaysIn, profile: Profile) -> tuple[bytes, list[bytes]] | None:
    """The VCALENDAR's head with its VTIMEZONEs, and the content of each event, without stamps and marks."""
    if meeting.start is None:
        return None
    span, series = Span(meeting.start, meeting.end or meeting.start, meeting.all_day), None
    if pattern := recurrence.read(meeting):
        series = _series(meeting, pattern)
        if not _any_left(meeting, meeting.start, series):
            return None
        span = _from_first(span, pattern.first)
    master = [*_times(span, series=series is not None)]
    spans, events = [span], []
    if series:
        master += _recurring(series, span)
        for day, override in series.overrides.items():
            spans.append(_moved_span(meeting, span, override))
            times = [_day("RECURRENCE-ID", day, span), *_times(spans[-1])]
            events.append(b"".join(times + _content(meeting, override, ways, profile)))
    days = (*series.recurrence.rdates, *series.exclusions, *series.overrides) if series else ()
    head = [b"BEGIN:VCALENDAR\r\n", line("VERSION", "2.0"), line("PRODID", PRODID), line("CALSCALE", "GREGORIAN")]
    head += _vtimezones(spans, days)
    return b"".join(head), [b"".join(master + _content(meeting, None, ways, profile)), *events]


def _series(meeting: Meeting, pattern: Recurrence) -> Series:
    """The recurrence with its overrides and exclusions, no occurrence in both.

    A cancelled occurrence is an EXDATE, never an override; an override of an excluded occurrence shows nothing at
    OpenTalk, and nothing here; of two overrides of one occurrence the later counts (two RECURRENCE-IDs of one value
    are refused by some servers).
    """
    overrides: dict[Day, Override] = {}
    for override in meeting.overrides:
        original = override.original
        overrides[recurrence.day_of(original) if meeting.all_day else original.utc] = override
    exclusions = {*pattern.exdates, *(day for day, override in overrides.items() if override.cancelled)}
    shown_overrides = {day: overrides[day] for day in sorted(overrides) if day not in exclusions}
    return Series(pattern, shown_overrides, tuple(sorted(exclusions)))


def _any_left(meeting: Meeting, start: When, series: Series) -> bool:
    """Whether any occurrence is left to show; an object without one is refused or breaks (Nextcloud)."""
    if series.overrides or not (series.exclusions or series.recurrence.exrules):
        return True
    days = (day for day in recurrence.days(series.recurrence, start) if day not in series.exclusions)
    return next(days, None) is not None or recurrence.last_end(meeting) is None


def _from_first(span: Span, first: Day) -> Span:
    """The span of the first occurrence: calendars always show DTSTART, OpenTalk only what matches the rule.

    Both ends are in one zone, as one rule moves both.
    """
    if isinstance(first, datetime):
        start, zone = first, span.start.zone
        duration = span.end.utc - span.start.utc
    else:
        start, zone = datetime(first.year, first.month, first.day, tzinfo=UTC), "UTC"
        duration = recurrence.day_of(span.end) - recurrence.day_of(span.start)
    return Span(When(start, zone), When(start + duration, zone), span.all_day)


def _moved_span(meeting: Meeting, series: Span, override: Override) -> Span:
    """When an override takes place. Without an end of its own it lasts as long as the series' occurrences."""
    start = override.start or override.original
    end = override.end or When(start.utc + (series.end.utc - series.start.utc), start.zone)
    all_day = meeting.all_day if override.all_day is None else override.all_day
    return Span(start, end, all_day)


def _times(span: Span, *, series: bool = False) -> list[bytes]:
    """DTSTART and DTEND, always both (iCloud) and of one type (Radicale, Cyrus).

    DTEND is never before DTSTART (Cyrus), and of whole days after it.
    """
    if span.all_day:
        first, last = recurrence.day_of(span.start), recurrence.day_of(span.end)
        last = max(last, first + timedelta(days=1))
        return [line("DTSTART;VALUE=DATE", _date(first)), line("DTEND;VALUE=DATE", _date(last))]
    end = span.end if span.end.utc >= span.start.utc else span.start
    return [_time("DTSTART", span.start, series=series), _time("DTEND", end, series=series)]


def _recurring(series: Series, span: Span) -> Iterator[bytes]:
    """RRULE, RDATE and EXDATE; one date a line, in the form of DTSTART (Android ignores any other)."""
    for rule in series.recurrence.rrules:
        yield line("RRULE", rule.value)
    for rule in series.recurrence.exrules:
        yield line("EXRULE", rule.value)
    begin: Day = recurrence.day_of(span.start) if span.all_day else span.start.utc
    for day in series.recurrence.rdates:
        if day != begin:
            yield _day("RDATE", day, span)
    for day in series.exclusions:
        yield _day("EXDATE", day, span)


def _day(name: str, day: Day, span: Span) -> bytes:
    """An occurrence of the series in the form of its DTSTART."""
    if isinstance(day, datetime):
        return _time(name, When(day, span.start.zone), series=True)
    return line(f"{name};VALUE=DATE", _date(day))


def _time(name: str, when: When, *, series: bool = False) -> bytes:
    """A time in its zone; in UTC also where the wall time alone means the hour before (autumn's 2:30).

    A series stays in its zone all the same: it recurs in wall time.
    """
    if not zones.is_utc(when.zone):
        wall = when.utc.astimezone(zones.zone(when.zone))
        if series or not wall.fold:
            return line(f"{name};TZID={when.zone}", _wall(wall))
    return line(name, _utc(when.utc))


def _wall(value: datetime) -> str:
    return value.replace(tzinfo=None).isoformat(timespec="seconds").replace("-", "").replace(":", "")


def _utc(value: datetime) -> str:
    return f"{_wall(value.astimezone(UTC))}Z"


def _date(value: date) -> str:
    return value.isoformat().replace("-", "")


def _vtimezones(spans: list[Span], days: tuple[Day, ...]) -> list[bytes]:
    """The zones of all times, from the earliest of them on."""
    whens = [when for span in spans if not span.all_day for when in (span.start, span.end)]
    year = min([when.utc.year for when in whens] + [day.year for day in days], default=zones.FIRST_YEAR)
    names = {when.zone for when in whens if not zones.is_utc(when.zone)}
    return [zones.vtimezone(name, year) for name in sorted(names)]


def _content(meeting: Meeting, override: Override | None, ways: WaysIn, profile: Profile) -> list[bytes]:
    """The properties of a meeting's content, repeated in every override: some programs show only that one."""
    title, about = _texts(meeting, override)
    summary = shorten(one_line(title), _SUMMARY_OCTETS) or words(profile.language).untitled
    result = [line("CREATED", _utc(meeting.created)), line("SUMMARY", text(summary))]
    ways_in = calls(meeting, ways, profile)
    if ways_in and ways_in[0].features != "PHONE":
        result += [line("LOCATION", text(ways_in[0].address)), line("URL", ways_in[0].address)]
    for call in ways_in:
        result.append(line(f"CONFERENCE;VALUE=URI;FEATURE={call.features};LABEL={call.label}", call.address))
    description = describe(about, meeting, ways, profile)
    if description:
        result.append(line("DESCRIPTION", text(description)))
    tentative = meeting.invite_status in ("pending", "tentative")
    result.append(line("STATUS", "TENTATIVE" if tentative else "CONFIRMED"))
    if profile.audience == "owner":
        result.append(line("CLASS", "PRIVATE"))
    result.append(line("TRANSP", "OPAQUE"))
    return result


def _texts(meeting: Meeting, override: Override | None) -> tuple[str, str]:
    """Title and description; an occurrence has those of its series where it has none of its own."""
    title, about = meeting.title, meeting.description
    if override is None:
        return title, about
    own_title, own_about = override.title, override.description
    return (title if own_title is None else own_title), (about if own_about is None else own_about)
