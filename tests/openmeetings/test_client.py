# SPDX-License-Identifier: Apache-2.0
import logging
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import permutations

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.demo.openmeetings import CONTEXT, Room
from syncd.demo.openmeetings import OpenMeetings as Server
from syncd.demo.serve import RunningServer, Traffic
from syncd.errors import BadAnswer, LoginRefused, NeedsYou, Refused, SyncdError, Unavailable
from syncd.model import Visitor
from syncd.openmeetings.client import OpenMeetings

START = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
EVENT = "6f9619ff-8b86-4d11-b42d-00c04fc964ff"
OTHER = "0d3c1f5e-3a55-4f0e-9d8e-6b4a4c1f7a20"
TITLE = "Quarterly figures"
PASSWORD = "pa55 & wörd"
ALICE = Visitor("u-alice", "Alice", "Adams", moderator=True)
BOB = Visitor("u-bob", "Bob", "Burton")
GUEST = Visitor(EVENT)
SERVICES = CONTEXT + "/services"
VERSIONS = ("9.0.0", "8.1.0")
HTML = "<!doctype html><html><body>Quarterly figures</body></html>"


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


class ServerRig:
    """An embedded server with its account, and makers of clients for it."""

    def __init__(self, version: str) -> None:
        self.clock = Clock()
        self.server = Server(self.clock, version)
        self.server.add_user("syncd", PASSWORD)
        self.traffic = Traffic(self.server.app)
        self.url = ""

    @contextmanager
    def client(
        self, *, password: str = PASSWORD, room: int | None = None, capacity: int = 50, url: str = ""
    ) -> Iterator[OpenMeetings]:
        client = OpenMeetings(
            url=url or self.url,
            username="syncd",
            password=lambda: password,
            room=room,
            capacity=capacity,
            clock=self.clock,
        )
        try:
            yield client
        finally:
            client.close()

    def open(self, code: str) -> None:
        httpx.get(f"{self.url}/hash", params={"secure": code, "language": "1"}, trust_env=False)

    def requests(self) -> list[str]:
        """What was asked for, by method and the first part of what it is about."""
        paths = [(request.method, request.path.removeprefix(SERVICES + "/")) for request in self.traffic.log]
        return [f"{method} {path if path.startswith('user') else path.partition('/')[0]}" for method, path in paths]


@contextmanager
def _rig(version: str) -> Iterator[ServerRig]:
    rig = ServerRig(version)
    with RunningServer(rig.traffic) as served:
        rig.url = served.url + CONTEXT
        yield rig


@pytest.fixture(params=VERSIONS)
def rig(request: pytest.FixtureRequest) -> Iterator[ServerRig]:
    with _rig(request.param) as rig:
        yield rig


@pytest.fixture
def recent() -> Iterator[ServerRig]:
    with _rig(VERSIONS[0]) as rig:
        yield rig


def test_nothing_is_asked_at_construction(recent: ServerRig) -> None:
    with recent.client():
        assert not recent.traffic.log


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_everybody_enters_as_themselves_whoever_comes_first(rig: ServerRig, order: tuple[int, ...]) -> None:
    visitors = (ALICE, BOB, GUEST)
    with rig.client() as client:
        codes = [client.make(EVENT, TITLE, visitor) for visitor in visitors]
    assert len(set(codes)) == 3
    for _ in range(2):  # and again, as a calendar's link is opened every week
        for number in order:
            rig.open(codes[number])
    came = [(e.visitor.external_id, e.visitor.firstname, e.visitor.lastname, e.moderator) for e in rig.server.entered]
    wanted = [
        (visitors[n].external_id, visitors[n].firstname, visitors[n].lastname, visitors[n].moderator) for n in order
    ]
    assert came == wanted * 2


def test_links_can_be_made_after_one_was_opened_and_open_after_a_day(rig: ServerRig) -> None:
    with rig.client() as client:
        first = client.make(EVENT, TITLE, ALICE)
        rig.open(first)
        second = client.make(EVENT, TITLE, BOB)
    rig.clock.now += timedelta(days=1)
    rig.open(second)
    rig.open(first)
    assert [entered.visitor.firstname for entered in rig.server.entered] == ["Alice", "Bob", "Alice"]


def test_a_hash_is_a_login_a_room_and_a_hash_and_the_login_is_learnt_once(rig: ServerRig) -> None:
    with rig.client() as client:
        for visitor in (ALICE, BOB):
            client.make(EVENT, TITLE, visitor)
    rest = ["GET room", "POST user/hash"]
    if rig.server.version == "9.0.0":
        assert rig.requests() == ["POST user/login", *rest] * 2
    else:
        assert rig.requests() == ["POST user/login", "GET user/login", *rest, "GET user/login", *rest]


def test_a_server_that_is_upgraded_meanwhile_is_learnt_anew(recent: ServerRig) -> None:
    with recent.client() as client:
        recent.traffic.fail(f"{SERVICES}/user/login", status=405, method="POST")
        recent.traffic.fail(f"{SERVICES}/user/login", status=405, method="GET")
        with pytest.raises(NeedsYou, match="405"):
            client.make(EVENT, TITLE, ALICE)
        assert client.make(EVENT, TITLE, ALICE)


def test_links_are_made_one_after_the_other_whoever_asks(recent: ServerRig) -> None:
    with recent.client() as client, ThreadPoolExecutor(4) as threads:
        visitors = [Visitor(f"u-{number}", f"N{number}") for number in range(8)]
        codes = list(threads.map(lambda visitor: client.make(EVENT, TITLE, visitor), visitors))
    assert recent.requests() == ["POST user/login", "GET room", "POST user/hash"] * 8
    assert len({made.sid for made in recent.server.hashes}) == 8
    by_code = {made.code: made.visitor.external_id for made in recent.server.hashes}
    assert [by_code[code] for code in codes] == [visitor.external_id for visitor in visitors]


def _made_rooms(server: Server) -> list[Room]:
    return [room for room in server.rooms.values() if not room.is_public]


def test_an_event_has_one_room_and_another_event_another(rig: ServerRig) -> None:
    with rig.client(capacity=30) as client:
        client.make(EVENT, TITLE, ALICE)
        client.make(EVENT, "renamed", BOB)
        client.make(OTHER, TITLE, BOB)
    rooms = _made_rooms(rig.server)
    assert [(room.external_type, room.external_id) for room in rooms] == [("syncd", EVENT), ("syncd", OTHER)]
    assert {(room.type, room.name, room.capacity) for room in rooms} == {("CONFERENCE", TITLE, 30)}
    assert [made.room for made in rig.server.hashes] == [rooms[0].id, rooms[0].id, rooms[1].id]


def test_a_room_that_is_given_is_the_room_of_everything(rig: ServerRig) -> None:
    with rig.client(room=3) as client:
        client.make(EVENT, TITLE, ALICE)
        client.make(OTHER, TITLE, GUEST)
    assert not _made_rooms(rig.server)
    assert [(made.room, made.multiple, made.moderator) for made in rig.server.hashes] == [
        (3, True, True),
        (3, True, False),
    ]


def test_a_visitor_without_a_name_or_an_id_is_the_event_and_nameless(recent: ServerRig) -> None:
    with recent.client() as client:
        client.make(EVENT, TITLE, GUEST)
        client.make(EVENT, TITLE, Visitor(""))
    for made in recent.server.hashes:
        assert (made.visitor.external_id, made.visitor.firstname, made.visitor.lastname) == (EVENT, "", "")


@pytest.mark.parametrize(
    "title", ["2026", "true", "", "null", "Übergabe „Müller & Söhne“", 'say "hi" {a} | 100% \\ \'']
)
def test_titles_that_are_traps_name_their_room(rig: ServerRig, title: str) -> None:
    with rig.client() as client:
        for _ in range(2):
            client.make(EVENT, title, ALICE)
    assert [room.name for room in _made_rooms(rig.server)] == [title]


def test_any_title_names_its_room_as_far_as_the_database_takes_it() -> None:
    with _rig(VERSIONS[0]) as rig, rig.client() as client:

        @given(st.one_of(st.text(), st.text("aü€😀", min_size=250, max_size=300)))
        def law(title: str) -> None:
            rig.server.rooms.clear()
            client.make(EVENT, title, GUEST)
            [name] = [room.name for room in rig.server.rooms.values()]
            units = len(name.encode("utf-16-le")) // 2
            assert title.startswith(name)
            assert units <= 255
            assert name == title or units >= 254

        law()


def test_any_name_of_a_visitor_arrives_as_it_is() -> None:
    with _rig(VERSIONS[0]) as rig, rig.client(room=2) as client:

        @given(st.text(), st.text(), st.booleans())
        def law(firstname: str, lastname: str, moderator: bool) -> None:
            code = client.make(EVENT, TITLE, Visitor("u", firstname, lastname, moderator))
            made = rig.server.hashes[-1]
            assert (made.code, made.visitor.firstname, made.visitor.lastname) == (code, firstname, lastname)
            assert (made.moderator, made.multiple) == (moderator, True)

        law()


def _wrong(client: OpenMeetings) -> list[str]:
    messages = []
    asks: tuple[Callable[[], str], ...] = (
        lambda: client.make(EVENT, TITLE, ALICE),
        lambda: client.make(OTHER, TITLE, BOB),
        client.check,
    )
    for ask in asks:
        with pytest.raises(LoginRefused) as raised:
            ask()
        messages.append(str(raised.value))
    return messages


def test_a_wrong_password_is_tried_once(rig: ServerRig) -> None:
    with rig.client(password="wrong") as client:
        messages = _wrong(client)
    assert rig.requests().count("POST user/login") == 1
    assert rig.requests()[1:] == ([] if rig.server.version == "9.0.0" else ["GET user/login"])
    assert len(set(messages)) == 1
    assert "password is wrong" in messages[0]


@pytest.mark.parametrize(
    ("rights", "groups", "words"),
    [({"SOAP"}, {"users"}, "right Login"), ({"LOGIN", "SOAP"}, (), "group"), ({"LOGIN", "ADMIN"}, {"users"}, "SOAP")],
)
def test_an_account_that_may_not_says_what_it_lacks_and_heals(
    rig: ServerRig, rights: set[str], groups: set[str], words: str
) -> None:
    rig.server.add_user("syncd", PASSWORD, rights, groups)
    with rig.client() as client:
        with pytest.raises(LoginRefused, match=words):
            client.make(EVENT, TITLE, ALICE)
        rig.server.add_user("syncd", PASSWORD)
        assert client.make(EVENT, TITLE, ALICE)


def test_a_session_that_ended_is_renewed_once(recent: ServerRig) -> None:
    gone = '{"serviceResult":{"message":"error.notallowed","type":"ERROR"}}'
    with recent.client() as client:
        recent.traffic.fail(f"{SERVICES}/user/hash", status=500, body=gone, content_type="application/json")
        assert client.make(EVENT, TITLE, ALICE)
        assert recent.requests().count("POST user/login") == 2
        recent.traffic.clear()
        recent.traffic.fail(f"{SERVICES}/user/hash", status=500, body=gone, content_type="application/json", times=2)
        with pytest.raises(LoginRefused, match="Login and SOAP"):
            client.make(EVENT, TITLE, ALICE)
        assert recent.requests().count("POST user/login") == 2
    assert len(_made_rooms(recent.server)) == 1


JAVA = '{"serviceResult":{"message":"No room Quarterly figures","type":"ERROR"}}'
SILENT = '{"serviceResult":{"type":"ERROR"}}'


@pytest.mark.parametrize("path", ["user/login", "room/", "user/hash"])
@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (200, '{"serviceResult":{"message":"error.unknown","type":"ERROR"}}', SyncdError),
        (200, HTML, BadAnswer),
        (200, "", BadAnswer),
        (200, "{}", BadAnswer),
        (200, '{"serviceResult":"","roomDTO":""}', BadAnswer),
        (200, '{"serviceResult":{"type":"SUCCESS"},"roomDTO":{"name":2026}}', BadAnswer),
        (204, "", BadAnswer),
        (400, "", BadAnswer),
        (403, HTML, NeedsYou),
        (404, "", NeedsYou),
        (405, "", NeedsYou),
        (415, "", BadAnswer),
        (429, "", Unavailable),
        (500, JAVA, Refused),
        (500, SILENT, Refused),
        (500, "{", BadAnswer),
        (500, HTML, Unavailable),
        (500, "", Unavailable),
        (502, HTML, Unavailable),
    ],
)
def test_every_bad_answer_has_its_class_and_no_message_quotes_it(
    recent: ServerRig, caplog: pytest.LogCaptureFixture, path: str, status: int, body: str, error: type[SyncdError]
) -> None:
    recent.traffic.fail(f"{SERVICES}/{path}", status=status, body=body, content_type="text/html", times=2)
    with recent.client() as client, caplog.at_level(logging.DEBUG), pytest.raises(error) as raised:
        client.make(EVENT, TITLE, ALICE)
    assert "openmeetings" in str(raised.value)
    assert not _secrets(recent, str(raised.value) + _logged(caplog))


def test_after_trouble_it_goes_on(recent: ServerRig) -> None:
    with recent.client() as client:
        for path in ("user/login", "room/", "user/hash"):
            recent.traffic.fail(f"{SERVICES}/{path}", status=503, headers={"retry-after": "120"})
            with pytest.raises(Unavailable) as raised:
                client.make(EVENT, TITLE, ALICE)
            assert raised.value.retry_after == 120
            recent.traffic.cut(f"{SERVICES}/{path}")
            with pytest.raises(Unavailable):
                client.make(EVENT, TITLE, ALICE)
        assert client.make(EVENT, TITLE, ALICE)
    assert len(_made_rooms(recent.server)) == 1


def test_what_is_refused_names_its_event(recent: ServerRig) -> None:
    recent.traffic.fail(f"{SERVICES}/room", status=500, body=JAVA, content_type="application/json")
    with recent.client() as client:
        with pytest.raises(Refused, match=EVENT):
            client.make(EVENT, TITLE, ALICE)
        assert client.make(OTHER, TITLE, ALICE)


def test_a_server_that_is_away_or_silent_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and never answers
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/openmeetings"
        client = OpenMeetings(url=url, username="syncd", password=lambda: PASSWORD, clock=Clock(), deadline=0.05)
        with pytest.raises(Unavailable, match="in time"):
            client.make(EVENT, TITLE, ALICE)
        client.close()
    client = OpenMeetings(url=url, username="syncd", password=lambda: PASSWORD, clock=Clock())
    with pytest.raises(Unavailable, match="cannot be reached"):
        client.make(EVENT, TITLE, ALICE)
    client.close()


def test_an_address_without_the_context_says_what_it_should_be(recent: ServerRig) -> None:
    with (
        recent.client(url=recent.url.removesuffix(CONTEXT)) as client,
        pytest.raises(NeedsYou, match=r"openmeetings\.url"),
    ):
        client.check()


@pytest.mark.parametrize("room", [None, 2])
def test_a_check_makes_one_hash_for_one_use_and_no_room(rig: ServerRig, room: int | None) -> None:
    with rig.client(room=room) as client:
        client.check()
    assert [made.multiple for made in rig.server.hashes] == [False]
    assert not _made_rooms(rig.server)
    assert not rig.server.entered


def test_a_check_misses_a_room_and_a_right(rig: ServerRig) -> None:
    with rig.client(room=4242) as client, pytest.raises(NeedsYou, match="no room 4242"):
        client.check()
    rig.server.add_user("syncd", PASSWORD, {"LOGIN"})
    for room in (None, 2):
        with rig.client(room=room) as client, pytest.raises(LoginRefused, match="SOAP"):
            client.check()
    assert not rig.server.hashes


def _logged(caplog: pytest.LogCaptureFixture) -> str:
    """What our side logged; the embedded server's own access log is another's, as the real server's is."""
    return "\n".join(record.getMessage() for record in caplog.records if not record.name.startswith("uvicorn"))


def _secrets(rig: ServerRig, text: str) -> list[str]:
    """What of all that is secret stands in a text."""
    made = [secret for made in rig.server.hashes for secret in (made.code, made.sid)]
    encoded = httpx.QueryParams({"p": PASSWORD})["p"], str(httpx.QueryParams({"p": PASSWORD}))[2:]
    return [secret for secret in (*made, *encoded, "wrong-1", TITLE, "Quarterly", "Alice", "Adams") if secret in text]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda _: None,
        lambda rig: rig.traffic.fail(f"{SERVICES}/user/login", status=503, method="GET"),
        lambda rig: rig.traffic.fail(f"{SERVICES}/user/login", status=302, headers={"location": "https://x.example/"}),
        lambda rig: rig.traffic.cut(f"{SERVICES}/user/hash"),
        lambda rig: rig.server.add_user("syncd", "wrong-1"),
    ],
)
def test_neither_log_nor_message_has_a_secret(
    rig: ServerRig, caplog: pytest.LogCaptureFixture, spoil: Callable[[ServerRig], None]
) -> None:
    spoil(rig)
    messages = ""
    with rig.client() as client, caplog.at_level(logging.DEBUG):
        try:
            rig.open(client.make(EVENT, TITLE, ALICE))
            client.make(EVENT, TITLE, BOB)
        except SyncdError as error:
            messages = f"{error!r} {error.__cause__!r} {client!r}"
    assert not _secrets(rig, messages + _logged(caplog))
