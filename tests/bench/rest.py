# SPDX-License-Identifier: Apache-2.0
"""What the daemon costs while nothing happens: its CPU time over minutes of real time."""

import json
import subprocess
import sys

from tests.bench.crowd import crowd
from tests.bench.measuring import say

SELDOM = "12h"
STRETCHES = {
    "polls every minute and every 5": ("", 300.0),
    "no timer due": (f'every = "{SELDOM}"\nsoon_every = "{SELDOM}"\n', 60.0),
}


def rest(people: int, meetings: int) -> None:
    """Watch a daemon with the usual intervals, and one whose timers are not due."""
    for name, (settings, seconds) in STRETCHES.items():
        with crowd(people, meetings, calendars=False, settings=settings) as config:
            command = [sys.executable, "-m", "tests.bench.resting", str(config), str(seconds)]
            told = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
        say(f"at rest, {people} accounts, {name}: {told['cpu']:.3f} % of a CPU, {told['accounts']} of them polled")
