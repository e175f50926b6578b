# SPDX-License-Identifier: Apache-2.0
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from apscheduler.schedulers.background import BackgroundScheduler

from syncd.daemon import Bell, Clocks, Daemon, Pool
from syncd.errors import NeedsYou
from syncd.model import Snapshot, Window
from syncd.plan import LONGEST_WAIT
from syncd.remotes import Remotes
from syncd.signals import Ending
from syncd.store import Ledger
from tests.contract.memory import MemoryCalendar
from tests.memory import MemorySource, meeting
from tests.test_report import config_of

PATIENCE = 30


def clock() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def scheduler() -> Iterator[BackgroundScheduler]:
    pool = Pool(4)
    scheduler = BackgroundScheduler(timezone="UTC", executors={"default": pool})
    scheduler.start()
    yield scheduler
    scheduler.shutdown(wait=False)
    pool.join()


class Work:
    """Work that tests let through step by step: ``begun`` and ``done`` count, ``at_once`` is the most in parallel."""

    def __init__(self) -> None:
        self.gate = threading.Semaphore(0)
        self.begun = threading.Semaphore(0)
        self.ended = threading.Semaphore(0)
        self.inside = self.at_once = self.times = 0

    def __call__(self) -> datetime | None:
        self.inside += 1
        self.times += 1
        self.at_once = max(self.at_once, self.inside)
        self.begun.release()
        assert self.gate.acquire(timeout=PATIENCE)
        self.inside -= 1
        self.ended.release()
        return None


def test_rings_during_the_work_are_kept_as_one_and_never_overlap(scheduler: BackgroundScheduler) -> None:
    work = Work()
    bell = Bell(scheduler, clock, "work", work)
    bell.ring()
    assert work.begun.acquire(timeout=PATIENCE)
    for _ in range(5):
        bell.ring()
    work.gate.release()
    assert work.begun.acquire(timeout=PATIENCE)
    work.gate.release()
    for _ in range(2):
        assert work.ended.acquire(timeout=PATIENCE)
    assert (work.times, work.at_once) == (2, 1)


def test_a_bell_rings_again_after_its_work_is_done(scheduler: BackgroundScheduler) -> None:
    work = Work()
    bell = Bell(scheduler, clock, "work", work)
    for number in range(1, 4):
        work.gate.release()
        bell.ring()
        assert work.ended.acquire(timeout=PATIENCE)
        assert work.times >= number - 1


def test_work_that_fails_unforeseen_does_not_silence_the_bell(scheduler: BackgroundScheduler) -> None:
    done = threading.Semaphore(0)

    def work() -> datetime | None:
        done.release()
        raise RuntimeError("unforeseen")

    bell = Bell(scheduler, clock, "work", work)
    for _ in range(20):
        bell.ring()
        assert done.acquire(timeout=PATIENCE)


class SlowSource(MemorySource):
    """An account whose listing waits until it is let through."""

    def __init__(self) -> None:
        super().__init__(meeting())
        self.begun = threading.Event()
        self.gate = threading.Event()

    def snapshot(self, window: Window | None, have: Mapping[str, str] = {}) -> Snapshot:
        self.begun.set()
        assert self.gate.wait(PATIENCE)
        return super().snapshot(window, have)


def test_a_stop_waits_for_the_step_in_hand_which_may_still_ring_others(tmp_path: Path) -> None:
    config, source, calendar = config_of(tmp_path), SlowSource(), MemoryCalendar("team")
    remotes = Remotes({"work": source}, None, {"team": calendar}, lambda: None)
    with Ledger(tmp_path / "state") as ledger:
        daemon = Daemon(config, ledger, remotes, clock, Ending())
        daemon.start()
        assert source.begun.wait(PATIENCE)
        stopping = threading.Thread(target=daemon.stop)
        stopping.start()
        source.gate.set()
        stopping.join(PATIENCE)
        assert not stopping.is_alive()
        assert source.asked["full snapshot"] == 1
        assert ledger.sizes()["account", "work"] == 1


def test_a_failed_pull_is_tried_again_and_a_day_of_unforeseen_errors_ends_no_account(
    scheduler: BackgroundScheduler,
) -> None:
    def work() -> datetime | None:
        raise KeyError("unforeseen")

    bell = Bell(scheduler, clock, "pull work", work)
    bell._running = True
    bell._run()
    (job,) = scheduler.get_jobs()
    assert job.id == "pull work"
    assert job.next_run_time - clock() > LONGEST_WAIT - timedelta(minutes=1)


def test_a_clock_that_jumps_or_a_machine_that_slept_is_noticed_once() -> None:
    wall, steady = datetime(2026, 11, 23, 12, tzinfo=UTC), 100.0
    clocks = Clocks(lambda: wall, lambda: steady)
    wall, steady = wall + timedelta(seconds=30), steady + 30
    assert not clocks.have_parted()
    for jump in (timedelta(hours=8), -timedelta(days=1)):
        wall, steady = wall + jump, steady + 30
        assert clocks.have_parted()
        assert not clocks.have_parted()


def test_commands_ask_a_daemon_that_lists_the_whole_window_for_them(tmp_path: Path) -> None:
    config, source, calendar = config_of(tmp_path), MemorySource(meeting(day=10)), MemoryCalendar("team")
    remotes = Remotes({"work": source}, None, {"team": calendar}, lambda: None)
    with Ledger(tmp_path / "state") as ledger:
        daemon = Daemon(config, ledger, remotes, clock, Ending())
        daemon.start()
        try:
            daemon.sync()
            source.meetings["e2"] = meeting("e2", day=20)
            runs = {(run.kind, run.name): run for run in daemon.sync()}
            assert runs["pull", "work"].counts["changed"] == 1
            assert runs["pull", "work"].scope == "window"
            assert sorted(calendar.objects) == ["syncd-e1.ics", "syncd-e2.ics"]
            with pytest.raises(NeedsYou, match="does not know it"):
                daemon.pull("other")
            assert daemon.confirm("team") == (0, [])
        finally:
            daemon.stop()
