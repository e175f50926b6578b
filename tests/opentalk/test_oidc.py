# SPDX-License-Identifier: Apache-2.0
import base64
import threading
from collections.abc import Callable, Generator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.errors import BadAnswer, LedgerError, LoginRefused, NeedsYou, Unavailable
from syncd.opentalk.oidc import Grant, PasswordGrant, RefreshGrant
from syncd.opentalk.tokens import Claims, Client, Tokens

API = "https://controller.example.org/v1"
TOKEN = "https://id.example.org/realms/meet/protocol/openid-connect/token"
LOGIN = f"{API}/auth/login"
ISSUER = "https://id.example.org/realms/meet"


def jwt(**claims: str) -> str:
    return f"e30.{base64.urlsafe_b64encode(msgspec.json.encode(claims)).rstrip(b'=').decode()}.sig"


class Servers:
    """An identity provider and a controller, spoken to request by request without a socket."""

    def __init__(self, *, sessions: bool = False, life: int = 300, rotate: bool = False) -> None:
        self.now = datetime(2026, 11, 22, 8, tzinfo=UTC)
        self.password = "right"
        self.sessions = sessions
        self.life = life
        self.rotate = rotate
        self.subject = "s-1"
        self.requests: list[str] = []
        self.good: set[str] = set()
        self.refreshable: set[str] = set()
        self.posted: set[str] = set()
        self.early: set[str] = set()
        self.token_answer: httpx.Response | None = None
        self.made = 0
        self.broken = False
        self.lock = threading.Lock()

    def grant(
        self, password: Callable[[], str] = lambda: "right", client_secret: Callable[[], str] | None = None
    ) -> PasswordGrant:
        client = Client("opentalk.work", "Frontend", client_secret)
        return PasswordGrant(client, username="alice", password=password, **self.places())

    def refresh_grant(self, logins: "MemoryLogins") -> RefreshGrant:
        return RefreshGrant(Client("opentalk.work", "Frontend"), account="work", logins=logins, **self.places())

    def places(self) -> Any:
        return {"token_endpoint": TOKEN, "login_url": LOGIN, "clock": lambda: self.now}

    def sign_in(self) -> str:
        """A refresh token, as a device gets it."""
        self.made += 1
        self.refreshable.add(f"refresh-{self.made}")
        return f"refresh-{self.made}"

    def answer(self, request: httpx.Request) -> httpx.Response:
        with self.lock:
            if str(request.url) == TOKEN:
                return self.token(parse_qs(request.content.decode()))
            if str(request.url) == LOGIN:
                self.requests.append("session")
                self.posted.add(msgspec.json.decode(request.content)["id_token"])
                return httpx.Response(200, json={"permissions": []})
            self.requests.append("api")
            return self.api(request.headers["authorization"].removeprefix("Bearer "))

    def token(self, form: dict[str, list[str]]) -> httpx.Response:
        self.requests.append(form["grant_type"][0])
        if self.token_answer:
            return self.token_answer
        if form["grant_type"] == ["password"] and (form["password"], form["scope"]) != ([self.password], ["openid"]):
            return httpx.Response(401, json={"error": "invalid_grant", "error_description": "Invalid user credentials"})
        if form["grant_type"] == ["refresh_token"] and form["refresh_token"][0] not in self.refreshable:
            return httpx.Response(400, json={"error": "invalid_grant", "error_description": "Invalid refresh token"})
        if self.rotate and form["grant_type"] == ["refresh_token"]:
            self.refreshable.remove(form["refresh_token"][0])
        self.made += 1
        self.good.add(f"access-{self.made}")
        self.refreshable.add(f"refresh-{self.made}")
        tokens = {
            "access_token": f"access-{self.made}",
            "refresh_token": f"refresh-{self.made}",
            "id_token": jwt(iss=ISSUER, sub=self.subject, jti=str(self.made)),
            "expires_in": self.life,
        }
        return httpx.Response(200, json=tokens)

    def api(self, token: str) -> httpx.Response:
        """A controller: 0.29 with ``sessions``, else 0.30."""
        if token not in self.good or self.broken:
            return httpx.Response(401 if self.sessions else 500, json={"code": "internal_server_error"})
        if self.sessions and (not self.posted or token in self.early):
            self.early.add(token)
            return httpx.Response(401, json={"code": "unknown_sub"})
        number = token.removeprefix("access-")
        if self.sessions and jwt(iss=ISSUER, sub=self.subject, jti=number) not in self.posted:
            challenge = 'Bearer error="invalid_token", error_description="The user session expired"'
            return httpx.Response(401, json={"code": "unauthorized"}, headers={"www-authenticate": challenge})
        return httpx.Response(200, json={"token": token})


class MemoryLogins:
    """Where sign-ins are saved; ``log`` is that of the servers' requests, for the order of both."""

    def __init__(self, servers: Servers, token: str | None = None) -> None:
        self.token = token
        self.full = False
        self._log = servers.requests

    def refresh_token(self, account: str) -> str | None:
        assert account == "work"
        return self.token

    def save_refresh_token(self, account: str, token: str | None) -> None:
        assert account == "work"
        if self.full:
            raise LedgerError("the disk is full")
        self.token = token
        self._log.append("saved")


def carried(servers: Servers, request: httpx.Request) -> httpx.Response:
    response = servers.answer(request)
    response.request = request
    return response


def talk(servers: Servers, grant: Grant) -> httpx.Response:
    """One request through the grant, as httpx would carry it."""
    flow: Generator[httpx.Request, httpx.Response, None] = grant.sync_auth_flow(httpx.Request("GET", f"{API}/users/me"))
    try:
        request = next(flow)
        while True:
            response = carried(servers, request)
            try:
                request = flow.send(response)
            except StopIteration:
                return response
    finally:
        flow.close()


def test_one_token_serves_until_shortly_before_its_end() -> None:
    servers = Servers()
    grant = servers.grant()
    for seconds in (0, 200, 269, 270):
        servers.now = datetime(2026, 11, 22, 8, tzinfo=UTC) + timedelta(seconds=seconds)
        assert talk(servers, grant).status_code == 200
    assert servers.requests == ["password", "api", "api", "api", "refresh_token", "api"]


@given(st.integers(1, 10**6) | st.none())
def test_a_token_is_used_for_most_of_its_life_and_not_in_its_last_seconds(life: int | None) -> None:
    whole = life or 300
    usable = Tokens("t", life).usable.total_seconds()
    assert whole * 0.66 <= usable < whole
    assert usable <= max(whole - 30, whole * 0.67)


@pytest.mark.parametrize("sessions", [False, True])
def test_a_token_that_is_refused_is_renewed_once_and_the_request_sent_again(sessions: bool) -> None:
    servers = Servers(sessions=sessions)
    grant = servers.grant()
    talk(servers, grant)
    servers.good.clear()
    servers.requests.clear()
    assert talk(servers, grant).status_code == 200
    assert servers.requests == ["api", "refresh_token", *(["session"] if sessions else []), "api"]


def test_a_server_that_refuses_every_token_is_asked_twice() -> None:
    servers = Servers()
    grant = servers.grant()
    talk(servers, grant)
    servers.broken = True
    servers.requests.clear()
    assert talk(servers, grant).status_code == 500
    assert servers.requests == ["api", "refresh_token", "api"]


def test_a_refused_refresh_leads_to_the_password_once() -> None:
    servers = Servers()
    grant = servers.grant()
    talk(servers, grant)
    servers.good.clear()
    servers.refreshable.clear()
    servers.requests.clear()
    assert talk(servers, grant).status_code == 200
    assert servers.requests == ["api", "refresh_token", "password", "api"]


def test_a_refused_password_is_not_tried_again_but_another_one_is() -> None:
    servers = Servers()
    passwords = ["wrong"]
    grant = servers.grant(password=lambda: passwords[-1])
    for _ in range(3):
        with pytest.raises(LoginRefused, match=r"opentalk\.work: .*invalid_grant") as caught:
            talk(servers, grant)
        assert "wrong" not in str(caught.value)
        assert "alice" not in str(caught.value)
    assert servers.requests == ["password"]
    passwords.append("right")
    assert talk(servers, grant).status_code == 200


@pytest.mark.parametrize(
    ("status", "error", "says"),
    [
        (401, "invalid_client", "does not know the client_id 'Frontend'"),
        (400, "unauthorized_client", "direct access grants"),
        (401, "unauthorized_client", "wants a client_secret"),
        (400, "invalid_scope", "refuses the login"),
        (400, "<script>", "another error"),
    ],
)
def test_a_refused_client_is_not_mistaken_for_a_refused_password_and_may_be_tried_again(
    status: int, error: str, says: str
) -> None:
    servers = Servers()
    servers.token_answer = httpx.Response(status, json={"error": error, "error_description": "secret"})
    grant = servers.grant()
    with pytest.raises(LoginRefused, match=says) as caught:
        talk(servers, grant)
    assert "secret" not in str(caught.value).replace("client_secret", "")
    servers.token_answer = None
    assert talk(servers, grant).status_code == 200


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (httpx.Response(200, text="<html>hello"), BadAnswer),
        (httpx.Response(200, json={"token": "x"}), BadAnswer),
        (httpx.Response(200, json={"access_token": "x", "id_token": "no.jwt"}), BadAnswer),
        (httpx.Response(302, headers={"location": "https://elsewhere.example.org"}), BadAnswer),
        (httpx.Response(400, text="no"), BadAnswer),
        (httpx.Response(429, headers={"retry-after": "17"}), Unavailable),
        (httpx.Response(503, headers={"retry-after": "17"}, text="<html>"), Unavailable),
    ],
)
def test_a_provider_in_trouble_is_asked_again_later(answer: httpx.Response, kind: type[Unavailable]) -> None:
    servers = Servers()
    servers.token_answer = answer
    grant = servers.grant()
    with pytest.raises(Unavailable, match=r"opentalk\.work") as caught:
        talk(servers, grant)
    assert type(caught.value) is kind
    assert caught.value.retry_after == (17 if "retry-after" in answer.headers else None)
    servers.token_answer = None
    assert talk(servers, grant).status_code == 200


def test_trouble_during_a_refresh_does_not_bring_the_old_token_back() -> None:
    servers = Servers()
    grant = servers.grant()
    talk(servers, grant)
    servers.good.clear()
    servers.token_answer = httpx.Response(503)
    with pytest.raises(Unavailable):
        talk(servers, grant)
    servers.token_answer = None
    servers.requests.clear()
    assert talk(servers, grant).status_code == 200
    assert servers.requests == ["refresh_token", "api"]


def test_a_server_that_wants_sessions_gets_one_before_each_new_token_is_used() -> None:
    servers = Servers(sessions=True)
    grant = servers.grant()
    assert talk(servers, grant).status_code == 200
    assert servers.requests == ["password", "api", "refresh_token", "session", "api"]
    servers.requests.clear()
    servers.now += timedelta(seconds=280)
    assert talk(servers, grant).status_code == 200
    assert servers.requests == ["refresh_token", "session", "api"]


def test_an_expired_session_is_posted_anew() -> None:
    servers = Servers(sessions=True)
    servers.posted.add("one of an earlier run")
    grant = servers.grant()
    assert talk(servers, grant).status_code == 200
    assert servers.requests == ["password", "api", "refresh_token", "session", "api"]


def test_a_refused_session_is_a_refused_login() -> None:
    servers = Servers(sessions=True)
    ordinary = servers.answer
    answers = {200: None, 401: LoginRefused, 503: Unavailable}
    for status, expected in answers.items():

        def answer(request: httpx.Request, status: int = status) -> httpx.Response:
            usual = ordinary(request)
            return httpx.Response(status) if str(request.url) == LOGIN else usual

        servers.posted.clear()
        servers.answer = answer  # type: ignore[method-assign]
        if expected:
            with pytest.raises(expected):
                talk(servers, servers.grant())
        else:
            assert talk(servers, servers.grant()).status_code == 200


def test_the_id_token_says_who_it_is() -> None:
    servers = Servers()
    grant = servers.grant()
    assert grant.claims is None
    talk(servers, grant)
    assert grant.claims == Claims(ISSUER, "s-1")


def test_a_client_secret_goes_with_every_token_request() -> None:
    servers = Servers()
    seen: list[dict[str, list[str]]] = []
    ordinary = servers.token
    servers.token = lambda form: seen.append(form) or ordinary(form)  # type: ignore[method-assign,func-returns-value]
    grant = servers.grant(client_secret=lambda: "c-secret")
    talk(servers, grant)
    servers.good.clear()
    talk(servers, grant)
    assert [form["client_secret"] for form in seen] == [["c-secret"], ["c-secret"]]


def test_threads_share_one_token_and_one_renewal() -> None:
    servers = Servers()
    grant = servers.grant()
    for made in (1, 2):
        start = threading.Barrier(8)

        def run(start: threading.Barrier = start) -> None:
            start.wait()
            talk(servers, grant)

        threads = [threading.Thread(target=run) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert servers.made == made
        servers.good.clear()


def test_a_request_that_is_given_up_leaves_the_lock_open() -> None:
    servers = Servers()
    grant = servers.grant()
    flow = grant.sync_auth_flow(httpx.Request("GET", f"{API}/users/me"))
    assert str(next(flow).url) == TOKEN
    flow.close()
    assert talk(servers, grant).status_code == 200


def test_tokens_of_somebody_else_are_not_used() -> None:
    servers = Servers()
    logins = MemoryLogins(servers, servers.sign_in())
    for grant in (servers.grant(), servers.refresh_grant(logins)):
        servers.subject = "s-1"
        talk(servers, grant)
        servers.good.clear()
        servers.subject = "s-2"
        servers.requests.clear()
        for _ in range(2):
            with pytest.raises(NeedsYou, match="somebody else"):
                talk(servers, grant)
        assert servers.requests.count("api") == 1
        servers.subject = "s-1"
        assert talk(servers, grant).status_code == 200


def test_a_new_refresh_token_is_saved_before_its_access_token_is_used() -> None:
    for sessions in (False, True):
        servers = Servers(rotate=True, sessions=sessions)
        logins = MemoryLogins(servers, servers.sign_in())
        grant = servers.refresh_grant(logins)
        talk(servers, grant)
        servers.requests.clear()
        servers.now += timedelta(seconds=280)
        assert talk(servers, grant).status_code == 200
        assert servers.requests == ["refresh_token", "saved", *(["session"] if sessions else []), "api"]
        assert logins.token in servers.refreshable


def test_a_refresh_token_that_stays_is_not_saved_again() -> None:
    servers = Servers()
    logins = MemoryLogins(servers, "the one")
    grant = servers.refresh_grant(logins)
    servers.token_answer = httpx.Response(200, json={"access_token": "access", "expires_in": 60})
    servers.good.add("access")
    for _ in range(2):
        assert talk(servers, grant).status_code == 200
        servers.now += timedelta(seconds=50)
    assert servers.requests == ["refresh_token", "api", "refresh_token", "api"]


def test_without_a_sign_in_nothing_is_asked_until_there_is_one() -> None:
    servers = Servers()
    logins = MemoryLogins(servers)
    grant = servers.refresh_grant(logins)
    with pytest.raises(LoginRefused, match="nobody is signed in; run `syncd login work`"):
        talk(servers, grant)
    assert servers.requests == []
    logins.token = servers.sign_in()
    assert talk(servers, grant).status_code == 200


def test_a_refused_sign_in_is_not_tried_again_but_a_new_one_is() -> None:
    servers = Servers()
    logins = MemoryLogins(servers, "refresh-revoked")
    grant = servers.refresh_grant(logins)
    for _ in range(3):
        with pytest.raises(
            LoginRefused, match=r"opentalk\.work: the sign-in has ended; run `syncd login work`"
        ) as caught:
            talk(servers, grant)
        assert "revoked" not in str(caught.value)
    assert servers.requests == ["refresh_token"]
    logins.token = servers.sign_in()
    assert talk(servers, grant).status_code == 200


def test_of_two_that_use_one_token_the_one_that_loses_takes_the_others() -> None:
    servers = Servers(rotate=True)
    logins = MemoryLogins(servers, servers.sign_in())
    winner, loser = servers.refresh_grant(logins), servers.refresh_grant(logins)
    flow = loser.sync_auth_flow(httpx.Request("GET", f"{API}/users/me"))
    request = next(flow)
    assert talk(servers, winner).status_code == 200
    servers.requests.clear()
    request = flow.send(carried(servers, request))
    request = flow.send(carried(servers, request))
    assert servers.answer(request).status_code == 200
    flow.close()
    assert servers.requests == ["refresh_token", "refresh_token", "saved", "api"]
    assert logins.token in servers.refreshable


@pytest.mark.parametrize("meanwhile", [None, "another"])
def test_a_refresh_undoes_no_login_or_logout_that_came_between(meanwhile: str | None) -> None:
    servers = Servers(rotate=True)
    logins = MemoryLogins(servers, servers.sign_in())
    flow = servers.refresh_grant(logins).sync_auth_flow(httpx.Request("GET", f"{API}/users/me"))
    request = next(flow)
    logins.token = meanwhile
    flow.send(carried(servers, request))
    flow.close()
    assert logins.token == meanwhile


def test_a_token_that_could_not_be_saved_is_not_lost() -> None:
    servers = Servers(rotate=True)
    logins = MemoryLogins(servers, servers.sign_in())
    grant = servers.refresh_grant(logins)
    logins.full = True
    for _ in range(2):
        with pytest.raises(LedgerError):
            talk(servers, grant)
    assert servers.requests == ["refresh_token"]
    logins.full = False
    assert talk(servers, grant).status_code == 200
    assert logins.token in servers.refreshable


def test_trouble_does_not_end_a_sign_in() -> None:
    servers = Servers()
    logins = MemoryLogins(servers, servers.sign_in())
    grant = servers.refresh_grant(logins)
    for answer in (httpx.Response(503), httpx.Response(400, text="<html>"), httpx.Response(200, text="<html>")):
        servers.token_answer = answer
        with pytest.raises(Unavailable):
            talk(servers, grant)
    servers.token_answer = httpx.Response(400, json={"error": "unauthorized_client"})
    with pytest.raises(LoginRefused, match="refresh tokens"):
        talk(servers, grant)
    servers.token_answer = None
    assert talk(servers, grant).status_code == 200


def test_no_repr_shows_a_token() -> None:
    assert "secret" not in repr(Tokens("secret-a", 1, "secret-r", "secret-i"))
