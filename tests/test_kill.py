# SPDX-License-Identifier: Apache-2.0
"""A process that is killed in the middle: the next run finds nothing doubled and nothing lost."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from syncd.transport import Remote
from tests.servers import Server, radicale
from tests.town import Town

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


@pytest.fixture
def deadly() -> Deadly:
    return Deadly(radicale())


@pytest.fixture
def town(tmp_path: Path, deadly: Deadly) -> Iterator[Town]:
    with Town(tmp_path, before=deadly) as town:
        yield town


def sync(town: Town, deadly: Deadly, kill_at: int | None = None) -> int:
    deadly.kill_at = kill_at and deadly.puts + kill_at
    with subprocess.Popen(town.command("sync"), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        deadly.victim = process
        assert process.stderr
        errors = process.stderr.read()
    assert b"Traceback" not in errors, errors
    return process.returncode


@pytest.mark.parametrize("kill_at", [1, 4])
def test_killed_between_a_put_and_its_record_nothing_is_doubled_and_nothing_lost(
    town: Town, deadly: Deadly, kill_at: int
) -> None:
    assert sync(town, deadly, kill_at) == -signal.SIGKILL
    assert sync(town, deadly) == 0
    events = town.coming()
    assert sorted(town.objects()) == sorted(f"syncd-{event}.ics" for event in events)
    puts = deadly.puts
    assert sync(town, deadly) == 0
    assert deadly.puts == puts
    for event in events:
        assert len(town.stage.opentalk.guest_invites(event)) == 1
    assert len(town.stage.openmeetings.hashes) == len(events)
