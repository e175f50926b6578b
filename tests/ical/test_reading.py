# SPDX-License-Identifier: Apache-2.0
"""Lines that people, programs and servers leave in an entry of ours."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from icalendar.parser import Contentline

from syncd.ical.mark import read_mark
from syncd.ical.merge import MergeResult, merge
from syncd.ical.reading import Property, read_calendar, read_lines, write
from syncd.ical.render import with_revision
from tests.support.edited_entries import ALARM, add, edit, folded, put
from tests.support.golden_meetings import MEETING, SERIES, rendered

OURS = rendered(MEETING, revision=3).body
CHANGED = with_revision(edit(OURS, put("STATUS", "STATUS:TENTATIVE")), 4)

REFUSED = {
    "no colon": b"a line of a text that lost its fold",
    "a name alone": b"COMMENT",
    "no name": b":x",
    "no name but a parameter": b";X=1:x",
    "a quote that never ends": b'COMMENT;X-A="b:c',
    "a quote within a value": b'COMMENT;X-A=b"c"d:e',
    "a parameter without a value": b"COMMENT;ENCODING-8BIT:x",
    "a parameter without a name": b"COMMENT;=1:x",
    "no parameter": b"COMMENT;;X=1:x",
    "a name of signs": b"X-!:x",
    "a component that is none": b"BEGIN",
    "letters outside of ASCII": "Wir treffen uns später".encode(),
}
ODD = {
    "no value": b"COMMENT:",
    "no colon but a parameter": b"COMMENT;X-A=1",
    "blanks around a name": b"X-A :x",
    "an address": b"https://example.org/a",
    "a group": b"item1.X-ADR:x",
    "underscores": b"X_WR_NOTE:x",
    "letters outside of ASCII": "X-ÜBER:x".encode(),
    "two of one parameter": b"COMMENT;X-A=1;X-A=2:x",
    "a percent sign": b'COMMENT;ALTREP="https://example.org/a%2Cb%3Ac":100%25',
    "escapes that are none": rb"COMMENT;X-A=b\,c:C:\New\q\:",
    "carets": b"COMMENT;X-A=^n^^'^:x",
    "lists of dates": b"X-EXDATE:20261123T090000,20261130T090000",
    "blanks at the end": b"COMMENT: x ",
}


def with_line(line: bytes) -> bytes:
    """Our entry with one more line in its event, folded as RFC 5545 lets one."""
    parts = b"\r\n ".join(line[at : at + 70] for at in range(0, len(line), 70))
    return OURS.replace(b"END:VEVENT", parts + b"\r\nEND:VEVENT")


def unfolded(body: bytes) -> list[bytes]:
    return body.replace(b"\r\n ", b"").split(b"\r\n")


@pytest.mark.parametrize("line", REFUSED.values(), ids=REFUSED)
def test_a_line_that_is_refused_is_read_as_it_is(line: bytes) -> None:
    with pytest.raises(ValueError, match="Content line"):
        Contentline(line.decode()).raw_parts()  # type: ignore[no-untyped-call]
    found = [item for item in read_lines(with_line(line)) if item.refused]
    assert [(item.line.encode(), item.value.encode(), item.text()) for item in found] == [(line, line, "")]


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("line", [*REFUSED.values(), *ODD.values()], ids=[*REFUSED, *(f"odd: {name}" for name in ODD)])
def test_what_somebody_wrote_stays_to_the_byte_and_is_no_reason_to_put(line: bytes, keep: bool) -> None:
    theirs = with_line(line)
    assert not merge(OURS, theirs, OURS, keep=keep).needed
    merged = merge(OURS, theirs, CHANGED, keep=keep)
    assert merged.needed
    assert unfolded(merged.body) == unfolded(CHANGED.replace(b"END:VEVENT", line + b"\r\nEND:VEVENT"))
    assert read_mark(theirs) == read_mark(OURS)
    again = merge(CHANGED, merged.body, CHANGED, keep=keep)
    assert again == MergeResult(merged.body, needed=False)


@pytest.mark.parametrize("line", REFUSED.values(), ids=REFUSED)
def test_a_refused_line_stays_in_an_alarm_too(line: bytes) -> None:
    alarm = b"\r\n".join([*(part.encode() for part in ALARM[:-1]), line, b"END:VALARM"])
    theirs = OURS.replace(b"END:VEVENT", alarm + b"\r\nEND:VEVENT")
    merged = merge(OURS, theirs, CHANGED, keep=False)
    assert unfolded(merged.body) == unfolded(CHANGED.replace(b"END:VEVENT", alarm + b"\r\nEND:VEVENT"))


@pytest.mark.parametrize("name", ["SUMMARY", "LOCATION", "DTSTART", "DTEND", "TRANSP"])
def test_a_refused_line_is_an_edit_of_what_it_begins_with(name: str) -> None:
    line = f'{name};X-A="b:Meine'
    theirs = edit(OURS, put(name, line))
    assert line.encode() in unfolded(merge(OURS, theirs, CHANGED, keep=True).body)
    assert merge(OURS, theirs, OURS, keep=False) == MergeResult(with_revision(OURS, 4), needed=True)


def test_excluded_dates_that_are_refused_stay_together() -> None:
    series = rendered(SERIES, revision=3).body
    line = 'EXDATE;X-A="b:20261123T090000,20261130T090000'
    changed = with_revision(edit(series, put("STATUS", "STATUS:TENTATIVE")), 4)
    assert line.encode() in unfolded(merge(series, edit(series, add(line)), changed, keep=True).body)


@pytest.mark.parametrize("name", ["ATTENDEE", "ORGANIZER"])
def test_people_are_noticed_in_a_line_that_is_refused(name: str) -> None:
    for line in (f'{name};CN="Bob:mailto:b@example.org', f"{name};RSVP:mailto:b@example.org", f"\x01{name}:b"):
        theirs = with_line(line.encode())
        mark = read_mark(theirs)
        assert mark
        assert mark.people
        assert name.encode() not in merge(OURS, theirs, CHANGED, keep=True).body


@pytest.mark.parametrize("line", [b"BEGIN:VALARM", b"END:VEVENT", b"END:VCALENDAR", b"BEGIN:VEVENT"])
@pytest.mark.parametrize("hidden", [b"\x01%b", b"\x7f%b", b"B\x02%b"])
def test_what_only_cleaning_would_make_a_component_is_none(line: bytes, hidden: bytes) -> None:
    line = hidden % (line[1:] if hidden.startswith(b"B") and line.startswith(b"B") else line)
    merged = merge(OURS, with_line(line), CHANGED, keep=True)
    calendar = read_calendar(merged.body)
    assert calendar
    assert [part.name for part in calendar.parts] == ["VTIMEZONE", "VEVENT"]
    assert not calendar.parts[1].parts


def test_a_fold_inside_a_character_is_healed_and_kept() -> None:
    text = "COMMENT:" + "ä€😀" * 60
    for width in range(20, 75):
        theirs = OURS.replace(b"END:VEVENT", folded([text], width) + b"END:VEVENT")
        assert text.encode() in unfolded(merge(OURS, theirs, CHANGED, keep=False).body)


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (b"COMMENT:B\xfcro f\xfcr 5 \x80", "COMMENT:Büro für 5 €"),
        ("COMMENT:Büro ".encode() + b"f\xfcr", "COMMENT:Büro für"),
        (b"COMMENT:\xff\xfe\xf0\x9f", "COMMENT:ÿþðŸ"),
        (b"X-B\xfcro;;:x", "X-Büro;;:x"),
    ],
)
def test_what_is_not_utf_8_is_taken_for_western_letters(sent: bytes, kept: str) -> None:
    assert kept.encode() in unfolded(merge(OURS, with_line(sent), CHANGED, keep=False).body)


@pytest.mark.parametrize("line", [b"COMMENT:%b", b"COMMENT;X-A=%b:x", b'COMMENT;X-A="%b', b"%b", b"%b:x"])
def test_a_line_of_a_megabyte_stays(line: bytes) -> None:
    line %= b"a" * 1_000_000
    assert line in unfolded(merge(OURS, with_line(line), CHANGED, keep=False).body)


def test_only_a_line_feed_ends_a_line() -> None:
    bare = OURS.replace(b"\r\n", b"\n")
    doubled = OURS.replace(b"\r\n", b"\r\r\n")
    for theirs in (bare, doubled, b"\xef\xbb\xbf" + bare, OURS.replace(b"\r\n", b"\r\n\r\n"), OURS + b"\r\n \r\n"):
        assert merge(OURS, theirs, OURS, keep=True) == MergeResult(OURS, needed=False)
        assert read_mark(theirs) == read_mark(OURS)
    assert read_calendar(OURS.replace(b"\r\n", b"\r")) is None
    assert read_mark(OURS.replace(b"\r\n", b"\r")) is None


def test_what_is_understood_of_a_line_is_beside_the_line() -> None:
    line = r'dtstart;tzid="Europe/Berlin";X-A=b,"c:d":20261102T090000'
    parameters = {"TZID": "Europe/Berlin", "X-A": "b,c:d"}
    assert [*read_lines(line.encode())] == [Property("DTSTART", line, "20261102T090000", parameters)]
    assert [item.text() for item in read_lines(rb"COMMENT:C:\\New\nx\, y")] == ["C:\\New\nx, y"]


signs = st.text(st.sampled_from('AB;:=,"\\ \t^n%\r\x01\u2028Ä.-_BEGINDX'), max_size=30).map(str.encode)


@given(st.lists(signs | st.binary(max_size=30), max_size=3))
def test_whatever_lines_there_are_what_is_written_reads_the_same(lines: list[bytes]) -> None:
    body = with_line(b"\r\n".join(line.replace(b"\n", b"") for line in lines))
    calendar = read_calendar(body)
    if calendar:
        written = write(calendar)
        assert read_calendar(written) == calendar
        assert write(calendar) == written
        assert written.decode()
    assert merge(OURS, body, CHANGED, keep=True).body.endswith(b"END:VCALENDAR\r\n")


def test_what_pushes_reads_nothing_before_something_was_edited() -> None:
    """A quiet run must not wait for icalendar, which takes 0.03 s of CPU to import."""
    modules = "syncd.cli.status, syncd.cli.sync, syncd.jobs.jobs, syncd.sync.write, syncd.ical.merge, syncd.ical.feed"
    found = subprocess.run(
        [sys.executable, "-c", f"import sys, {modules}; print('icalendar' in sys.modules)"],
        capture_output=True,
        check=True,
        timeout=60,
        text=True,
    )
    assert found.stdout == "False\n"
