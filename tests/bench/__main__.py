# SPDX-License-Identifier: Apache-2.0
"""``python -m tests.bench``: what a poll costs, as ratios against a floor measured in the same run.

An embedded OpenTalk with 1,000 and then 10,000 meetings is polled by a process of its own, which tells its
CPU time and memory. The floor is the bare minimum of the same poll: the same pages through httpx, decoded by
``json.loads``, and thrown away.
"""

import json
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from syncd.demo.stage import Stage

SIZES = (1_000, 10_000)


def load(stage: Stage, size: int) -> None:
    """Fill Alice's account: four of five meetings are single, one is a series; all start within the window."""
    first = stage.opentalk.create("alice", title="Meeting", description="Agenda: " + "x" * 200, **_times(0))
    series = stage.opentalk.create("alice", title="Series", recurrence_pattern=["RRULE:FREQ=WEEKLY"], **_times(0))
    events = []
    for number in range(size - 2):
        like = series if number % 5 == 0 else first
        event, room = (f"{kind:08x}-0000-4000-8000-{number:012x}" for kind in (1, 2))
        times = {key: _json(when) for key, when in _times(number).items()}
        events.append(
            {**like, "id": event, "room": {**like["room"], "id": room}, "title": f"Meeting {number}", **times}
        )
    stage.opentalk.load(events, "alice")


def _times(number: int) -> dict[str, datetime]:
    start = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) + timedelta(hours=number % 8000)
    return {"starts_at": start, "ends_at": start + timedelta(hours=1)}


def _json(when: datetime) -> dict[str, str]:
    return {"datetime": when.strftime("%Y-%m-%dT%H:%M:%SZ"), "timezone": "Europe/Berlin"}


def measure(size: int) -> dict[str, float]:
    """One size: CPU seconds and kilobytes of a fresh process, as ``tests.bench.poll`` tells them."""
    with Stage(lambda: datetime.now(UTC)) as stage, tempfile.TemporaryDirectory() as folder:
        load(stage, size)
        config = stage.write_config(Path(folder), {"team": stage.web + "/"}, openmeetings=False)
        command = [sys.executable, "-m", "tests.bench.poll", str(config)]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    measured: dict[str, float] = json.loads(told)
    return measured


def main() -> None:
    small, large = (measure(size) for size in SIZES)
    print(f"{'':34}{SIZES[0]:>10,}{SIZES[1]:>10,}     ratio")  # noqa: T201
    for name in small:
        unit = "kB" if "memory" in name else "s CPU"
        ratio = large[name] / small[name] if small[name] else float("nan")
        print(f"{name:34}{small[name]:10.2f}{large[name]:10.2f}{ratio:10.2f}  {unit}")  # noqa: T201
    grown = (large["memory at most"] - large["memory idle"]) / SIZES[1]
    print(f"\nmemory a meeting: {grown:.2f} kB (at most 2)")  # noqa: T201
    print(f"a quiet poll costs {large['quiet poll'] / large['floor']:.2f} x its floor")  # noqa: T201
    beyond = (large["quiet poll"] - large["floor"]) / SIZES[1] * 1e6
    print(f"a quiet poll costs {beyond:.1f} us a meeting beyond its floor")  # noqa: T201


if __name__ == "__main__":
    main()
