# SPDX-License-Identifier: Apache-2.0
import icalendar
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from syncd.ical.feed import join_feed
from syncd.ical.render import render
from tests.support.golden_meetings import GOLDEN, GUESTS, LINKS, MEETING
from tests.support.meetings import at


def entry(name: str) -> bytes:
    meeting, ways, profile = GOLDEN[name]
    result = render(replace(meeting, id=name), ways, profile, 1)
    assert result is not None
    return result.body


ENTRIES = {name: entry(name) for name in GOLDEN}


def events(body: bytes) -> list[tuple[str, str]]:
    found = icalendar.Calendar.from_ical(body).walk("VEVENT")
    return [(str(event["UID"]), str(event.get("RECURRENCE-ID"))) for event in found]


@settings(max_examples=25)
@given(st.lists(st.sampled_from(sorted(ENTRIES)), unique=True))
def test_every_event_is_in_the_feed_once_in_order_and_every_zone_once(names: list[str]) -> None:
    feed = join_feed((ENTRIES[name] for name in names), name="Team")
    assert events(feed) == [event for name in names for event in events(ENTRIES[name])]
    zones = [str(zone["TZID"]) for zone in icalendar.Calendar.from_ical(feed).walk("VTIMEZONE")]
    named = [
        str(zone["TZID"]) for name in names for zone in icalendar.Calendar.from_ical(ENTRIES[name]).walk("VTIMEZONE")
    ]
    assert zones == (list(dict.fromkeys(named)) or zones)
    assert feed == join_feed((ENTRIES[name] for name in names), name="Team")
    assert feed.count(b"BEGIN:VCALENDAR") == feed.count(b"END:VCALENDAR") == 1


@given(st.text(max_size=200))
def test_its_lines_are_short_whatever_its_name(name: str) -> None:
    feed = join_feed([ENTRIES["utc"]], name=name)
    assert all(0 < len(line) <= 75 for line in feed.removesuffix(b"\r\n").split(b"\r\n"))
    assert len(icalendar.Calendar.from_ical(feed).walk("VEVENT")) == 1


def test_it_begins_with_what_subscribers_look_at() -> None:
    assert join_feed([ENTRIES["owner-de"]], name="Team, Büro").decode().split("\r\n")[:9] == [
        "BEGIN:VCALENDAR",
        "VERSION:2.0",
        "PRODID:-//syncd//syncd//EN",
        "CALSCALE:GREGORIAN",
        "METHOD:PUBLISH",
        "NAME:Team\\, Büro",
        "X-WR-CALNAME:Team\\, Büro",
        "REFRESH-INTERVAL;VALUE=DURATION:PT1H",
        "X-PUBLISHED-TTL:PT1H",
    ]


def test_an_empty_feed_is_a_calendar_with_a_zone_only() -> None:
    feed = join_feed([], name="Team")
    assert [part.name for part in icalendar.Calendar.from_ical(feed).subcomponents] == ["VTIMEZONE"]
    assert b"\r\nTZID:Europe/Berlin\r\n" in feed


def zone_block(body: bytes) -> bytes:
    return body[body.index(b"BEGIN:VTIMEZONE") : body.index(b"END:VTIMEZONE")]


def test_of_a_zone_the_block_from_the_earliest_year_is_kept() -> None:
    old = render(replace(MEETING, start=at(1996, 5, 2, 8), end=at(1996, 5, 2, 9)), LINKS, GUESTS, 1)
    assert old is not None
    earlier, later = (zone_block(body) for body in (old.body, ENTRIES["guests"]))
    assert earlier != later
    for bodies in ([old.body, ENTRIES["guests"]], [ENTRIES["guests"], old.body]):
        feed = join_feed(bodies, name="Team")
        assert zone_block(feed) == earlier
        assert feed.count(b"BEGIN:VTIMEZONE") == 1


def test_text_that_looks_like_a_component_is_text() -> None:
    about = "\r\nEND:VEVENT\r\nBEGIN:VEVENT\r\n" + "x" * 52 + "BEGIN:VEVENT" * 40
    body = render(replace(MEETING, title=about, description=about), LINKS, GUESTS, 1)
    assert body is not None
    assert len(events(join_feed([body.body, ENTRIES["utc"]], name="Team"))) == 2


def test_what_is_no_entry_adds_nothing() -> None:
    assert join_feed([b"", b"BEGIN:VEVENT\r\nUID:cut", b"<html>"], name="Team") == join_feed([], name="Team")
