# SPDX-License-Identifier: Apache-2.0
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from io import BytesIO
from itertools import pairwise
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytest
from dateutil.rrule import rrulestr  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st
from icalendar import Calendar

from syncd.ical.zones import is_utc, names, vtimezone, zone

SPECIAL = (
    "Africa/Cairo", "Africa/Casablanca", "America/Havana", "America/New_York", "America/Nuuk", "America/Santiago",
    "Asia/Gaza", "Asia/Jerusalem", "Asia/Kolkata", "Australia/Lord_Howe", "Europe/Berlin", "Europe/Dublin",
    "Pacific/Chatham", "Pacific/Easter",
)  # fmt: skip


TZDATA = files("tzdata")


def data(tzid: str) -> bytes:
    """The file of a zone in the tzdata package."""
    return TZDATA.joinpath("zoneinfo", *tzid.split("/")).read_bytes()


def from_tzdata(tzid: str) -> ZoneInfo:
    return ZoneInfo.from_file(BytesIO(data(tzid)))


def wall_time(text: str) -> datetime:
    return datetime.strptime(text + "+0000", "%Y%m%dT%H%M%S%z").replace(tzinfo=None)


def offset(text: str) -> timedelta:
    hours, minutes, seconds = int(text[1:3]), int(text[3:5]), int(text[5:7] or 0)
    size = timedelta(hours=hours, minutes=minutes, seconds=seconds)
    return -size if text[0] == "-" else size


def onsets(block: bytes, until: int) -> list[tuple[datetime, timedelta, timedelta]]:
    """RFC 5545, 3.6.5, read literally: each onset as an instant, with the offsets before and after it."""
    return sorted(_onsets(block, until))


def _onsets(block: bytes, until: int) -> Iterator[tuple[datetime, timedelta, timedelta]]:
    for part in re.findall(r"BEGIN:(?:STANDARD|DAYLIGHT)\r\n(.*?)END:", block.decode(), re.DOTALL):
        pairs = [line.split(":", 1) for line in part.splitlines()]
        one = dict(pairs)
        walls = [wall_time(value) for name, value in pairs if name in ("DTSTART", "RDATE")]
        if "RRULE" in one:
            begin = walls[0]
            end = begin.replace(year=max(until, begin.year + 1))
            walls = rrulestr(one["RRULE"], dtstart=begin).between(begin, end, inc=True)
            assert walls[0] == begin, "DTSTART is an onset itself"
        before, after = offset(one["TZOFFSETFROM"]), offset(one["TZOFFSETTO"])
        for wall in walls:
            yield (wall - before).replace(tzinfo=UTC), before, after


def wrong_instants(tzid: str, first: int, last: int) -> list[datetime]:
    """Where the VTIMEZONE and zoneinfo differ: just before and at every onset, and every three days."""
    found = onsets(vtimezone(tzid, first), last)
    begin, end, tz = datetime(first, 1, 1, tzinfo=UTC), datetime(last, 1, 1, tzinfo=UTC), from_tzdata(tzid)
    assert found[0][0] <= begin, "something holds at the beginning"
    instants = [begin + timedelta(days=3 * step) for step in range((end - begin).days // 3)]
    for at, _, _ in found:
        instants += [at - timedelta(seconds=1), at]
    following = iter([*pairwise(found), (found[-1], None)])
    (_, _, now), then = next(following)
    wrong = []
    for instant in sorted(instant for instant in instants if begin <= instant < end):
        while then and then[0] <= instant:
            assert then[1] == now, "the offset before an onset is the one after the last"
            (_, _, now), then = next(following)
        if instant.astimezone(tz).utcoffset() != now:
            wrong.append(instant)
    return wrong


def test_the_vtimezone_of_every_zone_is_right_for_every_instant_of_years() -> None:
    listed = TZDATA.joinpath("zones").read_text(encoding="utf-8").split()
    assert names() == set(listed)
    distinct = {data(name): name for name in sorted(listed)}
    assert len(distinct) > 300
    assert {name: wrong for name in distinct.values() if (wrong := wrong_instants(name, 2025, 2032)[:3])} == {}


@pytest.mark.parametrize("tzid", SPECIAL)
def test_special_zones_are_right_into_the_far_future_and_the_past(tzid: str) -> None:
    assert wrong_instants(tzid, 2025, 2060) == []
    assert wrong_instants(tzid, 1990, 2030) == []


def test_berlin_is_two_rules_with_the_onset_in_the_wall_time_before_it() -> None:
    assert vtimezone("Europe/Berlin", 2026).decode().splitlines() == [
        "BEGIN:VTIMEZONE", "TZID:Europe/Berlin",
        "BEGIN:DAYLIGHT", "DTSTART:20240331T020000", "RRULE:FREQ=YEARLY;BYMONTH=3;BYDAY=-1SU",
        "TZOFFSETFROM:+0100", "TZOFFSETTO:+0200", "TZNAME:CEST", "END:DAYLIGHT",
        "BEGIN:STANDARD", "DTSTART:20241027T030000", "RRULE:FREQ=YEARLY;BYMONTH=10;BYDAY=-1SU",
        "TZOFFSETFROM:+0200", "TZOFFSETTO:+0100", "TZNAME:CET", "END:STANDARD", "END:VTIMEZONE",
    ]  # fmt: skip


def test_summer_is_daylight_where_the_law_calls_winter_the_exception() -> None:
    dublin = vtimezone("Europe/Dublin", 2026).decode()
    assert re.search(r"BEGIN:DAYLIGHT\r\n[^B]*?RRULE:FREQ=YEARLY;BYMONTH=3;.*?TZNAME:IST", dublin, re.DOTALL)


def test_a_time_beyond_its_day_is_written_as_one_of_the_day_it_falls_on() -> None:
    assert b"BYMONTH=3;BYDAY=FR;BYMONTHDAY=23,24,25,26,27,28,29\r\n" in vtimezone("Asia/Jerusalem", 2026)


def test_onsets_that_no_rule_describes_are_listed() -> None:
    cairo = vtimezone("Africa/Cairo", 2026)
    assert b"RRULE" not in cairo
    assert cairo.count(b"RDATE:") > 50


@pytest.mark.parametrize("tzid", ["Europe/Kiev", "US/Eastern", "Asia/Calcutta"])
def test_aliases_keep_their_name(tzid: str) -> None:
    assert f"\r\nTZID:{tzid}\r\n".encode() in vtimezone(tzid, 2026)


@given(st.sampled_from(SPECIAL), st.integers(2025, 2100))
def test_all_years_from_2025_on_share_one_block(tzid: str, year: int) -> None:
    assert vtimezone(tzid, year) == vtimezone(tzid, 2025)


def test_a_block_is_readable_and_its_lines_are_short() -> None:
    for tzid in SPECIAL:
        block = vtimezone(tzid, 2026)
        assert Calendar.from_ical(block).name == "VTIMEZONE"
        assert all(len(line) <= 75 for line in block.split(b"\r\n"))
        assert block.count(b"\n") == block.count(b"\r\n")


@pytest.mark.parametrize("tzid", ["", "Europe", "W. Europe Standard Time", "../../etc/passwd", "europe/berlin", "A\nB"])
def test_other_names_are_refused(tzid: str) -> None:
    with pytest.raises(ZoneInfoNotFoundError):
        zone(tzid)


def test_a_zone_is_that_of_the_package_and_knows_its_name() -> None:
    assert isinstance(zone("Europe/Berlin"), ZoneInfo)
    assert zone("Europe/Berlin").key == "Europe/Berlin"
    assert zone("Europe/Berlin") is not ZoneInfo("Europe/Berlin")


def test_utc_has_many_names_and_greenwich_is_none_of_them() -> None:
    assert is_utc("UTC")
    assert is_utc("Etc/UTC")
    assert not is_utc("Europe/London")
