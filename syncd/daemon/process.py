# SPDX-License-Identifier: Apache-2.0
"""The process of ``syncd run``: what runs in it, and the loop of its main thread."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from typing import Literal, Protocol

from syncd.config import Config
from syncd.daemon.control import ControlServer
from syncd.daemon.daemon import Daemon
from syncd.daemon.signals import StopRequest, signalled
from syncd.daemon.systemd import Notifier
from syncd.errors import NeedsYou, SyncdError
from syncd.jobs.servers import Connect, Servers
from syncd.ledger.ledger import Ledger
from syncd.ledger.lock import sync_lock
from syncd.model import Run
from syncd.web.feeds import feed_app
from syncd.web.published import PublishedFeeds
from syncd.web.server import RunningServer

log = logging.getLogger(__name__)

TICK = 30.0
"""Seconds after which the main thread looks at the clock again."""

JUMP = 60.0
"""Seconds by which the clock must have jumped for everything to run again."""


def serve(read: Callable[[], Config], connect: Connect, clock: Callable[[], datetime], notifier: Notifier) -> bool:
    """Sync and serve until SIGTERM or SIGINT, and finish first what is being done then; true if it was SIGINT.

    SIGHUP reads the configuration again. Raises ConfigError, LedgerBusy if another process is syncing on the
    ledger, NeedsYou if the feeds' address is taken.
    """
    config = read()
    with signalled(reloads=True) as request:
        with running(config, connect, clock) as process:
            notifier.ready(process.summary)
            log.info("running; %s", process.summary)
            main_loop(process, read, request, notifier, ClockJump(process.clock))
            notifier.stopping("what is being done is finished first")
            log.info("ending; what is being done is finished first")
        return request.interrupted


class Reloadable(Protocol):
    """What the main loop reloads and wakes: ``Process``, or a test's."""

    @property
    def summary(self) -> str:
        """What runs, in a few words."""

    def reload(self, config: Config) -> None:
        """Go on with another configuration. Raises SyncdError, and all is as before, if that cannot be."""

    def wake(self) -> None:
        """Run every job now."""


class Signals(Protocol):
    """Where the main loop waits: ``signals.StopRequest``, or a test's."""

    def wait_for_next(self, seconds: float) -> Literal["stop", "reload"] | None:
        """Wait for a request, for some seconds at most; ``None`` if none has come."""


def main_loop(
    process: Reloadable, read: Callable[[], Config], signals: Signals, notifier: Notifier, clock_jump: "ClockJump"
) -> None:
    """Until a request to stop: tell systemd that we are alive, reload when asked, wake when the clock has jumped.

    It waits in one place, ``wait_for_next``, which returns at least once in ``TICK`` seconds.
    """
    tick = min(TICK, notifier.interval or TICK)
    while (request := signals.wait_for_next(tick)) != "stop":
        notifier.alive()
        if request == "reload":
            notifier.reloading()
            try:
                process.reload(read())
                log.info("the configuration was read again; %s", process.summary)
            except SyncdError as problem:
                log.error("the configuration was read again and is not taken; the old one stays: %s", problem)
            notifier.ready(process.summary)
        elif clock_jump.detected():
            log.info("the clock has jumped, or this machine has slept: everything is looked at now")
            process.wake()


class ClockJump:
    """Compares the clock of the day with one that never jumps."""

    def __init__(self, clock: Callable[[], datetime], steady: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._steady = steady
        self._offset = self._distance()

    def _distance(self) -> float:
        return self._clock().timestamp() - self._steady()

    def detected(self) -> bool:
        """Whether the clock was set, or the machine slept, by more than ``JUMP`` since this was last called."""
        before, self._offset = self._offset, self._distance()
        return abs(self._offset - before) > JUMP


class Process:
    """What runs: the ledger, the daemon of the present configuration, the feeds and the control socket."""

    def __init__(self, config: Config, ledger: Ledger, connect: Connect, clock: Callable[[], datetime]) -> None:
        self.clock = clock
        self._connect = connect
        self._ledger = ledger
        self._feeds = PublishedFeeds(config, ledger)
        self._feed_server = self._serve(config)
        self._config = config
        self.daemon, self._servers = self._begin(config)

    @property
    def summary(self) -> str:
        """How much there is to sync, in a few words."""
        return f"{len(self._config.accounts)} accounts, {len(self._config.calendars)} calendars"

    def reload(self, config: Config) -> None:
        """Go on with another configuration; steps in hand are finished with the old one.

        Raises NeedsYou, and all is as before, if the ledger would be another one or the feeds' address is taken.
        """
        if config.state != self._config.state:
            raise NeedsYou("syncd.state: the ledger's folder cannot change while syncd runs; restart it")
        if _listening(config) != _listening(self._config):
            feed_server = self._serve(config)
            if self._feed_server:
                self._feed_server.close()
            self._feed_server = feed_server
        self._feeds.configure(config)
        self._end()
        self._config = config
        self.daemon, self._servers = self._begin(config)

    def close(self) -> None:
        """End everything."""
        self._end()
        if self._feed_server:
            self._feed_server.close()

    def wake(self) -> None:
        """As the present daemon's."""
        self.daemon.wake()

    def sync(self) -> list[Run]:
        """As the present daemon's."""
        return self.daemon.sync()

    def pull(self, account: str) -> list[Run]:
        """As the present daemon's."""
        return self.daemon.pull(account)

    def confirm(self, name: str) -> tuple[int, list[Run]]:
        """As the present daemon's."""
        return self.daemon.confirm(name)

    def unsaved_runs(self) -> list[Run]:
        """As the present daemon's."""
        return self.daemon.unsaved_runs()

    def _begin(self, config: Config) -> tuple[Daemon, Servers]:
        servers = self._connect(config)
        daemon = Daemon(config, self._ledger, servers, self.clock, StopRequest())
        daemon.start()
        return daemon, servers

    def _end(self) -> None:
        self.daemon.stop()
        self._servers.close()

    def _serve(self, config: Config) -> RunningServer | None:
        if config.feeds is None:
            return None
        return RunningServer(feed_app(self._feeds), config.feeds.listen, trusted_proxies=config.feeds.trusted_proxies)


def _listening(config: Config) -> tuple[str, tuple[str, ...]] | None:
    return (config.feeds.listen, config.feeds.trusted_proxies) if config.feeds else None


@contextmanager
def running(config: Config, connect: Connect, clock: Callable[[], datetime]) -> Iterator[Process]:
    """A daemon at work, with its feeds served and its control socket open, until the block ends."""
    with ExitStack() as stack:
        stack.enter_context(sync_lock(config.state, clock(), daemon=True))
        ledger = stack.enter_context(Ledger.open(config.state))
        process = Process(config, ledger, connect, clock)
        stack.callback(process.close)
        stack.enter_context(ControlServer(process, config.state))
        yield process
