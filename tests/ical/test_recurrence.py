# SPDX-License-Identifier: Apache-2.0
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import msgspec
import pytest
import recurring_ical_events
from dateutil.rrule import rrulestr  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st
from icalendar import Calendar, Event, vDDDLists, vRecur
from msgspec.structs import replace

from syncd.ical.recurrence import (
    MOST_OCCURRENCES,
    day_of,
    last_end,
    normalise,
    occurrences,
    parse,
    read,
    with_overrides,
    zone,
)
from syncd.model import Meeting, Override, When, Window, meeting_digest
from tests.support.golden_meetings import rendered
from tests.support.meetings import BERLIN, HOUR, CountedLines, at, meeting

MONDAY = at(2026, 10, 5, 7)


def series(
    *lines: str,
    start: When = MONDAY,
    lasts: timedelta = HOUR,
    all_day: bool = False,
    overrides: Sequence[Override] = (),
) -> Meeting:
    """A meeting with these lines of recurrence, which may be none."""
    return meeting(
        start=start,
        end=When(start.utc + lasts, start.zone),
        all_day=all_day,
        recurrence=normalise(lines),
        overrides=tuple(overrides),
    )


def begins(of: Meeting, since: datetime, until: datetime) -> list[datetime | date]:
    return [begin for begin, _ in occurrences(of, Window(since, until))]


def test_a_line_without_a_name_is_a_rule() -> None:
    assert normalise(["FREQ=WEEKLY;INTERVAL=2"]) == ("RRULE:FREQ=WEEKLY;INTERVAL=2",)
    assert normalise(["RRULE:FREQ=WEEKLY;"]) == ("RRULE:FREQ=WEEKLY",)


def test_one_element_may_hold_several_lines() -> None:
    lines = "freq=daily;count=3\r\nEXDATE;TZID=Europe/Berlin:20261006T090000\n\nrdate:20261020T070000Z"
    assert normalise([lines]) == (
        "RRULE:FREQ=DAILY;COUNT=3",
        "EXDATE;TZID=Europe/Berlin:20261006T090000",
        "RDATE:20261020T070000Z",
    )


@given(st.lists(st.text(max_size=30), max_size=4))
def test_normalising_twice_changes_nothing_and_no_text_breaks_the_parser(lines: list[str]) -> None:
    once = normalise(lines)
    assert normalise(once) == once
    with suppress(ValueError):
        parse(once, MONDAY, all_day=False)


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (["INTERVAL=2"], "no FREQ"),
        (["FREQ=FORTNIGHTLY"], "a FREQ that"),
        (["FREQ=SECONDLY"], "a FREQ that"),
        (["FREQ=WEEKLY;INTERVAL=0"], "INTERVAL"),
        (["FREQ=WEEKLY;COUNT=0"], "COUNT"),
        (["FREQ=WEEKLY;COUNT=3;UNTIL=20270101T000000Z"], "both COUNT and UNTIL"),
        (["FREQ=WEEKLY;UTIL=20270101T000000Z"], "an unknown part"),
        (["FREQ=WEEKLY;BYEASTER=1"], "an unknown part"),
        (["FREQ=WEEKLY;FREQ=DAILY"], "FREQ twice"),
        (["FREQ=WEEKLY;BYDAY=MO,XX"], "BYDAY"),
        (["FREQ=MONTHLY;BYMONTHDAY=32"], "BYMONTHDAY"),
        (["FREQ=WEEKLY;UNTIL=20270231T000000Z"], "a date that cannot be"),
        (["FREQ=DAILY", "EXDATE:2026-10-05"], "a date that cannot be"),
        (["FREQ=DAILY", "EXDATE;TZID=W. Europe Standard Time:20261005T090000"], "time zone 'W. Europe Standard Time'"),
        (["FREQ=DAILY", "RDATE;VALUE=PERIOD:20261005T090000Z/PT1H"], "periods"),
        (["DTSTART:20261005T070000Z", "FREQ=DAILY"], "neither a rule"),
        (["FREQ=DAILY;UNTIL=20261004T000000Z"], "no date"),
        (["BYMONTH=2;BYMONTHDAY=30;FREQ=MONTHLY"], "no date"),
        (["FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30"], "no date"),
        (["EXDATE:20261005T070000Z"], "no date"),
    ],
)
def test_a_broken_recurrence_says_what_is_wrong(lines: list[str], problem: str) -> None:
    with pytest.raises(ValueError, match=r"recurrence|time zone") as caught:
        parse(normalise(lines), MONDAY, all_day=False)
    assert problem in str(caught.value)


@pytest.mark.parametrize("name", ["W. Europe Standard Time", "Europe", "../etc/passwd", "", "/usr", "Mars/Olympus"])
def test_a_zone_that_is_none_is_a_value_error(name: str) -> None:
    with pytest.raises(ValueError, match="unknown"):
        zone(name)


def test_until_becomes_utc_and_for_whole_days_a_date() -> None:
    (floating,) = parse(["RRULE:FREQ=DAILY;UNTIL=20261204T225959"], MONDAY, all_day=False).rrules
    assert floating.until == datetime(2026, 12, 4, 21, 59, 59, tzinfo=UTC)
    assert floating.value == "FREQ=DAILY;UNTIL=20261204T215959Z"
    (dated,) = parse(["RRULE:FREQ=DAILY;UNTIL=20261204"], MONDAY, all_day=False).rrules
    assert dated.value == "FREQ=DAILY;UNTIL=20261204T225959Z"
    for until in ("20261204", "20261204T000000Z", "20261204T225959Z", "20261204T120000"):
        (days,) = parse([f"RRULE:FREQ=DAILY;UNTIL={until}"], at(2026, 10, 5), all_day=True).rrules
        assert (days.value, days.until) == ("FREQ=DAILY;UNTIL=20261204", date(2026, 12, 4))


def test_dates_take_their_zone_from_tzid_z_or_the_start() -> None:
    lines = [
        "RRULE:FREQ=DAILY",
        'EXDATE;TZID="America/New_York":20261201T090000,20261202T090000',
        "EXDATE:20261203T090000",
        "EXDATE:20261204T090000Z",
    ]
    hours = [day.hour for day in parse(lines, MONDAY, all_day=False).exdates if isinstance(day, datetime)]
    assert hours == [14, 14, 8, 9]


def test_the_date_of_whole_days_is_that_of_utc_midnight_or_else_of_the_zone() -> None:
    assert day_of(When(datetime(2026, 12, 10, tzinfo=UTC), "America/New_York")) == date(2026, 12, 10)
    assert day_of(When(datetime(2026, 12, 9, 23, tzinfo=UTC), BERLIN)) == date(2026, 12, 10)


def test_the_first_date_is_the_first_that_the_rule_gives() -> None:
    fridays = parse(normalise(["FREQ=WEEKLY;BYDAY=FR;COUNT=4"]), MONDAY, all_day=False)
    assert fridays.first == datetime(2026, 10, 9, 7, tzinfo=UTC)
    monthly = ["FREQ=MONTHLY;BYMONTHDAY=1", "RDATE;TZID=Europe/Berlin:20261015T100000"]
    assert parse(normalise(monthly), MONDAY, all_day=False).first == datetime(2026, 11, 1, 8, tzinfo=UTC)
    only = parse(["RDATE:20261015T100000Z,20261013T100000Z"], MONDAY, all_day=False)
    assert only.first == datetime(2026, 10, 13, 10, tzinfo=UTC)
    assert parse(["RRULE:FREQ=DAILY"], at(2026, 10, 5), all_day=True).first == date(2026, 10, 5)


@pytest.mark.parametrize(
    "rule",
    [
        "FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,WE;COUNT=7",
        "FREQ=WEEKLY;INTERVAL=3;BYDAY=SU;WKST=SU;COUNT=7",
        "FREQ=MONTHLY;INTERVAL=2;BYDAY=-1FR;COUNT=7",
        "FREQ=YEARLY;INTERVAL=2;BYMONTH=3,9;COUNT=7",
        "FREQ=DAILY;INTERVAL=3;BYDAY=SA;COUNT=7",
    ],
)
@pytest.mark.parametrize("day", range(1, 8))
def test_moving_the_start_to_the_first_date_changes_no_date(rule: str, day: int) -> None:
    start = at(2026, 10, day, 7)
    weekly = series(rule, start=start)
    moved = parse(weekly.recurrence, start, all_day=False).first
    assert isinstance(moved, datetime)
    end = datetime(2060, 1, 1, tzinfo=UTC)
    assert begins(weekly, start.utc, end) == begins(series(rule, start=When(moved, BERLIN)), start.utc, end)
    assert len(begins(weekly, start.utc, end)) == 7


def test_a_series_keeps_its_wall_time_when_the_clocks_change() -> None:
    october = begins(series("FREQ=WEEKLY"), datetime(2026, 10, 19, tzinfo=UTC), datetime(2026, 10, 27, tzinfo=UTC))
    assert october == [datetime(2026, 10, 19, 7, tzinfo=UTC), datetime(2026, 10, 26, 8, tzinfo=UTC)]


def test_exceptions_of_all_kinds_show_in_the_occurrences() -> None:
    weekly = series(
        "FREQ=DAILY;COUNT=6",
        "EXRULE:FREQ=WEEKLY;BYDAY=TU",
        "EXDATE:20261007T090000",
        "RDATE:20261101T090000,20261005T090000",
        overrides=[
            Override(at(2026, 10, 8, 7), cancelled=True),
            Override(at(2026, 10, 9, 7), start=at(2026, 12, 24, 7), end=at(2026, 12, 24, 9)),
        ],
    )
    spans = occurrences(weekly, Window(MONDAY.utc, datetime(2027, 1, 1, tzinfo=UTC)))
    assert spans == [
        (datetime(2026, 10, 5, 7, tzinfo=UTC), datetime(2026, 10, 5, 8, tzinfo=UTC)),
        (datetime(2026, 10, 10, 7, tzinfo=UTC), datetime(2026, 10, 10, 8, tzinfo=UTC)),
        (datetime(2026, 11, 1, 8, tzinfo=UTC), datetime(2026, 11, 1, 9, tzinfo=UTC)),
        (datetime(2026, 12, 24, 7, tzinfo=UTC), datetime(2026, 12, 24, 9, tzinfo=UTC)),
    ]


def test_a_meeting_ends_when_its_last_occurrence_does() -> None:
    assert last_end(series()) == MONDAY.utc + HOUR
    assert last_end(series(lasts=-HOUR)) == MONDAY.utc
    assert last_end(series("FREQ=WEEKLY")) is None
    assert last_end(series("FREQ=DAILY;COUNT=3")) == MONDAY.utc + timedelta(days=2) + HOUR
    assert last_end(series("FREQ=DAILY;UNTIL=20261204T070000Z")) == datetime(2026, 12, 4, 8, tzinfo=UTC)
    assert last_end(series("FREQ=DAILY;COUNT=3", "RDATE:20270101T000000Z")) == datetime(2027, 1, 1, 1, tzinfo=UTC)
    moved = Override(at(2026, 10, 6, 7), start=at(2028, 1, 1, 7))
    assert last_end(series("FREQ=DAILY;COUNT=3", overrides=[moved])) == datetime(2028, 1, 1, 8, tzinfo=UTC)
    assert last_end(series("FREQ=DAILY", overrides=[moved])) is None
    whole = series("FREQ=DAILY;COUNT=3", start=at(2026, 10, 5), lasts=timedelta(0), all_day=True)
    assert last_end(whole) == datetime(2026, 10, 8, tzinfo=UTC)


def test_a_series_of_too_many_occurrences_never_ends() -> None:
    assert last_end(series("FREQ=DAILY;COUNT=10000")) == MONDAY.utc + timedelta(days=9999, hours=2)
    assert last_end(series(f"FREQ=DAILY;COUNT={MOST_OCCURRENCES + 1}")) is None
    assert last_end(series("FREQ=YEARLY;INTERVAL=90;COUNT=3")) is None


@pytest.mark.parametrize("until", ["99991231T235959Z", "99991231T235959", "99991231", "45000831T235900"])
@pytest.mark.parametrize("name", [BERLIN, "America/New_York"])
def test_an_end_far_away_is_none(until: str, name: str) -> None:
    start = When(MONDAY.utc, name)
    for all_day in (False, True):
        weekly = series(f"FREQ=WEEKLY;BYDAY=MO;UNTIL={until}", start=start, all_day=all_day)
        assert last_end(weekly) is None
        assert len(begins(weekly, MONDAY.utc, MONDAY.utc + timedelta(days=21, hours=12))) == 4
    assert last_end(series(f"RDATE:{until}", start=start)) is None


RULES = st.one_of(
    st.builds("FREQ=DAILY;INTERVAL={}".format, st.integers(1, 9)),
    st.builds("FREQ=WEEKLY;INTERVAL={};BYDAY=MO,{}".format, st.integers(1, 3), st.sampled_from(["TU", "FR", "SU"])),
    st.builds("FREQ=MONTHLY;BYMONTHDAY={}".format, st.integers(1, 28)),
    st.builds("FREQ=MONTHLY;BYDAY={}{}".format, st.sampled_from([1, 2, -1]), st.sampled_from(["MO", "SA"])),
)
ENDS = st.sampled_from(["", ";COUNT=1", ";COUNT=9", ";UNTIL=20270110T070000Z", ";UNTIL=20270328T010000Z"])
ZONES = st.sampled_from([BERLIN, "America/New_York", "Asia/Kolkata", "UTC", "Pacific/Auckland"])


@settings(max_examples=40, deadline=None)
@given(RULES, ENDS, ZONES, st.integers(0, 200), st.integers(0, 23), st.integers(0, 20))
def test_occurrences_are_those_that_calendars_show(
    rule: str, end: str, name: str, days: int, hour: int, excluded: int
) -> None:
    start = When(datetime(2026, 9, 1, hour, tzinfo=UTC) + timedelta(days=days), name)
    local = start.utc.astimezone(ZoneInfo(name))
    hole_at = local + timedelta(days=excluded)  # the same wall time
    lines = [rule + end, f"EXDATE:{hole_at.astimezone(UTC):%Y%m%dT%H%M%SZ}"]
    begin = next(iter(rrulestr(rule + end, dtstart=local)), None)
    if begin is None:
        with pytest.raises(ValueError, match="no date"):
            begins(series(*lines, start=start), start.utc, start.utc + HOUR)
        return
    event = Event()
    event.add("UID", "series")
    event.add("DTSTART", begin)
    event.add("DURATION", HOUR)
    event.add("RRULE", vRecur.from_ical(rule + end))
    event.add("EXDATE", vDDDLists([hole_at]))
    calendar = Calendar()
    calendar.add_component(event)
    until = start.utc + timedelta(days=250, minutes=30)
    shown = recurring_ical_events.of(calendar).between(start.utc, until)
    expected = sorted(found["DTSTART"].dt.astimezone(UTC) for found in shown)
    assert begins(series(*lines, start=start), start.utc, until) == expected


def test_a_series_is_parsed_once_however_often_it_is_asked_for() -> None:
    lines = CountedLines(("RRULE:FREQ=WEEKLY;BYDAY=MO,TU;COUNT=9", "EXDATE;TZID=Europe/Berlin:20261006T090000"))
    cancelled = Override(original=at(2026, 10, 12, 7), cancelled=True)
    of = replace(series(overrides=[cancelled]), recurrence=lines)
    assert last_end(of) == datetime(2026, 11, 2, 9, tzinfo=UTC)
    entry = rendered(of)
    assert rendered(with_overrides(of, ())).body != entry.body == rendered(of).body
    assert read(of) is read(with_overrides(of, ()))
    assert lines.times == 1


def test_what_was_read_of_a_series_is_no_part_of_it() -> None:
    of = series("RRULE:FREQ=DAILY;COUNT=3")
    before = meeting_digest(of), msgspec.json.encode(of)
    assert read(of) == parse(of.recurrence, MONDAY, all_day=False)
    assert of == series("RRULE:FREQ=DAILY;COUNT=3")
    assert (meeting_digest(of), msgspec.json.encode(of)) == before
    later = replace(of, start=at(2026, 10, 6, 7))
    assert begins(later, MONDAY.utc, MONDAY.utc + timedelta(days=2))[0] == datetime(2026, 10, 6, 7, tzinfo=UTC)
    assert read(replace(of, recurrence=())) is None
    assert read(replace(of, start=None, end=None)) is None
