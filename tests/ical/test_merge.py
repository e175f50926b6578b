# SPDX-License-Identifier: Apache-2.0
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import icalendar
import pytest
import recurring_ical_events
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from syncd.ical.merge import MergeResult, merge
from syncd.ical.render import with_revision
from syncd.model import Meeting
from tests.support import calendar_servers
from tests.support.edited_entries import (
    ALARM,
    add,
    additions_to,
    blocks,
    copies,
    edit,
    folded,
    in_order,
    other_forms,
    put,
    unfolded,
    with_additions,
)
from tests.support.golden_meetings import GOLDEN, MEETING, SERIES, rendered, texts
from tests.support.icalendar_text import properties

HERE = Path(__file__).parent
REVIEWED = {
    f"{folder.name}/{file.stem}": file.read_bytes()
    for folder in (HERE, HERE.parent)
    for file in sorted(folder.glob("golden/*.ics"))
}
SINGLE, WEEKLY = rendered(MEETING, revision=3).body, rendered(SERIES, revision=3).body
WITH_ALARM = SINGLE.replace(b"END:VEVENT", "\r\n".join([*ALARM, "END:VEVENT"]).encode())

reviewed = st.sampled_from(sorted(REVIEWED)).map(REVIEWED.__getitem__)


@st.composite
def meetings(draw: st.DrawFn) -> Meeting:
    """Any text, in any of the shapes that a meeting has."""
    shape, _, _ = GOLDEN[draw(st.sampled_from(sorted(GOLDEN)))]
    times = {name: getattr(shape, name) for name in ("start", "end", "all_day", "recurrence", "overrides")}
    return replace(draw(texts()), **times)


bodies = reviewed | meetings().map(lambda meeting: rendered(meeting, revision=3).body)


def revision(body: bytes) -> int:
    return max(int(value) for value in properties(body, "SEQUENCE"))


def parsed(body: bytes) -> list[Any]:
    events = icalendar.Calendar.from_ical(body).walk("VEVENT")
    for event in events:
        event["SEQUENCE"] = 0
    return events


def seen_by_others(body: bytes) -> list[Any]:
    events = recurring_ical_events.of(icalendar.Calendar.from_ical(body)).between((2025, 1, 1), (2029, 1, 1))
    return sorted(
        (str(event["DTSTART"].dt), str(event["DTEND"].dt), str(event["SUMMARY"]), str(event.get("LOCATION")))
        for event in events
    )


@settings(max_examples=50)
@given(st.data(), bodies, st.booleans())
def test_what_is_there_in_any_form_is_not_put_again(data: st.DataObject, ours: bytes, keep: bool) -> None:
    theirs = data.draw(other_forms(ours))
    merged = merge(ours, theirs, ours, keep=keep)
    assert not merged.needed
    assert merged.body == ours


@settings(max_examples=50)
@given(st.data(), bodies, st.booleans())
def test_what_a_user_added_is_no_reason_to_put(data: st.DataObject, ours: bytes, keep: bool) -> None:
    theirs = data.draw(other_forms(with_additions(ours, data.draw(additions_to(ours)))))
    assert not merge(ours, theirs, ours, keep=keep).needed


@settings(max_examples=50)
@given(st.data(), bodies, st.booleans())
def test_what_a_user_added_stays_with_its_event_when_ours_changes(data: st.DataObject, base: bytes, keep: bool) -> None:
    added = data.draw(additions_to(base))
    event = data.draw(st.integers(0, len(added) - 1))
    ours = with_revision(edit(base, put("SUMMARY", "SUMMARY:Neu und anders"), event), 4)
    merged = merge(base, with_additions(base, added), ours, keep=keep)
    assert merged.needed
    for theirs, mine, lines in zip(blocks(merged.body), blocks(ours), added, strict=True):
        assert theirs == [*mine[:-1], *in_order(lines), "END:VEVENT"]


@settings(max_examples=50)
@given(st.data(), bodies)
def test_edits_are_undone_and_additions_kept(data: st.DataObject, ours: bytes) -> None:
    theirs = data.draw(copies(ours))
    merged = merge(ours, theirs, ours, keep=False)
    assert seen_by_others(merged.body) == seen_by_others(ours)
    for event, mine in zip(parsed(merged.body), parsed(ours), strict=True):
        assert {name: event[name] for name in mine} == dict(mine)
    plain = [line for event in blocks(with_revision(ours, 3)) for line in event]
    lines = [line for event in blocks(with_revision(merged.body, 3)) for line in event]
    assert [line for line in lines if line in set(plain)] == plain


@settings(max_examples=50)
@given(st.data(), bodies, st.booleans())
def test_what_was_put_is_not_put_again(data: st.DataObject, ours: bytes, keep: bool) -> None:
    base = data.draw(copies(ours)) if data.draw(st.booleans()) else ours
    theirs = data.draw(copies(ours))
    merged = merge(base, theirs, ours, keep=keep)
    assert merge(base, theirs, ours, keep=keep) == merged
    assert not merge(base, data.draw(other_forms(merged.body)), ours, keep=keep).needed
    if not keep:
        again = merge(merged.body, merged.body, ours, keep=False)
        assert not again.needed
        assert with_revision(again.body, 3) == with_revision(merged.body, 3)


@settings(max_examples=50)
@given(st.data(), bodies, st.booleans(), st.integers(0, 20))
def test_what_is_put_has_a_higher_revision_than_what_lies_there(
    data: st.DataObject, ours: bytes, keep: bool, number: int
) -> None:
    theirs = with_revision(data.draw(copies(ours)), number)
    merged = merge(ours, theirs, ours, keep=keep)
    assert revision(merged.body) == (max(revision(ours), number + 1) if merged.needed else revision(ours))
    assert len(set(properties(merged.body, "SEQUENCE"))) == 1


@pytest.mark.filterwarnings("ignore::icalendar.error.GloballyUniqueTZIDGuessed")
@settings(max_examples=50)
@given(st.data(), bodies, st.booleans())
def test_what_is_put_is_one_calendar_that_any_program_reads(data: st.DataObject, ours: bytes, keep: bool) -> None:
    merged = merge(ours, data.draw(copies(ours)), ours, keep=keep)
    assert all(0 < len(line) <= 75 for line in merged.body.removesuffix(b"\r\n").split(b"\r\n"))
    calendar = icalendar.Calendar.from_ical(merged.body)
    assert not [error for event in calendar.walk("VEVENT") for error in event.errors]
    ids = [str(event.get("RECURRENCE-ID") and event["RECURRENCE-ID"].to_ical()) for event in calendar.walk("VEVENT")]
    assert len(set(ids)) == len(ids)
    named = set(re.findall(r"(?m)^DT(?:START|END);TZID=([^:;]+)", "\n".join(unfolded(merged.body))))
    assert {str(zone["TZID"]) for zone in calendar.walk("VTIMEZONE")} >= {name.strip('"') for name in named}


@given(st.binary(), st.binary(), st.booleans())
@example(b"BEGIN:VCALENDAR\r\n" * 5000, b"", True)
@example(b"BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n", b"", True)
@example(SINGLE + SINGLE, SINGLE, False)
@example(SINGLE.replace(b"VEVENT", b"VTODO"), SINGLE, False)
@example(SINGLE.split(b"SUMMARY")[0], SINGLE, False)
@example(SINGLE.replace(b"UID:3f", b"UID:4f"), SINGLE, False)
@example(SINGLE.replace(b"VEVENT", b"VEVENT\x00"), SINGLE, False)
@example(SINGLE.replace(b"END:VEVENT\r\n", b"END:VTODO\r\n"), SINGLE, False)
@example(SINGLE.replace(b"END:VEVENT", b"BEGIN:X\rY\r\nEND:X\rY\r\nEND:VEVENT"), SINGLE, False)
@example(SINGLE.replace(b"END:VEVENT", b"BEGIN:X\r\n" * 2000 + b"END:X\r\n" * 2000 + b"END:VEVENT"), SINGLE, False)
def test_what_is_no_calendar_of_our_meeting_is_replaced(theirs: bytes, base: bytes, keep: bool) -> None:
    merged = merge(base, theirs, SINGLE, keep=keep)
    assert merged.needed
    assert merged.body == SINGLE


@given(st.data(), st.booleans())
def test_a_damaged_copy_harms_nothing(data: st.DataObject, keep: bool) -> None:
    def damaged() -> bytes:
        at = data.draw(st.integers(0, len(WEEKLY)))
        return WEEKLY[:at] + data.draw(st.binary(max_size=8)) + WEEKLY[data.draw(st.integers(at, len(WEEKLY))) :]

    merged = merge(damaged(), damaged(), WEEKLY, keep=keep)
    assert b"X-SYNCD-DIGEST" in merged.body
    assert merge(b"", damaged(), damaged(), keep=keep).body is not None


@given(st.sampled_from(["DTSTART", "DTEND", "RRULE", "EXDATE", "DURATION", "RECURRENCE-ID", "SEQUENCE"]), st.data())
def test_a_time_that_is_none_harms_nothing(name: str, data: st.DataObject) -> None:
    value = data.draw(
        st.text("0123456789TZPDHMS-+;=,", max_size=20)
        | st.sampled_from(["00010101T000000", "99991231T235959", "99991231", "20260230", "P999999W", "PT", "9" * 5000])
    )
    zone = data.draw(
        st.sampled_from(["", ";TZID=Pacific/Auckland", ";TZID=America/New_York", ";TZID=x", ";VALUE=DATE"])
    )
    merged = merge(WEEKLY, edit(WEEKLY, put(name, f"{name}{zone}:{value}")), WEEKLY, keep=data.draw(st.booleans()))
    assert merged.body.endswith(b"END:VCALENDAR\r\n")


@pytest.mark.parametrize("server", [calendar_servers.radicale, calendar_servers.xandikos])
def test_what_a_real_server_gives_back_is_not_put_again(server: Callable[[], calendar_servers.Server]) -> None:
    calendar = server().calendar(server().fresh_calendar())
    calendar.check()
    for ours in (body for name, body in REVIEWED.items() if name.startswith("ical/")):
        added = [[*ALARM, "CATEGORIES:Arbeit,Wichtig", "COLOR:red", "X-MOZ-GENERATION:1"] for _ in blocks(ours)]
        for body in (ours, merge(ours, with_additions(ours, added), ours, keep=False).body):
            stored = calendar.create("syncd-1.ics", body)
            found = calendar.fetch(stored.href)
            calendar.delete(stored.href, stored.etag)
            assert found is not None
            merged = merge(ours, found.body, ours, keep=False)
            assert not merged.needed
            assert merge(ours, found.body, ours, keep=True) == merged
            assert (merged.body == ours) is (body == ours)
    calendar.close()


def alarms(body: bytes) -> list[int]:
    return [event.count("BEGIN:VALARM") for event in blocks(body)]


def test_an_alarm_of_ours_that_was_removed_stays_removed_and_one_that_was_changed_is_theirs() -> None:
    changed = WITH_ALARM.replace(b"-PT10M", b"-PT1H")
    for theirs in (SINGLE, changed):
        for base in (WITH_ALARM, b""):
            assert merge(base, theirs, WITH_ALARM, keep=False) == MergeResult(theirs, needed=False)


def test_the_same_alarm_in_another_form_is_ours() -> None:
    theirs = WITH_ALARM.replace(b"TRIGGER:", b"trigger;related=START;X-A=1:").replace(b"ACTION:DISPLAY\r\n", b"")
    theirs = theirs.replace(b"END:VALARM", b"action:DISPLAY\r\nEND:VALARM")
    assert merge(WITH_ALARM, theirs, WITH_ALARM, keep=False) == MergeResult(WITH_ALARM, needed=False)


def test_an_alarm_that_rang_and_was_dismissed_is_not_put_again() -> None:
    rung = WITH_ALARM.replace(b"END:VALARM", b"ACKNOWLEDGED:20261102T075000Z\r\nEND:VALARM")
    assert merge(WITH_ALARM, rung, WITH_ALARM, keep=False) == MergeResult(rung, needed=False)
    assert (
        b"\r\nACKNOWLEDGED:" in merge(WITH_ALARM, rung, edit(WITH_ALARM, put("SUMMARY", "SUMMARY:X")), keep=False).body
    )


def test_an_occurrence_that_we_move_now_has_the_alarms_of_its_series() -> None:
    moved = tuple(override for override in SERIES.overrides if override.start is None)
    base = rendered(replace(SERIES, overrides=moved), revision=2).body
    theirs = edit(edit(base, add("COLOR:red", "X-MOZ-SNOOZE-TIME:20261102T075500Z", *ALARM)), add("COLOR:blue"), 1)
    merged = merge(base, theirs, WEEKLY, keep=False)
    assert merged.needed
    assert properties(merged.body, "COLOR") == ["red", "red", "blue"]
    assert alarms(merged.body) == [1, 1, 0]
    assert [("X-MOZ-SNOOZE-TIME:20261102T075500Z" in event) for event in blocks(merged.body)] == [True, False, False]


def test_an_occurrence_that_is_as_the_series_again_loses_its_additions() -> None:
    without = rendered(replace(SERIES, overrides=()), revision=4).body
    assert merge(WEEKLY, edit(WEEKLY, add("COLOR:red"), 1), without, keep=False) == MergeResult(without, needed=True)


def test_what_others_said_of_what_is_not_so_any_more_goes() -> None:
    said = {"X-ALT-DESC;FMTTYPE=text/html": "DESCRIPTION", "X-APPLE-STRUCTURED-LOCATION;VALUE=URI": "LOCATION",
            "X-MOZ-SNOOZE-TIME": "DTSTART", "X-MOZ-SNOOZE-TIME-1793606400000000": "DTSTART"}  # fmt: skip
    tentative = edit(SINGLE, put("STATUS", "STATUS:TENTATIVE"))
    for name, of in said.items():
        theirs = edit(SINGLE, add(f"{name}:x"))
        assert merge(SINGLE, theirs, tentative, keep=False).body.count(b"\r\nX-") == 3
        moved = edit(SINGLE, put(of, f"{of}:20261102T090000Z"))
        assert merge(SINGLE, theirs, moved, keep=False).body.count(b"\r\nX-") == 2


def test_nobody_is_ever_added_to_an_entry() -> None:
    people = edit(WEEKLY, add("ORGANIZER:mailto:a@example.org", "ATTENDEE:mailto:b@example.org"), 1)
    assert merge(WEEKLY, people, WEEKLY, keep=True) == MergeResult(WEEKLY, needed=False)


def test_a_line_break_that_is_none_makes_no_line() -> None:
    theirs = edit(SINGLE, add("COMMENT:a\rATTENDEE:mailto:a@example.org", "X-A;X-B=\rATTENDEE:b"))
    merged = merge(SINGLE, theirs, with_revision(SINGLE, 4), keep=False)
    assert not merged.needed
    assert blocks(merged.body)[0][-3:] == ["COMMENT:aATTENDEE:mailto:a@example.org", "X-A;X-B=ATTENDEE:b", "END:VEVENT"]


def test_a_mark_of_byte_order_is_no_edit() -> None:
    assert merge(SINGLE, b"\xef\xbb\xbf" + SINGLE, SINGLE, keep=False) == MergeResult(SINGLE, needed=False)


def test_an_end_may_be_written_as_a_duration_or_left_out() -> None:
    day = REVIEWED["ical/all-day"]
    for ours, same, other in [
        (SINGLE, ["DURATION:PT1H"], ["DURATION:PT1H1M"]),
        (SINGLE, ["DURATION:PT60M"], []),
        (edit(SINGLE, put("DTEND", "DTEND:20261102T080000Z")), [], ["DURATION:P1W"]),
        (day, [], ["DURATION:P2D"]),
        (day, ["DURATION:P1D"], ["DTEND;VALUE=DATE:20261203"]),
    ]:
        assert not merge(ours, edit(ours, put("DTEND", *same)), ours, keep=False).needed
        assert merge(ours, edit(ours, put("DTEND", *other)), ours, keep=False).needed


def test_what_is_there_twice_is_made_one() -> None:
    doubled = folded([*unfolded(WEEKLY)[:-1], *blocks(WEEKLY)[1], "END:VCALENDAR"])
    assert merge(WEEKLY, doubled, WEEKLY, keep=True) == MergeResult(with_revision(WEEKLY, 4), needed=True)


def test_a_series_in_a_zone_that_goes_other_ways_is_another_one() -> None:
    series = rendered(replace(SERIES, overrides=()), revision=3).body
    moved = edit(series, put("DTSTART", "DTSTART;TZID=Africa/Algiers:20261102T090000"))
    assert merge(series, moved, series, keep=False).needed
    moved = edit(SINGLE, put("DTSTART", "DTSTART;TZID=Africa/Algiers:20261102T090000"))
    assert not merge(SINGLE, moved, SINGLE, keep=False).needed


@pytest.mark.parametrize(
    ("name", "theirs", "other"),
    [
        ("SUMMARY", "SUMMARY:Meine", "SUMMARY:Neu"),
        ("DESCRIPTION", 'DESCRIPTION;ALTREP="data:text/html,x":Notiz', "DESCRIPTION:Neu"),
        ("LOCATION", "LOCATION:Raum 3", "LOCATION:Neu"),
        ("TRANSP", "TRANSP:TRANSPARENT", "TRANSP:TRANSPARENT"),
        ("CLASS", "CLASS:PUBLIC", "CLASS:CONFIDENTIAL"),
        ("DTEND", "DURATION:PT3H", "DTEND:20261102T120000Z"),
        ("DTSTART", "DTSTART;TZID=Europe/Vienna:20261102T083000", "DTSTART:20261102T073000Z"),
    ],
)
def test_an_edit_is_kept_until_we_change_the_same(name: str, theirs: str, other: str) -> None:
    edited = edit(edit(SINGLE, put(name, theirs)), add(*ALARM))
    assert not merge(SINGLE, edited, SINGLE, keep=True).needed
    fresh = with_revision(edit(SINGLE, put("STATUS", "STATUS:TENTATIVE")), 4)
    merged = merge(SINGLE, edited, fresh, keep=True)
    assert merged.needed
    assert blocks(merged.body) == blocks(edit(edit(fresh, put(name, theirs)), add(*ALARM)))
    changed = with_revision(edit(SINGLE, put(name, other)), 4)
    assert merge(SINGLE, edited, changed, keep=True).body == merge(b"", edited, changed, keep=False).body
    for unknown in (b"", b"<html>"):
        assert merge(unknown, edited, fresh, keep=True) == merge(SINGLE, edited, fresh, keep=False)
    assert properties(merge(SINGLE, edited, fresh, keep=False).body, name)[0] == properties(fresh, name)[0]


def test_what_was_removed_is_kept_away_until_we_change_it() -> None:
    edited = edit(SINGLE, put("LOCATION"))
    assert not merge(SINGLE, edited, SINGLE, keep=True).needed
    assert not properties(merge(SINGLE, edited, SINGLE, keep=True).body, "LOCATION")
    changed = edit(SINGLE, put("LOCATION", "LOCATION:Neu"))
    assert properties(merge(SINGLE, edited, changed, keep=True).body, "LOCATION") == ["Neu"]


OWN = ["RECURRENCE-ID;TZID=Europe/Berlin:20261130T090000", "DTSTART:20261201T100000Z", "DTEND:20261201T110000Z"]


def moved_by_them(body: bytes) -> bytes:
    """Somebody moved the 30th of November in their copy, and put an alarm to it."""
    rest = [line for line in blocks(body)[0][1:-1] if not re.match("(DT(START|END)|RRULE|EXDATE)[;:]", line)]
    return folded([*unfolded(body)[:-1], "BEGIN:VEVENT", *OWN, *rest, *ALARM, "END:VEVENT", "END:VCALENDAR"])


def test_an_occurrence_that_they_moved_is_kept_with_our_new_links_or_undone() -> None:
    theirs = moved_by_them(WEEKLY)
    assert not merge(WEEKLY, theirs, WEEKLY, keep=True).needed
    assert merge(WEEKLY, theirs, WEEKLY, keep=False) == MergeResult(with_revision(WEEKLY, 4), needed=True)
    ours = with_revision(edit(WEEKLY, put("LOCATION", "LOCATION:https://neu.example.org/")), 5)
    own = blocks(merge(WEEKLY, theirs, ours, keep=True).body)[-1]
    assert {*OWN, *ALARM, "LOCATION:https://neu.example.org/", "SEQUENCE:5"} <= set(own)
    assert not [line for line in own if line.startswith("X-SYNCD")]


@pytest.mark.parametrize(
    "change",
    [
        put("EXDATE", "EXDATE;TZID=Europe/Berlin:20261116T090000", "EXDATE;TZID=Europe/Berlin:20261130T090000"),
        put("DTSTART", "DTSTART;TZID=Europe/Berlin:20261103T090000"),
        put("RRULE", "RRULE:FREQ=WEEKLY;UNTIL=20261120T225959Z"),
    ],
    ids=["we cancelled it", "we moved the series", "we shortened the series"],
)
def test_an_occurrence_that_they_moved_goes_when_it_is_no_more(change: Callable[[list[str]], list[str]]) -> None:
    ours = with_revision(edit(WEEKLY, change), 4)
    assert merge(WEEKLY, moved_by_them(WEEKLY), ours, keep=True) == MergeResult(ours, needed=True)


def test_occurrences_that_they_deleted_stay_deleted_beside_those_that_we_cancel() -> None:
    def excluded(*days: int) -> Callable[[list[str]], list[str]]:
        return put("EXDATE", *(f"EXDATE;TZID=Europe/Berlin:202611{day:02}T090000" for day in days))

    theirs = edit(WEEKLY, put("EXDATE", "EXDATE;TZID=Europe/Berlin:20261116T090000,20261109T090000,20261214T090000"))
    gone = blocks(theirs)
    theirs = folded(["BEGIN:VCALENDAR", *gone[0], *gone[2], "END:VCALENDAR"])  # the 9th, which we had moved, is deleted
    kept = merge(WEEKLY, theirs, WEEKLY, keep=True)
    assert not kept.needed
    ours = with_revision(edit(WEEKLY, excluded(16, 30)), 4)
    merged = merge(WEEKLY, theirs, ours, keep=True)
    assert properties(merged.body, "EXDATE") == [f"2026{day}T090000" for day in ("1116", "1130", "1109", "1214")]
    assert len(blocks(merged.body)) == 2
    back = merge(WEEKLY, edit(WEEKLY, excluded()), with_revision(edit(WEEKLY, excluded(16, 30)), 4), keep=True)
    assert properties(back.body, "EXDATE") == ["20261130T090000"]
    anew = with_revision(edit(WEEKLY, put("DTSTART", "DTSTART:20261112T090000Z"), 1), 4)
    merged = merge(WEEKLY, theirs, anew, keep=True)
    assert properties(merged.body, "EXDATE") == ["20261116T090000", "20261214T090000"]
    assert len(blocks(merged.body)) == 3


def test_a_series_that_they_moved_stays_so_until_we_change_when_it_is() -> None:
    theirs = edit(WEEKLY, put("DTSTART", "DTSTART;TZID=Asia/Tokyo:20261103T190000"))
    theirs = edit(theirs, put("DTEND", "DTEND;TZID=Asia/Tokyo:20261103T200000"))
    merged = merge(WEEKLY, theirs, with_revision(edit(WEEKLY, put("SUMMARY", "SUMMARY:Neu")), 4), keep=True)
    assert properties(merged.body, "DTSTART")[0] == "20261103T190000"
    assert b"\r\nTZID:Asia/Tokyo\r\n" in merged.body
    for change in (put("RRULE", "RRULE:FREQ=DAILY"), put("EXDATE"), put("DTEND", "DTEND:20261102T100000Z")):
        ours = with_revision(edit(WEEKLY, change), 4)
        assert merge(WEEKLY, theirs, ours, keep=True) == MergeResult(ours, needed=True)


def test_a_zone_that_only_they_know_comes_with_their_times() -> None:
    zone = unfolded(SINGLE)[4 : unfolded(SINGLE).index("END:VTIMEZONE") + 1]
    mine = [line.replace("Europe/Berlin", "Meine Zeit") for line in zone]
    lines = unfolded(edit(SINGLE, put("DTSTART", "DTSTART;TZID=Meine Zeit:20261102T083000")))
    theirs = folded([*lines[:4], *mine, *lines[4:]])
    assert "\r\n".join(mine).encode() in merge(SINGLE, theirs, SINGLE, keep=True).body
    assert b"Meine Zeit" not in merge(SINGLE, theirs, SINGLE, keep=False).body
