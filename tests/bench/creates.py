# SPDX-License-Identifier: Apache-2.0
"""What putting a thousand new entries into a calendar costs, beside the same PUTs by bare httpx."""

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from syncd.demo.stage import Stage
from tests.bench.costs import PATIENCE
from tests.bench.crowd import load
from tests.bench.measuring import say
from tests.bench.null_server import null_server

ENTRIES = 1_000


def creates() -> None:
    """Create that many entries on a server that costs nothing; the client is a process of its own."""
    with Stage(lambda: datetime.now(UTC)) as stage, TemporaryDirectory() as folder, null_server() as url:
        load(stage, "alice", ENTRIES, first=0)
        calendars = {"team": f"{url}/calendar/"}
        config = stage.write_config(Path(folder), calendars, calendar_password="secret", openmeetings=False)
        say(f"\n{ENTRIES:,} creates, four in flight, on a CalDAV server that answers 201 at once:")
        command = [sys.executable, "-m", "tests.bench.creating", str(config), str(ENTRIES)]
        subprocess.run(command, check=True, timeout=PATIENCE)
