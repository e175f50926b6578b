# SPDX-License-Identifier: Apache-2.0
"""Bells: each rings one piece of work, in APScheduler's threads or by any other clock.

What is rung is no matter here; how often it is, is: never twice at once, and no ring is lost.
"""

import logging
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from datetime import datetime
from functools import partial
from typing import Protocol

from apscheduler.events import JobExecutionEvent
from apscheduler.executors.base import run_job
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.job import Job
from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.date import DateTrigger

from syncd.plan.timing import LONGEST_WAIT

log = logging.getLogger(__name__)


class Scheduler(Protocol):
    """What the bells need of APScheduler: with another one they ring by another clock, and in one thread."""

    def add_job(
        self,
        func: Callable[[], None],
        trigger: DateTrigger | None = None,
        *,
        id: str | None = None,  # noqa: A002 -- APScheduler's name
        replace_existing: bool = False,
    ) -> object:
        """Do this at the trigger's moment, or at once; with ``replace_existing`` instead of what bears the ``id``."""

    def start(self) -> None:
        """Begin."""

    def shutdown(self) -> None:
        """End: what is running is finished, what has not begun never does."""


class Pool(ThreadPoolExecutor):
    """The threads of the jobs, which can be waited for on their own."""

    def _do_submit_job(self, job: Job, run_times: list[datetime]) -> None:
        """As APScheduler does, whose callback takes a job that was cancelled for one that ended."""
        future = self._pool.submit(run_job, job, job._jobstore_alias, run_times, self._logger.name)  # noqa: SLF001
        future.add_done_callback(partial(self._ended, job.id))

    def _ended(self, job: str, future: Future[list[JobExecutionEvent]]) -> None:
        if not future.cancelled():
            self._run_job_success(job, future.result())

    def join(self) -> None:
        """Wait until what is running has ended; what has not begun never does."""
        self._pool.shutdown(wait=True, cancel_futures=True)


class ThreadedScheduler(BackgroundScheduler):
    """APScheduler's own with ``threads`` for the jobs; what is late is done late, never left out."""

    def __init__(self, threads: int) -> None:
        self._threads = Pool(threads)
        late = {"misfire_grace_time": None}
        super().__init__(timezone="UTC", executors={"default": self._threads}, job_defaults=late)

    def _process_jobs(self) -> float | None:
        """APScheduler, when it is stopped meanwhile, does not find the job any more that it is just ringing."""
        try:
            wait: float | None = super()._process_jobs()
        except JobLookupError:
            if self.running:
                raise
            return None
        return wait

    def shutdown(self) -> None:
        """End. APScheduler's ``wait=True`` holds a lock meanwhile that a job needs which rings another."""
        super().shutdown(wait=False)
        self._threads.join()


class Task:
    """Rings one piece of work in the scheduler's pool: never twice at once, and no ring is lost.

    APScheduler drops a ring that comes while the job runs; this one rings again when it is done. ``work``
    answers when it wants to be rung next, or ``None``; ``failed`` hears when it ended with what nobody foresaw, and of
    what kind that was.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        clock: Callable[[], datetime],
        name: str,
        work: Callable[[], datetime | None],
        failed: Callable[[str], None] = lambda _error: None,
    ) -> None:
        self._scheduler = scheduler
        self._clock = clock
        self._name = name
        self._work = work
        self._failed = failed
        self._lock = threading.Lock()
        self._running = self._again = False
        self._asking: list[Future[None]] = []

    def ask(self) -> "Future[None]":
        """Ring, and tell when work that began after this moment is done."""
        done: Future[None] = Future()
        with self._lock:
            self._asking.append(done)
        self.ring()
        return done

    def ring(self) -> None:
        """Do the work now, or once more if it is being done."""
        with self._lock:
            if self._running:
                self._again = True
                return
            self._running = True
        self._scheduler.add_job(self._run)  # without an id: a job that is just ending would make it drop this one

    def run_at(self, moment: datetime) -> None:
        """Ring at a moment instead of the one told before."""
        self._scheduler.add_job(self.ring, DateTrigger(moment), id=self._name, replace_existing=True)

    def _run(self) -> None:
        moment: datetime | None = None
        with self._lock:
            asking, self._asking = self._asking, []
        try:
            moment = self._work()
        except Exception as error:  # noqa: BLE001 -- whatever it is, no account is given up for it
            where = traceback.extract_tb(error.__traceback__)[-1]
            log.error("%s: unforeseen %s at %s:%s", self._name, type(error).__name__, where.filename, where.lineno)
            self._failed(type(error).__name__)
            moment = self._clock() + LONGEST_WAIT
        with self._lock:
            self._running, again = False, self._again
            self._again = False
        for done in asking:
            done.set_result(None)
        if again:
            self.ring()
        elif moment:
            self.run_at(moment)
