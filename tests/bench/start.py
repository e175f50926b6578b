# SPDX-License-Identifier: Apache-2.0
"""What the start of a command costs, beside that of Python with click, without which there is no command line."""

import sys
from collections.abc import Sequence

from syncd import __version__
from tests.bench.costs import Cost, alternate, command_cost, middle, say_cost, syncd
from tests.bench.measuring import say

RUNS = 21


def start() -> None:
    """Start ``syncd --version`` and ``python -c "import click"`` by turns."""

    def run(command: Sequence[str], expected: str) -> Cost:
        taken, printed = command_cost(command)
        assert printed.strip() == expected
        return taken

    version, floor = (
        middle(costs)
        for costs in alternate(
            RUNS,
            lambda: run(syncd("--version"), f"syncd, version {__version__}"),
            lambda: run([sys.executable, "-c", "import click"], ""),
        )
    )
    say(f"\nstarts, medians of {RUNS}:")
    say_cost("syncd --version", version, floor, wall_goal="2.5", cpu_goal="2.5")
    say_cost('python -c "import click"', floor, floor)
