# SPDX-License-Identifier: Apache-2.0
import copy
import os
import re
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import icalendar
import pytest
import recurring_ical_events
from dateutil.rrule import rrulestr  # type: ignore[import-untyped]
from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec.structs import replace

from syncd.errors import BadEvent
from syncd.ical.render import render, with_revision
from syncd.model import Meeting, Override, Profile, When
from tests.support.golden_meetings import GOLDEN, GUEST_LINK, LINKS, MEETING, OWNER, ROOM, SERIES, rendered, texts
from tests.support.icalendar_text import lines, properties, unescaped
from tests.support.meetings import BERLIN, at

FOLDER = Path(__file__).parent / "golden"
ZONES = (BERLIN, "America/New_York", "Asia/Kolkata", "Australia/Sydney", "UTC")
HOUR = timedelta(hours=1)

profiles = st.sampled_from([profile for _, _, profile in GOLDEN.values()])


UNFIT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufffe\uffff\ud800-\udfff]")


@st.composite
def series(draw: st.DrawFn) -> tuple[Meeting, list[datetime]]:
    """A series of any zone, and its occurrences in naive wall time as dateutil counts them."""
    zone = draw(st.sampled_from(ZONES))
    day = draw(st.dates(date(2026, 1, 1), date(2026, 12, 31)))
    wall = datetime.combine(day, time(draw(st.integers(5, 18))))
    rule = f"FREQ={draw(st.sampled_from(['DAILY', 'WEEKLY', 'MONTHLY']))};INTERVAL={draw(st.integers(1, 3))}"
    if draw(st.booleans()):
        rule += f";BYDAY={draw(st.sampled_from(['MO', 'TU,TH', 'FR,SA,SU']))}"
    if draw(st.booleans()):
        rule += f";COUNT={draw(st.integers(1, 12))}"
        occurrences = list(rrulestr(rule, dtstart=wall))
    else:
        until = wall + timedelta(days=draw(st.integers(40, 400)))
        occurrences = list(rrulestr(rule, dtstart=wall).replace(until=until))
        rule += f";UNTIL={instant(until, zone):%Y%m%dT%H%M%SZ}"
    assume(occurrences)
    begin, lasts = instant(wall, zone), HOUR * draw(st.integers(0, 3))
    meeting = replace(MEETING, start=When(begin, zone), end=When(begin + lasts, zone), recurrence=(f"RRULE:{rule}",))
    return meeting, occurrences


@st.composite
def series_with_overrides(draw: st.DrawFn) -> tuple[Meeting, list[tuple[datetime, datetime, str]]]:
    """A series with overrides, and what should be seen of it: beginning, end and title."""
    meeting, occurrences = draw(series())
    assert meeting.start is not None
    assert meeting.end is not None
    lasts, zone = meeting.end.utc - meeting.start.utc, meeting.start.zone
    overrides, seen = [], []
    for wall in occurrences:
        begin = instant(wall, zone)
        kind = draw(st.sampled_from(["plain", "plain", "moved", "longer", "renamed", "cancelled"]))
        override = Override(original=When(begin, zone))
        if kind == "moved":
            other = draw(st.sampled_from(ZONES))
            override = replace(override, start=When(begin + 26 * HOUR, other))
            seen.append((begin + 26 * HOUR, begin + 26 * HOUR + lasts, "Jour fixe"))
        elif kind == "longer":
            override = replace(override, end=When(begin + lasts + HOUR, zone))
            seen.append((begin, begin + lasts + HOUR, "Jour fixe"))
        elif kind == "renamed":
            override = replace(override, title="Sonderthema")
            seen.append((begin, begin + lasts, "Sonderthema"))
        elif kind == "cancelled":
            override = replace(override, cancelled=True)
        else:
            seen.append((begin, begin + lasts, "Jour fixe"))
            continue
        overrides.append(override)
    return replace(meeting, overrides=tuple(draw(st.permutations(overrides)))), sorted(seen)


def instant(wall: datetime, zone: str) -> datetime:
    return wall.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)


def expanded(body: bytes) -> list[tuple[Any, Any, str]]:
    """What another program sees from 2025 to 2032."""
    events = recurring_ical_events.of(icalendar.Calendar.from_ical(body)).between((2025, 1, 1), (2033, 1, 1))
    return sorted((as_seen(event["DTSTART"].dt), as_seen(event["DTEND"].dt), str(event["SUMMARY"])) for event in events)


def as_seen(value: date) -> date:
    return value.astimezone(UTC) if isinstance(value, datetime) else value


@given(texts(), profiles)
def test_equal_meetings_give_equal_bytes(meeting: Meeting, profile: Profile) -> None:
    assert rendered(meeting, profile=profile) == rendered(copy.deepcopy(meeting), profile=copy.deepcopy(profile))


@given(texts(), profiles)
def test_lines_are_short_end_in_crlf_and_hold_no_controls(meeting: Meeting, profile: Profile) -> None:
    body = rendered(meeting, profile=profile).body
    assert body.endswith(b"END:VCALENDAR\r\n")
    for line in body.removesuffix(b"\r\n").split(b"\r\n"):
        assert 0 < len(line) <= 75
        assert not re.search("[\x00-\x08\x0a-\x1f\x7f\u2028\u2029]", line.decode())


@given(texts(), profiles)
def test_text_cannot_become_a_property(meeting: Meeting, profile: Profile) -> None:
    plain = rendered(MEETING, profile=profile).body
    names = {line.partition(b":")[0] for line in plain.split(b"\r\n") if not line.startswith(b" ")}
    for line in rendered(meeting, profile=profile).body.split(b"\r\n"):
        assert line.startswith(b" ") or line.partition(b":")[0] in names


@given(texts(), profiles)
def test_what_was_written_can_be_read_again(meeting: Meeting, profile: Profile) -> None:
    body = rendered(meeting, profile=profile).body
    event = icalendar.Calendar.from_ical(body).walk("VEVENT")[0]
    assert not event.errors
    assert event["UID"] == meeting.id
    assert event["LOCATION"] == event["URL"]
    assert properties(body, "LOCATION") == properties(body, "URL")
    untitled = "Meeting" if profile.language == "en" else "Besprechung"
    assert unescaped(properties(body, "SUMMARY")[0]) == (" ".join(kept(meeting.title).split()) or untitled)
    assert kept(meeting.description).strip() in unescaped(properties(body, "DESCRIPTION")[0])


def kept(text: str) -> str:
    return UNFIT.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))


@given(series_with_overrides())
def test_another_program_sees_the_occurrences_that_opentalk_has(
    case: tuple[Meeting, list[tuple[datetime, datetime, str]]],
) -> None:
    meeting, seen = case
    result = render(meeting, LINKS, OWNER, 0)
    assert (expanded(result.body) if result else []) == seen


@given(series_with_overrides())
def test_every_occurrence_is_written_once_and_in_the_form_of_the_series(
    case: tuple[Meeting, list[tuple[datetime, datetime, str]]],
) -> None:
    result = render(case[0], LINKS, OWNER, 0)
    assume(result)
    assert result
    found = lines(result.body, "RECURRENCE-ID") + lines(result.body, "EXDATE")
    values = [line.split(":", 1)[1] for line in found]
    assert len(set(values)) == len(values) == len(case[0].overrides)
    assert case[0].start
    form = ":" if case[0].start.zone == "UTC" else f";TZID={case[0].start.zone}:"
    assert all(line.removeprefix("RECURRENCE-ID").removeprefix("EXDATE").startswith(form) for line in found)


@given(series_with_overrides())
def test_every_zone_that_is_named_is_explained_and_no_other(
    case: tuple[Meeting, list[tuple[datetime, datetime, str]]],
) -> None:
    result = render(case[0], LINKS, OWNER, 0)
    assume(result)
    assert result
    zones = [line.removeprefix("TZID:") for line in lines(result.body, "TZID")]
    assert len(set(zones)) == len(zones)
    assert set(zones) == set(re.findall(r";TZID=([^:]+):", result.body.decode()))


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.datetimes(timezones=st.just(UTC)))
def test_the_digest_knows_neither_revision_nor_when_opentalk_touched_it(one: int, two: int, moved: datetime) -> None:
    first, second = rendered(SERIES, revision=one), rendered(replace(SERIES, updated=moved), revision=two)
    assert first.digest == second.digest
    assert properties(first.body, "SEQUENCE") == [str(one)] * 3
    assert properties(first.body, "X-SYNCD-DIGEST") == [first.digest]
    assert with_revision(first.body, two) == rendered(SERIES, revision=two).body


@pytest.mark.parametrize(
    "change",
    [
        {"title": "Jour Fixe"},
        {"description": "SEQUENCE:3"},
        {"password": "other"},
        {"invite_status": "tentative"},
        {"end": at(2026, 11, 2, 10)},
        {"overrides": SERIES.overrides[:2]},
        {"id": "3f0c6a52-6a7e-4d0e-9d5e-2f6f0a7b1c12"},
    ],
    ids=str,
)
def test_the_digest_knows_all_that_is_said(change: dict[str, Any]) -> None:
    assert rendered(replace(SERIES, **change)).digest != rendered(SERIES).digest


@pytest.mark.parametrize("name", GOLDEN)
def test_no_server_is_given_a_reason_to_mail_anybody(name: str) -> None:
    meeting, ways, profile = GOLDEN[name]
    assert not re.search(rb"(?m)^(ORGANIZER|ATTENDEE|METHOD|BEGIN:VALARM)", rendered(meeting, ways, profile).body)


def test_the_links_survive_in_every_override() -> None:
    body = rendered(SERIES).body
    for name in ("LOCATION", "URL", "STATUS", "CLASS", "TRANSP"):
        values = properties(body, name)
        assert len(values) == 3
        assert len(set(values)) == 1
    assert all(value.startswith(f"{ROOM}\\nFür Gäste: {GUEST_LINK}\\n") for value in properties(body, "DESCRIPTION"))


def test_a_meeting_without_a_time_has_nothing_to_show() -> None:
    assert render(replace(MEETING, start=None, end=None), LINKS, OWNER, 0) is None


def test_a_series_of_which_all_is_cancelled_or_excluded_has_nothing_to_show() -> None:
    first, second = at(2026, 11, 2, 8), at(2026, 11, 3, 8)
    rule = "RRULE:FREQ=DAILY;COUNT=2"
    cancelled = (Override(original=first, cancelled=True), Override(original=second, cancelled=True))
    assert render(replace(MEETING, recurrence=(rule,), overrides=cancelled), LINKS, OWNER, 0) is None
    excluded = (rule, "EXDATE:20261102T080000Z,20261103T080000Z")
    assert render(replace(MEETING, recurrence=excluded), LINKS, OWNER, 0) is None
    assert render(replace(MEETING, recurrence=(rule,), overrides=cancelled[:1]), LINKS, OWNER, 0)
    assert render(replace(MEETING, recurrence=("RRULE:FREQ=DAILY",), overrides=cancelled), LINKS, OWNER, 0)


def test_an_override_of_an_excluded_occurrence_is_not_shown() -> None:
    recurrence = (*SERIES.recurrence, "EXDATE;TZID=Europe/Berlin:20261109T090000,20261116T090000")
    body = rendered(replace(SERIES, recurrence=recurrence)).body
    assert lines(body, "RECURRENCE-ID") == ["RECURRENCE-ID;TZID=Europe/Berlin:20261123T090000"]
    assert lines(body, "EXDATE") == [f"EXDATE;TZID=Europe/Berlin:202611{day}T090000" for day in ("09", "16")]


def test_of_two_overrides_of_one_occurrence_the_later_counts() -> None:
    day = at(2026, 11, 9, 8)
    overrides = (Override(original=day, cancelled=True), Override(original=day, title="B"))
    body = rendered(replace(SERIES, overrides=overrides)).body
    assert properties(body, "SUMMARY") == ["Jour fixe", "B"]
    assert lines(body, "EXDATE") == []


def test_extra_dates_are_written_in_the_zone_of_the_series_and_the_first_only_as_its_start() -> None:
    both = replace(MEETING, recurrence=("RRULE:FREQ=DAILY;COUNT=1", "RDATE:20261105T080000Z,20270705T080000Z"))
    assert lines(rendered(both).body, "RDATE") == [
        "RDATE;TZID=Europe/Berlin:20261105T090000", "RDATE;TZID=Europe/Berlin:20270705T100000",
    ]  # fmt: skip
    alone = rendered(replace(MEETING, recurrence=("RDATE:20261105T080000Z,20261106T080000Z",))).body
    assert lines(alone, "DTSTART;TZID=Europe/Berlin") == ["DTSTART;TZID=Europe/Berlin:20261105T090000"]
    assert lines(alone, "RDATE") == ["RDATE;TZID=Europe/Berlin:20261106T090000"]
    assert len(expanded(alone)) == 2


def test_until_is_in_utc_for_times_and_a_date_for_whole_days() -> None:
    floating = replace(MEETING, recurrence=("RRULE:FREQ=DAILY;UNTIL=20261105T235959",))
    assert properties(rendered(floating).body, "RRULE") == ["FREQ=DAILY;UNTIL=20261105T225959Z"]
    days = replace(floating, all_day=True, start=at(2026, 11, 2), end=at(2026, 11, 2))
    assert properties(rendered(days).body, "RRULE") == ["FREQ=DAILY;UNTIL=20261105"]


@pytest.mark.parametrize(
    ("start", "end", "dates"),
    [
        ((2026, 12, 1), (2026, 12, 1), ("20261201", "20261202")),
        ((2026, 12, 1), (2026, 12, 4), ("20261201", "20261204")),
        ((2026, 12, 4), (2026, 12, 1), ("20261204", "20261205")),
        ((2026, 11, 30, 23), (2026, 12, 1, 23), ("20261201", "20261202")),
    ],
    ids=["one day", "exclusive end", "end before start", "local midnight"],
)
def test_whole_days_are_dates_that_no_zone_shifts(
    start: tuple[int, ...], end: tuple[int, ...], dates: tuple[str, str]
) -> None:
    body = rendered(replace(MEETING, all_day=True, start=at(*start), end=at(*end))).body
    assert lines(body, "DTSTART") == [f"DTSTART;VALUE=DATE:{dates[0]}"]
    assert lines(body, "DTEND") == [f"DTEND;VALUE=DATE:{dates[1]}"]
    assert b"VTIMEZONE" not in body


def test_the_second_half_past_two_of_autumn_is_written_in_utc() -> None:
    body = rendered(replace(MEETING, start=at(2026, 10, 25, 0, 30), end=at(2026, 10, 25, 1, 30))).body
    assert lines(body, "DTSTART;TZID=Europe/Berlin") == ["DTSTART;TZID=Europe/Berlin:20261025T023000"]
    assert lines(body, "DTEND") == ["DTEND:20261025T013000Z"]


def test_an_end_before_the_start_is_the_start() -> None:
    body = rendered(replace(MEETING, end=at(2026, 11, 2, 7))).body
    assert lines(body, "DTEND") == ["DTEND;TZID=Europe/Berlin:20261102T090000"]


@pytest.mark.parametrize(
    "change",
    [
        {"recurrence": ("RRULE:FREQ=SOMETIMES",)},
        {"recurrence": ("RRULE:FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30",)},
        {"start": at(2026, 11, 2, 8, zone="W. Europe Standard Time")},
        {"end": at(2026, 11, 2, 8, zone="Nowhere/Land")},
        {"start": at(2026, 11, 2, 8, zone="Europe"), "recurrence": ("RRULE:FREQ=DAILY",)},
        {"start": at(9999, 12, 31, zone="UTC"), "end": None, "all_day": True},
    ],
    ids=str,
)
def test_what_cannot_be_rendered_is_one_bad_event_whose_message_has_none_of_its_text(change: dict[str, Any]) -> None:
    with pytest.raises(BadEvent) as caught:
        render(replace(MEETING, **change), LINKS, OWNER, 0)
    assert caught.value.event == MEETING.id
    assert not re.search("Jour|Agenda|s3cret|Alice|https", str(caught.value))


@pytest.mark.parametrize("name", GOLDEN)
def test_an_entry_looks_as_it_was_reviewed(name: str) -> None:
    meeting, ways, profile = GOLDEN[name]
    body, file = rendered(meeting, ways, profile, 3).body, FOLDER / f"{name}.ics"
    if os.environ.get("SYNCD_UPDATE_GOLDEN") == "1":
        file.write_bytes(body)
    assert body == file.read_bytes()


def test_every_reviewed_entry_belongs_to_a_meeting() -> None:
    assert {file.stem for file in FOLDER.glob("*.ics")} == set(GOLDEN)
