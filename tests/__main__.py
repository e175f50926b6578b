# SPDX-License-Identifier: Apache-2.0
"""``python -m tests``: everything that must hold before a change may land; stops at the first thing that does not."""

import subprocess
import sys
from pathlib import Path

CHECKS = (
    ("ruff", "format", "--check"),
    ("ruff", "check"),
    ("mypy",),
    ("pytest", "--numprocesses=auto", "--quiet"),
)


def main() -> int:
    root = Path(__file__).parent.parent
    for check in CHECKS:
        print("$", *check, flush=True)  # noqa: T201 -- it is what a person watches
        code = subprocess.run([sys.executable, "-m", *check], cwd=root, check=False).returncode
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
