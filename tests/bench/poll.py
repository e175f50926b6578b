# SPDX-License-Identifier: Apache-2.0
"""One process of the benchmark: polls an account and renders its entries, and prints what that took as JSON."""

import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from syncd.config import load
from syncd.jobs import Jobs
from syncd.opentalk.client import OpenTalk
from syncd.remotes import connect, rehearse
from syncd.store import Ledger
from syncd.sync import Listing


def memory() -> float:
    """The most memory this process has had, in kB; not ru_maxrss, which remembers the parent's."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return float(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


def cpu(work: Callable[[], object], times: int = 5) -> float:
    """The least CPU time of several runs, in seconds."""
    taken = []
    for _ in range(times):
        begun = time.process_time()
        work()
        taken.append(time.process_time() - begun)
    return min(taken)


def main() -> None:
    def clock() -> datetime:
        return datetime.now(UTC)

    config = load(Path(sys.argv[1]), {})
    remotes = connect(config, clock)
    source = remotes.sources["alice"]
    assert isinstance(source, OpenTalk)
    with Ledger(config.state) as ledger:
        jobs = Jobs(config, ledger, rehearse(remotes), clock, workers=1)
        source.identity()
        told = {"memory idle": memory()}
        told["first poll"] = cpu(lambda: jobs.pull("alice"), times=1)
        told["rendering"] = cpu(lambda: jobs.push("team"), times=1)
        told["quiet poll"] = cpu(lambda: jobs.pull("alice"))
        told["quiet push"] = cpu(lambda: jobs.push("team"))
        told["memory at most"] = memory()
        window = Listing(timedelta(days=30), timedelta(days=365)).window(clock())
        query = {"time_min": f"{window.since:%Y-%m-%dT%H:%M:%SZ}", "time_max": f"{window.until:%Y-%m-%dT%H:%M:%SZ}"}
        pages = {**query, "time_independent": "false", "per_page": "100", "invitees_max": "0"}
        told["floor"] = cpu(lambda: [json.loads(body) for body in source._pages(pages)])
    remotes.close()
    print(json.dumps(told))  # noqa: T201


main()
