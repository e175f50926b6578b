# SPDX-License-Identifier: Apache-2.0
import threading
from collections.abc import Iterator
from datetime import datetime

import pytest
from apscheduler.schedulers.background import BackgroundScheduler

from syncd.daemon import Bell

PATIENCE = 30


@pytest.fixture
def scheduler() -> Iterator[BackgroundScheduler]:
    scheduler = BackgroundScheduler(timezone="UTC")
    scheduler.start()
    yield scheduler
    scheduler.shutdown(wait=True)


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
    bell = Bell(scheduler, "work", work)
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
    bell = Bell(scheduler, "work", work)
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

    bell = Bell(scheduler, "work", work)
    for _ in range(20):
        bell.ring()
        assert done.acquire(timeout=PATIENCE)
