# SPDX-License-Identifier: Apache-2.0
"""The rig of end-to-end tests: embedded servers, a real calendar server, and ``syncd`` as people start it."""

import os
import subprocess
import sys
from base64 import b64encode
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from starlette.types import ASGIApp

from syncd.demo.serve import RunningServer, Traffic
from syncd.demo.stage import Stage
from syncd.demo.week import Week
from syncd.transport import HttpClient
from tests.support.calendar_servers import Server, radicale


class CommandEnd:
    """A command that ended: its exit code and what it printed."""

    def __init__(self, process: "subprocess.CompletedProcess[str]") -> None:
        self.code = process.returncode
        self.out = process.stdout
        self.err = process.stderr
        assert "Traceback" not in self.err, self.err


class EndToEnd:
    """Alice's week in OpenTalk, an OpenMeetings, and a fresh calendar named ``team`` on a calendar server.

    Where ``before`` is given, it stands before the calendar server and gets its requests.
    """

    def __init__(self, folder: Path, *, before: ASGIApp | None = None, server: Server | None = None) -> None:
        self.stage = Stage(lambda: datetime.now(UTC))
        self.week = Week(self.stage.opentalk, datetime.now(UTC).date(), "en")
        self.server = server or radicale()
        self.calendar_url = self.server.fresh_calendar()
        self.folder = folder
        self._served = RunningServer(before) if before else None
        self.url = self.calendar_url
        if self._served:
            self.url = self._served.url + self.calendar_url.removeprefix(self.server.url.rstrip("/"))
        self.config = self.configure()

    def configure(self, extra: str = "", *, feeds: str = "127.0.0.1:0", **more: str) -> Path:
        """Write the configuration, with ``extra`` lines in the calendar's table and ``more`` of ``write_config``."""
        self.config = self.stage.write_config(
            self.folder,
            {"team": f'url = "{self.url}"\n{extra}'},
            calendar_password=self.server.password,
            feeds=feeds,
            **more,  # type: ignore[arg-type]
        )
        return self.config

    def close(self) -> None:
        if self._served:
            self._served.close()
        self.stage.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "syncd", "--config", str(self.config), *words]

    def syncd(self, *words: str, environ: Mapping[str, str] = {}) -> CommandEnd:
        """Run a command to its end."""
        environ = {**os.environ, **environ}
        process = subprocess.run(
            self.command(*words), capture_output=True, text=True, env=environ, timeout=120, check=False
        )
        return CommandEnd(process)

    @property
    def opentalk_log(self) -> list[tuple[str, str]]:
        """The requests that OpenTalk got: (method, path)."""
        traffic = self.stage.opentalk.app
        assert isinstance(traffic, Traffic)
        return [(request.method, request.path) for request in traffic.log]

    def coming(self) -> dict[str, str]:
        """Alice's own meetings with a time: event -> title."""
        listed = self._events()
        return {each["id"]: each["title"] for each in listed if not each["is_time_independent"]}

    def _events(self) -> list[dict[str, str]]:
        with self.stage.opentalk._lock:
            bodies = [event.body for event in self.stage.opentalk._events]
        return [body for body in bodies if body["created_by"]["firstname"] == "Alice"]

    def objects(self) -> dict[str, bytes]:
        """What lies in the calendar, by href, read past everything that stands before the server."""
        pair = b64encode(f"{self.server.username}:{self.server.password}".encode()).decode()
        headers = {"Authorization": f"Basic {pair}", "Depth": "1", "Content-Type": "application/xml"}
        remote = HttpClient("test")
        try:
            body = b'<propfind xmlns="DAV:"><prop><getetag/></prop></propfind>'
            listing = remote.send("PROPFIND", self.calendar_url, headers=headers, content=body)
            hrefs = [
                part.split("<")[0].rsplit("/", 1)[1] for part in listing.body.decode().split("href>") if ".ics" in part
            ]
            return {href: remote.send("GET", self.calendar_url + href, headers=headers).body for href in hrefs}
        finally:
            remote.close()
