# SPDX-License-Identifier: Apache-2.0
"""A process that is killed in the middle: the next run finds nothing doubled and nothing lost."""

import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from syncd.demo.serve import Served
from syncd.demo.stage import Stage
from syncd.demo.week import Week
from syncd.transport import Remote
from tests.servers import Server, radicale

HOP = {"connection", "transfer-encoding", "content-length", "date", "server", "host"}


class Deadly:
    """Stands between syncd and a calendar server and kills whom it is told to, after the n-th PUT was done."""

    def __init__(self, server: Server) -> None:
        self.puts = 0
        self.kill_at: int | None = None
        self.victim: subprocess.Popen[bytes] | None = None
        self._server = server
        self._remote = Remote("behind")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        headers = {name: value for name, value in request.headers.items() if name not in HOP}
        url = self._server.url.rstrip("/") + request.url.path
        answer = self._remote.send(request.method, url, headers=headers, content=await request.body())
        if request.method == "PUT":
            self.puts += 1
            if self.puts == self.kill_at and self.victim:
                os.kill(self.victim.pid, signal.SIGKILL)
        kept = {name: value for name, value in answer.headers.items() if name not in HOP}
        await Response(answer.body, answer.status, kept)(scope, receive, send)


class Town:
    """The embedded servers with a week of meetings, a calendar behind ``deadly``, and a configuration."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.stage = stack.enter_context(Stage(lambda: datetime.now(UTC)))
        Week(self.stage.opentalk, datetime.now(UTC).date(), "en")
        server = radicale()
        calendar = server.fresh_calendar()
        self.deadly = Deadly(server)
        served = stack.enter_context(Served(self.deadly))
        self.path = calendar.removeprefix(server.url.rstrip("/"))
        self._folder, self._server = folder, server
        text = f'url = "{served.url}{self.path}"'
        self.config = self.stage.write_config(folder, {"team": text}, calendar_password=server.password)

    def sync(self, kill_at: int | None = None) -> int:
        self.deadly.kill_at = kill_at and self.deadly.puts + kill_at
        command = [sys.executable, "-m", "syncd", "--config", str(self.config), "sync"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
            self.deadly.victim = process
            assert process.stderr
            errors = process.stderr.read()
        assert b"Traceback" not in errors, errors
        return process.returncode

    def collection(self) -> Counter[str]:
        """The UIDs of all objects in the calendar, read from the server's own files."""
        uids: Counter[str] = Counter()
        listing = Remote("test")
        url = self._server.url.rstrip("/") + self.path
        calendar = self._server.calendar(url)
        try:
            for event in self.events():
                uids[event] += calendar.fetch(f"syncd-{event}.ics") is not None
            uids["all"] = self._objects()
        finally:
            calendar.close()
            listing.close()
        return uids

    def _objects(self) -> int:
        from base64 import b64encode

        pair = b64encode(f"{self._server.username}:{self._server.password}".encode()).decode()
        headers = {"Authorization": f"Basic {pair}", "Depth": "1", "Content-Type": "application/xml"}
        remote = Remote("test")
        try:
            body = b'<propfind xmlns="DAV:"><prop><getetag/></prop></propfind>'
            answer = remote.send("PROPFIND", self._server.url.rstrip("/") + self.path, headers=headers, content=body)
        finally:
            remote.close()
        return len(re.findall(rb"\.ics</", answer.body))

    def events(self) -> list[str]:
        with self.stage.opentalk._lock:
            return [
                event.body["id"]
                for event in self.stage.opentalk._events
                if not event.body["is_time_independent"] and event.body["created_by"]["firstname"] == "Alice"
            ]


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    with ExitStack() as stack:
        yield Town(tmp_path, stack)


@pytest.mark.parametrize("kill_at", [1, 4])
def test_killed_between_a_put_and_its_record_nothing_is_doubled_and_nothing_lost(town: Town, kill_at: int) -> None:
    assert town.sync(kill_at) == -signal.SIGKILL
    assert town.sync() == 0
    events = town.events()
    assert town.collection() == Counter({**dict.fromkeys(events, 1), "all": len(events)})
    puts = town.deadly.puts
    assert town.sync() == 0
    assert town.deadly.puts == puts
    for event in events:
        assert len(town.stage.opentalk.guest_invites(event)) == 1
    assert len(town.stage.openmeetings.hashes) == len(events)
