# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import msgspec
import pytest

from syncd.config import Account
from syncd.errors import BadAnswer, LoginRefused, NeedsYou, Stopped, Unavailable
from syncd.opentalk.client import OpenTalk
from syncd.opentalk.login import sign_in, sign_out
from syncd.opentalk.tokens import Claims
from syncd.transport import HttpClient
from tests.support.served_opentalk import ServedOpenTalk
from tests.support.stub_server import Call, Certificate, StubServer

PROTOCOL = "/realms/OPENTALK/protocol/openid-connect"
AGAIN = "run `syncd login work` again"


class SignIn(ServedOpenTalk):
    """``syncd login`` at an OpenTalk, and a person with a browser.

    ``steps`` are what happens during each wait, after the last of which nothing does.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.browser = HttpClient("browser")
        self.stack.callback(self.browser.close)
        self.output: list[str] = []
        self.waited: list[float] = []
        self.steps: list[Callable[[], None]] = []
        self.configured = Account(name="work", url=self.url, client_id="Frontend")

    def wait(self, seconds: float) -> None:
        self.waited.append(seconds)
        self.now += timedelta(seconds=seconds)
        if self.steps:
            self.steps.pop(0)()

    def sign_in(self, account: Account | None = None) -> tuple[Claims, str]:
        return sign_in(account or self.configured, say=self.output.append, wait=self.wait, clock=lambda: self.now)

    def nothing(self) -> None:
        """The person looks for glasses."""

    def approve(self) -> None:
        """The person follows the address last shown, and signs in on that page."""
        url = next(line.strip() for line in reversed(self.output) if line.startswith(" "))
        code = parse_qs(url.partition("?")[2])["user_code"][0]
        assert any(code in line for line in self.output if not line.startswith(" "))
        form = {"user_code": code, "username": "alice", "password": "alice-pw"}
        assert self.browser.send("POST", url.partition("?")[0], form=form).status == 200

    def deny(self) -> None:
        self.identity.deny(next(line for line in self.output if "the code" in line).split("the code ")[1].split(".")[0])

    def requests(self, path: str) -> int:
        return sum(request.path == PROTOCOL + path for request in self.identity.app.log)


@pytest.fixture
def login() -> Iterator[SignIn]:
    with SignIn() as login:
        yield login


class MemoryLogins:
    def __init__(self, token: str) -> None:
        self.token: str | None = token

    def refresh_token(self, account: str) -> str | None:
        assert account == "work"
        return self.token

    def save_refresh_token(self, account: str, token: str | None) -> None:
        assert account == "work"
        self.token = token


def listing(login: SignIn, logins: MemoryLogins) -> OpenTalk:
    return OpenTalk("work", url=login.url, client_id="Frontend", logins=logins, clock=lambda: login.now)


def test_whoever_signs_in_in_a_browser_is_signed_in_here_for_long(login: SignIn) -> None:
    login.steps = [login.nothing, login.nothing, login.approve]
    claims, token = login.sign_in()
    assert claims == Claims(login.identity.issuer, login.identity.person("alice").sub)
    assert login.waited == [5, 5, 5]
    assert login.requests("/token") == 3
    account = listing(login, MemoryLogins(token))
    login.now += timedelta(days=400)
    assert account.identity().subject == claims.subject
    account.close()


def test_a_person_gets_the_address_and_the_code(login: SignIn) -> None:
    login.steps = [login.approve]
    login.sign_in()
    page = f"{login.identity.issuer}/device"
    assert len(login.output) == 3
    assert "work" in login.output[0]
    code = login.output[1].partition("user_code=")[2]
    assert login.output[1] == f"    {page}?user_code={code}"
    assert login.output[2] == f"It shows the code {code}. If it asks for it: {page}"


def test_a_client_with_a_secret_shows_it() -> None:
    class Known:
        def reveal(self) -> str:
            return "c-secret"

    with SignIn(clients={"Ours": "c-secret"}) as login:
        login.steps = [login.approve]
        login.sign_in(msgspec.structs.replace(login.configured, client_id="Ours", client_secret=Known()))
        with pytest.raises(LoginRefused, match="does not know the client_id 'Ours'"):
            login.sign_in(msgspec.structs.replace(login.configured, client_id="Ours"))


def test_a_provider_that_is_asked_too_often_is_asked_less_often(login: SignIn) -> None:
    login.identity.app.fail(f"{PROTOCOL}/token", status=400, body='{"error": "slow_down"}', times=2)
    login.steps = [login.nothing, login.nothing, login.nothing, login.approve]
    login.sign_in()
    assert login.waited == [5, 10, 15, 15]


def test_trouble_while_waiting_is_not_the_end(login: SignIn) -> None:
    for _ in range(2):
        login.identity.app.fail(f"{PROTOCOL}/token", status=503, headers={"retry-after": "90"})
        login.identity.app.fail(f"{PROTOCOL}/token", status=200, body="<html>hello")
        login.identity.app.cut(f"{PROTOCOL}/token")
    login.steps = [*[login.nothing] * 7, login.approve]
    login.sign_in()
    assert login.waited == [5, 90, 60, 60, 90, 60, 60, 5]


def test_trouble_that_lasts_until_the_code_expires_is_reported(login: SignIn) -> None:
    login.identity.app.fail(f"{PROTOCOL}/token", status=503, times=1000)
    with pytest.raises(Unavailable, match="503"):
        login.sign_in()
    assert sum(login.waited) == 600
    assert login.waited[:5] == [5, 10, 20, 40, 60]


def test_a_code_that_nobody_uses_ends(login: SignIn) -> None:
    with pytest.raises(LoginRefused, match=AGAIN):
        login.sign_in()
    assert sum(login.waited) == 600
    assert login.requests("/token") == 120


def test_a_provider_that_forgets_the_code_ends_it(login: SignIn) -> None:
    for error in ("expired_token", "invalid_grant"):
        login.identity.app.fail(f"{PROTOCOL}/token", status=400, body=f'{{"error": "{error}"}}')
        with pytest.raises(LoginRefused, match=AGAIN):
            login.sign_in()
    assert login.requests("/token") == 2


def test_a_person_who_refuses_to_sign_in_is_reported(login: SignIn) -> None:
    login.steps = [login.deny]
    with pytest.raises(LoginRefused, match=f"denied in the browser; {AGAIN}"):
        login.sign_in()


def test_whoever_waits_may_give_up(login: SignIn) -> None:
    def stop(_: float) -> None:
        raise Stopped("told to end")

    with pytest.raises(Stopped):
        sign_in(login.configured, say=login.output.append, wait=stop, clock=lambda: login.now)
    assert login.requests("/token") == 0


def test_a_client_without_the_device_grant_says_what_to_allow() -> None:
    with SignIn(devices=False) as login:
        with pytest.raises(LoginRefused, match=r"OAuth 2\.0 Device Authorization Grant"):
            login.sign_in()
        body = '{"error": "invalid_grant", "error_description": "secret"}'
        login.identity.app.fail(f"{PROTOCOL}/auth/device", status=400, body=body)
        with pytest.raises(LoginRefused, match=r"OAuth 2\.0 Device Authorization Grant") as caught:
            login.sign_in()
        assert "secret" not in str(caught.value)
        assert login.output == []


def test_a_person_without_offline_access_signs_in_once_more_without_it() -> None:
    with SignIn(offline=False) as login:
        login.steps = [login.approve, login.approve]
        _, token = login.sign_in()
        assert "offline_access" in login.output[3]
        assert login.requests("/auth/device") == 2
        account = listing(login, MemoryLogins(token))
        assert account.identity().firstname == "Alice"
        account.close()


def test_a_provider_without_offline_access_is_asked_for_less_before_anybody_signs_in(login: SignIn) -> None:
    login.identity.app.fail(f"{PROTOCOL}/auth/device", status=400, body='{"error": "invalid_scope"}')
    login.steps = [login.approve]
    login.sign_in()
    assert "offline_access" in login.output[0]
    login.identity.app.fail(f"{PROTOCOL}/auth/device", status=400, body='{"error": "invalid_scope"}', times=2)
    with pytest.raises(LoginRefused, match="refuses the scopes"):
        login.sign_in()


@pytest.mark.parametrize("missing", ["refresh_token", "id_token"])
def test_half_of_the_tokens_is_no_sign_in(login: SignIn, missing: str) -> None:
    tokens = {"access_token": "a", "refresh_token": "r", "id_token": "e30.e30.e30"}
    del tokens[missing]
    login.identity.app.fail(f"{PROTOCOL}/token", status=200, body=msgspec.json.encode(tokens))
    with pytest.raises(NeedsYou, match="'Frontend' no refresh token or no id token"):
        login.sign_in()


def provider(**openid: str) -> Callable[[Call], None]:
    """An identity provider that is no Keycloak; ``{url}`` in its addresses is where it is."""

    def answer(call: Call) -> None:
        url = f"http://{call.headers['host']}"
        match call.path:
            case "/.well-known/openid-configuration":
                addresses = {name: place.format(url=url) for name, place in openid.items()}
                call.answer(200, msgspec.json.encode({"token_endpoint": f"{url}/token", **addresses}))
            case "/device":
                device = {"device_code": "d", "user_code": "AB\x1b[2J", "verification_uri": url, "expires_in": 60}
                call.answer(200, msgspec.json.encode(device))
            case "/revoke":
                call.answer(200)
            case _:
                call.answer(404)

    return answer


def test_a_provider_without_device_sign_in_says_what_to_do(login: SignIn) -> None:
    with StubServer(provider()) as other:
        account = msgspec.structs.replace(login.configured, issuer=other.url)
        with pytest.raises(NeedsYou, match=r"OAuth 2\.0 Device Authorization Grant.*username and password"):
            login.sign_in(account)
        with pytest.raises(NeedsYou, match="no address where a sign-in is ended"):
            sign_out(account, "r", clock=lambda: login.now)
        assert all(method == "GET" for method, _, _ in other.calls)


def test_no_secret_goes_where_there_is_no_tls(login: SignIn, tmp_path: Path) -> None:
    certificate = Certificate(tmp_path, "id", "IP:127.0.0.1")
    unsafe = {
        "device_authorization_endpoint": "http://id.example.org/",
        "revocation_endpoint": "http://id.example.org/",
    }
    with StubServer(provider(**unsafe), certificate) as other:
        account = msgspec.structs.replace(login.configured, issuer=other.url, ca_file=certificate.path)
        with pytest.raises(NeedsYou, match="does not let devices sign in"):
            login.sign_in(account)
        with pytest.raises(NeedsYou, match="no address where a sign-in is ended"):
            sign_out(account, "r", clock=lambda: login.now)
        assert len(other.calls) == 2


def test_a_code_that_would_play_with_the_terminal_is_not_shown(login: SignIn) -> None:
    with StubServer(provider(device_authorization_endpoint="{url}/device")) as other:
        with pytest.raises(BadAnswer, match="cannot be shown"):
            login.sign_in(msgspec.structs.replace(login.configured, issuer=other.url))
        assert login.output == []


def test_signing_out_ends_this_sign_in_and_no_other(login: SignIn) -> None:
    tokens = []
    for _ in range(2):
        login.steps = [login.approve]
        tokens.append(login.sign_in()[1])
    sign_out(login.configured, tokens[0], clock=lambda: login.now)
    assert (login.requests("/logout"), login.requests("/revoke")) == (1, 0)
    ended, other = (listing(login, MemoryLogins(token)) for token in tokens)
    with pytest.raises(LoginRefused, match="has ended"):
        ended.identity()
    assert other.identity().firstname == "Alice"
    ended.close()
    other.close()


def test_what_has_ended_already_can_be_signed_out(login: SignIn) -> None:
    login.steps = [login.approve]
    _, token = login.sign_in()
    login.identity.end_sessions()
    sign_out(login.configured, token, clock=lambda: login.now)
    sign_out(login.configured, "nonsense", clock=lambda: login.now)


def test_signing_out_says_what_went_wrong(login: SignIn) -> None:
    login.identity.app.fail(f"{PROTOCOL}/logout", status=503)
    with pytest.raises(Unavailable):
        sign_out(login.configured, "nonsense", clock=lambda: login.now)
    with pytest.raises(LoginRefused, match="does not know the client_id 'Nope'"):
        sign_out(msgspec.structs.replace(login.configured, client_id="Nope"), "nonsense", clock=lambda: login.now)


def test_another_provider_than_keycloak_revokes(login: SignIn) -> None:
    known = provider(revocation_endpoint="{url}/revoke", end_session_endpoint="{url}/session/end")
    with StubServer(known) as other:
        sign_out(msgspec.structs.replace(login.configured, issuer=other.url), "r", clock=lambda: login.now)
        form = parse_qs(other.calls[-1][2].decode())
        assert other.calls[-1][:2] == ("POST", "/revoke")
        assert form == {"token": ["r"], "token_type_hint": ["refresh_token"], "client_id": ["Frontend"]}
