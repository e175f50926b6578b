# SPDX-License-Identifier: Apache-2.0
"""``syncd run``: APScheduler rings the jobs, uvicorn serves the feeds, SIGTERM ends both.

Nothing is decided here. A job never runs twice at once, and a ring that comes while it runs is kept; one
account or calendar never waits for another.
"""

import logging
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from functools import partial

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.date import DateTrigger

from syncd.config import Config
from syncd.jobs import Jobs
from syncd.model import Run
from syncd.plan import LONGEST_WAIT
from syncd.remotes import Remotes, connect
from syncd.schema import sync_lock
from syncd.shelf import FeedShelf
from syncd.signals import Ending, signalled
from syncd.store import Ledger
from syncd.web.app import feed_app
from syncd.web.serving import Served

log = logging.getLogger(__name__)

THREADS = 16
GRACE = timedelta(seconds=10)
"""How long calendars wait for links that are being made: a slow OpenMeetings delays no meeting by more."""

SAID = {"changed", "gone", "unreadable", "invites", "hashes", "created", "updated", "deleted", "adopted", "left"}
"""The counts of a run that are worth a line."""


class Pool(ThreadPoolExecutor):
    """The threads of the jobs, which can be waited for on their own.

    APScheduler's own ``shutdown(wait=True)`` holds a lock meanwhile that a job needs which rings another.
    """

    def join(self) -> None:
        """Wait until what is running has ended; what has not begun never does."""
        self._pool.shutdown(wait=True, cancel_futures=True)


class Bell:
    """Rings one piece of work in the scheduler's pool: never twice at once, and no ring is lost.

    APScheduler drops a ring that comes while the job runs; this one rings again when it is done. ``work``
    answers when it wants to be rung next, or ``None``.
    """

    def __init__(
        self,
        scheduler: BackgroundScheduler,
        clock: Callable[[], datetime],
        name: str,
        work: Callable[[], datetime | None],
    ) -> None:
        self._scheduler = scheduler
        self._clock = clock
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
        self._scheduler.add_job(self.ring, DateTrigger(moment), id=self._name, replace_existing=True)

    def _run(self) -> None:
        moment: datetime | None = None
        try:
            moment = self._work()
        except Exception as error:  # noqa: BLE001 -- whatever it is, no account is given up for it
            where = traceback.extract_tb(error.__traceback__)[-1]
            log.error("%s: unforeseen %s at %s:%s", self._name, type(error).__name__, where.filename, where.lineno)
            moment = self._clock() + LONGEST_WAIT
        with self._lock:
            self._running, again = False, self._again
            self._again = False
        if again:
            self.ring()
        elif moment:
            self.ring_at(moment)


class Daemon:
    """The bells of one configuration: a pull for each account, then links, then the calendars and feeds."""

    def __init__(
        self, config: Config, ledger: Ledger, remotes: Remotes, clock: Callable[[], datetime], ending: Ending
    ) -> None:
        self._ending = ending
        self._clock = clock
        self._jobs = Jobs(config, ledger, remotes, clock, lambda _name, _done, _total: ending.check())
        self._pool = Pool(THREADS)
        self._scheduler = BackgroundScheduler(
            timezone="UTC", executors={"default": self._pool}, job_defaults={"misfire_grace_time": None}
        )
        bell = partial(Bell, self._scheduler, clock)
        self._pushes = {name: bell(f"push {name}", partial(self._push, name)) for name in remotes.calendars}
        self._mint = bell("links", self._mint_and_build)
        self._pulls = {name: bell(f"pull {name}", partial(self._pull, name)) for name in remotes.sources}

    def start(self) -> None:
        """Begin: every account is pulled now, every calendar looked at."""
        self._scheduler.start()
        for pull in self._pulls.values():
            pull.ring()
        self._ring_links()

    def stop(self) -> None:
        """End: every job finishes the step in hand, nothing new begins."""
        self._ending.tell()
        self._scheduler.shutdown(wait=False)
        self._pool.join()

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

    def _mint_and_build(self) -> datetime | None:
        runs = [*self._jobs.build_feeds(), *self._jobs.mint(), *self._jobs.build_feeds()]
        for run in runs:
            _say(run)
        for push in self._pushes.values():
            push.ring()
        return min((run.next_try for run in runs if run.next_try), default=None)

    def _push(self, calendar: str) -> datetime | None:
        run = self._jobs.push(calendar)
        _say(run)
        return run.next_try


def _say(run: Run) -> None:
    """One line for what was done; a quiet run is not worth one, and a failed one was told when it failed."""
    done = ", ".join(f"{count} {word}" for word, count in run.counts.items() if count and word in SAID)
    if done:
        log.info("%s %s: %s", run.kind, run.name, done)


def serve(config: Config, clock: Callable[[], datetime]) -> bool:
    """Sync and serve until SIGTERM or SIGINT, which is true; what is being done then is finished first.

    Raises LedgerBusy if another process is syncing on the ledger, NeedsYou if the feeds' address is taken.
    """
    with signalled() as ending:
        with running(config, clock, ending):
            log.info("running; %d accounts, %d calendars", len(config.accounts), len(config.calendars))
            ending.wait()
            log.info("ending; what is being done is finished first")
        return ending.interrupted


@contextmanager
def running(config: Config, clock: Callable[[], datetime], ending: Ending) -> Iterator[Daemon]:
    """A daemon at work, with its feeds served, until the block ends."""
    with ExitStack() as stack:
        stack.enter_context(sync_lock(config.state, clock(), daemon=True))
        ledger = stack.enter_context(Ledger(config.state))
        remotes = connect(config, clock)
        stack.callback(remotes.close)
        if config.feeds:
            app = feed_app(FeedShelf(config, ledger))
            stack.enter_context(Served(app, config.feeds.listen, trusted_proxies=config.feeds.trusted_proxies))
        daemon = Daemon(config, ledger, remotes, clock, ending)
        stack.callback(daemon.stop)
        daemon.start()
        yield daemon
