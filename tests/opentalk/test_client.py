# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from syncd.demo.identity import DEVICE_GRANT
from syncd.demo.serve import RunningServer, Traffic
from syncd.demo.signin import Version
from syncd.errors import BadAnswer, BadEvent, LoginRefused, NeedsYou, Unavailable
from syncd.model import Invite, Meeting, Window
from syncd.opentalk.client import OpenTalk
from syncd.transport import HttpClient
from tests.support.opentalk_json import time_json
from tests.support.served_opentalk import NOW, ServedOpenTalk
from tests.support.stub_server import Call, Certificate, StubServer

WINDOW = Window(NOW - timedelta(days=30), NOW + timedelta(days=365))
ROOM_INVITES = "/v1/rooms/"


def test_nothing_is_asked_before_it_is_needed(server: ServedOpenTalk) -> None:
    server.account().close()
    assert server.opentalk.app.log == server.identity.app.log == []


@pytest.mark.parametrize("version", ["0.29", "0.30", "0.35"])
def test_an_account_knows_who_it_is(version: Version) -> None:
    with ServedOpenTalk(version) as server:
        account = server.account()
        identity = account.identity()
        assert identity.issuer == server.identity.issuer
        assert identity.subject == server.identity.person("alice").sub
        assert (identity.firstname, identity.lastname) == ("Alice", "Adams")
        assert account.identity() is identity
        assert len(server.queries("/v1/users/me")) == (2 if version == "0.29" else 1)


@pytest.mark.parametrize("version", ["0.29", "0.30", "0.35"])
def test_tokens_and_sessions_end_without_anybody_noticing(version: Version) -> None:
    with ServedOpenTalk(version) as server:
        server.create()
        account = server.account()
        for _ in range(4):
            assert len(account.snapshot(None).meetings) == 1
            server.now += timedelta(seconds=290)
        server.identity.end_sessions()
        assert len(account.snapshot(None).meetings) == 1


class MemoryLogins:
    def __init__(self, token: str | None) -> None:
        self.tokens = [token]

    def refresh_token(self, account: str) -> str | None:
        assert account == "work"
        return self.tokens[-1]

    def save_refresh_token(self, account: str, token: str | None) -> None:
        assert account == "work"
        self.tokens.append(token)


def signed_in(server: ServedOpenTalk, username: str = "alice") -> str:
    """The refresh token of somebody who signed in in a browser."""
    with closing(HttpClient("test")) as remote:
        endpoint = f"{server.identity.issuer}/protocol/openid-connect"
        scope = {"client_id": "Frontend", "scope": "openid profile email offline_access"}
        device = msgspec.json.decode(remote.send("POST", f"{endpoint}/auth/device", form=scope).body)
        server.identity.approve(device["user_code"], username)
        form = {"grant_type": DEVICE_GRANT, "client_id": "Frontend", "device_code": device["device_code"]}
        token = msgspec.json.decode(remote.send("POST", f"{endpoint}/token", form=form).body)["refresh_token"]
    server.identity.app.clear()
    return str(token)


@pytest.mark.parametrize("rotate", [False, True])
@pytest.mark.parametrize("version", ["0.29", "0.30", "0.35"])
def test_an_account_without_a_password_lives_on_its_sign_in(version: Version, rotate: bool) -> None:
    with ServedOpenTalk(version, rotate=rotate) as server:
        server.create()
        logins = MemoryLogins(signed_in(server))
        for _ in range(2):  # as after a restart
            account = server.account(username=None, password=None, logins=logins)
            assert account.identity().subject == server.identity.person("alice").sub
            for _ in range(3):
                server.now += timedelta(days=1)
                assert len(account.snapshot(None).meetings) == 1
        refreshes = [r for r in server.identity.app.log if r.path.endswith("/token")]
        assert len(refreshes) == len(logins.tokens) - 1 == (10 if version == "0.29" else 8)


def test_a_sign_in_that_was_ended_is_reported_and_mended_by_another(server: ServedOpenTalk) -> None:
    logins = MemoryLogins(None)
    account = server.account(username=None, password=None, logins=logins)
    with pytest.raises(LoginRefused, match="nobody is signed in; run `syncd login work`"):
        account.snapshot(None)
    logins.tokens.append(signed_in(server))
    assert account.snapshot(None).meetings == {}
    server.identity.end_sessions()
    server.now += timedelta(hours=1)
    for _ in range(3):
        with pytest.raises(LoginRefused, match="the sign-in has ended; run `syncd login work`"):
            account.snapshot(None)
    assert len([r for r in server.identity.app.log if r.path.endswith("/token")]) == 2
    logins.tokens.append(signed_in(server))
    assert account.snapshot(None).meetings == {}


def test_another_person_who_signs_in_is_not_read_as_the_first(server: ServedOpenTalk) -> None:
    logins = MemoryLogins(signed_in(server))
    account = server.account(username=None, password=None, logins=logins)
    account.snapshot(None)
    logins.tokens.append(signed_in(server, "bob"))
    server.now += timedelta(hours=1)
    server.opentalk.app.clear()
    with pytest.raises(NeedsYou, match=r"opentalk\.work: somebody else is signed in"):
        account.snapshot(None)
    assert server.opentalk.app.log == []


def test_an_account_with_neither_a_password_nor_a_sign_in_says_so(server: ServedOpenTalk) -> None:
    with pytest.raises(LoginRefused, match="neither"):
        server.account(username=None, password=None).identity()


def test_the_client_id_is_the_one_that_the_controller_names(server: ServedOpenTalk) -> None:
    assert server.account(client_id=None).identity().firstname == "Alice"


def test_a_controller_that_names_no_client_id_needs_one() -> None:
    with ServedOpenTalk("0.29") as server, pytest.raises(NeedsYou, match=r"set opentalk\.work\.client_id"):
        server.account(client_id=None).identity()


def test_a_wrong_password_is_sent_once(server: ServedOpenTalk) -> None:
    account = server.account(password=lambda: "wrong")
    for _ in range(3):
        with pytest.raises(LoginRefused, match=r"opentalk\.work"):
            account.identity()
    assert len([r for r in server.identity.app.log if r.path.endswith("/token")]) == 1


def test_no_event_is_lost_at_the_end_of_a_page(server: ServedOpenTalk) -> None:
    expected = {server.create(days=n / 10) for n in range(5)}
    expected |= {str(server.opentalk.create("alice")["id"]) for _ in range(4)}
    expected |= {server.create(days=-n) for n in range(5)}
    for per_page in (1, 2, 3, 5, 100):
        snapshot = server.account(per_page=per_page).snapshot(None)
        assert snapshot.meetings.keys() == expected
        assert snapshot.unreadable == {}


def test_a_window_is_asked_for_in_utc_seconds_and_holds_what_touches_it(server: ServedOpenTalk) -> None:
    inside, _ = server.create(), server.create(days=400)
    server.opentalk.create("alice")
    snapshot = server.account().snapshot(WINDOW)
    assert snapshot.meetings.keys() == {inside}
    assert snapshot.window is WINDOW
    assert server.queries("/v1/events")[0] == {
        "time_independent": "false",
        "time_min": "2026-10-23T08:00:00Z",
        "time_max": "2027-11-22T08:00:00Z",
        "per_page": "100",
    }


def test_overrides_come_with_their_series(server: ServedOpenTalk) -> None:
    series = server.create(recurrence_pattern=["FREQ=WEEKLY"])
    server.opentalk.cancel(series, "20261130T080000Z")
    moved = NOW + timedelta(days=9)
    server.opentalk.move(series, "20261207T080000Z", time_json(moved), time_json(moved + timedelta(hours=2)))
    first, second = server.account(per_page=1).snapshot(WINDOW).meetings[series].overrides
    assert first.cancelled
    assert (second.start and second.start.utc, second.end and second.end.utc) == (moved, moved + timedelta(hours=2))


@pytest.mark.parametrize("spoil", ["fail", "bad request", "cut", "mend", "html"])
def test_a_listing_with_one_spoilt_page_is_no_snapshot(server: ServedOpenTalk, spoil: str) -> None:
    for n in range(5):
        server.create(days=n)
    account = server.account(per_page=2)
    assert len(account.snapshot(None).meetings) == 5
    spoilt: dict[str, Callable[[], None]] = {
        "fail": lambda: server.opentalk.app.fail("/v1/events", status=503, headers={"retry-after": "5"}, after=1),
        "bad request": lambda: server.opentalk.app.fail(
            "/v1/events", status=400, body="Query deserialize error", after=2
        ),
        "cut": lambda: server.opentalk.app.cut("/v1/events", after=2),
        "mend": lambda: server.opentalk.app.cut("/v1/events", mend=True, after=2),
        "html": lambda: server.opentalk.app.fail("/v1/events", status=200, body="<html>", after=2),
    }
    spoilt[spoil]()
    with pytest.raises(Unavailable, match=r"opentalk\.work") as caught:
        account.snapshot(None)
    assert caught.value.retry_after == (5 if spoil == "fail" else None)
    assert isinstance(caught.value, BadAnswer) == (spoil != "fail")
    assert len(account.snapshot(None).meetings) == 5


def test_a_cursor_that_comes_twice_is_a_bad_answer(server: ServedOpenTalk) -> None:
    body = msgspec.json.encode([server.opentalk.create("alice")])
    link = '<http://inner/v1/events?after=AAAA&per_page=1>; rel="after"'
    server.opentalk.app.fail(
        "/v1/events", status=200, body=body, content_type="application/json", headers={"link": link}, times=99
    )
    with pytest.raises(BadAnswer, match="circle"):
        server.account().snapshot(None)
    assert [query.get("after") for query in server.queries("/v1/events")] == [None, "AAAA"]


def test_of_the_link_only_the_cursor_counts(server: ServedOpenTalk) -> None:
    event = server.opentalk.create("alice")
    server.opentalk.app.fail(
        "/v1/events",
        status=200,
        body=msgspec.json.encode([event]),
        content_type="text/json",
        headers={"link": '<http://inner.invalid/x?p=1>; rel="before",<http://inner.invalid/x?after=a%2Bb>; rel=after'},
    )
    server.opentalk.app.fail("/v1/events", status=200, body="[]", after=0)
    assert len(server.account().snapshot(WINDOW).meetings) == 1
    assert server.queries("/v1/events")[1]["after"] == "a+b"


def test_an_unreadable_event_costs_no_other(server: ServedOpenTalk) -> None:
    good = server.opentalk.create("alice")
    bad = {**good, "id": "00000000-0000-4000-8000-000000000001", "title": None, "room": {}}
    server.opentalk.app.fail("/v1/events", status=200, body=msgspec.json.encode([good, bad]))
    snapshot = server.account().snapshot(WINDOW)
    assert snapshot.meetings.keys() == {good["id"]}
    assert snapshot.unreadable.keys() == {bad["id"]}


def test_an_event_is_what_a_listing_says_of_it(server: ServedOpenTalk) -> None:
    ids = [
        server.create(),
        str(server.opentalk.create("alice")["id"]),
        server.create(recurrence_pattern=["FREQ=WEEKLY"]),
    ]
    server.opentalk.cancel(ids[2], "20261130T080000Z")
    server.create()
    account = server.account(per_page=1)
    meetings = account.snapshot(None).meetings
    for event in ids:
        assert account.event(event) == meetings[event]


def test_what_was_deleted_or_is_not_ours_is_gone(server: ServedOpenTalk) -> None:
    deleted, foreign, taken_back = server.create(), server.create("bob"), server.create("bob")
    server.opentalk.invite(taken_back, "alice")
    account = server.account()
    assert account.event(taken_back) is not None
    server.opentalk.uninvite(taken_back, "alice")
    server.opentalk.delete(deleted)
    for event in (deleted, foreign, taken_back, "00000000-0000-4000-8000-000000000001"):
        assert account.event(event) is None


def test_a_series_that_goes_between_two_requests_is_a_question_and_no_deletion(server: ServedOpenTalk) -> None:
    series = server.create(recurrence_pattern=["FREQ=WEEKLY"])
    server.opentalk.app.fail("/v1/events", status=200, body="[]", after=1)
    with pytest.raises(BadAnswer, match="does not list it"):
        server.account().event(series)


@pytest.mark.parametrize("status", [404, 410])
def test_other_versions_say_gone_otherwise(server: ServedOpenTalk, status: int) -> None:
    server.opentalk.app.fail("/v1/events/", status=status, body='{"code":"not_found"}')
    assert server.account().event(server.create()) is None


def test_trouble_is_no_answer_about_an_event(server: ServedOpenTalk) -> None:
    event = server.create()
    server.opentalk.app.fail("/v1/events/", status=500, times=2)
    with pytest.raises(Unavailable, match="500"):
        server.account().event(event)


def test_an_event_that_cannot_be_read_is_named(server: ServedOpenTalk) -> None:
    event = server.opentalk.create("alice")
    server.opentalk.app.fail("/v1/events/", status=200, body=msgspec.json.encode({**event, "room": {}}))
    with pytest.raises(BadEvent, match=str(event["id"])):
        server.account().event(event["id"])
    server.opentalk.app.fail("/v1/events/", status=200, body=msgspec.json.encode({**event, "id": "other"}))
    with pytest.raises(BadAnswer):
        server.account().event(event["id"])


def meeting_of(account: OpenTalk, event: str) -> Meeting:
    return account.snapshot(None).meetings[event]


def test_an_invite_is_made_once_and_never_expires(server: ServedOpenTalk) -> None:
    event = server.create()
    account = server.account()
    made = account.invite(meeting_of(account, event))
    assert made is not None
    assert made.made
    assert account.invite(meeting_of(account, event)) == Invite(made.code, made=False)
    (invite,) = server.opentalk.guest_invites(event)
    assert (invite["invite_code"], invite["expiration"], invite["active"]) == (made.code, None, True)


def test_a_permanent_invite_is_found_on_any_page(server: ServedOpenTalk) -> None:
    event = server.create()
    account = server.account()
    meeting = meeting_of(account, event)
    made = account.invite(meeting)
    assert made is not None
    usual = {"created": "2026-01-01T00:00:00Z", "expiration": "2027-01-01T00:00:00Z"}
    page = [{**usual, "invite_code": "expires", "active": True}]
    page += [{**usual, "invite_code": "inactive", "active": False, "expiration": None}]
    link = '<http://inner/v1/rooms/r/invites?page=2>; rel="next",<http://inner/v1/rooms/r/invites?page=2>; rel="last"'
    server.opentalk.app.fail(
        ROOM_INVITES, method="GET", status=200, body=msgspec.json.encode(page), headers={"link": link}
    )
    server.opentalk.app.fail(
        ROOM_INVITES,
        method="GET",
        status=200,
        body="[" + msgspec.json.encode({"invite_code": made.code, "active": True, "expiration": None}).decode() + "]",
        headers={"link": ""},
    )
    server.opentalk.app.log.clear()
    assert account.invite(meeting) == Invite(made.code, made=False)
    assert [query["page"] for query in server.queries(ROOM_INVITES)] == ["1", "2"]


def test_a_foreign_room_lends_its_invite_but_gets_none(server: ServedOpenTalk) -> None:
    event = server.create("bob")
    server.opentalk.invite(event, "alice")
    alice, bob = server.account(), server.account("bob")
    assert alice.invite(meeting_of(alice, event)) is None
    assert server.queries(ROOM_INVITES, "POST") == []
    made = bob.invite(meeting_of(bob, event))
    assert made is not None
    assert alice.invite(meeting_of(alice, event)) == Invite(made.code, made=False)


def test_no_invite_is_asked_for_where_guests_may_not_enter(server: ServedOpenTalk) -> None:
    account = server.account()
    meeting = meeting_of(account, server.create())
    assert account.invite(msgspec.structs.replace(meeting, e2e=True)) is None
    assert account.invite(msgspec.structs.replace(meeting, guest_access="disabled")) is None
    assert server.queries(ROOM_INVITES) == []


@pytest.mark.parametrize("status", [403, 404])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_refusal_means_that_there_is_no_invite_now(server: ServedOpenTalk, status: int, method: str) -> None:
    account = server.account()
    meeting = meeting_of(account, server.create())
    server.opentalk.app.fail(ROOM_INVITES, status=status, method=method, body='{"code":"service_unavailable"}')
    assert account.invite(meeting) is None
    assert account.invite(meeting) is not None


def test_trouble_with_invites_is_not_taken_for_a_refusal(server: ServedOpenTalk) -> None:
    account = server.account()
    meeting = meeting_of(account, server.create())
    server.opentalk.app.fail(ROOM_INVITES, status=500, times=2)
    with pytest.raises(Unavailable):
        account.invite(meeting)


def test_a_server_without_invites_is_asked_once() -> None:
    with ServedOpenTalk("0.35") as server:
        account = server.account()
        meeting = meeting_of(account, server.create())
        for _ in range(3):
            assert account.invite(meeting) is None
        assert len(server.queries(ROOM_INVITES)) == 1


def test_a_token_that_is_not_taken_leads_to_the_audience(server: ServedOpenTalk) -> None:
    server.opentalk.app.fail("/v1/users/me", status=500, times=2)
    with pytest.raises(Unavailable, match="audience"):
        server.account().identity()
    server.opentalk.app.fail("/v1/users/me", status=401, times=2)
    with pytest.raises(LoginRefused, match="audience"):
        server.account().identity()


def site(*routes: Route) -> Traffic:
    return Traffic(Starlette(routes=list(routes)))


def says(path: str, body: Any, status: int = 200) -> Route:
    async def answer(_: Request) -> Response:
        return HTMLResponse(body, status) if isinstance(body, str) else JSONResponse(body, status)

    return Route(path, answer)


CLIENT = "/.well-known/opentalk/client"
API = "/.well-known/opentalk/api"


def refusal_of(server: ServedOpenTalk, *routes: Route, **options: Any) -> str:
    url = server.stack.enter_context(RunningServer(site(*routes))).url
    with pytest.raises(NeedsYou) as caught:
        server.account(url=url, **options).identity()
    return str(caught.value)


def test_the_web_app_leads_to_the_controller(server: ServedOpenTalk) -> None:
    base = {"opentalk_controller": {"base_url": server.url + "/"}}
    web = server.stack.enter_context(RunningServer(site(says(CLIENT, base))))
    assert server.account(url=web.url + "/").identity().firstname == "Alice"


def test_an_old_web_app_answers_everything_with_its_first_page(server: ServedOpenTalk) -> None:
    first_page = says("/{path:path}", "<!doctype html>")
    assert "set opentalk.work.controller" in refusal_of(server, first_page)
    web = server.stack.enter_context(RunningServer(site(first_page)))
    assert server.account(url=web.url, controller=server.url).identity().firstname == "Alice"


def test_an_old_controller_does_not_tell_its_versions(server: ServedOpenTalk) -> None:
    server.opentalk.app.fail(CLIENT, status=404)
    server.opentalk.app.fail(API, status=404)
    assert server.account().identity().firstname == "Alice"


def test_the_api_may_be_anywhere(server: ServedOpenTalk) -> None:
    elsewhere = {"opentalk_api": {"v1": {"base_url": f"{server.url}/v1/"}}}
    web = server.stack.enter_context(RunningServer(site(says(API, elsewhere))))
    assert server.account(url=web.url).identity().firstname == "Alice"


def test_a_provider_that_is_none_names_the_key(server: ServedOpenTalk) -> None:
    login = says("/v1/auth/login", {"oidc": {"name": "Frontend", "url": server.url + "/realms/none"}})
    assert "set opentalk.work.issuer" in refusal_of(server, login)
    assert "set opentalk.work.issuer" in refusal_of(server, login, issuer=server.url)


def test_discovery_that_fails_is_tried_again(server: ServedOpenTalk) -> None:
    account = server.account()
    server.opentalk.app.fail(CLIENT, status=503)
    with pytest.raises(Unavailable):
        account.identity()
    server.identity.app.fail("/realms/", status=429, headers={"retry-after": "9"})
    with pytest.raises(Unavailable) as caught:
        account.identity()
    assert caught.value.retry_after == 9
    assert account.identity().firstname == "Alice"


def test_no_message_has_an_address_or_a_secret(server: ServedOpenTalk) -> None:
    account = server.account(password=lambda: "very-secret")
    with pytest.raises(LoginRefused) as caught:
        account.identity()
    assert "very-secret" not in f"{caught.value!r} {account!r}"
    assert "alice" not in f"{caught.value!r} {account!r}"


def test_a_way_that_began_with_tls_does_not_go_on_without(tmp_path: Path) -> None:
    certificate = Certificate(tmp_path, "web", "IP:127.0.0.1")
    login = {"oidc": {"name": "Frontend", "url": "https://id.example.org"}}
    steps: dict[str, dict[str, Any]] = {
        "controller": {CLIENT: {"opentalk_controller": {"base_url": "http://controller.example.org"}}},
        "controller ": {API: {"opentalk_api": {"v1": {"base_url": "http://controller.example.org/v1"}}}},
        "issuer": {"/v1/auth/login": {"oidc": {"name": "Frontend", "url": "http://id.example.org"}}},
        "issuer ": {
            "/v1/auth/login": login,
            "/.well-known/openid-configuration": {"token_endpoint": "http://id.example.org/token"},
        },
    }
    for key, pages in steps.items():

        def answer(call: Call, pages: dict[str, Any] = pages) -> None:
            found = call.path in pages
            call.answer(200 if found else 404, msgspec.json.encode(pages[call.path]) if found else b"")

        with StubServer(answer, certificate) as web:
            account = OpenTalk(
                "work",
                url=web.url,
                issuer=web.url if key == "issuer " else None,
                username="alice",
                password=lambda: "alice-pw",
                ca_file=certificate.path,
                clock=lambda: NOW,
            )
            with pytest.raises(NeedsYou, match=rf"set opentalk\.work\.{key.strip()} to its https address"):
                account.identity()
            account.close()
            assert all(method == "GET" for method, _, _ in web.calls)
