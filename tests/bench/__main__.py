# SPDX-License-Identifier: Apache-2.0
"""``python -m tests.bench [NAME...]``: what syncd costs; without a name, all of these but ``rest``.

``poll`` polls one account with 1,000 and then with 10,000 meetings, ``round`` 20 accounts with 500 meetings each as the
daemon does, both on an embedded OpenTalk and from a process of its own, which tells its CPU time and memory. What
counts are the ratios to the floor, the bare minimum of the same run: the same pages through the same httpx client,
decoded by ``json.loads``, and thrown away. ``creates`` puts 1,000 entries into a calendar, ``start`` starts a command,
``quiet`` syncs 1,000 meetings of which none has changed; each names its own floor. ``rest`` watches ``syncd run`` for
minutes of real time.
"""

import json
import subprocess
import sys
from collections.abc import Callable

from tests.bench.creates import creates
from tests.bench.crowd import crowd
from tests.bench.measuring import say
from tests.bench.quiet import quiet
from tests.bench.rest import rest
from tests.bench.start import start

SIZES = (1_000, 10_000)
ACCOUNTS, MEETINGS = 20, 500


def measure(module: str, people: int, meetings: int) -> dict[str, float]:
    """What a fresh process tells of so many people with so many meetings each."""
    with crowd(people, meetings) as config:
        command = [sys.executable, "-m", f"tests.bench.{module}", str(config)]
        told = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    measured: dict[str, float] = json.loads(told)
    return measured


def poll() -> None:
    small, large = (measure("poll", 1, size) for size in SIZES)
    say(f"{'':34}{SIZES[0]:>10,}{SIZES[1]:>10,}     ratio")
    for name in small:
        unit = "kB" if "memory" in name else "s CPU"
        ratio = large[name] / small[name] if small[name] else float("nan")
        say(f"{name:34}{small[name]:10.2f}{large[name]:10.2f}{ratio:10.2f}  {unit}")
    grown = (large["memory at most"] - large["memory idle"]) / SIZES[1]
    say(f"\nmemory a meeting: {grown:.2f} kB (at most 2)")
    compare("a quiet poll", large["quiet poll"], large["floor"], SIZES[1])


def whole_round() -> None:
    told = measure("rounds", ACCOUNTS, MEETINGS)
    size = ACCOUNTS * MEETINGS
    say(f"\n{ACCOUNTS} accounts with {MEETINGS} meetings each:")
    for name, seconds in told.items():
        say(f"{name:34}{seconds:10.3f}  s CPU")
    compare("a quiet round", told["quiet round"], told["floor"], size)
    compare("the same one by one", told["pulls one by one"], told["floor one by one"], size)
    compare("a daily round with links, feeds and calendars", told["daily round"], told["floor"], size)


def compare(what: str, seconds: float, floor: float, meetings: int) -> None:
    """One line: how much more than its floor something costs."""
    beyond = (seconds - floor) / meetings * 1e6
    say(f"{what}: {seconds / floor:.2f} x its floor, {beyond:.1f} us a meeting beyond it")


BENCHES: dict[str, Callable[[], None]] = {
    "poll": poll,
    "round": whole_round,
    "creates": creates,
    "start": start,
    "quiet": quiet,
    "rest": lambda: rest(ACCOUNTS, MEETINGS),
}


def main() -> None:
    names = sys.argv[1:] or [name for name in BENCHES if name != "rest"]
    if not BENCHES.keys() >= set(names):
        sys.exit(__doc__)
    for name in names:
        BENCHES[name]()


if __name__ == "__main__":
    main()
