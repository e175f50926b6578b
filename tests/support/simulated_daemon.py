# SPDX-License-Identifier: Apache-2.0
"""A whole daemon with its main loop on simulated clocks, in one thread: days pass in a second.

Its servers are in memory, behind a ``Network``.
"""

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import count
from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import replace

from syncd.cli import report
from syncd.config import Config
from syncd.config.profiles import feed_profile
from syncd.daemon.daemon import Daemon
from syncd.daemon.process import TICK, ClockJump, main_loop
from syncd.daemon.signals import StopRequest
from syncd.daemon.systemd import Notifier
from syncd.jobs.servers import Servers
from syncd.ledger.database import FILE
from syncd.ledger.ledger import Ledger
from syncd.ledger.lock import Syncing
from syncd.model import Meeting, Standing, Visitor, Window
from tests.support.memory_servers import MemoryCalendar, MemoryLinkMaker, MemorySource
from tests.support.occurrences import is_listed, touches
from tests.support.tables import HastyDatabase, full_disk


class Clocks:
    """Two clocks: that of the day, which may jump, and a steady one, which stands still while the machine sleeps."""

    def __init__(self, now: datetime) -> None:
        self.now = now
        self.steady = 0.0

    def clock(self) -> datetime:
        return self.now

    def tell(self) -> float:
        return self.steady

    def pass_by(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        self.steady += seconds

    def jump(self, by: timedelta) -> None:
        """The clock is set, or the machine sleeps."""
        self.now += by


class TaskStart(Struct, frozen=True):
    """The start of a task: when, by both clocks, and its name."""

    at: datetime
    steady: float
    name: str


class SimulatedScheduler:
    """Runs tasks in one thread.

    As APScheduler, it computes from the clock of the day how long to wait, and waits by the steady one."""

    def __init__(self, clocks: Clocks) -> None:
        self.starts: list[TaskStart] = []
        self.jobs: dict[str, tuple[datetime, int, Callable[[], object]]] = {}
        self._clocks = clocks
        self._numbers = count()
        self._waits_for = 0.0

    def submit(self, _host: str, name: str, work: Callable[[], object]) -> "Future[object]":
        def run() -> None:
            self.starts.append(TaskStart(self._clocks.now, self._clocks.steady, name))
            work()

        number = next(self._numbers)
        self._add(f"at once {number}", self._clocks.now, number, run)
        return Future()

    def submit_at(self, moment: datetime, _host: str, name: str, work: Callable[[], object]) -> None:
        self._add(name, moment, next(self._numbers), work)

    def _add(self, name: str, moment: datetime, number: int, work: Callable[[], object]) -> None:
        self.jobs[name] = (moment, number, work)
        self._waits_for = self._clocks.steady

    def start(self) -> None:
        return

    def shutdown(self) -> None:
        self.jobs.clear()

    def run(self, seconds: float) -> None:
        """Let time pass, and start meanwhile what is due."""
        end = self._clocks.steady + seconds
        while True:
            if self._clocks.steady >= self._waits_for:
                self._process()
            if self._waits_for > end:
                break
            self._clocks.pass_by(max(0.0, self._waits_for - self._clocks.steady))
        self._clocks.pass_by(max(0.0, end - self._clocks.steady))

    def _process(self) -> None:
        while due := [(job, name) for name, job in self.jobs.items() if job[0] <= self._clocks.now]:
            (_, _, func), name = min(due, key=lambda each: each[0][:2])
            del self.jobs[name]
            func()
        first = min((moment for moment, _, _ in self.jobs.values()), default=None)
        wait = (first - self._clocks.now).total_seconds() if first else float("inf")
        self._waits_for = self._clocks.steady + wait


class Network:
    """All requests pass through it: ``requests`` counts them by (day of the steady clock, server, request).

    ``rule`` is called with server and request, and may raise an error or let time pass. ``failed`` counts by
    (server, request) how often it raised one.
    """

    def __init__(self, clocks: Clocks) -> None:
        self.requests: Counter[tuple[int, str, str]] = Counter()
        self.failed: Counter[tuple[str, str]] = Counter()
        self.rule: Callable[[str, str], None] = healthy
        self._clocks = clocks

    def meet(self, server: str, what: str) -> None:
        self.requests[int(self._clocks.steady // 86400), server, what] += 1
        try:
            self.rule(server, what)
        except Exception:
            self.failed[server, what] += 1
            raise

    def requests_to(self, *servers: str) -> int:
        """How many requests these servers got."""
        return sum(number for (_, server, _), number in self.requests.items() if server in servers)


def healthy(_server: str, _what: str) -> None:
    return


class SimulatedAccount(MemorySource):
    """An account behind the network. ``listing`` makes what is listed of what is there.

    ``hidden`` counts by event how often it was asked for because the latest listing lacked it, though it takes place in
    the window: OpenTalk's time filter is mistaken about whole days and about the end of a series.
    """

    def __init__(self, name: str, network: Network, *meetings: Meeting) -> None:
        super().__init__(*meetings)
        self._name = name
        self._network = network
        self.hidden: Counter[str] = Counter()
        self._window: Window | None = None
        self.listing: Callable[[dict[str, Meeting]], dict[str, Meeting]] = dict
        self.person = type(self.person)("https://id.example.org", name, f"user-{name}", "Alice", "Adams")

    def _ask(self, what: str) -> None:
        super()._ask(what)
        self._network.meet(self._name, what)

    def event(self, event_id: str) -> Meeting | None:
        each = self.meetings.get(event_id)
        if each and self._window and touches(each, self._window) and not is_listed(each, self._window):
            self.hidden[event_id] += 1
        return super().event(event_id)

    def _listed(self, window: Window | None) -> dict[str, Meeting]:
        self._window = window
        listed = self.listing(self.meetings)
        return {event: each for event, each in listed.items() if window is None or is_listed(each, window)}


class SimulatedLinkMaker(MemoryLinkMaker):
    def __init__(self, network: Network) -> None:
        super().__init__()
        self._network = network

    def make(self, event: str, title: str, visitor: Visitor) -> str:
        self._network.meet("openmeetings", "hash")
        return super().make(event, title, visitor)


class SimulatedCalendar(MemoryCalendar):
    def __init__(self, name: str, network: Network) -> None:
        super().__init__(name)
        self._network = network

    @contextmanager
    def _call(self, verb: str, href: str) -> Iterator[None]:
        self._network.meet(self.name, verb)
        with super()._call(verb, href):
            yield

    def forgive(self) -> None:
        """Forget the faults that did not happen."""
        self._faults.clear()

    @property
    def writes(self) -> int:
        """The number of calls that change something."""
        return sum(verb in ("create", "update", "delete") for verb, _ in self.log)


class SimulatedDaemon:
    """A daemon of a configuration; ``go`` lets it run for a while.

    Its accounts and its OpenMeetings are in memory unless others are ``connected``.
    """

    def __init__(self, config: Config, clocks: Clocks, connected: Servers | None = None) -> None:
        self.config = config
        self.clocks = clocks
        self.network = Network(self.clocks)
        self.accounts = {name: SimulatedAccount(name, self.network) for name in config.accounts}
        self.calendars = {name: SimulatedCalendar(name, self.network) for name in config.calendars}
        self.link_maker = SimulatedLinkMaker(self.network)
        self.ledger = Ledger(HastyDatabase(config.state, patience=0.0))
        self.scheduler = SimulatedScheduler(self.clocks)
        self.looks = 0
        self._connected = connected or Servers(self.accounts, {"openmeetings": self.link_maker}, {}, lambda: None)
        self.daemon = Daemon(
            config,
            self.ledger,
            replace(self._connected, calendars=self.calendars),
            self.clocks.clock,
            StopRequest(),
            scheduler=self.scheduler,
            workers=1,
            jitter=lambda: 0.0,
        )
        self.summary = "simulated"
        self._clocks = ClockJump(self.clocks.clock, self.clocks.tell)
        self._notifier = Notifier({}, 1)
        self._end = 0.0
        self._begun = clocks.now

    def __enter__(self) -> "SimulatedDaemon":
        self.daemon.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.daemon.stop()
        self._connected.close()
        self.ledger.close()

    def go(self, span: timedelta) -> None:
        """Run for so long, by the steady clock."""
        self._end = self.clocks.steady + span.total_seconds()
        main_loop(self, self._unread, self, self._notifier, self._clocks)

    def wait_for_next(self, seconds: float) -> Literal["stop"] | None:
        """The one place where the main thread waits."""
        assert seconds == TICK
        self.looks += 1
        self.scheduler.run(min(seconds, self._end - self.clocks.steady))
        return "stop" if self.clocks.steady >= self._end else None

    def wake(self) -> None:
        self.daemon.wake()

    def reload(self, _config: Config) -> None:
        raise AssertionError("nothing is read again")

    def _unread(self) -> Config:
        raise AssertionError("nothing is read again")

    def status(self) -> report.Json:
        """``syncd status --json``."""
        standings = self.ledger.history.standings()
        for run in self.daemon.unsaved_runs():
            noted = standings.get(run.key)
            standings[run.key] = Standing(run, noted.last_success if noted else None)
        installation = self.ledger.secrets.get("installation")
        profiles = {
            name: feed_profile(self.config, installation, feed) for name, feed in self.ledger.feeds.all().items()
        }
        return report.status_json(
            self.config,
            standings,
            self.ledger.meetings.counts(),
            self.ledger.placements.counts(),
            {name: profile.accounts if profile else None for name, profile in profiles.items()},
            {name: len(self.ledger.feeds.content(feed)) for name, feed in self.ledger.feeds.all().items()},
            Syncing(1, self._begun, daemon=True),
        )

    def troubled(self) -> set[str]:
        """The names of what is in trouble by ``syncd status``, which must be ``ok`` if there is none."""
        status = self.status()
        things: dict[str, Any] = {"openmeetings": status["openmeetings"]}
        for kind in ("accounts", "calendars", "feeds"):
            named = status[kind]
            assert isinstance(named, dict)
            things |= named
        own = status.get("syncd", {})
        assert isinstance(own, dict)
        things |= {f"syncd {kind}": thing for kind, thing in own.items()}
        found = {name for name, thing in things.items() if thing["state"] in report.TROUBLED}
        assert status["ok"] == (not found)
        return found

    def entries(self, calendar: str) -> dict[str, bytes]:
        """Our objects in a calendar, by event."""
        objects = self.calendars[calendar].objects
        prefix, suffix = "syncd-", ".ics"
        return {
            href.removeprefix(prefix).removesuffix(suffix): found.body
            for href, found in objects.items()
            if href.startswith(prefix)
        }

    def wanted(self, accounts: Sequence[str]) -> dict[str, Meeting]:
        """The meetings of these accounts by event; of what several have, as the first of them sees it."""
        return {
            event: each
            for account in reversed([self.accounts[name] for name in accounts])
            for event, each in account.meetings.items()
        }

    @contextmanager
    def locking(self) -> Iterator[Callable[[], None]]:
        """Gives a function that locks the ledger, as another program does, until the block ends."""
        other = sqlite3.connect(self.config.state / FILE, timeout=0, isolation_level=None)

        def lock() -> None:
            if not other.in_transaction:
                other.execute("BEGIN IMMEDIATE")

        try:
            yield lock
        finally:
            other.close()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Another program holds the ledger locked."""
        with self.locking() as lock:
            lock()
            yield

    @contextmanager
    def full(self) -> Iterator[None]:
        """The disk that the ledger lies on is full."""
        with full_disk(self.ledger):
            yield
