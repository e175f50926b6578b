# SPDX-License-Identifier: Apache-2.0
"""What a ``syncd sync`` costs that finds nothing to do, beside ``vdirsyncer sync`` of the same unchanged calendar.

vdirsyncer is no dependency of syncd: it is installed by pip into an environment of its own, for this run alone.
"""

import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

from syncd.demo.calendar_server import CalendarServer
from syncd.demo.stage import PASSWORDS, Stage
from tests.bench.costs import Cost, alternate, command_cost, middle, say_cost, syncd
from tests.bench.crowd import load
from tests.bench.measuring import say

VDIRSYNCER = "vdirsyncer>=0.21,<0.22"
MEETINGS = 1_000
PAGES = 11
"""Ten full ones, and one that is empty."""
RUNS = 7
FIRST_SYNCS = 5
"""So many ``syncd sync`` at most until there is nothing left to do: links are made for 30 seconds at a time."""

Files = Mapping[str, tuple[int, int]]
"""Size and time of the last change of each file."""


def quiet() -> None:
    """Fill a calendar by syncd, copy it by vdirsyncer, then run both by turns while nothing changes."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        say(f"\nquiet: pip installs {VDIRSYNCER} into an environment of its own, for this run alone")
        vdirsyncer = install(folder / "venv")
        if vdirsyncer is None:
            return
        with (
            Stage(lambda: datetime.now(UTC)) as stage,
            CalendarServer(folder / "radicale", username="alice", password=PASSWORDS["alice"]) as server,
        ):
            load(stage, "alice", MEETINGS, first=0)
            Quiet(folder, stage, server, vdirsyncer).compare()


def install(folder: Path) -> Path | None:
    """vdirsyncer's command, or ``None`` with the reason printed."""
    python = folder / "bin" / "python"
    commands = (
        [sys.executable, "-m", "venv", str(folder)],
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", VDIRSYNCER],
    )
    for command in commands:
        try:
            subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
        except subprocess.CalledProcessError as error:
            say(f"quiet is skipped: vdirsyncer cannot be installed here: {(error.stderr or error.stdout).strip()}")
            return None
        except subprocess.TimeoutExpired:
            say("quiet is skipped: vdirsyncer cannot be installed here within five minutes")
            return None
    return folder / "bin" / "vdirsyncer"


class Quiet:
    """One calendar that both keep in step: syncd with an OpenTalk account, vdirsyncer with a folder."""

    def __init__(self, folder: Path, stage: Stage, server: CalendarServer, vdirsyncer: Path) -> None:
        self._stage = stage
        self._calendar = f"{server.home}meetings/"
        self._stored, self._copied = folder / "radicale", folder / "files"
        self._copied.mkdir()
        auth = (server.username, server.password)
        assert httpx.request("MKCALENDAR", self._calendar, auth=auth).status_code == 201
        config = stage.write_config(
            folder, {"team": self._calendar}, calendar_password=server.password, openmeetings=False
        )
        self._syncd = syncd("--config", str(config), "sync")
        self._vdirsyncer = [
            str(vdirsyncer),
            "--verbosity",
            "WARNING",
            "--config",
            str(self._write_config(folder, server)),
        ]

    def _write_config(self, folder: Path, server: CalendarServer) -> Path:
        path = folder / "vdirsyncer.config"
        path.write_text(
            f"""
[general]
status_path = "{folder / "status"}"
[pair meetings]
a = "calendar"
b = "files"
collections = null
[storage calendar]
type = "caldav"
url = "{self._calendar}"
username = "{server.username}"
password = "{server.password}"
[storage files]
type = "filesystem"
path = "{self._copied}"
fileext = ".ics"
""",
            encoding="utf-8",
        )
        return path

    def compare(self) -> None:
        """Print what both cost."""
        self._fill()
        quiet_sync, floor = (middle(costs) for costs in alternate(RUNS, self.syncd, self.vdirsyncer))
        say(f"a sync of {MEETINGS:,} meetings that finds nothing to do, medians of {RUNS}:")
        say_cost("syncd sync", quiet_sync, floor, cpu_goal="0.6")
        say_cost("vdirsyncer sync", floor, floor)

    def _fill(self) -> None:
        for _ in range(FIRST_SYNCS):
            before = files(self._stored)
            command_cost(self._syncd)
            if before == files(self._stored) and len(before) == MEETINGS:
                break
        else:
            raise AssertionError("syncd sync finds something to do again and again")
        command_cost([*self._vdirsyncer, "discover"])
        command_cost([*self._vdirsyncer, "sync"])
        assert len(files(self._copied)) == MEETINGS

    def syncd(self) -> Cost:
        """One quiet ``syncd sync``: it reads the pages of the listing, and writes nothing anywhere."""
        traffic, before = self._stage.opentalk.app, files(self._stored)
        traffic.clear()
        taken, _ = command_cost(self._syncd)
        assert {request.method for request in traffic.log} == {"GET"}
        assert [request.path for request in traffic.log].count("/v1/events") == PAGES
        assert files(self._stored) == before
        return taken

    def vdirsyncer(self) -> Cost:
        """One quiet ``vdirsyncer sync``: it lists the calendar and the folder, and writes nothing into them."""
        before = files(self._stored), files(self._copied)
        taken, _ = command_cost([*self._vdirsyncer, "sync"])
        assert (files(self._stored), files(self._copied)) == before
        return taken


def files(folder: Path) -> Files:
    """The iCalendar files below a folder, without Radicale's cache."""
    found = (path for path in folder.rglob("*.ics") if ".Radicale.cache" not in path.parts)
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in found}
