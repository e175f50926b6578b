# SPDX-License-Identifier: Apache-2.0
"""One process of the benchmark: the daemon's work for many accounts, rung by hand; prints CPU seconds as JSON.

Calendars are in memory: nothing is written by a quiet round. The clock is moved to make a whole day pass, after which
everything is listed and links, feeds and calendars are looked at.
"""

import json
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from syncd.config import load
from syncd.daemon.daemon import Daemon
from syncd.daemon.signals import StopRequest
from syncd.jobs.servers import connect
from syncd.ledger.ledger import Ledger
from syncd.model import Run
from syncd.opentalk.client import OpenTalk
from syncd.plan.links import WAYS
from syncd.plan.timing import FULL_LISTING
from tests.bench.measuring import cpu, read_pages, say, with_calendars

ROUNDS, DAYS = 5, 2

T = TypeVar("T")


class Clock:
    """The time of day, and how far it was moved."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


def main() -> None:
    clock = Clock()
    config = load(Path(sys.argv[1]), {}, WAYS)
    servers = connect(config, clock)
    sources = {name: source for name, source in servers.sources.items() if isinstance(source, OpenTalk)}
    with Ledger.open(config.state) as ledger, ThreadPoolExecutor(len(sources)) as pool:
        daemon = Daemon(config, ledger, with_calendars(servers), clock, StopRequest())
        daemon.start()

        def at_once(work: Callable[[str], T]) -> list[T]:
            return list(pool.map(work, sources))

        def floor(name: str) -> None:
            read_pages(sources[name], clock())

        def quiet(scope: str, pulled: list[Run]) -> None:
            assert [(run.scope, run.done) for run in pulled] == [(scope, {})] * len(sources), pulled

        def window() -> None:
            quiet("window", [run for runs in at_once(daemon.pull) for run in runs])

        def everything() -> None:
            clock.ahead += FULL_LISTING
            quiet("everything", daemon.sync()[: len(sources)])

        daemon.sync()
        told = {"quiet round": cpu(window, ROUNDS), "daily round": cpu(everything, DAYS)}
        told["floor"] = cpu(lambda: at_once(floor), ROUNDS)
        told["pulls one by one"] = cpu(lambda: [daemon.pull(name) for name in sources], ROUNDS)
        told["floor one by one"] = cpu(lambda: list(map(floor, sources)), ROUNDS)
        daemon.stop()
    servers.close()
    say(json.dumps(told))


main()
