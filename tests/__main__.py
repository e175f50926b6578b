# SPDX-License-Identifier: Apache-2.0
"""``python -m tests [PYTEST ARGUMENTS]``: everything that must hold before a change may land.

It stops at the first thing that does not. What is given goes to pytest: ``python -m tests tests/plan -k series``
has ruff and mypy look at everything and then runs these tests; ``-n 0`` runs them in this process, for a debugger.
"""

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
LINTS = (
    ("ruff", "format", "--check"),
    ("ruff", "check"),
    ("mypy",),
)
PYTEST = ("pytest", "--numprocesses=auto", "--dist=worksteal", "--quiet")
"""In parallel; who is through with the short tests takes over from whoever has the long ones."""

CORE_MINUTES = 6
"""What all of it takes on one core of a machine that has nothing else to do, half of one for mypy without its cache."""


def announcement(arguments: Sequence[str], cores: int) -> str:
    """What will be done with these arguments for pytest, and how long it takes."""
    lints = "ruff, mypy --strict, then "
    if arguments:
        return f"{lints}pytest {shlex.join(arguments)}: up to half a minute before its first test"
    tests = sum(path.read_text(encoding="utf-8").count("def test_") for path in ROOT.glob("tests/**/test_*.py"))
    minutes = max(1, round(CORE_MINUTES / cores))
    return (
        f"{lints}{tests} test functions in parallel: about {minutes} minute{'s'[: minutes > 1]} on {cores} idle cores"
    )


def checks(arguments: Sequence[str]) -> list[tuple[str, ...]]:
    """Modules with their arguments, in the order in which they are run."""
    return [*LINTS, (*PYTEST, *arguments)]


def main(arguments: Sequence[str]) -> int:
    """Exit code of the first check that fails, else 0."""
    print(announcement(arguments, len(os.sched_getaffinity(0))), flush=True)  # noqa: T201 -- a person watches
    for check in checks(arguments):
        print("$", shlex.join(check), flush=True)  # noqa: T201
        code = subprocess.run([sys.executable, "-m", *check], cwd=ROOT, check=False).returncode
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
