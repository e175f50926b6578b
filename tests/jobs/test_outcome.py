# SPDX-License-Identifier: Apache-2.0
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from syncd.errors import LedgerBusy, NeedsYou, SyncdError, Unavailable
from syncd.jobs.outcome import Outcome
from syncd.model import Run, RunKey
from tests.support.configuration import configure
from tests.support.meetings import HOUR, NOW

MINUTE = timedelta(minutes=1)
PULL, PUSH, LINKS = RunKey("pull", "work"), RunKey("push", "team"), RunKey("links", "all")
ACCOUNTS = {"work": 'every = "4m"\nsoon_every = "1m"', "home": 'every = "2m"'}


class Recorder:
    """A clock, and a history in memory that may be ``broken``."""

    def __init__(self, folder: Path) -> None:
        self.now = NOW
        self.runs: list[Run] = []
        self.recovered: list[RunKey] = []
        self.broken: SyncdError | None = None
        config = configure(folder, accounts=ACCOUNTS, calendars={"team": 'accounts = ["work"]\naudit = "50m"'})
        self.outcome = Outcome(config, self, lambda: self.now, lambda: 0.0, self.recovered.append)

    def save(self, run: Run) -> None:
        if self.broken:
            raise self.broken
        self.runs.append(run)

    def failures(self, key: RunKey) -> int:
        if self.broken:
            raise self.broken
        states = [run.state == "ok" for run in self.runs if run.key == key]
        return [*reversed(states), True].index(True)


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    return Recorder(tmp_path)


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """The lines of at least INFO since it was last called, with the first letter of their level."""
    caplog.set_level(logging.INFO, "syncd.jobs")

    def read() -> list[str]:
        found = [f"{record.levelname[0]} {record.getMessage()}" for record in caplog.records]
        caplog.clear()
        return found

    return read


def test_an_unforeseen_end_is_recorded_for_every_kind_and_tried_again_in_a_quarter_of_an_hour(
    recorder: Recorder, lines: Callable[[], list[str]]
) -> None:
    message = "an unforeseen KeyError: look at the log, and tell the authors"
    keys = (PULL, PUSH, LINKS, RunKey("feeds", "all"), RunKey("housekeeping", "ledger"))
    runs = [recorder.outcome.fail_unforeseen(key, "KeyError") for key in keys]
    assert runs == [Run(key, NOW, NeedsYou.state, message=message, next_try=NOW + 15 * MINUTE) for key in keys]
    assert recorder.runs == runs
    assert lines() == [f"W {key}: {message}" for key in keys]
    recorder.now += MINUTE
    recorder.outcome.finish(Run(LINKS, recorder.now))
    assert lines() == ["I links all: well again after 60 s"]


@pytest.mark.parametrize(
    ("key", "first", "then"),
    [(PULL, 8 * MINUTE, 15 * MINUTE), (PUSH, 4 * MINUTE, 8 * MINUTE), (LINKS, 4 * MINUTE, 8 * MINUTE)],
)
def test_the_wait_after_failures_begins_with_the_interval_of_the_account_or_the_shortest_of_all(
    recorder: Recorder, key: RunKey, first: timedelta, then: timedelta
) -> None:
    assert recorder.outcome.fail(key, NeedsYou("look at it")).next_try == NOW + first
    assert recorder.outcome.fail(key, NeedsYou("look at it")).next_try == NOW + then


def test_what_goes_well_runs_again_by_its_own_interval(recorder: Recorder) -> None:
    assert recorder.outcome.finish(Run(PULL, NOW, last_look=NOW - 4 * MINUTE)).next_try == NOW
    assert recorder.outcome.finish(Run(PULL, NOW, last_look=NOW)).next_try == NOW + MINUTE
    held = Run(PUSH, NOW, "held", last_look=NOW, message="would delete 9 of 10")
    assert recorder.outcome.finish(held).next_try == NOW + 50 * MINUTE
    assert recorder.outcome.finish(Run(LINKS, NOW)).next_try is None


def test_a_run_that_is_saved_with_its_meetings_is_not_saved_again_and_keeps_its_next_try(recorder: Recorder) -> None:
    run = recorder.outcome.with_next_try(Run(PULL, NOW, "retrying", message="an event was not answered"))
    assert run.next_try == NOW + 8 * MINUTE
    recorder.save(run)
    assert recorder.outcome.finish(run, saved=True) == run
    assert recorder.runs == [run]


def test_a_host_that_wants_to_be_left_alone_is_paused_until_then(recorder: Recorder) -> None:
    run = recorder.outcome.fail(PULL, Unavailable("asks for fewer requests (429)", 3600.0))
    assert run.next_try == recorder.outcome.outages.paused_until(PULL) == NOW + HOUR
    assert recorder.outcome.outages.paused_until(PUSH) is None
    recorder.now += MINUTE
    beside = recorder.outcome.wait(RunKey("pull", "home"), NOW + HOUR)
    assert (beside.state, beside.next_try) == ("retrying", NOW + HOUR)


def test_a_push_that_some_entries_survived_is_no_outage_unless_the_host_said_when_to_come_back(
    recorder: Recorder, lines: Callable[[], list[str]]
) -> None:
    some = Run(PUSH, NOW, "retrying", counts={"created": 1}, message="event e1: 500")
    recorder.outcome.finish(some)
    assert lines() == ["W push team: event e1: 500"]
    recorder.outcome.finish(Run(PUSH, NOW, "retrying", counts={"created": 1}, message="429", retry_after=60.0))
    assert lines() == ["W https://dav-team.example.org is in trouble; 1 calendars wait for it: 429"]


def test_what_a_ledger_could_not_take_is_up_to_date_beside_it_until_it_can(
    recorder: Recorder, lines: Callable[[], list[str]]
) -> None:
    recorder.broken = LedgerBusy("locked")
    failed: datetime | None = None
    for _ in range(2):
        failed = recorder.outcome.fail(LINKS, recorder.broken).next_try
    assert failed == NOW + 4 * MINUTE
    assert [run.key for run in recorder.outcome.unsaved_runs] == [LINKS]
    assert lines() == ["W links all: locked", "E links all could not be noted: locked"]
    recorder.broken = None
    recorder.outcome.finish(Run(LINKS, NOW))
    assert recorder.outcome.unsaved_runs == []
