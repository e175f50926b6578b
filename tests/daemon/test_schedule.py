# SPDX-License-Identifier: Apache-2.0
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta

import pytest

from syncd.daemon.schedule import Task, ThreadedScheduler
from syncd.errors import Stopped
from tests.support.single_thread import SingleThread

PATIENCE = 30
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
HOST, OTHER = "https://slow.example.org", "https://other.example.org"


class Work:
    """A job that ends when the test lets it; ``times`` counts its runs, ``at_once`` is the most in parallel."""

    def __init__(self) -> None:
        self.gate = threading.Semaphore(0)
        self.begun = threading.Semaphore(0)
        self.inside = self.at_once = self.times = 0

    def __call__(self) -> datetime | None:
        self.inside += 1
        self.times += 1
        self.at_once = max(self.at_once, self.inside)
        self.begun.release()
        assert self.gate.acquire(timeout=PATIENCE)
        self.inside -= 1
        return None


def never(error: str) -> datetime:
    raise AssertionError(error)


@pytest.fixture
def scheduler() -> Iterator[ThreadedScheduler]:
    """One thread a host."""
    scheduler = ThreadedScheduler(1)
    scheduler.start()
    yield scheduler
    scheduler.shutdown()


def test_requests_while_the_job_runs_start_it_once_more_and_it_never_overlaps() -> None:
    scheduler, work = ThreadedScheduler(4), Work()
    scheduler.start()
    task = Task(scheduler, HOST, "work", work, never)
    first = task.run_soon()
    assert work.begun.acquire(timeout=PATIENCE)
    second = [task.run_soon() for _ in range(5)]
    work.gate.release()
    first.result(PATIENCE)
    assert work.begun.acquire(timeout=PATIENCE)
    assert not any(each.done() for each in second)
    work.gate.release()
    for each in second:
        each.result(PATIENCE)
    scheduler.shutdown()
    assert (work.times, work.at_once) == (2, 1)


def test_a_task_runs_as_often_as_it_is_asked_one_time_after_the_other(scheduler: ThreadedScheduler) -> None:
    work = Work()
    task = Task(scheduler, HOST, "work", work, never)
    for _ in range(3):
        work.gate.release()
        task.run_soon().result(PATIENCE)
    assert work.times == 3


def test_an_unforeseen_exception_is_recorded_and_the_task_goes_on(scheduler: ThreadedScheduler) -> None:
    failures: list[str] = []

    def work() -> datetime | None:
        raise KeyError("unforeseen")

    def failed(error: str) -> datetime:
        failures.append(error)
        return datetime.now(UTC) + HOUR

    task = Task(scheduler, HOST, "work", work, failed)
    for _ in range(20):
        task.run_soon().result(PATIENCE)
    assert failures == ["KeyError"] * 20


def test_a_recording_that_fails_itself_does_not_end_the_task(caplog: pytest.LogCaptureFixture) -> None:
    scheduler = ThreadedScheduler(1)
    scheduler.start()

    def work() -> datetime | None:
        raise KeyError("unforeseen")

    task = Task(scheduler, HOST, "work", work, never)
    for _ in range(3):
        task.run_soon().result(PATIENCE)
    scheduler.shutdown()
    messages = [record.getMessage() for record in caplog.records if record.name.startswith("syncd")]
    assert sum(line.startswith("work: unforeseen AssertionError at ") for line in messages) == 3


def test_after_an_unforeseen_exception_the_job_runs_when_its_recorder_says() -> None:
    def work() -> datetime | None:
        raise KeyError("unforeseen")

    scheduler = SingleThread()
    task = Task(scheduler, HOST, "work", work, lambda _error: NOW + HOUR)
    task.run_soon()
    scheduler.run()
    assert scheduler.later == {"work": NOW + HOUR}


@pytest.mark.parametrize("late", [timedelta(0), HOUR])
def test_a_job_runs_at_its_moment_however_late_that_is_noticed(scheduler: ThreadedScheduler, late: timedelta) -> None:
    done = threading.Event()
    scheduler.submit_at(datetime.now(UTC) - late, HOST, "work", done.set)
    assert done.wait(PATIENCE)


def test_a_moment_takes_the_place_of_the_one_before(scheduler: ThreadedScheduler) -> None:
    done: list[str] = []
    later = threading.Event()
    scheduler.submit_at(datetime.now(UTC) + HOUR, HOST, "work", lambda: done.append("an hour later"))
    scheduler.submit_at(datetime.now(UTC), HOST, "work", later.set)
    assert later.wait(PATIENCE)
    assert done == []


@pytest.mark.parametrize(
    ("own", "asked", "runs"),
    [(2 * HOUR, HOUR, HOUR), (HOUR, 2 * HOUR, HOUR), (None, HOUR, HOUR), (HOUR, None, HOUR), (None, None, None)],
)
def test_a_moment_asked_for_while_the_job_runs_is_not_lost(
    own: timedelta | None, asked: timedelta | None, runs: timedelta | None
) -> None:
    def work() -> datetime | None:
        if asked:
            task.run_at(NOW + asked)
            task.run_at(NOW + 3 * HOUR)
        return NOW + own if own else None

    scheduler = SingleThread()
    task = Task(scheduler, HOST, "work", work, never)
    task.run_soon()
    scheduler.run()
    assert scheduler.later == ({"work": NOW + runs} if runs else {})


def test_a_slow_host_holds_no_other_up(scheduler: ThreadedScheduler) -> None:
    slow, other = [Work(), Work()], Work()
    for number, work in enumerate(slow):
        Task(scheduler, HOST, f"slow {number}", work, never).run_soon()
    assert slow[0].begun.acquire(timeout=PATIENCE)
    other.gate.release()
    Task(scheduler, OTHER, "other", other, never).run_soon().result(PATIENCE)
    assert [work.times for work in slow] == [1, 0]
    for work in slow:
        work.gate.release()


def test_a_stop_waits_for_what_runs_and_nothing_else_begins() -> None:
    scheduler = ThreadedScheduler(1)
    scheduler.start()
    running, waiting = [Work(), Work()], [Work(), Work()]
    requests: list[Future[None]] = []
    for host, first, second in zip((HOST, OTHER), running, waiting, strict=True):
        first_task = Task(scheduler, host, f"first {host}", first, never)
        first_task.run_soon()
        assert first.begun.acquire(timeout=PATIENCE)
        requests += [Task(scheduler, host, f"second {host}", second, never).run_soon(), first_task.run_soon()]
    stop = threading.Thread(target=scheduler.shutdown)
    stop.start()
    for request in (requests[0], requests[2]):
        assert isinstance(request.exception(PATIENCE), Stopped)
    assert stop.is_alive()
    for work in running:
        work.gate.release()
    stop.join(PATIENCE)
    assert not stop.is_alive()
    requests.append(Task(scheduler, HOST, "third", waiting[0], never).run_soon())
    Task(scheduler, HOST, "third", waiting[0], never).run_at(datetime.now(UTC))
    assert all(isinstance(request.exception(PATIENCE), Stopped) for request in requests)
    assert [work.times for work in (*running, *waiting)] == [1, 1, 0, 0]


def test_a_stop_while_the_clock_submits_what_is_due_leaves_no_trace() -> None:
    """An exception in APScheduler's thread would be a warning of pytest's, which ends the run."""
    for _ in range(20):
        scheduler, begun = ThreadedScheduler(2), threading.Event()
        for number in range(100):
            scheduler.submit_at(datetime.now(UTC), HOST, f"work {number}", begun.set)
        scheduler.start()
        assert begun.wait(PATIENCE)
        scheduler.shutdown()


def test_no_request_of_many_threads_is_lost_and_none_overlaps() -> None:
    scheduler = ThreadedScheduler(4)
    scheduler.start()
    inside, at_once, begun, requested = 0, 0, 0, 0

    def work() -> datetime | None:
        nonlocal inside, at_once, begun
        inside += 1
        at_once, begun = max(at_once, inside), requested
        inside -= 1
        return datetime.now(UTC) if begun % 3 else None

    task = Task(scheduler, HOST, "work", work, never)
    lock = threading.Lock()

    def ask() -> None:
        nonlocal requested
        with lock:
            requested += 1
            mine = requested
        if mine % 2:
            task.run_at(datetime.now(UTC))
        task.run_soon().result(PATIENCE)
        assert begun >= mine

    def ask_often() -> None:
        for _ in range(100):
            ask()

    threads = [threading.Thread(target=ask_often) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    scheduler.shutdown()
    assert (requested, at_once) == (400, 1)


SCRIPT = """
import threading
from datetime import UTC, datetime
from syncd.daemon.schedule import Task, ThreadedScheduler

done = threading.Event()
scheduler = ThreadedScheduler(1)
scheduler.start()
Task(scheduler, "host", "work", lambda: done.set(), lambda _error: datetime.now(UTC)).run_at(datetime.now(UTC))
print("done" if done.wait(30) else "not done")
scheduler.shutdown()
"""


@pytest.mark.parametrize("zone", ["CEST", "Europe/Berlin", ""])
def test_the_clock_works_whatever_the_machines_time_zone_is_called(zone: str) -> None:
    environ = {**os.environ, "TZ": zone}
    command = [sys.executable, "-c", SCRIPT]
    run = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, "done\n", "")
