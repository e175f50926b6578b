# SPDX-License-Identifier: Apache-2.0
import os
import subprocess
import sys
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes
from xml.sax.saxutils import escape

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree  # type: ignore[import-untyped]
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from syncd.dav.answers import problem
from syncd.dav.calendar import PAGES, CalDAVCalendar, _may_have_password
from syncd.dav.listing import NO_ETAG, href_of, read_listing
from syncd.demo.calendar_server import CalendarServer
from syncd.demo.serve import RunningServer, Traffic
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
from tests.support import calendar_servers
from tests.support.calendar_objects import HREF, calendar_object

PASSWORD = "s3cret-pässwörd"
SECRETS = ("s3cret", "/alice/", "Jour fixe", "http://", "alice")
COLLECTION = "/dav/alice/team/"


class OddServer:
    """A CalDAV server with one calendar and, if a test wants them, a few habits of others."""

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


class OddServerRig:
    def __init__(self, url: str, odd: OddServer, traffic: Traffic) -> None:
        self.url, self.odd, self.traffic = url, odd, traffic
        self.passwords = [PASSWORD]
        self.calendar = CalDAVCalendar("team", url + COLLECTION, username="alice", password=lambda: self.passwords[-1])


@pytest.fixture
def rig() -> Iterator[OddServerRig]:
    odd = OddServer()
    traffic = Traffic(odd)
    with RunningServer(traffic) as served:
        rig = OddServerRig(served.url, odd, traffic)
        with closing(rig.calendar):
            yield rig


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
def test_a_refused_put_says_who_must_act(rig: OddServerRig, status: int, body: str, expected: type[SyncdError]) -> None:
    rig.traffic.fail(COLLECTION, method="PUT", status=status, body=body)
    with pytest.raises(expected) as refused:
        rig.calendar.create(HREF, calendar_object())
    assert type(refused.value) is expected
    assert not [secret for secret in SECRETS if secret in str(refused.value)]
    assert len(rig.odd.sent("PUT")) == 0


@pytest.mark.parametrize("status", [404, 405, 409, 410])
def test_a_put_into_a_calendar_that_vanished_needs_a_person(rig: OddServerRig, status: int) -> None:
    rig.calendar.check()
    rig.traffic.fail(COLLECTION, method="PUT", status=status)
    rig.traffic.fail(COLLECTION, method="PROPFIND", status=404)
    with pytest.raises(NeedsYou, match=r"team is not there \(404\)"):
        rig.calendar.create(HREF, calendar_object())


@pytest.mark.parametrize("status", [403, 404, 405, 410])
def test_nothing_is_written_where_no_calendar_is(rig: OddServerRig, status: int) -> None:
    rig.traffic.fail(COLLECTION, method="PROPFIND", status=status)
    with pytest.raises(NeedsYou, match="team is not there"):
        rig.calendar.create(HREF, calendar_object())
    assert [request.method for request in rig.traffic.log] == ["PROPFIND"]


def test_a_missing_object_is_not_mistaken_for_a_missing_calendar(rig: OddServerRig) -> None:
    assert rig.calendar.fetch(HREF) is None
    rig.traffic.fail(COLLECTION, method="PROPFIND", status=404)
    with pytest.raises(NeedsYou):
        rig.calendar.fetch(HREF)


def test_a_calendar_is_looked_at_once_for_many_writes_of_many_threads(rig: OddServerRig) -> None:
    hrefs = [f"syncd-{number}.ics" for number in range(8)]
    with ThreadPoolExecutor(4) as pool:
        assert len(list(pool.map(lambda href: rig.calendar.create(href, calendar_object()), hrefs))) == 8
    assert len(rig.odd.sent("PROPFIND")) == 1
    assert len(rig.odd.sent("PUT")) == 8


def test_constructing_asks_nothing(rig: OddServerRig) -> None:
    assert rig.traffic.log == []
    assert rig.calendar.url == rig.url + COLLECTION


@pytest.mark.parametrize(
    ("collection", "more", "message"),
    [
        ("<D:collection/><C:calendar/>", "<C:supported-calendar-component-set><C:comp name='VTODO'/>"
         "</C:supported-calendar-component-set>", "takes no events"),
        ("<D:collection/><C:calendar/>", "<D:current-user-privilege-set><D:privilege><D:read/></D:privilege>"
         "</D:current-user-privilege-set>", "may only be read"),
    ],
)  # fmt: skip
def test_an_unfit_calendar_is_not_written_to(rig: OddServerRig, collection: str, more: str, message: str) -> None:
    rig.odd.collection, rig.odd.more = collection, more
    with pytest.raises(NeedsYou, match=message):
        rig.calendar.create(HREF, calendar_object())
    assert rig.odd.sent("PUT") == []


@pytest.mark.parametrize(
    "more",
    [
        "",
        "<D:current-user-privilege-set><D:privilege><D:write-content/></D:privilege></D:current-user-privilege-set>",
        "<C:supported-calendar-component-set><C:comp name='vevent'/></C:supported-calendar-component-set>",
        "<C:supported-calendar-component-set/>",
    ],
)
def test_what_a_server_does_not_tell_is_assumed_to_be_fine(rig: OddServerRig, more: str) -> None:
    rig.odd.more = more
    rig.calendar.check()


def test_a_wrong_password_is_tried_once_whoever_asks(rig: OddServerRig) -> None:
    rig.odd.password = "another"

    def attempt(number: int) -> type[BaseException]:
        with pytest.raises(LoginRefused) as refused:
            rig.calendar.fetch(f"{number}.ics")
        assert not [secret for secret in SECRETS if secret in str(refused.value)]
        return type(refused.value)

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(attempt, range(8))) == {LoginRefused}
    assert len(rig.traffic.log) == 1


def test_a_changed_password_is_tried_again(rig: OddServerRig) -> None:
    rig.passwords.append("wrong")
    with pytest.raises(LoginRefused, match="app password"):
        rig.calendar.check()
    rig.passwords.append(PASSWORD)
    rig.calendar.check()
    assert len(rig.traffic.log) == 2


def test_a_server_without_basic_login_is_named_as_such(rig: OddServerRig) -> None:
    challenge = {"www-authenticate": 'Digest realm="BaikalDAV", nonce="1"'}
    rig.traffic.fail("/", status=401, headers=challenge)
    with pytest.raises(LoginRefused, match="no Basic login"):
        rig.calendar.check()


def test_every_request_bears_the_login_and_every_body_its_type(rig: OddServerRig) -> None:
    stored = rig.calendar.create(HREF, calendar_object())
    rig.calendar.update(HREF, calendar_object("Moved"), stored.etag)
    look, create, update = rig.odd.requests
    assert look.headers["depth"] == "0"
    assert look.headers["content-type"].startswith("application/xml")
    assert create.headers["if-none-match"] == "*"
    assert "if-match" not in create.headers
    assert update.headers["if-match"] == stored.etag
    assert create.headers["content-type"] == "text/calendar; charset=utf-8"
    assert rig.odd.objects[COLLECTION + HREF][1] == calendar_object("Moved")


@pytest.mark.parametrize(
    ("written", "sent"),
    [('"a"', '"a"'), ("a", '"a"'), ('W/"a"', None), (None, None)],
    ids=["strong", "yandex", "gmx", "none"],
)
def test_if_match_has_what_it_may_have(rig: OddServerRig, written: str | None, sent: str | None) -> None:
    rig.odd.etag = lambda _: written
    stored = rig.calendar.create(HREF, calendar_object())
    assert stored.etag == written
    rig.odd.objects[COLLECTION + HREF] = (sent or written or "", calendar_object())
    rig.calendar.update(HREF, calendar_object("Moved"), stored.etag)
    assert rig.odd.sent("PUT")[-1].headers.get("if-match") == sent
    rig.calendar.delete(HREF, stored.etag)
    assert rig.odd.sent("DELETE")[-1].headers.get("if-match") == sent
    assert rig.odd.objects == {}


def test_with_a_weak_etag_an_edit_is_noticed_too(rig: OddServerRig) -> None:
    rig.odd.etag = lambda version: f'W/"{version}"'
    stored = rig.calendar.create(HREF, calendar_object())
    rig.odd.objects[COLLECTION + HREF] = ('W/"theirs"', calendar_object("Theirs"))
    with pytest.raises(Changed):
        rig.calendar.update(HREF, calendar_object("Ours"), stored.etag)
    with pytest.raises(Changed):
        rig.calendar.delete(HREF, stored.etag)
    assert rig.odd.objects[COLLECTION + HREF][1] == calendar_object("Theirs")


def test_an_update_without_an_etag_is_not_blind(rig: OddServerRig) -> None:
    rig.calendar.create(HREF, calendar_object())
    rig.calendar.update(HREF, calendar_object("Moved"), None)
    assert rig.odd.sent("PUT")[-1].headers["if-match"] == '"1"'


@pytest.mark.parametrize(
    ("location", "href"),
    [
        (COLLECTION + "other%20name.ics", "other%20name.ics"),
        (COLLECTION + "other@name.ics", "other%40name.ics"),
        ("/dav/%61lice/team/other.ics", "other.ics"),
        ("other.ics", "other.ics"),
        ("/dav/bob/team/other.ics", HREF),
        (COLLECTION, HREF),
        ("http://[nonsense", HREF),
    ],
)
def test_a_server_may_give_an_object_another_name_in_its_calendar(rig: OddServerRig, location: str, href: str) -> None:
    rig.odd.location = location
    assert rig.calendar.create(HREF, calendar_object()).href == href


@pytest.mark.parametrize("href", ["", "..", "a/b.ics", "a?b", "a#b"])
def test_an_href_stays_in_its_calendar(rig: OddServerRig, href: str) -> None:
    with pytest.raises(ValueError, match="segment"):
        rig.calendar.create(href, calendar_object())
    assert rig.traffic.log == []


MULTI = (
    '<D:multistatus xmlns:D="DAV:"><D:response><D:href>/x</D:href><D:status>HTTP/1.1 {}</D:status>'
    "</D:response></D:multistatus>"
)


def test_a_multistatus_is_looked_into(rig: OddServerRig) -> None:
    rig.traffic.fail(COLLECTION, method="PUT", status=207, body=MULTI.format("507 Insufficient Storage"))
    rig.traffic.fail(COLLECTION, method="PUT", status=207, body=MULTI.format("200 OK"))
    rig.traffic.fail(COLLECTION, method="PUT", status=207, body="<html>")
    with pytest.raises(NeedsYou, match="no room"):
        rig.calendar.create(HREF, calendar_object())
    rig.calendar.create(HREF, calendar_object())
    with pytest.raises(BadAnswer):
        rig.calendar.create(HREF, calendar_object())


@pytest.mark.parametrize("status", [404, 410])
def test_deleting_what_is_gone_is_done(rig: OddServerRig, status: int) -> None:
    rig.traffic.fail(COLLECTION, method="DELETE", status=status)
    rig.calendar.delete(HREF, '"1"')
    assert [request.method for request in rig.traffic.log].count("DELETE") == 1


def test_a_precondition_that_fails_for_nothing_is_a_deletion_done(rig: OddServerRig) -> None:
    rig.traffic.fail(COLLECTION, method="DELETE", status=412, body=SABRE_412, times=2)
    rig.calendar.delete(HREF, '"1"')
    rig.calendar.create(HREF, calendar_object())
    with pytest.raises(Changed):
        rig.calendar.delete(HREF, '"0"')


def test_a_login_page_is_no_object_and_no_calendar(rig: OddServerRig) -> None:
    rig.traffic.fail(COLLECTION, method="PROPFIND", status=200, body="<html>Sign in</html>")
    with pytest.raises(BadAnswer):
        rig.calendar.check()
    rig.traffic.fail(COLLECTION, method="GET", status=200, body="<html>Sign in</html>")
    with pytest.raises(BadAnswer):
        rig.calendar.fetch(HREF)


def test_the_time_to_wait_is_passed_on(rig: OddServerRig) -> None:
    rig.traffic.fail(COLLECTION, method="PUT", status=429, headers={"retry-after": "300"})
    with pytest.raises(Unavailable) as busy:
        rig.calendar.create(HREF, calendar_object())
    assert busy.value.retry_after == 300


def test_a_redirect_of_the_calendar_is_followed_and_kept(rig: OddServerRig) -> None:
    rig.traffic.fail(COLLECTION, method="PROPFIND", status=301, headers={"location": "/new/dav/alice/team/"})
    rig.calendar.create(HREF, calendar_object())
    assert rig.calendar.url == rig.url + "/new/dav/alice/team/"
    assert list(rig.odd.objects) == ["/new/dav/alice/team/" + HREF]


def test_a_redirect_to_another_host_gets_no_password(rig: OddServerRig) -> None:
    elsewhere = OddServer()
    with RunningServer(elsewhere) as other:
        rig.traffic.fail(COLLECTION, method="PROPFIND", status=301, headers={"location": other.url + COLLECTION})
        with pytest.raises(BadAnswer, match="not followed"):
            rig.calendar.check()
    assert elsewhere.requests == []


def test_an_answer_lost_after_a_put_is_not_asked_for_again(rig: OddServerRig) -> None:
    rig.traffic.cut(COLLECTION, method="PUT")
    with pytest.raises(BadAnswer):
        rig.calendar.create(HREF, calendar_object())
    assert len(rig.odd.sent("PUT")) == 1
    assert list(rig.odd.objects) == [COLLECTION + HREF]


def test_a_server_that_lists_calendars_elsewhere_does_not_get_the_password_there(rig: OddServerRig) -> None:
    rig.odd.collection = "<D:collection/>"
    rig.odd.more = (
        "<D:current-user-principal><D:href>/p/</D:href></D:current-user-principal>"
        "<C:calendar-home-set><D:href>https://evil.example.com/home/</D:href></C:calendar-home-set>"
    )
    with (
        closing(
            CalDAVCalendar("team", rig.url, username="alice", password=lambda: PASSWORD, calendar="OpenTalk")
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
    assert _may_have_password(there, "https://caldav.icloud.com/") is trusted


@pytest.mark.parametrize(
    ("address", "inside"),
    [
        ("{url}/dav/alice/team/x.ics", True),
        ("{url}/dav/alice/team/", True),
        ("{url}/dav/alice/team", False),
        ("{url}/dav/alice/team2/x.ics", False),
        ("{url}0/dav/alice/team/x.ics", False),
        ("https://evil.example.com/dav/alice/team/x.ics", False),
    ],
)
def test_what_is_below_a_calendar_is_on_its_server_and_only_that_gets_the_password_without_a_look(
    rig: OddServerRig, address: str, inside: bool
) -> None:
    there = address.format(url=rig.url)
    assert not rig.calendar._is_in_calendar(there), "before the calendar was found"
    rig.calendar.check()
    assert rig.calendar._is_in_calendar(there) is inside


class Lister(OddServer):
    """Lists its objects, and what changed if it is asked with a token that it gave: ``tokens/`` and a number.

    ``address_of`` says how it writes an address, ``page`` how many changes it reports at once. ``odd_listing`` are
    responses that it adds to a listing, ``odd_changes`` to changes. ``meanwhile`` happens between two requests.
    """

    def __init__(self) -> None:
        super().__init__()
        self.history: list[tuple[str, str | None]] = []
        self.page = 1000
        self.address_of: Callable[[str], str] = lambda name: COLLECTION + name
        self.tokens = True
        self.odd_listing = self.odd_changes = ""
        self.meanwhile: Callable[[], object] = lambda: None

    def set(self, name: str, etag: str | None) -> None:
        self.history.append((name, etag))

    @property
    def here(self) -> dict[str, str]:
        return {name: etag for name, etag in dict(self.history).items() if etag is not None}

    def answer(self, request: Request, body: bytes) -> Response:
        answer = super().answer(request, body)
        if answer.status_code == 401:
            return answer
        asked = (request.method, request.headers.get("depth"))
        token = f"<D:sync-token>{escape(TOKENS)}{len(self.history)}</D:sync-token>"
        if asked == ("PROPFIND", "1"):
            return multistatus(
                member(self.address_of(""), None, COLLECTIONS), self.members(self.here), self.odd_listing
            )
        if asked == ("REPORT", "0"):
            return self.changes(etree.fromstring(body).findtext("{DAV:}sync-token"))
        if asked == ("PROPFIND", "0"):
            self.more = token if self.tokens and b"sync-token" in body else ""
            answer = super().answer(request, body)
            self.meanwhile()
            return answer
        return super().answer(request, body)

    def changes(self, cursor: str) -> Response:
        since = cursor.removeprefix(TOKENS)
        if not since.isdecimal() or int(since) > len(self.history):
            return Response(error_xml("valid-sync-token", "DAV:"), 403, media_type="application/xml")
        end = int(since) + self.page
        rest = status(COLLECTION, "507 Insufficient Storage") if end < len(self.history) else ""
        token = f"<D:sync-token>{escape(TOKENS)}{min(end, len(self.history))}</D:sync-token>"
        return multistatus(self.members(dict(self.history[int(since) : end])), self.odd_changes, rest, token)

    def members(self, etags: Mapping[str, str | None]) -> str:
        return "".join(
            status(self.address_of(name), "404 Not Found") if etag is None else member(self.address_of(name), etag)
            for name, etag in etags.items()
        )


TOKENS = "https://dav.example.org/<tokens>&"
COLLECTIONS = "<D:resourcetype><D:collection/></D:resourcetype>"
I_AM_A_TEAPOT = "<D:propstat><D:prop/><D:status>HTTP/1.1 418 I'm a teapot</D:status></D:propstat>"


def multistatus(*parts: str) -> Response:
    xml = f'<?xml version="1.0"?><D:multistatus xmlns:D="DAV:">{"".join(parts)}</D:multistatus>'
    return Response(xml, 207, media_type="application/xml")


def member(href: str, etag: str | None, more: str = "<D:resourcetype/>") -> str:
    tag = "" if etag is None else f"<D:getetag>{escape(etag)}</D:getetag>"
    return (
        f"<D:response><D:href>{escape(href)}</D:href><D:propstat><D:prop>{tag}{more}</D:prop>"
        "<D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>"
    )


def status(href: str, line: str, more: str = "") -> str:
    return f"<D:response><D:status>HTTP/1.1 {line}</D:status><D:href>{escape(href)}</D:href>{more}</D:response>"


@pytest.fixture
def lister() -> Lister:
    return Lister()


@pytest.fixture
def listed(lister: Lister) -> Iterator[OddServerRig]:
    traffic = Traffic(lister)
    with RunningServer(traffic) as served:
        rig = OddServerRig(served.url, lister, traffic)
        with closing(rig.calendar):
            yield rig


def asked(rig: OddServerRig) -> list[str]:
    return [f"{request.method} {request.headers['depth']}" for request in rig.odd.requests]


REFUSALS = [
    pytest.param(403, error_xml("valid-sync-token", "DAV:"), id="rfc 6578, radicale, sabre"),
    pytest.param(409, error_xml("valid-sync-token", "DAV:"), id="rfc 6578, too"),
    pytest.param(412, error_xml("valid-sync-token", "DAV:"), id="xandikos"),
    pytest.param(410, "", id="google"),
    pytest.param(500, "", id="calendar server, xandikos: malformed"),
    pytest.param(507, error_xml("number-of-matches-within-limits", "DAV:"), id="too many"),
    pytest.param(400, "", id="unknown report"),
    pytest.param(403, error_xml("supported-report", "DAV:"), id="unsupported report"),
    pytest.param(405, "", id="no reports"),
    pytest.param(415, "", id="fruux"),
    pytest.param(501, "", id="not implemented"),
    pytest.param(504, "", id="too slow for its gateway"),
    pytest.param(200, "<html>Sign in</html>", id="html"),
    pytest.param(207, "<html>Sign in</html>", id="html as multistatus"),
    pytest.param(207, '<D:multistatus xmlns:D="DAV:"/>', id="no token"),
]


@pytest.mark.parametrize(("code", "body"), REFUSALS)
def test_where_changes_are_not_reported_all_is_listed(
    listed: OddServerRig, lister: Lister, code: int, body: str
) -> None:
    lister.set(HREF, '"1"')
    cursor = listed.calendar.seen(None).cursor
    listed.traffic.fail(COLLECTION, method="REPORT", status=code, body=body)
    lister.set("new.ics", '"2"')
    lister.set(HREF, None)
    seen = listed.calendar.seen(cursor)
    assert seen.complete
    assert seen.etags == {"new.ics": '"2"'}
    assert listed.calendar.seen(seen.cursor).etags == {}


@pytest.mark.parametrize("code", [400, 403, 404, 405, 501])
def test_without_sync_collection_all_is_listed_every_time(listed: OddServerRig, lister: Lister, code: int) -> None:
    lister.tokens = False
    lister.set(HREF, '"1"')
    listed.traffic.fail(COLLECTION, method="REPORT", status=code, times=9)
    for cursor in (None, "a cursor of another server"):
        seen = listed.calendar.seen(cursor)
        assert (seen.etags, seen.cursor, seen.complete) == ({HREF: '"1"'}, None, True)


@pytest.mark.parametrize("code", [429, 503])
def test_a_server_that_asks_to_wait_is_not_asked_for_more(listed: OddServerRig, code: int) -> None:
    cursor = listed.calendar.seen(None).cursor
    before = len(listed.traffic.log)
    listed.traffic.fail(COLLECTION, method="REPORT", status=code, headers={"retry-after": "300"})
    with pytest.raises(Unavailable) as busy:
        listed.calendar.seen(cursor)
    assert busy.value.retry_after == 300
    assert len(listed.traffic.log) == before + 1


def test_a_wrong_password_is_no_refused_token(listed: OddServerRig, lister: Lister) -> None:
    cursor = listed.calendar.seen(None).cursor
    lister.password = "another"
    with pytest.raises(LoginRefused):
        listed.calendar.seen(cursor)


def test_changes_are_asked_for_as_the_rfc_says(listed: OddServerRig, lister: Lister) -> None:
    cursor = listed.calendar.seen(None).cursor
    listed.calendar.seen(cursor)
    assert cursor == TOKENS + "0"
    assert asked(listed) == ["PROPFIND 0", "PROPFIND 1", "REPORT 0"]
    assert {request.headers["content-type"] for request in lister.requests} == {"application/xml; charset=utf-8"}


@given(
    steps=st.lists(st.tuples(st.sampled_from("abcd"), st.none() | st.sampled_from(['"1"', '"2"', "W/'&"]))),
    asks=st.sets(st.integers(0, 12)),
    page=st.integers(1, 5),
)
@settings(max_examples=25, deadline=None)
def test_all_and_then_every_change_is_all(steps: list[tuple[str, str | None]], asks: set[int], page: int) -> None:
    lister = Lister()
    lister.page = page
    with (
        RunningServer(lister) as served,
        closing(OddServerRig(served.url, lister, Traffic(lister)).calendar) as calendar,
    ):
        seen = calendar.seen(None)
        known = dict(seen.etags)
        for number, (name, etag) in enumerate([*steps, ("a", '"9"')]):
            lister.set(name, etag)
            if number in asks or number == len(steps):
                seen = calendar.seen(seen.cursor)
                assert not seen.complete
                known.update(seen.etags)
        assert {name: etag for name, etag in known.items() if etag is not None} == lister.here
        assert calendar.seen(None).etags == lister.here


def test_truncated_changes_are_followed_to_their_end(listed: OddServerRig, lister: Lister) -> None:
    lister.set("gone.ics", '"0"')
    cursor = listed.calendar.seen(None).cursor
    for number in range(7):
        lister.set(f"{number}.ics", f'"{number}"')
    lister.set("gone.ics", None)
    lister.page = 3
    seen = listed.calendar.seen(cursor)
    assert seen.etags == {f"{number}.ics": f'"{number}"' for number in range(7)} | {"gone.ics": None}
    assert seen.cursor == TOKENS + "9"
    assert len(lister.sent("REPORT")) == 3


@pytest.mark.parametrize(
    ("page", "href", "requests"), [(0, "", 1), (1, "", PAGES), (1000, COLLECTION + "x.ics", 1)],
    ids=["no progress", "no end", "another 507"],
)  # fmt: skip
def test_changes_without_an_end_are_given_up(
    listed: OddServerRig, lister: Lister, page: int, href: str, requests: int
) -> None:
    cursor = listed.calendar.seen(None).cursor
    for number in range(PAGES + 1):
        lister.set(f"{number}.ics", '"1"')
    lister.page = page
    lister.odd_changes = status(href, "507 Insufficient Storage") if href else ""
    seen = listed.calendar.seen(cursor)
    assert seen.complete
    assert len(seen.etags) == PAGES + 1
    assert len(lister.sent("REPORT")) == requests


@pytest.mark.parametrize(
    "responses",
    [
        status(COLLECTION, "507 Insufficient Storage"),
        status(COLLECTION.rstrip("/"), "507 Insufficient Storage"),
        status(COLLECTION + "x.ics", "507 Insufficient Storage"),
        status(COLLECTION + "x.ics", "500 Internal Server Error"),
        status(COLLECTION + "x.ics", "403 Forbidden"),
        status(COLLECTION + "sub/", "500 Internal Server Error"),
        status(COLLECTION, "404 Not Found"),
        "<D:response><D:propstat/></D:response>",
        "<D:response><D:href/></D:response>",
        "<D:response><D:href>http://[/</D:href></D:response>",
    ],
)
def test_a_listing_that_lacks_something_is_none(listed: OddServerRig, lister: Lister, responses: str) -> None:
    lister.set(HREF, '"1"')
    lister.odd_listing = responses
    with pytest.raises(BadAnswer) as bad:
        listed.calendar.seen(None)
    assert not [secret for secret in SECRETS if secret in str(bad.value)]


@pytest.mark.parametrize(
    ("code", "body"),
    [
        (200, "<html>Sign in</html>"),
        (207, "<html>Sign in</html>"),
        (207, "<html/>"),
        (207, ""),
        (207, '<D:multistatus xmlns:D="DAV:"/>'),
        (204, ""),
        (400, ""),
        (403, ""),
        (507, ""),
    ],
)
def test_what_is_no_listing_is_no_empty_calendar(listed: OddServerRig, code: int, body: str) -> None:
    listed.traffic.fail(COLLECTION, method="PROPFIND", status=code, body=body, after=1)
    with pytest.raises(BadAnswer) as bad:
        listed.calendar.seen(None)
    assert "Sign in" not in str(bad.value)


@pytest.mark.parametrize("mend", [True, False], ids=["mended", "broken off"])
def test_half_a_listing_is_none(listed: OddServerRig, lister: Lister, mend: bool) -> None:
    for number in range(20):
        lister.set(f"{number}.ics", '"1"')
    listed.traffic.cut(COLLECTION, method="PROPFIND", after=1, mend=mend)
    with pytest.raises(BadAnswer):
        listed.calendar.seen(None)


def test_half_of_the_changes_is_none_of_them(listed: OddServerRig, lister: Lister) -> None:
    cursor = listed.calendar.seen(None).cursor
    for number in range(20):
        lister.set(f"{number}.ics", '"1"')
    listed.traffic.cut(COLLECTION, method="REPORT", mend=True)
    listed.traffic.cut(COLLECTION, method="REPORT")
    seen = listed.calendar.seen(cursor)
    assert seen.complete
    assert len(seen.etags) == 20
    with pytest.raises(BadAnswer):
        listed.calendar.seen(cursor)


def test_a_calendar_that_vanishes_while_it_is_listed_needs_a_person(listed: OddServerRig) -> None:
    listed.traffic.fail(COLLECTION, method="PROPFIND", status=404, after=1, times=2)
    with pytest.raises(NeedsYou, match=r"team is not there \(404\)"):
        listed.calendar.seen(None)


def test_a_calendar_that_became_something_else_is_not_empty(listed: OddServerRig, lister: Lister) -> None:
    listed.calendar.check()
    lister.collection = "<D:collection/>"
    with pytest.raises(NeedsYou):
        listed.calendar.seen(None)


def test_what_changes_while_all_is_listed_is_told_again(listed: OddServerRig, lister: Lister) -> None:
    listed.calendar.check()
    lister.meanwhile = lambda: lister.set(HREF, '"1"')
    seen = listed.calendar.seen(None)
    assert seen.etags == {HREF: '"1"'}
    assert listed.calendar.seen(seen.cursor).etags == {HREF: '"1"'}


@pytest.mark.parametrize(
    "address_of",
    [
        lambda name: COLLECTION + name,
        lambda name: "/dav/%61lice/team/" + name.replace("-", "%2d"),
        lambda name: "https://internal.example.org:8443" + COLLECTION + name,
        lambda name: "/behind/a/proxy/" + name,
        lambda name: COLLECTION.rstrip("/") if not name else COLLECTION + name,
        lambda name: "/dav/alice%2Fteam/" + name,
        lambda name: f"\n  {COLLECTION}{name}\n",
        lambda name: name,
    ],
    ids=["path", "encoded", "url", "prefix", "no slash", "encoded slash", "blanks", "relative"],
)
def test_however_addresses_are_written_an_object_has_its_href(
    listed: OddServerRig, lister: Lister, address_of: Callable[[str], str]
) -> None:
    lister.address_of = lambda name: address_of(name) or COLLECTION
    lister.set(HREF, '"1"')
    lister.odd_listing = member(COLLECTION + "folder/", '"f"', COLLECTIONS) + member("folder", '"f"', COLLECTIONS)
    lister.odd_changes = member(COLLECTION, '"own"') + status(COLLECTION + "folder/", "404 Not Found")
    cursor = listed.calendar.seen(None).cursor
    assert listed.calendar.seen(None).etags == {HREF: '"1"'}
    lister.set(HREF, '"2"')
    assert listed.calendar.seen(cursor).etags == {HREF: '"2"'}
    lister.set(HREF, None)
    assert listed.calendar.seen(cursor).etags == {HREF: None}


@given(st.text(min_size=1), st.data())
def test_one_object_has_one_href_in_every_encoding(name: str, data: st.DataObject) -> None:
    name = name.encode(errors="replace").decode()
    written = "".join(
        quote(letter, safe="") if letter in "/?#%\t\r\n;[]" or data.draw(st.booleans()) else letter for letter in name
    )
    href = href_of("https://dav.example.org/team/" + written)
    assert unquote_to_bytes(href) == name.encode()
    assert href == quote(name, safe="") == href_of(href)


def test_an_object_under_two_names_of_a_server_is_one(listed: OddServerRig, lister: Lister) -> None:
    lister.location = COLLECTION + "Jour fixe@host.ics"
    stored = listed.calendar.create(HREF, calendar_object())
    lister.set("Jour%20fixe%40host.ics", '"1"')
    assert listed.calendar.seen(None).etags == {stored.href: '"1"'}


def test_an_object_whose_etag_is_not_told_is_there(listed: OddServerRig, lister: Lister) -> None:
    cursor = listed.calendar.seen(None).cursor
    lister.odd_listing = lister.odd_changes = (
        member(COLLECTION + "untold.ics", None)
        + member(COLLECTION + "empty.ics", " ")
        + member(COLLECTION + "refused.ics", None, "<D:getetag/>").replace("200 OK", "403 Forbidden")
    )  # fmt: skip
    expected = {"untold.ics": NO_ETAG, "empty.ics": NO_ETAG, "refused.ics": NO_ETAG}
    assert listed.calendar.seen(None).etags == expected
    assert listed.calendar.seen(cursor).etags == expected


GONE_AND_CHANGED = (status(COLLECTION + HREF, "404 Not Found"), member(COLLECTION + HREF, '"1"'))


@pytest.mark.parametrize(
    ("responses", "etag"),
    [
        (status(COLLECTION + HREF, "404 Not Found", I_AM_A_TEAPOT), None),
        (status(COLLECTION + HREF, "410 Gone"), None),
        ("".join(GONE_AND_CHANGED), '"1"'),
        ("".join(reversed(GONE_AND_CHANGED)), '"1"'),
        (status(COLLECTION + HREF, "404 Not Found").replace("<D:href>", "<D:href>/x.ics</D:href><D:href>"), None),
    ],
    ids=["nextcloud", "410", "cyrus", "cyrus, too", "two at once"],
)
def test_what_is_gone_is_not_mistaken_for_what_is_there(
    listed: OddServerRig, lister: Lister, responses: str, etag: str | None
) -> None:
    cursor = listed.calendar.seen(None).cursor
    lister.odd_changes = responses
    assert listed.calendar.seen(cursor).etags[HREF] == etag


def test_what_goes_while_it_is_listed_is_not_there(listed: OddServerRig, lister: Lister) -> None:
    lister.odd_listing = status(COLLECTION + HREF, "404 Not Found")
    seen = listed.calendar.seen(None)
    assert seen.complete
    assert seen.etags == {}


@pytest.mark.parametrize("etag", ['"a"', 'W/"a"', "a", '"<&>"'], ids=["strong", "gmx", "yandex", "escaped"])
def test_etags_are_seen_as_the_server_writes_them(listed: OddServerRig, lister: Lister, etag: str) -> None:
    cursor = listed.calendar.seen(None).cursor
    lister.set(HREF, etag)
    assert listed.calendar.seen(None).etags == listed.calendar.seen(cursor).etags == {HREF: etag}


def test_ten_thousand_objects_are_seen(listed: OddServerRig, lister: Lister) -> None:
    cursor = listed.calendar.seen(None).cursor
    for number in range(10_000):
        lister.set(f"syncd-{number:036}.ics", f'"{number:064}"')
    lister.page = 10_000
    assert listed.calendar.seen(None).etags == listed.calendar.seen(cursor).etags == lister.here
    assert asked(listed) == ["PROPFIND 0", "PROPFIND 1"] * 2 + ["REPORT 0"]


@given(st.binary(max_size=200) | st.sampled_from([b"<a>" * 300, b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>']))
def test_what_is_not_xml_is_no_listing(body: bytes) -> None:
    with pytest.raises(BadAnswer):
        read_listing(Answer(207, {}, body, "http://localhost/"), "calendar team")


@pytest.mark.parametrize("server", [calendar_servers.radicale, calendar_servers.xandikos], ids=["radicale", "xandikos"])
class TestDiscovery:
    def test_a_calendar_is_made_once_and_then_found(self, server: Callable[[], calendar_servers.Server]) -> None:
        with closing(server().calendar(calendar="Besprechungen")) as calendar:
            calendar.create(HREF, calendar_object())
            url = calendar.url
        with closing(server().calendar(calendar="Besprechungen")) as again:
            assert again.fetch(HREF) is not None
            assert again.url == url
        assert url.startswith(server().home)

    def test_from_any_address_of_the_server(self, server: Callable[[], calendar_servers.Server]) -> None:
        urls: set[str] = set()
        for start in (server().url, server().url.rstrip("/"), server().home, server().fresh_calendar()):
            with closing(server().calendar(start, calendar="Anywhere")) as calendar:
                calendar.check()
                urls.add(calendar.url)
        assert len(urls) == 1

    def test_a_server_is_no_calendar(self, server: Callable[[], calendar_servers.Server]) -> None:
        for start in (server().url, server().home):
            with (
                closing(server().calendar(start)) as calendar,
                pytest.raises(NeedsYou, match='calendar = "'),
            ):
                calendar.check()

    def test_a_list_of_tasks_is_no_calendar(self, server: Callable[[], calendar_servers.Server]) -> None:
        url = server().fresh_calendar(["VTODO"])
        with closing(server().calendar(url)) as calendar, pytest.raises(NeedsYou, match="takes no events"):
            calendar.check()

    def test_a_typo_makes_no_calendar(self, server: Callable[[], calendar_servers.Server]) -> None:
        url = server().home + "no-such-calendar/"
        for _ in range(2):
            with (
                closing(server().calendar(url)) as calendar,
                pytest.raises(NeedsYou, match=r"is not there \(404\)"),
            ):
                calendar.create(HREF, calendar_object())


def test_radicale_refuses_a_wrong_password() -> None:
    server = calendar_servers.radicale()
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
        [sys.executable, "-c", _UNTIL_REFUSED, url.split(":")[2].rstrip("/")], timeout=60, check=False
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
    code = "import sys, syncd.dav.calendar; sys.exit('niquests' in sys.modules or 'caldav.davclient' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_discovery_warns_of_nothing_and_logs_nothing() -> None:
    server = calendar_servers.radicale()
    code = (
        "import logging, sys; from contextlib import closing; from syncd.dav.calendar import CalDAVCalendar\n"
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
