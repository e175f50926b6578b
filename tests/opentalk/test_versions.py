# SPDX-License-Identifier: Apache-2.0
"""Controllers differ in what they take: all are read alike, and what one refuses is never read as less."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import get_args

import httpx
import pytest
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from syncd.demo.signin import Version
from syncd.demo.stage import Stage
from syncd.errors import BadAnswer
from syncd.model import Invite, Meeting, Window
from syncd.opentalk.client import OpenTalk
from tests.support.opentalk_json import time_json
from tests.support.served_opentalk import NOW, ServedOpenTalk

WINDOW = Window(NOW - timedelta(days=30), NOW + timedelta(days=365))
VERSIONS: tuple[Version, ...] = get_args(Version)


class Picky:
    """Stands before a controller and answers 400 to requests with a parameter that is in ``refuses``.

    ``requests`` are the names of the parameters of each GET that arrived, by path.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.refuses: frozenset[str] = frozenset()
        self.added = b""
        self.requests: list[tuple[str, frozenset[str]]] = []
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "GET":
            names = frozenset(Request(scope).query_params)
            self.requests.append((scope["path"], names))
            if names & self.refuses:
                text = f"Query deserialize error: {', '.join(sorted(names & self.refuses))}"
                await Response(text, 400, media_type="text/plain")(scope, receive, send)
                return
            scope = {**scope, "query_string": scope["query_string"] + self.added}
        await self._app(scope, receive, send)


class Controller(Struct, frozen=True):
    """A served controller with meetings of every kind, behind a picky one."""

    server: ServedOpenTalk
    picky: Picky
    series: str

    def account(self) -> OpenTalk:
        """A fresh client, to which a listing has several pages."""
        return self.server.account(per_page=2)


class Read(Struct, frozen=True):
    """All that an account reads of its controller."""

    everything: Mapping[str, Meeting]
    window: Mapping[str, Meeting]
    series: Meeting | None
    invite: Invite | None


def read(account: OpenTalk, controller: Controller) -> Read:
    everything = account.snapshot(None).meetings
    window = account.snapshot(WINDOW).meetings
    series = account.event(controller.series)
    assert series
    return Read(everything, window, series, account.find_invite(series))


@pytest.fixture(params=VERSIONS)
def controller(request: pytest.FixtureRequest) -> Iterator[Controller]:
    made: list[Picky] = []

    def picky(app: ASGIApp) -> Picky:
        made.append(Picky(app))
        return made[0]

    with ServedOpenTalk(request.param, before=picky) as server:
        opentalk = server.opentalk
        for day in range(-1, 4):
            opentalk.invite(server.create(days=day, title=f"Day {day}"), "bob")
        opentalk.create("alice", title="Any time")
        series = server.create(days=3, title="Weekly", recurrence_pattern=["FREQ=WEEKLY"])
        opentalk.cancel(series, f"{NOW + timedelta(days=10):%Y%m%dT%H%M%SZ}")
        for number in range(3):  # of which the oldest is on the last page
            opentalk._room_of(opentalk._existing(series)).add_invite(
                (NOW + timedelta(days=1)).isoformat() if number else None, {}, f"2026-11-2{number}T00:00:00Z"
            )
        yield Controller(server, made[0], series)


def test_every_version_is_read_alike(controller: Controller) -> None:
    found = read(controller.account(), controller)
    assert {meeting.title for meeting in found.everything.values()} == {
        *(f"Day {day}" for day in range(-1, 4)),
        "Any time",
        "Weekly",
    }
    assert {meeting.title for meeting in found.window.values()} == {*(f"Day {day}" for day in range(-1, 4)), "Weekly"}
    assert found.series == found.everything[controller.series]
    assert found.series.overrides
    assert (found.invite is None) == (controller.server.opentalk.version == "0.35")


def test_a_parameter_that_is_refused_costs_a_request_or_the_listing_and_no_meeting(controller: Controller) -> None:
    """Each parameter that is ever sent, whatever it is: what is read without it is what was read with it."""
    wanted = read(controller.account(), controller)
    sent = frozenset[str]().union(*(names for _, names in controller.picky.requests))
    assert {"per_page", "created_after", "time_independent", "time_min", "time_max", "after"} <= sent
    unread = set()
    for name in sent:
        controller.picky.refuses = frozenset({name})
        account = controller.account()
        try:
            assert read(account, controller) == wanted, name
        except BadAnswer:
            unread.add(name)
    assert unread == {"time_independent", "time_min", "time_max", "after"} | (sent & {"page"})


def test_what_was_refused_once_is_not_sent_again(controller: Controller) -> None:
    controller.picky.refuses = frozenset({"per_page"})
    account = controller.account()
    account.snapshot(WINDOW)
    controller.picky.requests.clear()
    account.snapshot(WINDOW)
    listings = [names for path, names in controller.picky.requests if path == "/v1/events"]
    assert listings
    assert not any("per_page" in names for names in listings)


def test_a_server_that_takes_nothing_is_asked_twice_and_no_more(controller: Controller) -> None:
    controller.picky.refuses = frozenset({"time_independent"})
    account = controller.account()
    for _ in range(2):
        controller.picky.requests.clear()
        with pytest.raises(BadAnswer, match=r"opentalk\.work refuses a request that it should take \(400\)"):
            account.snapshot(WINDOW)
        assert [path for path, _ in controller.picky.requests].count("/v1/events") == 2


def test_a_later_page_that_is_refused_is_not_asked_for_otherwise(controller: Controller) -> None:
    account = controller.account()
    account.identity()
    controller.server.opentalk.app.fail("/v1/events", status=400, body="Query deserialize error", after=1)
    with pytest.raises(BadAnswer):
        account.snapshot(WINDOW)


def test_invitees_that_are_listed_unasked_change_nothing(controller: Controller) -> None:
    wanted = read(controller.account(), controller)
    controller.picky.added = b"&invitees_max=100"
    assert read(controller.account(), controller) == wanted


@pytest.mark.parametrize(
    ("version", "query", "refusal"),
    [
        ("0.30", "invitees_max=0", None),
        ("0.30", "per_page=0", None),
        ("0.30", "per_page=101", None),
        ("0.32", "", None),
        ("0.32", "invitees_max=1", None),
        ("0.32", "invitees_max=0", "(1..=100)"),
        ("0.32", "invitees_max=101", "(1..=100)"),
        ("0.32", "per_page=0", "(1..=100)"),
        ("0.32", "per_page=101", "(1..=100)"),
        ("0.35", "invitees_max=0", None),
        ("0.35", "invitees_max=101", "(0..=100)"),
        ("0.35", "per_page=101", "(1..=100)"),
    ],
)
def test_the_embedded_controller_refuses_sizes_as_its_version_does(
    version: Version, query: str, refusal: str | None
) -> None:
    with ServedOpenTalk(version) as server, closing(httpx.Client()) as client:
        event, identity = server.create(), server.identity
        form = {"grant_type": "password", "client_id": "Frontend", "username": "alice", "password": "alice-pw"}
        token = client.post(f"{identity.issuer}/protocol/openid-connect/token", data={**form, "scope": "openid"})
        headers = {"Authorization": f"Bearer {token.json()['access_token']}"}
        for path in ("/v1/events", f"/v1/events/{event}"):
            answer = client.get(f"{server.url}{path}?{query}", headers=headers)
            assert answer.status_code == (400 if refusal else 200), answer.text
            if refusal:
                assert answer.headers["content-type"].startswith("text/plain")
                assert answer.text == f"Query deserialize error: Page size is outside the allowed range {refusal}"


def syncd(config: Path, *words: str) -> int:
    command = [sys.executable, "-m", "syncd", "--config", str(config), *words]
    return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode


@pytest.mark.parametrize(("path", "after"), [("", 0), ("/v1/events", 0), ("/v1/events", 2), ("/v1/rooms/", 0)])
def test_what_keeps_a_sync_from_its_work_keeps_a_check_from_saying_that_all_is_well(
    tmp_path: Path, path: str, after: int
) -> None:
    with Stage(lambda: datetime.now(UTC), "0.32") as stage:
        tomorrow = datetime.now(UTC) + timedelta(days=1)
        stage.opentalk.create("alice", starts_at=time_json(tomorrow), ends_at=time_json(tomorrow + timedelta(hours=1)))
        config = stage.write_config(tmp_path, {}, openmeetings=False)
        assert syncd(config, "feed", "add", "phone") == 0  # so that links are wanted
        for words in (("sync",), ("check", "--online")):
            if path:
                stage.opentalk.app.fail(path, method="GET", status=400, body="no", times=99, after=after)
            assert (syncd(config, *words) == 0) == (not path), words
            stage.opentalk.app.clear()
