# SPDX-License-Identifier: Apache-2.0
import os
import subprocess
import sys
from base64 import b64decode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from syncd.dav import CalDAVCalendar
from syncd.dav.answers import problem
from syncd.dav.calendar import _same_house
from syncd.demo.calendar_server import CalendarServer
from syncd.demo.serve import Served, Traffic
from syncd.errors import (
    BadAnswer,
    Changed,
    LoginRefused,
    NeedsYou,
    Refused,
    SyncdError,
    UidTaken,
    Unavailable,
)
from syncd.transport import Answer
from tests import servers
from tests.contract.test_calendar import HREF, entry

PASSWORD = "s3cret-pässwörd"
SECRETS = ("s3cret", "/alice/", "Jour fixe", "http://", "alice")
COLLECTION = "/dav/alice/team/"


class OddServer:
    """A CalDAV server with one calendar and, if told so, a few habits of its own."""

    def __init__(self) -> None:
        self.objects: dict[str, tuple[str, bytes]] = {}
        self.requests: list[Request] = []
        self.password = PASSWORD
        self.collection = "<D:collection/><C:calendar/>"
        self.more = ""
        self.etag: Callable[[int], str | None] = lambda version: f'"{version}"'
        self.location: str | None = None
        self.version = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        body = await request.body()
        self.requests.append(request)
        await self.answer(request, body)(scope, receive, send)

    def answer(self, request: Request, body: bytes) -> Response:
        login = b64decode(request.headers.get("authorization", "")[len("Basic ") :]).decode()
        if login != f"alice:{self.password}":
            return Response("who?", 401, {"www-authenticate": 'Basic realm="dav"'})
        if request.method == "PROPFIND":
            return self.look()
        here = self.objects.get(request.url.path)
        if request.method == "PUT":
            return self.put(request, body, here)
        if here is None:
            return Response(status_code=404)
        if request.method == "DELETE":
            del self.objects[request.url.path]
            return Response(status_code=204)
        return Response(here[1], headers={"etag": here[0]} if here[0] else {}, media_type="text/calendar")

    def look(self) -> Response:
        xml = (
            '<D:multistatus xmlns:D="DAV:" xmlns:C="urn:ietf:params:xml:ns:caldav"><D:response><D:href>/</D:href>'
            f"<D:propstat><D:prop><D:resourcetype>{self.collection}</D:resourcetype>{self.more}</D:prop>"
            "<D:status>HTTP/1.1 200 OK</D:status></D:propstat><D:propstat><D:prop><D:current-user-principal/>"
            "</D:prop><D:status>HTTP/1.1 404 Not Found</D:status></D:propstat></D:response></D:multistatus>"
        )
        return Response(xml, 207, media_type="application/xml")

    def put(self, request: Request, body: bytes, here: tuple[str, bytes] | None) -> Response:
        expected = request.headers.get("if-match")
        if expected and (here is None or here[0] != expected):
            return Response(status_code=412)
        self.version += 1
        etag = self.etag(self.version)
        self.objects[request.url.path] = (etag or "", body)
        headers = {"etag": etag} if etag else {}
        return Response("made", 201, headers=headers | ({"location": self.location} if self.location else {}))

    def sent(self, method: str) -> list[Request]:
        return [request for request in self.requests if request.method == method]


class Stage:
    def __init__(self, url: str, odd: OddServer, traffic: Traffic) -> None:
        self.url, self.odd, self.traffic = url, odd, traffic
        self.passwords = [PASSWORD]
        self.calendar = CalDAVCalendar("team", url + COLLECTION, username="alice", password=lambda: self.passwords[-1])


@pytest.fixture
def stage() -> Iterator[Stage]:
    odd = OddServer()
    traffic = Traffic(odd)
    with Served(traffic) as served:
        stage = Stage(served.url, odd, traffic)
        with closing(stage.calendar):
            yield stage


def error_xml(name: str, namespace: str = "urn:ietf:params:xml:ns:caldav") -> str:
    return f'<?xml version="1.0"?><D:error xmlns:D="DAV:"><x:{name} xmlns:x="{namespace}"/></D:error>'


SABRE_412 = (
    '<?xml version="1.0" encoding="utf-8"?><d:error xmlns:d="DAV:" xmlns:s="http://sabredav.org/ns">'
    "<s:exception>Sabre\\DAV\\Exception\\PreconditionFailed</s:exception><s:message>An If-Match header was specified, "
    "but none of the specified the ETags matched.</s:message><s:header>If-Match</s:header></d:error>"
)
NEXTCLOUD_400 = (
    '<d:error xmlns:d="DAV:" xmlns:s="http://sabredav.org/ns"><s:exception>Sabre\\DAV\\Exception\\BadRequest'
    "</s:exception><s:message>Calendar object with uid already exists in this calendar collection.</s:message>"
    "</d:error>"
)
NEXTCLOUD_TRASH = NEXTCLOUD_400.replace("Calendar object", "Deleted calendar object")


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        pytest.param(409, error_xml("no-uid-conflict"), UidTaken, id="radicale: uid"),
        pytest.param(412, error_xml("no-uid-conflict"), UidTaken, id="xandikos, stalwart: uid"),
        pytest.param(403, error_xml("unique-scheduling-object-resource"), UidTaken, id="cyrus: uid in account"),
        pytest.param(409, "Event UID already in use. (…)", UidTaken, id="sogo: uid"),
        pytest.param(400, NEXTCLOUD_400, UidTaken, id="nextcloud: uid"),
        pytest.param(400, NEXTCLOUD_TRASH, UidTaken, id="nextcloud: uid in the trash bin"),
        pytest.param(412, "", Changed, id="plain precondition"),
        pytest.param(412, SABRE_412, Changed, id="sabre: precondition"),
        pytest.param(412, error_xml("valid-calendar-data"), Refused, id="xandikos, stalwart: invalid"),
        pytest.param(412, error_xml("max-resource-size"), Refused, id="stalwart: size"),
        pytest.param(403, error_xml("max-resource-size"), Refused, id="cyrus, nextcloud: size"),
        pytest.param(403, "", Refused, id="plain 403"),
        pytest.param(403, "<html>Forbidden</html>", Refused, id="html 403"),
        pytest.param(403, error_xml("need-privileges", "DAV:"), NeedsYou, id="no right"),
        pytest.param(403, error_xml("quota-not-exceeded", "DAV:"), NeedsYou, id="quota 403"),
        pytest.param(507, "", NeedsYou, id="quota 507"),
        pytest.param(400, "Bad Request: no UID", Refused, id="radicale: bad object"),
        pytest.param(413, "", Refused, id="413"),
        pytest.param(415, "", Refused, id="sabre: 415"),
        pytest.param(409, "", Refused, id="409 while the calendar is there"),
        pytest.param(429, "", Unavailable, id="429"),
        pytest.param(423, "", Unavailable, id="locked"),
        pytest.param(500, "", Unavailable, id="500"),
        pytest.param(503, error_xml("max-instances"), Unavailable, id="503"),
        pytest.param(302, "", BadAnswer, id="302 to nowhere"),
    ],
)
def test_a_refused_put_says_who_must_act(stage: Stage, status: int, body: str, expected: type[SyncdError]) -> None:
    stage.traffic.fail(COLLECTION, method="PUT", status=status, body=body)
    with pytest.raises(expected) as refused:
        stage.calendar.create(HREF, entry())
    assert type(refused.value) is expected
    assert not [secret for secret in SECRETS if secret in str(refused.value)]
    assert len(stage.odd.sent("PUT")) == 0


@pytest.mark.parametrize("status", [404, 405, 409, 410])
def test_a_put_into_a_calendar_that_vanished_needs_a_person(stage: Stage, status: int) -> None:
    stage.calendar.check()
    stage.traffic.fail(COLLECTION, method="PUT", status=status)
    stage.traffic.fail(COLLECTION, method="PROPFIND", status=404)
    with pytest.raises(NeedsYou, match=r"team is not there \(404\)"):
        stage.calendar.create(HREF, entry())


@pytest.mark.parametrize("status", [403, 404, 405, 410])
def test_nothing_is_written_where_no_calendar_is(stage: Stage, status: int) -> None:
    stage.traffic.fail(COLLECTION, method="PROPFIND", status=status)
    with pytest.raises(NeedsYou, match="team is not there"):
        stage.calendar.create(HREF, entry())
    assert [request.method for request in stage.traffic.log] == ["PROPFIND"]


def test_a_missing_object_is_told_from_a_missing_calendar(stage: Stage) -> None:
    assert stage.calendar.fetch(HREF) is None
    stage.traffic.fail(COLLECTION, method="PROPFIND", status=404)
    with pytest.raises(NeedsYou):
        stage.calendar.fetch(HREF)


def test_a_calendar_is_looked_at_once_for_many_writes_of_many_threads(stage: Stage) -> None:
    hrefs = [f"syncd-{number}.ics" for number in range(8)]
    with ThreadPoolExecutor(4) as pool:
        assert len(list(pool.map(lambda href: stage.calendar.create(href, entry()), hrefs))) == 8
    assert len(stage.odd.sent("PROPFIND")) == 1
    assert len(stage.odd.sent("PUT")) == 8


def test_constructing_asks_nothing(stage: Stage) -> None:
    assert stage.traffic.log == []
    assert stage.calendar.url == stage.url + COLLECTION


@pytest.mark.parametrize(
    ("collection", "more", "told"),
    [
        ("<D:collection/><C:calendar/>", "<C:supported-calendar-component-set><C:comp name='VTODO'/>"
         "</C:supported-calendar-component-set>", "takes no events"),
        ("<D:collection/><C:calendar/>", "<D:current-user-privilege-set><D:privilege><D:read/></D:privilege>"
         "</D:current-user-privilege-set>", "may only be read"),
    ],
)  # fmt: skip
def test_an_unfit_calendar_is_not_written_to(stage: Stage, collection: str, more: str, told: str) -> None:
    stage.odd.collection, stage.odd.more = collection, more
    with pytest.raises(NeedsYou, match=told):
        stage.calendar.create(HREF, entry())
    assert stage.odd.sent("PUT") == []


@pytest.mark.parametrize(
    "more",
    [
        "",
        "<D:current-user-privilege-set><D:privilege><D:write-content/></D:privilege></D:current-user-privilege-set>",
        "<C:supported-calendar-component-set><C:comp name='vevent'/></C:supported-calendar-component-set>",
        "<C:supported-calendar-component-set/>",
    ],
)
def test_what_a_server_does_not_tell_is_assumed_to_be_fine(stage: Stage, more: str) -> None:
    stage.odd.more = more
    stage.calendar.check()


def test_a_wrong_password_is_tried_once_whoever_asks(stage: Stage) -> None:
    stage.odd.password = "another"

    def attempt(number: int) -> type[BaseException]:
        with pytest.raises(LoginRefused) as refused:
            stage.calendar.fetch(f"{number}.ics")
        assert not [secret for secret in SECRETS if secret in str(refused.value)]
        return type(refused.value)

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(attempt, range(8))) == {LoginRefused}
    assert len(stage.traffic.log) == 1


def test_a_changed_password_is_tried_again(stage: Stage) -> None:
    stage.passwords.append("wrong")
    with pytest.raises(LoginRefused, match="app password"):
        stage.calendar.check()
    stage.passwords.append(PASSWORD)
    stage.calendar.check()
    assert len(stage.traffic.log) == 2


def test_a_server_without_basic_login_is_named_as_such(stage: Stage) -> None:
    challenge = {"www-authenticate": 'Digest realm="BaikalDAV", nonce="1"'}
    stage.traffic.fail("/", status=401, headers=challenge)
    with pytest.raises(LoginRefused, match="no Basic login"):
        stage.calendar.check()


def test_every_request_bears_the_login_and_every_body_its_type(stage: Stage) -> None:
    stored = stage.calendar.create(HREF, entry())
    stage.calendar.update(HREF, entry("Moved"), stored.etag)
    look, create, update = stage.odd.requests
    assert look.headers["depth"] == "0"
    assert look.headers["content-type"].startswith("application/xml")
    assert create.headers["if-none-match"] == "*"
    assert "if-match" not in create.headers
    assert update.headers["if-match"] == stored.etag
    assert create.headers["content-type"] == "text/calendar; charset=utf-8"
    assert stage.odd.objects[COLLECTION + HREF][1] == entry("Moved")


@pytest.mark.parametrize(
    ("written", "sent"),
    [('"a"', '"a"'), ("a", '"a"'), ('W/"a"', None), (None, None)],
    ids=["strong", "yandex", "gmx", "none"],
)
def test_if_match_has_what_it_may_have(stage: Stage, written: str | None, sent: str | None) -> None:
    stage.odd.etag = lambda _: written
    stored = stage.calendar.create(HREF, entry())
    assert stored.etag == written
    stage.odd.objects[COLLECTION + HREF] = (sent or written or "", entry())
    stage.calendar.update(HREF, entry("Moved"), stored.etag)
    assert stage.odd.sent("PUT")[-1].headers.get("if-match") == sent
    stage.calendar.delete(HREF, stored.etag)
    assert stage.odd.sent("DELETE")[-1].headers.get("if-match") == sent
    assert stage.odd.objects == {}


def test_with_a_weak_etag_an_edit_is_noticed_too(stage: Stage) -> None:
    stage.odd.etag = lambda version: f'W/"{version}"'
    stored = stage.calendar.create(HREF, entry())
    stage.odd.objects[COLLECTION + HREF] = ('W/"theirs"', entry("Theirs"))
    with pytest.raises(Changed):
        stage.calendar.update(HREF, entry("Ours"), stored.etag)
    with pytest.raises(Changed):
        stage.calendar.delete(HREF, stored.etag)
    assert stage.odd.objects[COLLECTION + HREF][1] == entry("Theirs")


def test_an_update_without_an_etag_is_not_blind(stage: Stage) -> None:
    stage.calendar.create(HREF, entry())
    stage.calendar.update(HREF, entry("Moved"), None)
    assert stage.odd.sent("PUT")[-1].headers["if-match"] == '"1"'


@pytest.mark.parametrize(
    ("location", "href"),
    [
        (COLLECTION + "other%20name.ics", "other%20name.ics"),
        ("/dav/%61lice/team/other.ics", "other.ics"),
        ("other.ics", "other.ics"),
        ("/dav/bob/team/other.ics", HREF),
        (COLLECTION, HREF),
    ],
)
def test_a_server_may_give_an_object_another_name_in_its_calendar(stage: Stage, location: str, href: str) -> None:
    stage.odd.location = location
    assert stage.calendar.create(HREF, entry()).href == href


@pytest.mark.parametrize("href", ["", "..", "a/b.ics", "a?b", "a#b"])
def test_an_href_stays_in_its_calendar(stage: Stage, href: str) -> None:
    with pytest.raises(ValueError, match="segment"):
        stage.calendar.create(href, entry())
    assert stage.traffic.log == []


MULTI = (
    '<D:multistatus xmlns:D="DAV:"><D:response><D:href>/x</D:href><D:status>HTTP/1.1 {}</D:status>'
    "</D:response></D:multistatus>"
)


def test_a_multistatus_is_looked_into(stage: Stage) -> None:
    stage.traffic.fail(COLLECTION, method="PUT", status=207, body=MULTI.format("507 Insufficient Storage"))
    stage.traffic.fail(COLLECTION, method="PUT", status=207, body=MULTI.format("200 OK"))
    stage.traffic.fail(COLLECTION, method="PUT", status=207, body="<html>")
    with pytest.raises(NeedsYou, match="no room"):
        stage.calendar.create(HREF, entry())
    stage.calendar.create(HREF, entry())
    with pytest.raises(BadAnswer):
        stage.calendar.create(HREF, entry())


@pytest.mark.parametrize("status", [404, 410])
def test_deleting_what_is_gone_is_done(stage: Stage, status: int) -> None:
    stage.traffic.fail(COLLECTION, method="DELETE", status=status)
    stage.calendar.delete(HREF, '"1"')
    assert [request.method for request in stage.traffic.log].count("DELETE") == 1


def test_a_precondition_that_fails_for_nothing_is_a_deletion_done(stage: Stage) -> None:
    stage.traffic.fail(COLLECTION, method="DELETE", status=412, body=SABRE_412, times=2)
    stage.calendar.delete(HREF, '"1"')
    stage.calendar.create(HREF, entry())
    with pytest.raises(Changed):
        stage.calendar.delete(HREF, '"0"')


def test_a_login_page_is_no_object_and_no_calendar(stage: Stage) -> None:
    stage.traffic.fail(COLLECTION, method="PROPFIND", status=200, body="<html>Sign in</html>")
    with pytest.raises(BadAnswer):
        stage.calendar.check()
    stage.traffic.fail(COLLECTION, method="GET", status=200, body="<html>Sign in</html>")
    with pytest.raises(BadAnswer):
        stage.calendar.fetch(HREF)


def test_the_time_to_wait_is_passed_on(stage: Stage) -> None:
    stage.traffic.fail(COLLECTION, method="PUT", status=429, headers={"retry-after": "300"})
    with pytest.raises(Unavailable) as busy:
        stage.calendar.create(HREF, entry())
    assert busy.value.retry_after == 300


def test_a_redirect_of_the_calendar_is_followed_and_kept(stage: Stage) -> None:
    stage.traffic.fail(COLLECTION, method="PROPFIND", status=301, headers={"location": "/new/dav/alice/team/"})
    stage.calendar.create(HREF, entry())
    assert stage.calendar.url == stage.url + "/new/dav/alice/team/"
    assert list(stage.odd.objects) == ["/new/dav/alice/team/" + HREF]


def test_a_redirect_to_another_host_gets_no_password(stage: Stage) -> None:
    elsewhere = OddServer()
    with Served(elsewhere) as other:
        stage.traffic.fail(COLLECTION, method="PROPFIND", status=301, headers={"location": other.url + COLLECTION})
        with pytest.raises(BadAnswer, match="not followed"):
            stage.calendar.check()
    assert elsewhere.requests == []


def test_an_answer_lost_after_a_put_is_not_asked_for_again(stage: Stage) -> None:
    stage.traffic.cut(COLLECTION, method="PUT")
    with pytest.raises(BadAnswer):
        stage.calendar.create(HREF, entry())
    assert len(stage.odd.sent("PUT")) == 1
    assert list(stage.odd.objects) == [COLLECTION + HREF]


def test_a_server_that_lists_calendars_elsewhere_does_not_get_the_password_there(stage: Stage) -> None:
    stage.odd.collection = "<D:collection/>"
    stage.odd.more = (
        "<D:current-user-principal><D:href>/p/</D:href></D:current-user-principal>"
        "<C:calendar-home-set><D:href>https://evil.example.com/home/</D:href></C:calendar-home-set>"
    )
    with (
        closing(
            CalDAVCalendar("team", stage.url, username="alice", password=lambda: PASSWORD, calendar="OpenTalk")
        ) as calendar,
        pytest.raises(NeedsYou, match=r"evil\.example\.com"),
    ):
        calendar.check()


@pytest.mark.parametrize(
    ("there", "trusted"),
    [
        ("https://caldav.icloud.com:443/x", True),
        ("https://caldav.icloud.com/x", True),
        ("https://p42-caldav.icloud.com/x", True),
        ("https://p42-caldav.icloud.com:443/x", True),
        ("http://p42-caldav.icloud.com/x", False),
        ("https://icloud.com/x", False),
        ("https://evil.com/x", False),
        ("https://caldav.icloud.com.evil.com/x", False),
    ],
)
def test_only_siblings_with_tls_are_trusted(there: str, trusted: bool) -> None:
    assert _same_house(there, "https://caldav.icloud.com/") is trusted


@pytest.mark.parametrize("server", [servers.radicale, servers.xandikos], ids=["radicale", "xandikos"])
class TestDiscovery:
    def test_a_calendar_is_made_once_and_then_found(self, server: Callable[[], servers.Server]) -> None:
        with closing(server().calendar(calendar="Besprechungen")) as calendar:
            calendar.create(HREF, entry())
            url = calendar.url
        with closing(server().calendar(calendar="Besprechungen")) as again:
            assert again.fetch(HREF) is not None
            assert again.url == url
        assert url.startswith(server().home)

    def test_from_any_address_of_the_server(self, server: Callable[[], servers.Server]) -> None:
        urls: set[str] = set()
        for start in (server().url, server().url.rstrip("/"), server().home, server().fresh_calendar()):
            with closing(server().calendar(start, calendar="Anywhere")) as calendar:
                calendar.check()
                urls.add(calendar.url)
        assert len(urls) == 1

    def test_a_server_is_no_calendar(self, server: Callable[[], servers.Server]) -> None:
        for start in (server().url, server().home):
            with (
                closing(server().calendar(start)) as calendar,
                pytest.raises(NeedsYou, match='calendar = "'),
            ):
                calendar.check()

    def test_a_list_of_tasks_is_no_calendar(self, server: Callable[[], servers.Server]) -> None:
        url = server().fresh_calendar(["VTODO"])
        with closing(server().calendar(url)) as calendar, pytest.raises(NeedsYou, match="takes no events"):
            calendar.check()

    def test_a_typo_makes_no_calendar(self, server: Callable[[], servers.Server]) -> None:
        url = server().home + "no-such-calendar/"
        for _ in range(2):
            with (
                closing(server().calendar(url)) as calendar,
                pytest.raises(NeedsYou, match=r"is not there \(404\)"),
            ):
                calendar.create(HREF, entry())


def test_radicale_refuses_a_wrong_password() -> None:
    server = servers.radicale()
    with (
        closing(CalDAVCalendar("team", server.fresh_calendar(), username="alice", password=lambda: "x")) as calendar,
        pytest.raises(LoginRefused),
    ):
        calendar.check()


def test_a_calendar_server_keeps_its_calendars_and_ends_when_closed(tmp_path: Path) -> None:
    urls = []
    for _ in range(2):
        with CalendarServer(tmp_path, username="alice", password=PASSWORD) as server:
            calendar = CalDAVCalendar(
                "demo", server.url, username="alice", password=lambda: PASSWORD, calendar="OpenTalk"
            )
            with closing(calendar):
                calendar.check()
                urls.append(calendar.url.removeprefix(server.url))
    assert urls[0] == urls[1]
    late = CalDAVCalendar("demo", server.url, username="alice", password=lambda: PASSWORD)
    with closing(late), pytest.raises(Unavailable):
        late.check()


def test_a_calendar_server_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    script = (
        "import os, pathlib, sys\n"
        "from syncd.demo.calendar_server import CalendarServer\n"
        "server = CalendarServer(pathlib.Path(sys.argv[1]), username='alice', password='x')\n"
        "print(server.url, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    ran = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False)
    url = ran.stdout.strip()
    assert url.startswith("http://127.0.0.1:")
    ended = subprocess.run(
        [sys.executable, "-c", _UNTIL_REFUSED, url.split(":")[2].rstrip("/")], timeout=20, check=False
    )
    assert ended.returncode == 0


_UNTIL_REFUSED = """
import socket, sys
while True:
    try:
        socket.create_connection(("127.0.0.1", int(sys.argv[1])), 1).close()
    except ConnectionRefusedError:
        break
"""


def test_calendars_without_a_name_do_not_load_the_library() -> None:
    code = "import sys, syncd.dav; sys.exit('niquests' in sys.modules or 'caldav.davclient' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_discovery_warns_of_nothing_and_logs_nothing() -> None:
    server = servers.radicale()
    code = (
        "import logging, sys; from contextlib import closing; from syncd.dav import CalDAVCalendar\n"
        "logging.basicConfig(level=1, stream=sys.stdout)\n"
        "calendar = CalDAVCalendar('team', sys.argv[1], username='alice', password=lambda: sys.argv[2],"
        " calendar='Jour fixe')\n"
        "with closing(calendar): calendar.check()\n"
    )
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, server.url, server.password],
        env=os.environ | {"PYTHON_CALDAV_DEBUGMODE": "DEBUG"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    assert "Jour fixe" not in ran.stdout
    assert "pässwörd" not in ran.stdout


@given(
    status=st.integers(300, 599),
    body=st.binary(max_size=60) | st.sampled_from([SABRE_412.encode(), NEXTCLOUD_400.encode(), b"<a>" * 300]),
)
def test_every_answer_that_is_no_success_has_its_exception(status: int, body: bytes) -> None:
    answer = Answer(status, {}, b"SECRET" + body, "http://localhost/")
    error = problem(answer, "calendar team")
    assert isinstance(error, SyncdError)
    assert str(error).startswith("calendar team")
    assert "SECRET" not in str(error)
