# SPDX-License-Identifier: Apache-2.0
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from syncd.errors import LedgerBusy, LoginRefused, SyncdError, Unavailable
from syncd.ledger import placements as ledger_tables
from syncd.plan.records import Record
from syncd.sync.push import BATCH, IN_FLIGHT
from tests.support.meetings import HOUR, meeting
from tests.support.memory_servers import MemoryCalendar
from tests.support.pipeline import Pipeline


class Killed(BaseException):
    """The process ends here."""


def house_of(count: int) -> Pipeline:
    pipeline = Pipeline(*(meeting(f"e{number:03}", number / 10) for number in range(1, count + 1)))
    pipeline.pull()
    pipeline.mint()
    return pipeline


def states(pipeline: Pipeline) -> Counter[str]:
    return Counter(place.state for place in pipeline.ledger.placements.of("team").values())


def kill_after(pipeline: Pipeline, count: int) -> None:
    def progress(name: str, done: int, _total: int) -> None:
        if name == "team" and done == count:
            raise Killed

    pipeline.progress = progress


def test_what_is_to_be_put_is_recorded_before_the_first_request() -> None:
    pipeline = house_of(BATCH + 5)
    kill_after(pipeline, 0)
    with pytest.raises(Killed):
        pipeline.push()
    assert states(pipeline) == {"placing": BATCH}
    assert [verb for verb, _ in pipeline.calendar.log] == ["seen", "check"]


@pytest.mark.parametrize("done", [0, 1, BATCH - 1, BATCH, BATCH + 3])
def test_after_a_kill_the_rest_is_put_and_nothing_twice(done: int) -> None:
    pipeline = house_of(BATCH + 5)
    kill_after(pipeline, done)
    with pytest.raises(Killed):
        pipeline.push()
    pipeline.progress = lambda _name, _done, _total: None
    run = pipeline.push()
    assert (run.state, run.counts["created"]) == ("ok", BATCH + 5 - done)
    assert states(pipeline) == {"placed": BATCH + 5}
    assert Counter(verb for verb, _ in pipeline.calendar.log if verb in ("create", "update", "fetch")) == {
        "create": BATCH + 5
    }


def test_what_was_not_begun_when_a_server_is_given_up_is_not_on_its_way() -> None:
    pipeline = house_of(10)
    pipeline.calendar.fail(Unavailable("down"), verb="create", after=2, times=99)
    run = pipeline.push()
    assert (run.state, run.counts["created"], run.counts["failed"]) == ("retrying", 2, 3)
    assert states(pipeline) == {"placed": 2, "placing": 3}


def test_what_somebody_removed_is_still_recorded_so_when_its_turn_does_not_come() -> None:
    pipeline = house_of(6)
    pipeline.push()
    pipeline.calendar.user_deletes("syncd-e006.ics")
    pipeline.now += HOUR
    pipeline.push()
    assert states(pipeline) == {"placed": 5, "removed": 1}
    before = pipeline.ledger.placements.of("team")["e006"]
    for number in range(1, 7):
        pipeline.change(f"e{number:03}", title="Other")
    pipeline.pull()
    pipeline.calendar.fail(Unavailable("down"), verb="update", times=99)
    assert pipeline.push().state == "retrying"
    assert pipeline.ledger.placements.of("team")["e006"] == before


def test_the_nearest_meeting_comes_first_and_deletions_before_all() -> None:
    pipeline = house_of(5)
    pipeline.push()
    pipeline.calendar.log.clear()
    pipeline.source.meetings.pop("e005")
    for event, day in (("n1", 3), ("n2", 1), ("n3", 2)):
        pipeline.source.meetings[event] = meeting(event, day)
    pipeline.pull()
    pipeline.push()
    writes = [call for call in pipeline.calendar.log if call[0] != "check"]
    assert writes == [
        ("delete", "syncd-e005.ics"),
        ("create", "syncd-n2.ics"),
        ("create", "syncd-n3.ics"),
        ("create", "syncd-n1.ics"),
    ]


def test_an_entry_that_goes_to_two_calendars_is_recorded_for_each() -> None:
    pipeline, second = house_of(3), MemoryCalendar("second")
    pipeline.push()
    pipeline.push(calendar=second)
    assert pipeline.ledger.placements.of("second").keys() == pipeline.ledger.placements.of("team").keys()
    assert second.objects.keys() == pipeline.calendar.objects.keys()


class Placements(ledger_tables.Placements):
    """Placements whose records after the intents are ``slow``, or are not taken from the ``broken_at``-th on."""

    def __init__(self, pipeline: Pipeline, *, broken_at: int | None = None) -> None:
        super().__init__(pipeline.ledger.database)
        self._calendar = pipeline.calendar
        self._records = 0
        self._broken_at = broken_at

    def record(self, calendar: str, records: Iterable[Record]) -> None:
        self._records += 1
        if self._broken_at is not None and self._records > self._broken_at:
            raise LedgerBusy("another program holds it locked; it is tried again")
        for _ in range(20_000 if self._records > 1 else 0):  # time enough for the workers to go on
            os.sched_yield()
        super().record(calendar, records)


def four_at_a_time(folder: Path, count: int) -> Pipeline:
    pipeline = Pipeline(*(meeting(f"e{number:03}", number / 10) for number in range(1, count + 1)), folder=folder)
    pipeline.pull()
    pipeline.mint()
    pipeline.workers = IN_FLIGHT
    return pipeline


@pytest.mark.parametrize(
    ("error", "most"),
    [
        (Unavailable("asks for fewer requests (429)", 3600.0), IN_FLIGHT),
        (LoginRefused("the password is refused"), IN_FLIGHT),
        (Unavailable("down"), 3 + IN_FLIGHT),
    ],
)
def test_a_server_that_is_given_up_is_left_alone_though_the_ledger_is_slow(
    tmp_path: Path, error: SyncdError, most: int
) -> None:
    pipeline = four_at_a_time(tmp_path, 100)
    pipeline.ledger.placements = Placements(pipeline)
    pipeline.calendar.fail(error, verb="create", after=20, times=999)
    run = pipeline.push()
    requests = sum(verb == "create" for verb, _ in pipeline.calendar.log)
    assert 20 < requests <= 20 + most
    assert (run.state, run.counts["created"]) == (error.state, 20)
    assert run.counts["failed"] == requests - 20


def test_a_ledger_that_fails_in_the_middle_ends_the_push_and_what_was_done_is_counted() -> None:
    pipeline = house_of(10)
    pipeline.ledger.placements = Placements(pipeline, broken_at=4)
    run = pipeline.push()
    assert (run.state, run.counts["created"], run.counts["failed"]) == ("retrying", 3, 1)
    assert "holds it locked" in (run.message or "")
    assert len(pipeline.calendar.objects) == 4
    pipeline.ledger.placements = ledger_tables.Placements(pipeline.ledger.database)
    run = pipeline.push()
    assert (run.state, run.counts["created"], run.counts["adopted"]) == ("ok", 6, 1)
    assert states(pipeline) == {"placed": 10}


@pytest.mark.parametrize("gone", [False, True])
def test_what_was_written_and_not_recorded_is_written_again_when_the_meeting_is_as_it_was(gone: bool) -> None:
    pipeline = house_of(3)
    pipeline.push()
    before, meetings = pipeline.entries(), dict(pipeline.source.meetings)
    if gone:
        del pipeline.source.meetings["e002"]
    else:
        pipeline.change("e002", title="Another")
    pipeline.pull()
    pipeline.ledger.placements = Placements(pipeline, broken_at=1)
    assert pipeline.push().state == "retrying"
    assert pipeline.entries() != before, "it is in the calendar, and the ledger does not know"
    pipeline.ledger.placements = ledger_tables.Placements(pipeline.ledger.database)
    pipeline.source.meetings = meetings
    pipeline.pull()
    assert pipeline.push().state == "ok"
    assert {event: summary(body) for event, body in pipeline.entries().items()} == {
        event: summary(body) for event, body in before.items()
    }


def summary(body: bytes) -> str:
    return next(line for line in body.decode().splitlines() if line.startswith("SUMMARY"))
