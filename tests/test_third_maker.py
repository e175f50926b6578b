# SPDX-License-Identifier: Apache-2.0
"""Another conference server is added in this file alone: its client, its table, its wiring and its row.

``Knock`` is a made-up one. It lets people into rooms by codes, and is a real HTTP server.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Annotated

import pytest
from click import Command
from click.testing import CliRunner, Result
from msgspec.structs import replace
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from syncd import config as configuration
from syncd.cli.check import check
from syncd.cli.context import Context
from syncd.cli.explain import explain
from syncd.cli.status import status
from syncd.cli.sync import sync
from syncd.config import Config, Secret, load
from syncd.config.keys import Key, secret
from syncd.demo.serve import RunningServer
from syncd.demo.stage import Stage
from syncd.errors import LoginRefused
from syncd.jobs.servers import BUILDERS, Clock, Servers, connect
from syncd.model import Visitor, Way
from syncd.plan.links import WAYS
from syncd.transport import Answer, HttpClient, decode, unavailable
from tests.support.icalendar_text import properties, unescaped
from tests.support.memory_servers import MemoryCalendar

START = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
TOKEN = "knock-knock"

KNOCK = Way(
    key="knock",
    label="Knock",
    kind="code",
    link="Knock link",
    links="codes",
    maker="knock",
    address="{url}/in/{code}?lang={language}",
    personal=True,
)


class KnockTable(configuration.Maker, frozen=True, kw_only=True):
    """``[knock]``: a Knock server and the token with which it is asked."""

    token: Annotated[Secret, Key(secret, '{ env = "KNOCK" }')]


class Knock:
    """Makes codes at a Knock server."""

    def __init__(self, table: configuration.Maker, clock: Clock) -> None:
        assert isinstance(table, KnockTable)
        self._url, self._token = table.url, table.token
        self._remote = HttpClient("knock", clock=clock)

    def make(self, event: str, title: str, visitor: Visitor) -> str:
        asked = {"room": event, "title": title, "name": visitor.firstname}
        return str(decode(self._send("POST", "codes", json.dumps(asked).encode()), dict[str, str], "knock")["code"])

    def check(self) -> str:
        self._send("GET", "codes")
        return "its token"

    def close(self) -> None:
        self._remote.close()

    def _send(self, method: str, path: str, content: bytes | None = None) -> Answer:
        headers = {"Authorization": f"Bearer {self._token.reveal()}"}
        answer = self._remote.send(method, f"{self._url}/{path}", headers=headers, content=content)
        if answer.status == 401:
            raise LoginRefused("knock: the token is refused: correct knock.token")
        if answer.status != 200:
            raise unavailable(answer, "knock")
        return answer


class KnockServer:
    """A Knock: ``codes`` are the rooms and names for which it made one."""

    def __init__(self) -> None:
        self.codes: list[tuple[str, str]] = []
        self.token = TOKEN
        self.app = Starlette(routes=[Route("/codes", self._answer, methods=["GET", "POST"])])

    async def _answer(self, request: Request) -> Response:
        if request.headers["authorization"] != f"Bearer {self.token}":
            return Response(status_code=401)
        if request.method == "GET":
            return Response()
        asked = await request.json()
        self.codes.append((asked["room"], asked["name"]))
        return JSONResponse({"code": f"code{len(self.codes)}"})


class KnockRig:
    """Alice's account with one meeting of hers, an OpenMeetings, a Knock and a calendar, and syncd's commands."""

    def __init__(self, folder: Path, stage: Stage, knock: KnockServer, url: str) -> None:
        self.knock, self.url = knock, url
        self.calendar = MemoryCalendar("team")
        self.event = stage.opentalk.create("alice", title="Jour fixe", starts_at=START, ends_at=START)["id"]
        (folder / "knock.token").write_text(TOKEN, encoding="utf-8")
        extra = f'[knock]\nurl = "{url}"\ntoken = {{ file = "knock.token" }}'
        calendar = 'url = "http://127.0.0.1:9/"'
        path = stage.write_config(folder, {"team": calendar}, calendar_password="x", extra=extra)
        self.context = Context(
            path,
            read=partial(load, ways=(*WAYS, KNOCK), tables={**configuration.MAKERS, "knock": KnockTable}),
            connect=self._connect,
        )

    def _connect(self, config: Config, clock: Clock) -> Servers:
        servers = connect(config, clock, {**BUILDERS, "knock": Knock})
        return replace(servers, calendars={"team": self.calendar})

    def run(self, command: Command, *words: str) -> Result:
        return CliRunner().invoke(command, words, obj=self.context)

    @property
    def entry(self) -> bytes:
        return self.calendar.objects[f"syncd-{self.event}.ics"].body


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[KnockRig]:
    knock = KnockServer()
    with Stage(lambda: datetime.now(UTC)) as stage, RunningServer(knock.app) as served:
        rig = KnockRig(tmp_path, stage, knock, served.url)
        assert rig.run(sync).exit_code == 0
        yield rig


def test_its_link_stands_in_the_entry_behind_the_others(rig: KnockRig) -> None:
    assert rig.knock.codes == [(rig.event, "Alice")]
    link = f"{rig.url}/in/code1?lang=en"
    conference = f"\r\nCONFERENCE;VALUE=URI;FEATURE=AUDIO,VIDEO;LABEL=Knock:{link}\r\n"
    assert conference.encode() in rig.entry.replace(b"\r\n ", b"")
    ways = unescaped(properties(rig.entry, "DESCRIPTION")[0]).split("\n\n")[0].split("\n")
    assert [line.split(":")[0] for line in ways[1:4]] == ["For guests", "OpenMeetings", "Knock"]
    assert ways[3] == f"Knock: {link}"


def test_an_explanation_names_it(rig: KnockRig) -> None:
    output = [" ".join(line.split()) for line in rig.run(explain, rig.event).stdout.splitlines()]
    assert any(line.startswith("alice Knock link made ") for line in output)
    assert any(line.endswith("links of knock Knock link made") for line in output)
    assert not any("asked for" in line for line in output)


def test_the_status_and_a_sync_count_it(rig: KnockRig) -> None:
    rig.calendar.log.clear()
    again = json.loads(rig.run(sync, "--json").stdout)["accounts"]["alice"]
    assert again == {"state": "ok", "meetings": 1, "invites": 0, "hashes": 0, "codes": 0}
    shown = json.loads(rig.run(status, "--json").stdout)
    assert (shown["knock"]["state"], shown["knock"]["message"]) == ("ok", None)
    assert shown["openmeetings"]["state"] == "ok"
    assert any(line.split()[:2] == ["Knock", "ok"] for line in rig.run(status).stdout.splitlines())
    assert (len(rig.knock.codes), rig.calendar.log) == (1, [])


def test_a_check_asks_it(rig: KnockRig) -> None:
    asked = rig.run(check, "--online")
    assert (asked.exit_code, "knock: its token" in asked.stderr.splitlines()) == (0, True)
    rig.knock.token = "another"
    refused = rig.run(check, "--online")
    assert (refused.exit_code, "knock: the token is refused: correct knock.token" in refused.stderr) == (77, True)
