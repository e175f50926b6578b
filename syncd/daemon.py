# SPDX-License-Identifier: Apache-2.0
"""``syncd run``: APScheduler rings the jobs, uvicorn serves the feeds, SIGTERM ends both.

Nothing is decided here. A job never runs twice at once, and a ring that comes while it runs is kept; one
account or calendar never waits for another.
"""

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from functools import partial
from types import FrameType

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.date import DateTrigger

from syncd.config import Config
from syncd.errors import Stopped
from syncd.jobs import Jobs
from syncd.model import Run
from syncd.remotes import Remotes, connect
from syncd.schema import sync_lock
from syncd.shelf import FeedShelf
from syncd.store import Ledger
from syncd.web.app import feed_app
from syncd.web.serving import Served

log = logging.getLogger(__name__)

THREADS = 16
GRACE = timedelta(seconds=10)
"""How long calendars wait for links that are being made: a slow OpenMeetings delays no meeting by more."""

SAID = {"changed", "gone", "unreadable", "invites", "hashes", "created", "updated", "deleted", "adopted", "left"}
"""The counts of a run that are worth a line."""


class Bell:
    """Rings one piece of work in the scheduler's pool: never twice at once, and no ring is lost.

    APScheduler drops a ring that comes while the job runs; this one rings again when it is done. ``work``
    answers when it wants to be rung next, or ``None``.
    """

    def __init__(self, scheduler: BackgroundScheduler, name: str, work: Callable[[], datetime | None]) -> None:
        self._scheduler = scheduler
        self._name = name
        self._work = work
        self._lock = threading.Lock()
        self._running = self._again = False

    def ring(self) -> None:
        """Do the work now, or once more if it is being done."""
        with self._lock:
            if self._running:
                self._again = True
                return
            self._running = True
        self._scheduler.add_job(self._run)  # without an id: a job that is just ending would make it drop this one

    def ring_at(self, moment: datetime) -> None:
        """Ring at a moment instead of the one told before."""
        self._scheduler.add_job(
            self.ring, DateTrigger(moment), id=self._name, replace_existing=True, misfire_grace_time=None
        )

    def _run(self) -> None:
        moment: datetime | None = None
        try:
            moment = self._work()
        finally:  # whatever the work raised, the bell goes on; APScheduler logs it
            with self._lock:
                self._running, again = False, self._again
                self._again = False
            if again:
                self.ring()
            elif moment:
                self.ring_at(moment)


class Daemon:
    """The bells of one configuration: a pull for each account, then links, then the calendars and feeds."""

    def __init__(self, config: Config, ledger: Ledger, remotes: Remotes, clock: Callable[[], datetime]) -> None:
        self._ending = threading.Event()
        self._clock = clock
        self._jobs = Jobs(config, ledger, remotes, clock, self._go_on)
        self._scheduler = BackgroundScheduler(
            timezone="UTC",
            executors={"default": ThreadPoolExecutor(THREADS)},
            job_defaults={"misfire_grace_time": None},
        )
        bell = partial(Bell, self._scheduler)
        self._pushes = {
            name: bell(f"push {name}", partial(self._push, name))
            for name, calendar in config.calendars.items()
            if calendar.enabled
        }
        self._mint = bell("mint", self._mint_and_build)
        self._pulls = {
            name: bell(f"pull {name}", partial(self._pull, name))
            for name, account in config.accounts.items()
            if account.enabled
        }

    def start(self) -> None:
        """Begin: every account is pulled now, every calendar looked at."""
        self._scheduler.start()
        for pull in self._pulls.values():
            pull.ring()
        self._ring_links()

    def stop(self) -> None:
        """End: every job finishes the step in hand, nothing new begins."""
        self._ending.set()
        self._scheduler.pause()
        self._scheduler.shutdown(wait=True)

    def _go_on(self, _name: str, _done: int, _total: int) -> None:
        if self._ending.is_set():
            raise Stopped("syncd is ending")

    def _pull(self, account: str) -> datetime | None:
        run = self._jobs.pull(account)
        _say(run)
        if run.counts.get("changed") or run.counts.get("gone") or run.complete:
            self._ring_links()
        return run.next_try

    def _ring_links(self) -> None:
        """Links first, then calendars, so that an entry is written once; but not later than ``GRACE`` from now."""
        self._mint.ring()
        for push in self._pushes.values():
            push.ring_at(self._clock() + GRACE)

    def _mint_and_build(self) -> None:
        for run in (*self._jobs.mint(), *self._jobs.build_feeds()):
            _say(run)
        self._jobs.sweep()
        for push in self._pushes.values():
            push.ring()

    def _push(self, calendar: str) -> datetime | None:
        run = self._jobs.push(calendar)
        _say(run)
        return run.next_try


def _say(run: Run) -> None:
    """One line for what was done; a quiet run is not worth one, and a failed one was told when it failed."""
    done = ", ".join(f"{count} {word}" for word, count in run.counts.items() if count and word in SAID)
    if done:
        log.info("%s %s: %s", run.kind, run.name, done)


def serve(config: Config, clock: Callable[[], datetime]) -> None:
    """Sync and serve until SIGTERM or SIGINT; what is being done then is finished first.

    Raises LedgerBusy if another process is syncing on the ledger, OSError's sentence if the feeds' address
    is taken.
    """
    with running(config, clock), signalled() as stop:
        log.info("running; %d accounts, %d calendars", len(config.accounts), len(config.calendars))
        stop.wait()
        log.info("ending; what is being done is finished first")


@contextmanager
def running(config: Config, clock: Callable[[], datetime]) -> Iterator[Daemon]:
    """A daemon at work, with its feeds served, until the block ends."""
    with ExitStack() as stack:
        stack.enter_context(sync_lock(config.state, clock(), daemon=True))
        ledger = stack.enter_context(Ledger(config.state))
        remotes = connect(config, clock)
        stack.callback(remotes.close)
        if config.feeds:
            app = feed_app(FeedShelf(config, ledger))
            stack.enter_context(Served(app, config.feeds.listen, trusted_proxies=config.feeds.trusted_proxies))
        daemon = Daemon(config, ledger, remotes, clock)
        daemon.start()
        stack.callback(daemon.stop)
        yield daemon


@contextmanager
def signalled() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set, in place of what they usually do."""
    stop = threading.Event()

    def heard(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, heard) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
