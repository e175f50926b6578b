# SPDX-License-Identifier: Apache-2.0
"""What a real controller listed, all the way into real calendars, against entries that were read by eye."""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import icalendar
import pytest
from msgspec.structs import replace

from syncd.model import Meeting, Window
from syncd.opentalk.wire import Listing
from syncd.sync.mint import mint
from syncd.sync.pull import pull
from syncd.sync.push import push
from syncd.sync.write import Target
from tests.support.calendar_servers import Server, radicale, xandikos
from tests.support.occurrences import touches
from tests.support.pipeline import LISTING, Pipeline, silent
from tests.support.replay import recorded

GOLDEN = Path(__file__).parent / "golden"
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
HALVES = ("list per_page=3&time_independent=true", "list per_page=3&time_independent=false")


def listed() -> list[Meeting]:
    """All 23 events with their exceptions, from the two recorded half listings of three a page."""
    meetings: list[Meeting] = []
    for half in HALVES:
        listing = Listing("opentalk.work")
        for page in recorded("opentalk-0.30.1.jsonl"):
            if page["note"] == half:
                listing.add(page["response"]["body"].encode())
        readable, unreadable = listing.join()
        assert unreadable == {}
        meetings += readable.values()
    return meetings


def pipeline() -> Pipeline:
    pipeline = Pipeline(*listed())
    pipeline.now = NOW
    pipeline.profile = replace(pipeline.profile, language="de")
    pull("work", pipeline.source, pipeline.ledger, LISTING, NOW)
    mint(
        [pipeline.profile],
        {"work": pipeline.source},
        {"openmeetings": pipeline.link_maker},
        pipeline.ledger,
        pipeline.clock,
        silent,
    )
    return pipeline


def golden(event: str, pipeline: Pipeline) -> Path:
    title = pipeline.source.meetings[event].title
    return GOLDEN / ("".join(c if c.isalnum() and c.isascii() else "-" for c in title.lower()).strip("-") + ".ics")


def content(body: bytes) -> set[tuple[str, str, str]]:
    """All properties of all events, whatever order a server has put them in: (occurrence, name, value)."""
    events = icalendar.Calendar.from_ical(body).walk("VEVENT")
    return {
        (
            str(event.get("RECURRENCE-ID") and event["RECURRENCE-ID"].to_ical()),
            name,
            str(icalendar.vText(value.to_ical())),
        )
        for event in events
        for name, values in event.items()
        for value in (values if isinstance(values, list) else [values])
    }


def test_all_recorded_events_are_read() -> None:
    meetings = listed()
    assert len(meetings) == 23
    assert sum(len(each.overrides) for each in meetings) == 3


@pytest.mark.parametrize("server", [radicale, xandikos], ids=["radicale", "xandikos"])
def test_the_recorded_meetings_become_the_golden_entries_in_a_real_calendar(server: Callable[[], Server]) -> None:
    full = pipeline()
    running = server()
    calendar = running.calendar(running.fresh_calendar())
    target = Target("team", calendar, full.profile, full.ledger, NOW)
    try:
        run = push(target, LISTING.window(NOW), silent, full._told, workers=1)
        written = full.ledger.entries.bodies(full.profile.key, [event for _, event in full.writes])
        stored = {event: calendar.fetch(f"syncd-{event}.ics") for event in written}
    finally:
        calendar.close()
    assert (run.state, run.counts["created"], run.counts["failed"]) == ("ok", len(written), 0)
    window: Window = LISTING.window(NOW)
    for event, each in full.source.meetings.items():
        wanted = touches(each, window)
        assert (event in written) == (wanted and not each.adhoc and each.invite_status != "declined"), each.title
    for event, body in written.items():
        path = golden(event, full)
        if os.environ.get("SYNCD_UPDATE_GOLDEN"):
            path.write_bytes(body)
        assert body == path.read_bytes(), path.name
        found = stored[event]
        assert found is not None
        assert content(found.body) == content(body), path.name
    assert sorted(path.name for path in GOLDEN.iterdir()) == sorted(golden(event, full).name for event in written)
