# SPDX-License-Identifier: Apache-2.0
"""How the benchmarks measure: CPU time and memory of this process, and the floor of a poll."""

import json
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from msgspec.structs import replace

from syncd.jobs.dryrun import rehearse
from syncd.jobs.servers import Servers
from syncd.opentalk.client import OpenTalk
from syncd.sync.pull import ListingSettings
from tests.support.memory_servers import MemoryCalendar


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


def with_calendars(servers: Servers) -> Servers:
    """The same accounts, of which none gets an invite, and calendars in memory."""
    return replace(rehearse(servers), calendars={name: MemoryCalendar(name) for name in servers.calendars})


def say(line: str) -> None:
    """Tell whoever runs the benchmark."""
    print(line, flush=True)  # noqa: T201


def read_pages(source: OpenTalk, now: datetime) -> None:
    """The floor of a poll: the pages of the window through the same httpx client, read by ``json``, thrown away."""
    window = ListingSettings(timedelta(days=30), timedelta(days=365)).window(now)
    query = {"time_min": f"{window.since:%Y-%m-%dT%H:%M:%SZ}", "time_max": f"{window.until:%Y-%m-%dT%H:%M:%SZ}"}
    for body in source._pages({**query, "time_independent": "false"}, {"per_page": "100"}):
        json.loads(body)
