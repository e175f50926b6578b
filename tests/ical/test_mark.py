# SPDX-License-Identifier: Apache-2.0
import icalendar
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from syncd.ical.mark import Mark, read_mark
from syncd.ical.render import render
from tests.support.golden_meetings import GOLDEN

OURS = (
    "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//x//EN\r\n{}END:VCALENDAR\r\n".format(
        "BEGIN:VEVENT\r\nUID:one\r\nSEQUENCE:7\r\nDTSTAMP:20260101T000000Z\r\nDTSTART:20260101T000000Z\r\n"
        "SUMMARY:Jour fixe with ATTENDEE:\r\nX-SYNCD-DIGEST:abc\r\nEND:VEVENT\r\n"
        "BEGIN:VEVENT\r\nUID:one\r\nSEQUENCE:9\r\nRECURRENCE-ID:20260102T000000Z\r\nDTSTAMP:20260101T000000Z\r\n"
        "DTSTART:20260102T000000Z\r\nEND:VEVENT\r\n"
    )
).encode()


def test_it_reads_uid_revision_of_the_master_digest_and_that_nobody_is_in_it() -> None:
    assert read_mark(OURS) == Mark(uid="one", revision=7, digest="abc", people=False)


@pytest.mark.parametrize("name", GOLDEN)
def test_it_reads_what_was_rendered(name: str) -> None:
    meeting, ways, profile = GOLDEN[name]
    entry = render(meeting, ways, profile, 5)
    assert entry
    assert read_mark(entry.body) == Mark(meeting.id, 5, entry.digest, people=False)


def test_order_folding_line_ends_and_case_do_not_matter() -> None:
    reordered = icalendar.Calendar.from_ical(OURS).to_ical()
    folded = OURS.replace(b"X-SYNCD-DIGEST:abc", b"X-SYN\r\n CD-DIGEST:a\r\n\tbc")
    for body in (reordered, folded, OURS.replace(b"\r\n", b"\n"), OURS.replace(b"SEQUENCE", b"sequence")):
        assert read_mark(body) == read_mark(OURS)


def test_a_fold_inside_a_character_is_healed() -> None:
    body = OURS.replace(b"UID:one", b"UID:\xc3\r\n \xbcber")
    mark = read_mark(body)
    assert mark is not None
    assert mark.uid == "über"


@pytest.mark.parametrize(
    "line", ["ORGANIZER:mailto:a@example.org", 'ATTENDEE;CN="Bob: B":mailto:b@example.org', "attendee:x"]
)
def test_people_in_any_event_are_seen(line: str) -> None:
    for event in (b"BEGIN:VEVENT\r\nUID:one\r\nSEQUENCE:7", b"BEGIN:VEVENT\r\nUID:one\r\nSEQUENCE:9"):
        mark = read_mark(OURS.replace(event, event + b"\r\n" + line.encode()))
        assert mark is not None
        assert mark.people


def test_the_addressee_of_an_alarm_and_the_sequence_of_a_part_are_not_the_events() -> None:
    alarm = b"BEGIN:VALARM\r\nACTION:EMAIL\r\nATTENDEE:mailto:a@example.org\r\nSEQUENCE:99\r\nUID:z\r\nEND:VALARM\r\n"
    assert read_mark(OURS.replace(b"END:VEVENT\r\n", alarm + b"END:VEVENT\r\n")) == read_mark(OURS)


def test_overrides_alone_have_the_highest_revision() -> None:
    body = b"BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nUID:one\r\nRECURRENCE-ID:1\r\nSEQUENCE:4\r\nEND:VEVENT\r\nEND:VCALENDAR"
    assert read_mark(body) == Mark(uid="one", revision=4, digest=None, people=False)


@pytest.mark.parametrize("sequence", ["", "-1", "1.5", "x", "9" * 40, "٣"])
def test_a_sequence_that_is_none_counts_as_zero(sequence: str) -> None:
    mark = read_mark(OURS.replace(b"SEQUENCE:7", f"SEQUENCE:{sequence}".encode()))
    assert mark is not None
    assert mark.revision == 0


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        OURS.replace(b"UID:one\r\nSEQUENCE:9", b"UID:two"),
        OURS.replace(b"UID:one", b"X:one"),
        OURS.replace(b"BEGIN:VCALENDAR\r\n", b""),
        OURS.replace(b"VEVENT", b"VTODO"),
        OURS.split(b"SUMMARY")[0],
    ],
    ids=["nothing", "html", "two uids", "no uid", "no calendar", "no event", "cut off"],
)
def test_what_is_no_calendar_of_one_uid_has_no_mark(body: bytes) -> None:
    assert read_mark(body) is None


@given(st.binary())
@example(b"BEGIN:VCALENDAR\r\n" * 5000)
@example(b"END:VEVENT\r\n" * 3)
def test_garbage_has_no_mark_and_harms_nothing(body: bytes) -> None:
    assert read_mark(body) is None


@given(st.data())
def test_a_damaged_object_harms_nothing(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(OURS)))
    body = OURS[:at] + data.draw(st.binary(max_size=8)) + OURS[data.draw(st.integers(at, len(OURS))) :]
    mark = read_mark(body)
    assert mark is None or mark.uid
