# SPDX-License-Identifier: Apache-2.0
"""The tasks of one configuration: which job runs after which, and in whose threads.

What a job does and when it runs again is decided elsewhere (``jobs``, ``plan.timing``). A job never runs twice at
once, and one account or calendar never waits for another.
"""

import logging
import random
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import partial

from syncd.config import Config
from syncd.daemon.schedule import Scheduler, Task, ThreadedScheduler
from syncd.daemon.signals import StopRequest
from syncd.errors import NeedsYou
from syncd.jobs.jobs import Jobs
from syncd.jobs.servers import Servers
from syncd.ledger.ledger import Ledger
from syncd.model import Run, RunKey, RunKind
from syncd.plan.timing import first_housekeeping, push_after_links, soonest
from syncd.sync.push import IN_FLIGHT

log = logging.getLogger(__name__)

THREADS = 8
"""How many jobs of one host run side by side."""


class Daemon:
    """A task for each account's pull, one for the links and feeds, one for each calendar's push, and housekeeping.

    It also does what commands ask for (``control.Commands``). Tests pass a single-threaded ``scheduler`` and
    ``workers=1``; the daemon then runs on that scheduler's clock.
    """

    def __init__(
        self,
        config: Config,
        ledger: Ledger,
        remotes: Servers,
        clock: Callable[[], datetime],
        ending: StopRequest,
        *,
        scheduler: Scheduler | None = None,
        workers: int = IN_FLIGHT,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._ending = ending
        self._clock = clock
        self._ledger = ledger
        self._jobs = Jobs(
            config,
            ledger,
            remotes,
            clock,
            lambda _name, _done, _total: ending.check(),
            workers=workers,
            jitter=jitter,
            recovered=self._run_soon,
        )
        self._runs: dict[str, list[Run]] = {}
        self._whole: set[str] = set()
        self._waiting: list[str] = []
        self._scheduler = scheduler or ThreadedScheduler(THREADS)
        self._pushes = {name: self._task("push", name, self._push) for name in remotes.calendars}
        self._links = self._task("links", "all", lambda _name: self._make_links())
        self._pulls = {name: self._task("pull", name, self._pull) for name in remotes.sources}
        self._housekeeping = self._task("housekeeping", "ledger", lambda _name: self._jobs.keep_house().next_try)

    def _task(self, kind: RunKind, name: str, job: Callable[[str], datetime | None]) -> Task:
        key = RunKey(kind, name)
        host = self._jobs.host(key) or kind
        return Task(self._scheduler, host, str(key), partial(job, name), partial(self._failed_unforeseen, key))

    def _failed_unforeseen(self, key: RunKey, error: str) -> datetime | None:
        return self._jobs.fail_unforeseen(key, error).next_try

    def start(self) -> None:
        """Start: every account is pulled now, every calendar looked at."""
        self._scheduler.start()
        self.wake()

    def wake(self) -> None:
        """Run every job now, with a full listing.

        At start, and after the clock jumped: earlier "next try" times no longer mean anything.
        """
        self._whole.update(self._pulls)
        for pull in self._pulls.values():
            pull.run_soon()
        self._links_then_pushes()
        self._housekeeping.run_at(first_housekeeping(self._clock()))

    def stop(self) -> None:
        """Stop: every job finishes the step in hand, nothing new begins."""
        self._ending.stop()
        self._scheduler.shutdown()

    def sync(self) -> list[Run]:
        """Pull and push everything now. Raises Stopped if the daemon ends meanwhile."""
        pulled = self._list_and_wait(self._pulls)
        minted = self._run_and_wait({"links": self._links})
        return pulled + minted + self._run_and_wait({f"push {name}": task for name, task in self._pushes.items()})

    def pull(self, account: str) -> list[Run]:
        """Pull one account now. Raises NeedsYou if the daemon's configuration does not have it."""
        if account not in self._pulls:
            raise NeedsYou(f"opentalk.{account}: the daemon does not know it; reload it (SIGHUP)")
        return self._list_and_wait([account])

    def confirm(self, name: str) -> tuple[int, list[Run]]:
        """Let a held deletion of a calendar or feed pass, now: how many, and the runs.

        Raises NeedsYou for a name that is neither's.
        """
        if name not in self._pushes and name not in self._ledger.feeds.all():
            raise NeedsYou(f"{name}: the daemon knows no calendar and no feed of this name; reload it (SIGHUP)")
        runs: list[Run] = []
        of_calendar = self._ledger.deletions.confirm(name) if name in self._pushes else 0
        if of_calendar:
            runs += self._run_and_wait({f"push {name}": self._pushes[name]})
        of_feed = self._ledger.deletions.confirm(f"feed/{name}")
        if of_feed:
            runs += [run for run in self._run_and_wait({"links": self._links}) if run.key == ("feed", name)]
        return of_calendar + of_feed, runs

    def unsaved(self) -> list[Run]:
        """The runs that the ledger could not take."""
        return self._jobs.unsaved

    def _list_and_wait(self, accounts: Iterable[str]) -> list[Run]:
        """The runs of pulls with a full listing.

        Every pull of these accounts lists in full until then: one that has just begun and does not yet know whether
        to, must not take the wish from the one that is waited for.
        """
        names = list(accounts)
        self._waiting += names
        try:
            return self._run_and_wait({f"pull {name}": self._pulls[name] for name in names})
        finally:
            for name in names:
                self._waiting.remove(name)

    def _run_and_wait(self, tasks: dict[str, Task]) -> list[Run]:
        """The runs of tasks that are run now. Raises Stopped if the daemon ends meanwhile."""
        self._jobs.ask_anyway()
        for running in [task.run_soon() for task in tasks.values()]:
            running.result()
        return [run for name in tasks for run in self._runs.get(name, [])]

    def _run_soon(self, key: RunKey) -> None:
        """Run now what failed on a host that answers again."""
        {"pull": self._pulls, "push": self._pushes}.get(key.kind, {}).get(key.name, self._links).run_soon()

    def _pull(self, account: str) -> datetime | None:
        whole = account in self._whole or account in self._waiting
        self._whole.discard(account)
        run = self._jobs.pull(account, soon=not whole)
        self._note(f"pull {account}", [run])
        if run.counts.get("changed") or run.counts.get("gone") or run.scope == "everything":
            self._links_then_pushes()
        return run.next_try

    def _links_then_pushes(self) -> None:
        """Links first, then calendars, so that an entry is written once; but not much later."""
        self._links.run_soon()
        for push in self._pushes.values():
            push.run_at(push_after_links(self._clock()))

    def _make_links(self) -> datetime | None:
        runs = [*self._jobs.build_feeds(), *self._jobs.mint(), *self._jobs.build_feeds()]
        self._note("links", runs)
        for push in self._pushes.values():
            push.run_soon()
        return soonest(runs)

    def _push(self, calendar: str) -> datetime | None:
        run = self._jobs.push(calendar)
        self._note(f"push {calendar}", [run])
        return run.next_try

    def _note(self, name: str, runs: list[Run]) -> None:
        self._runs[name] = runs
        for run in runs:
            _say(run)


def _say(run: Run) -> None:
    """One line for what was done; a quiet run is not worth one, and what failed was told when it began to."""
    done = ", ".join(f"{count} {word}" for word, count in run.done.items() if word != "failed")
    if done:
        log.info("%s: %s", run.key, done)
