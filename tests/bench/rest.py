# SPDX-License-Identifier: Apache-2.0
"""What ``syncd run`` costs while nothing happens: its CPU time over minutes of real time, told by the kernel."""

import os
import subprocess
import sys
import time
from pathlib import Path

from tests.bench.crowd import crowd
from tests.bench.measuring import say

SETTLED = 20.0
STRETCH = 120.0
SELDOM = "12h"


def rest(people: int, meetings: int) -> None:
    """Watch a daemon with the usual intervals, and one whose timers are not due."""
    for name, settings in {
        "polls every minute and every 5": "",
        "no timer due": f'every = "{SELDOM}"\nsoon_every = "{SELDOM}"\n',
    }.items():
        with crowd(people, meetings, calendars=False, settings=settings) as config:
            say(f"at rest, {people} accounts, {name}: {_watched(config):.3f} % of a CPU")


def _watched(config: Path) -> float:
    command = [sys.executable, "-m", "syncd", "--config", str(config), "run"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as daemon:
        try:
            time.sleep(SETTLED)
            before = _cpu(daemon.pid)
            time.sleep(STRETCH)
            after = _cpu(daemon.pid)
            if daemon.poll() is not None:
                raise ChildProcessError(f"syncd run has ended by itself ({daemon.returncode})")
        finally:
            daemon.terminate()
    return (after - before) / STRETCH * 100


def _cpu(process: int) -> float:
    """CPU seconds of a process, with its children's that have ended (``proc(5)``)."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(") ")[2].split()
    return sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK")
