# SPDX-License-Identifier: Apache-2.0
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode

import httpx
import pytest

from syncd.demo.openmeetings import CONTEXT, Guest, OpenMeetings
from syncd.demo.serve import RunningServer

RECORDINGS = Path(__file__).parent.parent / "recordings"
START = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
ANNA = {"externalId": "a", "externalType": "syncd", "firstname": "Anna", "lastname": "Alpha"}
BERT = {"externalId": "b", "externalType": "syncd", "firstname": "Bert", "lastname": "Beta"}

EXEMPT = {"/services/room/hash"}  # invitation hashes are another kind of link, which syncd does not make
OPENED_BEFORE = {"hash after the first link was opened (same sid)": "hash, multi use"}  # by a browser, unrecorded


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


class Visit:
    """A browser and a REST client at an embedded server."""

    def __init__(self, server: OpenMeetings, clock: Clock, client: httpx.Client) -> None:
        self.server = server
        self.clock = clock
        self.client = client

    def login(self) -> str:
        fields = {"user": "alice", "pass": "s3cret"}
        answer = self.client.post("services/user/login", data=fields)
        return str(answer.json()["serviceResult"]["message"])

    def make_hash(self, sid: str, user: dict[str, Any], **options: Any) -> str:
        form = {"user": json.dumps(user), "options": json.dumps({"roomId": 2} | options)}
        answer = self.client.post("services/user/hash", params={"sid": sid}, data=form)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["serviceResult"]["message"])

    def open(self, code: str, language: int = 1) -> str:
        answer = self.client.get("hash", params={"secure": code, "language": str(language)})
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html;charset=utf-8")
        return answer.text

    def is_session(self, sid: str) -> bool:
        answer = self.client.get("services/room/count/2", params={"sid": sid})
        return answer.status_code == 200

    def names(self) -> list[str]:
        return [entered.visitor.firstname for entered in self.server.entered]


@pytest.fixture
def visit() -> Iterator[Visit]:
    clock = Clock()
    server = OpenMeetings(clock)
    server.add_user("alice", "s3cret", rights={"LOGIN", "SOAP", "ROOM"})
    with RunningServer(server.app) as served, httpx.Client(base_url=served.url + CONTEXT) as client:
        yield Visit(server, clock, client)


@pytest.mark.parametrize("version", ["9.0.0", "8.1.0"])
def test_answers_what_the_recorded_server_answered(version: str) -> None:
    server = OpenMeetings(Clock(), version)
    server.add_user("omadmin", "Q!w2e3r4t5", rights={"ADMIN", "SOAP", "ROOM", "DASHBOARD", "LOGIN"})
    recorded = (RECORDINGS / f"openmeetings-{version}.jsonl").read_text(encoding="utf-8").splitlines()
    ours: dict[str, str] = {}  # their session ids and hashes -> ours
    by_note: dict[str, str] = {}
    with RunningServer(server.app) as served, httpx.Client(base_url=served.url + CONTEXT) as client:
        for line in recorded:
            record = json.loads(line)
            path, _, query = record["request"]["url"].partition("?")
            if path in EXEMPT:
                continue
            if record["note"] in OPENED_BEFORE:
                client.get("hash", params={"secure": by_note[OPENED_BEFORE[record["note"]]]})
            answer = client.request(
                record["request"]["method"],
                path + ("?" + _translated(query, ours) if query else ""),
                headers=record["request"]["headers"],
                content=record["request"]["body"],
            )
            assert _shape(answer.status_code, answer.headers, answer.text) == _shape(
                record["response"]["status"], record["response"]["headers"], record["response"]["body"]
            ), record["note"]
            code = _message(answer.text)
            ours[_message(record["response"]["body"])] = by_note[record["note"]] = code


def _translated(query: str, ours: dict[str, str]) -> str:
    values = {name: ours.get(value, value) for name, [value] in parse_qs(query).items()}
    return urlencode(values)


def _message(body: str) -> str:
    if not body.startswith('{"serviceResult"'):
        return ""
    return str(json.loads(body)["serviceResult"]["message"])


def _shape(status: int, headers: Any, body: str) -> Any:
    shown = {name: headers.get(name) for name in ("content-type", "allow")}
    content = json.loads(body) if headers.get("content-type") == "application/json" else bool(body)
    return status, shown, "exception" in headers, _kind(content), _comparable(content)


def _kind(value: Any) -> Any:
    match value:
        case dict():
            return {key: _kind(part) for key, part in value.items()}
        case list():
            return [_kind(part) for part in value]
        case _:
            return type(value)


def _comparable(content: Any) -> Any:
    """What is the same on every server: errors by key, texts, and words; neither codes nor Java's own messages."""
    result = content.get("serviceResult", {}) if isinstance(content, dict) else {}
    message = str(result.get("message", ""))
    fixed = message.startswith("error.") or (result and " " in message and "Cannot invoke" not in message)
    return result.get("type"), message if fixed else None


def test_the_last_hash_of_a_session_names_the_visitors_of_all(visit: Visit) -> None:
    sid = visit.login()
    anna = visit.make_hash(sid, ANNA, allowSameURLMultipleTimes=True)
    visit.make_hash(sid, BERT, allowSameURLMultipleTimes=True)
    visit.open(anna)
    assert visit.names() == ["Bert"]
    assert [made.visitor.firstname for made in visit.server.hashes] == ["Anna", "Bert"]


def test_an_opened_link_takes_its_session_over_and_no_other(visit: Visit) -> None:
    sid, other = visit.login(), visit.login()
    code = visit.make_hash(sid, ANNA, allowSameURLMultipleTimes=True)
    assert visit.is_session(sid)
    visit.open(code)
    assert (visit.is_session(sid), visit.is_session(other)) == (False, True)


@pytest.mark.parametrize(("flag", "entries"), [(True, 2), ("true", 2), (1, 1), (False, 1), (None, 1)])
def test_only_true_lets_a_link_be_used_twice(visit: Visit, flag: object, entries: int) -> None:
    code = visit.make_hash(visit.login(), ANNA, allowSameURLMultipleTimes=flag)
    pages = [visit.open(code) for _ in range(2)]
    assert len(visit.server.entered) == entries
    assert ("has been used" in pages[1]) == (entries == 1)


def test_only_a_session_with_a_lasting_link_outlives_half_an_hour_without_use(visit: Visit) -> None:
    single, multiple = visit.login(), visit.login()
    codes = [visit.make_hash(single, ANNA), visit.make_hash(multiple, BERT, allowSameURLMultipleTimes=True)]
    visit.clock.now += timedelta(minutes=20)
    assert visit.is_session(single)
    visit.clock.now += timedelta(minutes=29)
    assert visit.is_session(single)
    visit.clock.now += timedelta(minutes=38)
    pages = [visit.open(code) for code in codes]
    assert visit.names() == ["Bert"]
    assert "not valid" in pages[0]
    assert not visit.is_session(single)


def test_null_becomes_a_name(visit: Visit) -> None:
    visit.open(visit.make_hash(visit.login(), ANNA | {"firstname": None}))
    assert [entered.visitor for entered in visit.server.entered] == [Guest("a", "syncd", "null", "Alpha")]


def test_head_is_forbidden_and_uses_nothing_up(visit: Visit) -> None:
    code = visit.make_hash(visit.login(), ANNA)
    assert visit.client.head("hash", params={"secure": code}).status_code == 403
    assert not visit.server.entered
    visit.open(code)
    assert visit.names() == ["Anna"]


def test_pages_speak_the_language_asked_for_and_escape_what_they_quote(visit: Visit) -> None:
    visit.server.rooms[2].name = "<b>Jour & fixe</b>"
    code = visit.make_hash(visit.login(), ANNA | {"firstname": "<i>"}, moderator=True, allowSameURLMultipleTimes=True)
    german, english = visit.open(code, 2), visit.open(code, 1)
    assert 'lang="de"' in german
    assert "&lt;i&gt; Alpha moderiert den Raum „&lt;b&gt;Jour &amp; fixe&lt;/b&gt;“." in german
    assert "as its moderator" in english
    assert "ungültig" in visit.open("nonsense", 2)


def test_a_wrong_password_is_noted_and_costs_no_time(visit: Visit) -> None:
    fields = {"user": "Alice", "pass": "wrong"}
    answer = visit.client.post("services/user/login", data=fields)
    assert answer.json() == {"serviceResult": {"message": "error.bad.credentials", "type": "ERROR"}}
    assert visit.server.penalties == ["alice"]


def test_people_without_the_right_or_a_group_learn_it_and_are_not_locked_out(visit: Visit) -> None:
    visit.server.add_user("bob", "s3cret", rights={"SOAP"})
    visit.server.add_user("carol", "s3cret", groups=())
    content = [
        _message(visit.client.post("services/user/login", data={"user": user, "pass": "s3cret"}).text)
        for user in ("bob", "carol")
    ]
    assert content == ["error.notactivated", "error.nogroup"]
    assert not visit.server.penalties


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("2026", 2026),
        ("-7", -7),
        ("007", "007"),
        ("1e5", "1e5"),
        ("2.5", 2.5),
        ("true", True),
        ("99999999999999999999",) * 2,
    ],
)
def test_what_looks_like_a_number_is_sent_as_one(visit: Visit, name: str, sent: object) -> None:
    form = {"room": json.dumps({"type": "CONFERENCE", "name": name})}
    answer = visit.client.post("services/room/", params={"sid": visit.login()}, data=form)
    assert answer.json()["roomDTO"]["name"] == sent
    assert visit.server.rooms[answer.json()["roomDTO"]["id"]].name == name


def test_saving_a_room_with_its_number_overwrites_every_field(visit: Visit) -> None:
    sid = visit.login()
    for room in ({"name": "Jour fixe", "capacity": 50}, {"id": 9}):
        form = {"room": json.dumps({"type": "CONFERENCE"} | room)}
        assert visit.client.post("services/room/", params={"sid": sid}, data=form).status_code == 200
    assert (visit.server.rooms[9].name, visit.server.rooms[9].capacity) == ("", 4)
