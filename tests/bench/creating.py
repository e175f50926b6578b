# SPDX-License-Identifier: Apache-2.0
"""One process of the benchmark: pushes new entries, and sends the same PUTs by bare httpx; prints what both cost.

Meetings are pulled and entries rendered before, once. Each round pushes from a copy of that ledger, on disk.
"""

import shutil
import sqlite3
import sys
from base64 import b64encode
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import httpx
from msgspec.structs import replace

from syncd.config import Config, load
from syncd.jobs.jobs import Jobs
from syncd.jobs.servers import connect
from syncd.ledger.ledger import Ledger
from syncd.plan.links import WAYS
from syncd.sync.render import render_entries
from tests.bench.costs import Cost, alternate, cost, least, say_cost

ROUNDS = 5
IN_FLIGHT = 4


def clock() -> datetime:
    return datetime.now(UTC)


def render(config: Config) -> None:
    """Pull, and render the entries of the one calendar."""
    servers = connect(config, clock)
    with Ledger.open(config.state) as ledger:
        jobs = Jobs(config, ledger, servers, clock)
        jobs.pull("alice")
        render_entries(ledger, jobs.profiles["team"], clock(), lambda _name, _done, _total: None)
    servers.close()


def objects(state: Path) -> list[tuple[str, bytes]]:
    """Href and body of every entry."""
    with closing(sqlite3.connect(state / "ledger.sqlite")) as db:
        return [(f"syncd-{event}.ics", body) for event, body in db.execute("SELECT event, body FROM entry")]


def placed(state: Path) -> int:
    """How many entries are noted as placed with the ETag that the server gave."""
    with closing(sqlite3.connect(state / "ledger.sqlite")) as db:
        sql = "SELECT count(*) FROM placement WHERE state = 'placed' AND etag IS NOT NULL"
        return int(db.execute(sql).fetchone()[0])


class Work:
    """The same PUTs in two ways; each is asked of the server how many arrived."""

    def __init__(self, config: Config, entries: int) -> None:
        self._config = config
        self._entries = entries
        self._objects = objects(config.state)
        self._copies = count(1)
        self._calendar = config.calendars["team"]
        assert len(self._objects) == entries

    def push(self) -> Cost:
        """By syncd: the whole of a calendar's job."""
        state = self._config.state.with_name(f"state-{next(self._copies)}")
        shutil.copytree(self._config.state, state)
        config = replace(self._config, state=state)
        servers = connect(config, clock)
        before = self._puts()
        with Ledger.open(config.state) as ledger:
            jobs = Jobs(config, ledger, servers, clock, workers=IN_FLIGHT)
            taken = cost(lambda: jobs.push("team"))
        servers.close()
        assert self._puts() - before == placed(state) == self._entries
        shutil.rmtree(state)
        return taken

    def floor(self) -> Cost:
        """By one bare ``httpx.Client`` that four threads share."""
        pair = b64encode(f"{self._calendar.username}:{self._calendar.password.reveal()}".encode()).decode("ascii")
        headers = {
            "Content-Type": "text/calendar; charset=utf-8",
            "If-None-Match": "*",
            "Authorization": f"Basic {pair}",
        }
        before = self._puts()
        with httpx.Client() as client:

            def put(item: tuple[str, bytes]) -> int:
                href, body = item
                return client.put(self._calendar.url + href, content=body, headers=headers).status_code

            def put_all() -> Sequence[int]:
                with ThreadPoolExecutor(IN_FLIGHT) as pool:
                    return list(pool.map(put, self._objects))

            taken = cost(put_all)
        assert self._puts() - before == self._entries
        return taken

    def _puts(self) -> int:
        return int(httpx.get(httpx.URL(self._calendar.url).join("/puts")).text)


def main() -> None:
    config, entries = load(Path(sys.argv[1]), {}, WAYS), int(sys.argv[2])
    render(config)
    work = Work(config, entries)
    push, floor = (least(costs) for costs in alternate(ROUNDS, work.push, work.floor))
    say_cost("syncd's push", push, floor, wall_goal="1.5", cpu_goal="1.6")
    say_cost("the same PUTs by bare httpx", floor, floor)


if __name__ == "__main__":
    main()
