# SPDX-License-Identifier: Apache-2.0
"""The tasks of one configuration: which job runs after which, and in whose threads.

What a job does and when it runs again is decided elsewhere (``jobs``, ``plan.timing``). A job never runs twice at
once, and one account or calendar never waits for another.
"""

import logging
import random
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import partial

from syncd.config import Config
from syncd.daemon.schedule import Scheduler, Task, ThreadedScheduler
from syncd.daemon.signals import StopRequest
from syncd.errors import NeedsYou
from syncd.jobs.jobs import FEEDS, HOUSEKEEPING, LINKS, SIDE_BY_SIDE, Jobs
from syncd.jobs.servers import Servers
from syncd.ledger.ledger import Ledger
from syncd.model import Run, RunKey
from syncd.plan.deletions import hold_name
from syncd.plan.timing import first_housekeeping, push_after_links, soonest
from syncd.sync.push import IN_FLIGHT

log = logging.getLogger(__name__)


class Daemon:
    """A task for each account's pull, one for all links, one for each calendar's push, one for all feeds, housekeeping.

    It also does what commands ask for (``control.Commands``). Tests pass a single-threaded ``scheduler`` and
    ``workers=1``; the daemon then runs on that scheduler's clock.
    """

    def __init__(
        self,
        config: Config,
        ledger: Ledger,
        servers: Servers,
        clock: Callable[[], datetime],
        stop_request: StopRequest,
        *,
        scheduler: Scheduler | None = None,
        workers: int = IN_FLIGHT,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._stop_request = stop_request
        self._clock = clock
        self._ledger = ledger
        self._jobs = Jobs(
            config,
            ledger,
            servers,
            clock,
            lambda _name, _done, _total: stop_request.check(),
            workers=workers,
            jitter=jitter,
            on_recovery=self._run_soon,
        )
        self._runs: dict[RunKey, list[Run]] = {}
        self._full: set[str] = set()  # accounts whose next pull lists the whole window
        self._command_pulls: list[str] = []  # accounts for which a command waits, as often as there are commands
        self._pulls = [RunKey("pull", name) for name in servers.sources]
        self._pushes = [RunKey("push", name) for name in servers.calendars]
        jobs: dict[RunKey, Callable[[], list[Run]]] = {
            **{key: partial(self._pull, key.name) for key in self._pulls},
            LINKS: self._make_links,
            **{key: partial(self._push, key.name) for key in self._pushes},
            FEEDS: self._jobs.build_feeds,
            HOUSEKEEPING: lambda: [self._jobs.housekeeping()],
        }
        self._scheduler = scheduler or ThreadedScheduler(SIDE_BY_SIDE)
        self._tasks = {key: self._task(key, job) for key, job in jobs.items()}

    def _task(self, key: RunKey, job: Callable[[], list[Run]]) -> Task:
        def run() -> datetime | None:
            runs = self._runs[key] = job()
            _log_changes(runs)
            return soonest(runs)

        def failed(error: str) -> datetime | None:
            return self._jobs.fail_unforeseen(key, error).next_try

        return Task(self._scheduler, self._jobs.host(key) or key.kind, str(key), run, failed)

    def start(self) -> None:
        """Start: every account is pulled now, every calendar looked at."""
        self._scheduler.start()
        self.wake()

    def wake(self) -> None:
        """Run every job now, with a full listing.

        At start, and after the clock jumped: earlier "next try" times no longer mean anything.
        """
        self._full.update(key.name for key in self._pulls)
        for key in self._pulls:
            self._tasks[key].run_soon()
        self._follow_pull()
        self._tasks[HOUSEKEEPING].run_at(first_housekeeping(self._clock()))

    def stop(self) -> None:
        """Stop: every job finishes the step in hand, nothing new begins."""
        self._stop_request.stop()
        self._scheduler.shutdown()

    def sync(self) -> list[Run]:
        """Pull and push everything now. Raises Stopped if the daemon ends meanwhile."""
        runs = self._list_and_wait(self._pulls)
        runs += self._run_and_wait([LINKS])
        return runs + self._run_and_wait([*self._pushes, FEEDS])

    def pull(self, account: str) -> list[Run]:
        """Pull one account now. Raises NeedsYou if the daemon's configuration does not have it."""
        key = RunKey("pull", account)
        if key not in self._pulls:
            raise NeedsYou(f"opentalk.{account}: the daemon does not know it; reload it (SIGHUP)")
        return self._list_and_wait([key])

    def confirm(self, name: str) -> tuple[int, list[Run]]:
        """Let a held deletion of a calendar or feed pass, now: how many, and the runs.

        Raises NeedsYou for a name that is neither's.
        """
        calendar, feed = RunKey("push", name), RunKey("feed", name)
        if calendar not in self._pushes and name not in self._ledger.feeds.all():
            raise NeedsYou(f"{name}: the daemon knows no calendar and no feed of this name; reload it (SIGHUP)")
        runs: list[Run] = []
        of_calendar = self._ledger.deletions.confirm(name) if calendar in self._pushes else 0
        if of_calendar:
            runs += self._run_and_wait([calendar])
        of_feed = self._ledger.deletions.confirm(hold_name(name))
        if of_feed:
            runs += [run for run in self._run_and_wait([FEEDS]) if run.key == feed]
        return of_calendar + of_feed, runs

    def unsaved_runs(self) -> list[Run]:
        """The runs that the ledger could not take."""
        return self._jobs.unsaved_runs

    def _list_and_wait(self, pulls: Sequence[RunKey]) -> list[Run]:
        """The runs of pulls with a full listing.

        Every pull of these accounts lists in full until then. Otherwise one that has just begun, and is not the one
        that is waited for, could take the request for a full listing.
        """
        names = [key.name for key in pulls]
        self._command_pulls += names
        try:
            return self._run_and_wait(pulls)
        finally:
            for name in names:
                self._command_pulls.remove(name)

    def _run_and_wait(self, keys: Sequence[RunKey]) -> list[Run]:
        """The runs of tasks that are run now. Raises Stopped if the daemon ends meanwhile."""
        self._jobs.ask_anyway()
        for running in [self._tasks[key].run_soon() for key in keys]:
            running.result()
        return [run for key in keys for run in self._runs.get(key, [])]

    def _run_soon(self, key: RunKey) -> None:
        """Run now what failed on a host that answers again: an account, a calendar, or the making of links."""
        self._tasks.get(key, self._tasks[LINKS]).run_soon()

    def _pull(self, account: str) -> list[Run]:
        full = account in self._full or account in self._command_pulls
        self._full.discard(account)
        run = self._jobs.pull(account, soon=not full)
        if run.counts.get("changed") or run.counts.get("gone") or run.scope == "everything":
            self._follow_pull()
        return [run]

    def _follow_pull(self) -> None:
        """Run feeds and links, then calendars, so that an entry is written once, with its links; but not much later."""
        self._tasks[FEEDS].run_soon()
        self._tasks[LINKS].run_soon()
        for key in self._pushes:
            self._tasks[key].run_at(push_after_links(self._clock()))

    def _make_links(self) -> list[Run]:
        runs = self._jobs.mint()
        for key in (FEEDS, *self._pushes):
            self._tasks[key].run_soon()
        return runs

    def _push(self, calendar: str) -> list[Run]:
        return [self._jobs.push(calendar)]


def _log_changes(runs: Iterable[Run]) -> None:
    """One line for each run that changed anything; what failed was logged when it began to."""
    for run in runs:
        done = ", ".join(f"{count} {word}" for word, count in run.done.items() if word != "failed")
        if done:
            log.info("%s: %s", run.key, done)
