# SPDX-License-Identifier: Apache-2.0
"""The jobs of a configuration with a ledger, a clock, and servers in memory."""

from collections.abc import Callable
from datetime import datetime
from typing import Self

from syncd.config import Config
from syncd.jobs.jobs import Jobs
from syncd.jobs.servers import Servers
from syncd.ledger.ledger import Ledger
from syncd.model import Identity, Run, RunKey
from tests.support.meetings import NOW
from tests.support.memory_servers import MemoryCalendar, MemoryLinkMaker, MemorySource


class JobsRig:
    """Jobs that a test runs one by one; ``recovered`` are those that need not wait for their host any longer.

    Its calendars are in memory, and so are its accounts and its OpenMeetings unless ``connect`` makes others.
    """

    def __init__(
        self,
        config: Config,
        *,
        ledger: Ledger | None = None,
        connect: Callable[[Callable[[], datetime]], Servers] | None = None,
        workers: int = 1,
    ) -> None:
        self.now = NOW
        self.config = config
        self.accounts = {name: _account(name) for name in config.accounts}
        self.calendars = {name: MemoryCalendar(name) for name in config.calendars}
        self.link_maker = MemoryLinkMaker()
        self.ledger = ledger or Ledger.open(config.state)
        self.recovered: list[RunKey] = []
        self.servers = Servers(self.accounts, {"openmeetings": self.link_maker}, self.calendars, lambda: None)
        if connect:
            connected = connect(self.clock)
            self.servers = Servers(connected.sources, connected.makers, self.calendars, connected.close)
        self.jobs = Jobs(
            config,
            self.ledger,
            self.servers,
            self.clock,
            workers=workers,
            jitter=lambda: 0.0,
            on_recovery=self.recovered.append,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.servers.close()
        self.ledger.close()

    def clock(self) -> datetime:
        return self.now

    def pull(self) -> list[Run]:
        return [self.jobs.pull(name) for name in self.config.accounts]

    def push(self) -> list[Run]:
        return [self.jobs.push(name) for name in self.config.calendars]


def _account(name: str) -> MemorySource:
    account = MemorySource()
    account.person = Identity("https://id.example.org", name, f"u-{name}", name.title(), "Adams")
    return account
