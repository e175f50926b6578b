# SPDX-License-Identifier: Apache-2.0
"""What work costs in wall time and CPU time, and how two pieces of work are compared fairly on a shared machine."""

import gc
import os
import resource
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from msgspec import Struct

from tests.bench.measuring import say

ROOT = Path(__file__).parents[2]
PATIENCE = 900.0
"""Seconds after which a command is ended."""


class Cost(Struct, frozen=True):
    """Wall time and CPU time, both in seconds."""

    wall: float
    cpu: float


def cost(work: Callable[[], object]) -> Cost:
    """What some work costs this process, all its threads together."""
    gc.collect()
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return Cost(time.perf_counter() - wall, time.process_time() - cpu)


def syncd(*arguments: str) -> list[str]:
    """The command that pip makes of ``syncd``; it is this checkout's, whatever is installed."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    module, _, function = scripts["syncd"].partition(":")
    return [sys.executable, "-c", f"import sys; from {module} import {function}; sys.exit({function}())", *arguments]


def command_cost(command: Sequence[str]) -> tuple[Cost, str]:
    """What a command costs from its start to its end, with the processes that it waited for, and what it prints.

    It imports syncd from this checkout, and its bytecode is kept as an installed syncd's is: without it every start
    would compile all of syncd but nothing of what it is compared with. Raises CalledProcessError if it fails. No
    other child may end meanwhile.
    """
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environ["PYTHONPATH"] = str(ROOT)
    cpu, wall = _children_cpu(), time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environ, timeout=PATIENCE)
    return Cost(time.perf_counter() - wall, _children_cpu() - cpu), done.stdout


def _children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def alternate(rounds: int, *works: Callable[[], Cost]) -> list[list[Cost]]:
    """The costs of each work, round by round, every second round in reverse order; a first round only warms up."""
    costs: list[list[Cost]] = [[] for _ in works]
    for work in works:
        work()
    for number in range(rounds):
        order = list(zip(works, costs, strict=True))
        for work, found in reversed(order) if number % 2 else order:
            found.append(work())
    return costs


def least(costs: Sequence[Cost]) -> Cost:
    """The best of several: what the machine's other work adds is left out as far as can be."""
    return Cost(min(each.wall for each in costs), min(each.cpu for each in costs))


def middle(costs: Sequence[Cost]) -> Cost:
    """The median of several."""
    return Cost(median(each.wall for each in costs), median(each.cpu for each in costs))


def say_cost(name: str, found: Cost, floor: Cost, *, wall_goal: str = "", cpu_goal: str = "") -> None:
    """One line: what something costs, and how much more than its floor."""
    wall, cpu = found.wall / floor.wall, found.cpu / floor.cpu
    say(
        f"{name:34}{found.wall:8.3f} s{found.cpu:8.3f} s CPU   "
        f"{wall:5.2f} x wall{_goal(wall_goal)}{cpu:6.2f} x CPU{_goal(cpu_goal)}"
    )


def _goal(text: str) -> str:
    return f" (at most {text})" if text else ""
