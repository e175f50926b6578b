# SPDX-License-Identifier: Apache-2.0
"""The process of ``syncd run``: what runs in it, and the main thread's life."""

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
from syncd.jobs.servers import Servers, connect
from syncd.ledger.ledger import Ledger
from syncd.ledger.lock import sync_lock
from syncd.model import Run
from syncd.web.feeds import feed_app
from syncd.web.published import PublishedFeeds
from syncd.web.server import Served

log = logging.getLogger(__name__)

TICK = 30.0
"""Seconds between two looks of the main thread."""

JUMP = 60.0
"""Seconds by which a clock must have jumped to make a difference."""


def serve(read: Callable[[], Config], clock: Callable[[], datetime], notifier: Notifier) -> bool:
    """Sync and serve until SIGTERM or SIGINT, which is true; what is being done then is finished first.

    SIGHUP reads the configuration again. Raises ConfigError, LedgerBusy if another process is syncing on the
    ledger, NeedsYou if the feeds' address is taken.
    """
    config = read()
    with signalled(reloads=True) as ending:
        with running(config, clock) as house:
            notifier.ready(house.told)
            log.info("running; %s", house.told)
            main_loop(house, read, ending, notifier, ClockJump(house.clock))
            notifier.stopping("what is being done is finished first")
            log.info("ending; what is being done is finished first")
        return ending.interrupted


class Reloadable(Protocol):
    """What is attended to: ``Process`` tells what each method does."""

    @property
    def told(self) -> str:
        """What it is."""

    def reload(self, config: Config) -> None:
        """Go on with another configuration."""

    def wake(self) -> None:
        """Look at everything now."""


class Signals(Protocol):
    """What may be wished of a daemon: ``signals.Ending`` hears of it by signals."""

    def wait_for_next(self, seconds: float) -> Literal["end", "reload"] | None:
        """Wait for a wish, for some seconds at most."""


def main_loop(
    house: Reloadable, read: Callable[[], Config], ending: Signals, notifier: Notifier, clocks: "ClockJump"
) -> None:
    """The main thread's life: tell systemd that it lives, notice a clock that jumped, read the configuration.

    It waits in one place, ``wait_for_next``, and comes back from there once in ``TICK`` seconds if nothing is wished.
    """
    tick = min(TICK, notifier.interval or TICK)
    while (wish := ending.wait_for_next(tick)) != "end":
        notifier.alive()
        if wish == "reload":
            notifier.reloading()
            try:
                house.reload(read())
                log.info("the configuration was read again; %s", house.told)
            except SyncdError as problem:
                log.error("the configuration was read again and is not taken; the old one stays: %s", problem)
            notifier.ready(house.told)
        elif clocks.detected():
            log.info("the clock has jumped, or this machine has slept: everything is looked at now")
            house.wake()


class ClockJump:
    """The clock of the day against one that never jumps: whether they have parted since they were last compared."""

    def __init__(self, clock: Callable[[], datetime], steady: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._steady = steady
        self._apart = self._distance()

    def _distance(self) -> float:
        return self._clock().timestamp() - self._steady()

    def detected(self) -> bool:
        """Whether the clock was set, or the machine slept, by more than ``JUMP``."""
        before, self._apart = self._apart, self._distance()
        return abs(self._apart - before) > JUMP


class Process:
    """What runs: the ledger, the daemon of the present configuration, the feeds and the control socket."""

    def __init__(self, config: Config, ledger: Ledger, clock: Callable[[], datetime]) -> None:
        self.clock = clock
        self._ledger = ledger
        self._shelf = PublishedFeeds(config, ledger)
        self._served = self._serve(config)
        self._config = config
        self.daemon, self._remotes = self._begin(config)

    @property
    def told(self) -> str:
        """What it is, in a few words."""
        return f"{len(self._config.accounts)} accounts, {len(self._config.calendars)} calendars"

    def reload(self, config: Config) -> None:
        """Go on with another configuration; steps in hand are finished with the old one.

        Raises NeedsYou, and all is as before, if the ledger would be another one or the feeds' address is taken.
        """
        if config.state != self._config.state:
            raise NeedsYou("syncd.state: the ledger's folder cannot change while syncd runs; restart it")
        if _listening(config) != _listening(self._config):
            served = self._serve(config)
            if self._served:
                self._served.close()
            self._served = served
        self._shelf.configure(config)
        self._end()
        self._config = config
        self.daemon, self._remotes = self._begin(config)

    def close(self) -> None:
        """End everything."""
        self._end()
        if self._served:
            self._served.close()

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

    def unnoted(self) -> list[Run]:
        """As the present daemon's."""
        return self.daemon.unnoted()

    def _begin(self, config: Config) -> tuple[Daemon, Servers]:
        remotes = connect(config, self.clock)
        daemon = Daemon(config, self._ledger, remotes, self.clock, StopRequest())
        daemon.start()
        return daemon, remotes

    def _end(self) -> None:
        self.daemon.stop()
        self._remotes.close()

    def _serve(self, config: Config) -> Served | None:
        if config.feeds is None:
            return None
        return Served(feed_app(self._shelf), config.feeds.listen, trusted_proxies=config.feeds.trusted_proxies)


def _listening(config: Config) -> tuple[str, tuple[str, ...]] | None:
    return (config.feeds.listen, config.feeds.trusted_proxies) if config.feeds else None


@contextmanager
def running(config: Config, clock: Callable[[], datetime]) -> Iterator[Process]:
    """A daemon at work, with its feeds served and its control socket open, until the block ends."""
    with ExitStack() as stack:
        stack.enter_context(sync_lock(config.state, clock(), daemon=True))
        ledger = stack.enter_context(Ledger(config.state))
        house = Process(config, ledger, clock)
        stack.callback(house.close)
        stack.enter_context(ControlServer(house, config.state))
        yield house
