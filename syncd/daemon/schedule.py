# SPDX-License-Identifier: Apache-2.0
"""Runs the daemon's jobs in threads, now or at a moment; what a job does is no matter here.

APScheduler is the clock alone, used by its public interface: what it starts only hands a job to our own threads.
Its own would drop a job that comes while the same one is just ending, and cannot be waited for without its lock.
"""

import logging
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from datetime import UTC, datetime
from functools import partial
from typing import Protocol

from apscheduler.executors.debug import DebugExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.date import DateTrigger

from syncd.errors import Stopped
from syncd.sync.pools import HostPools

log = logging.getLogger(__name__)


class Scheduler(Protocol):
    """Where and when tasks run. Tests pass one that runs them in a single thread, on a clock of its own."""

    def submit(self, host: str, name: str, work: Callable[[], object]) -> "Future[object]":
        """Call ``work`` as soon as a thread of this host is free; ``name`` is the task's.

        The future is cancelled if ``shutdown()`` comes before that.
        """

    def submit_at(self, moment: datetime, host: str, name: str, work: Callable[[], object]) -> None:
        """Submit at a moment, instead of at the one given before for this ``name``."""

    def start(self) -> None:
        """Start the clock."""

    def shutdown(self) -> None:
        """Wait until what runs has ended; what has not begun never does."""


class ThreadedScheduler:
    """APScheduler's clock, and for every host a pool of at most ``threads``."""

    def __init__(self, threads: int) -> None:
        self._pools = HostPools(threads)
        self._clock = BackgroundScheduler(timezone=UTC, executors={"default": DebugExecutor()})
        self._lock = threading.Lock()  # not taken by `submit`: APScheduler calls it under a lock that `add_job` needs
        self._stopped = False

    def submit(self, host: str, name: str, work: Callable[[], object]) -> "Future[object]":
        """Call ``work`` in a thread of the host's pool."""
        future = self._pools.submit(host, work)
        future.add_done_callback(partial(_log_failure, name))
        return future

    def submit_at(self, moment: datetime, host: str, name: str, work: Callable[[], object]) -> None:
        """Submit at a moment, however late: what a machine slept through is done afterwards."""
        # A trigger without `timezone` asks tzlocal for one, which raises where TZ is no zone's name (TZ=CEST).
        trigger = DateTrigger(moment, timezone=UTC)
        submit = partial(self.submit, host, name, work)
        with self._lock:
            if not self._stopped:
                self._clock.add_job(submit, trigger, id=name, replace_existing=True, misfire_grace_time=None)

    def start(self) -> None:
        """Start the clock."""
        self._clock.start()

    def shutdown(self) -> None:
        """Stop the clock, then the pools.

        The clock is paused and emptied first: its thread fails with a JobLookupError if it is shut down while it
        submits. ``remove_all_jobs`` waits until it does not, and ``wait=True`` would wait for nothing else.
        """
        with self._lock:
            self._stopped = True
        self._clock.pause()
        self._clock.remove_all_jobs()
        self._clock.shutdown(wait=False)
        self._pools.close()


def _log_failure(name: str, future: "Future[object]") -> None:
    if not future.cancelled() and (error := future.exception()):
        log.error("%s: unforeseen %s", name, _where(error))


def _where(error: BaseException) -> str:
    """What an exception is and where it was raised, without its text, which may hold secrets."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} at {frame.filename}:{frame.lineno}"


class Task:
    """Runs one job at a time. A request that arrives while the job runs starts it once more afterwards.

    ``job`` returns when it wants to run next, or ``None``. If it ends with an unforeseen exception, ``failed`` is
    called with the exception's name; it records that and returns when to try again.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        host: str,
        name: str,
        job: Callable[[], datetime | None],
        failed: Callable[[str], datetime | None],
    ) -> None:
        self._scheduler = scheduler
        self._host = host
        self._name = name
        self._job = job
        self._failed = failed
        self._lock = threading.Lock()
        self._running = False
        self._request: Future[None] | None = None
        self._moment: datetime | None = None

    def run_soon(self) -> "Future[None]":
        """Run the job now, or once more when it has ended.

        The future ends with a run that began after this call, or with Stopped if the scheduler is shut down before.
        """
        with self._lock:
            if self._request is None:
                self._request = Future()
                if not self._running:
                    self._submit(self._request)
            return self._request

    def run_at(self, moment: datetime) -> None:
        """Run the job at a moment, instead of at the one given before.

        While the job runs this is a request of its own: it runs then, or sooner if the job itself wants to.
        """
        with self._lock:
            if self._running:
                self._moment = min(self._moment or moment, moment)
            else:
                self._submit_at(moment)

    def _submit(self, request: "Future[None]") -> None:
        self._scheduler.submit(self._host, self._name, self._run).add_done_callback(partial(_end_if_dropped, request))

    def _submit_at(self, moment: datetime) -> None:
        self._scheduler.submit_at(moment, self._host, self._name, self.run_soon)

    def _run(self) -> None:
        with self._lock:
            self._running = True
            request, self._request, self._moment = self._request, None, None
        moment: datetime | None = None
        try:
            moment = self._run_job()
        finally:
            self._end(moment)
            if request:
                request.set_result(None)

    def _run_job(self) -> datetime | None:
        try:
            return self._job()
        except Exception as error:  # noqa: BLE001 -- whatever it is, no account is given up for it
            log.error("%s: unforeseen %s", self._name, _where(error))
            return self._failed(type(error).__name__)

    def _end(self, moment: datetime | None) -> None:
        with self._lock:
            self._running = False
            moments = [each for each in (moment, self._moment) if each]
            if self._request:
                self._submit(self._request)
            elif moments:
                self._submit_at(min(moments))


def _end_if_dropped(request: "Future[None]", submitted: "Future[object]") -> None:
    if submitted.cancelled():
        request.set_exception(Stopped("syncd is ending"))
