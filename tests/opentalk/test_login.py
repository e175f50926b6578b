# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import msgspec
import pytest

from syncd.config import Account
from syncd.demo.identity import IdentityProvider
from syncd.demo.opentalk import OpenTalk as EmbeddedOpenTalk
from syncd.demo.serve import Served
from syncd.errors import BadAnswer, LoginRefused, NeedsYou, Stopped, Unavailable
from syncd.opentalk.client import OpenTalk
from syncd.opentalk.login import sign_in, sign_out
from syncd.opentalk.tokens import Claims
from syncd.transport import HttpClient
from tests.support.stub_server import Call, Certificate, Tiny

NOW = datetime(2026, 11, 22, 8, tzinfo=UTC)
PROTOCOL = "/realms/OPENTALK/protocol/openid-connect"
AGAIN = "run `syncd login work` again"


class Town:
    """An OpenTalk with its identity provider, a command that lets sign in, and a person with a browser.

    ``steps`` are what happens during each wait, after the last of which nothing does.
    """

    def __init__(self, stack: ExitStack, **options: Any) -> None:
        self.now = NOW
        self.identity = IdentityProvider(lambda: self.now, **options)
        self.identity.add_user("alice", "alice-pw", "Alice", "Adams", "alice@example.org")
        self.opentalk = EmbeddedOpenTalk(self.identity, lambda: self.now, "0.30")
        self.identity.url = stack.enter_context(Served(self.identity.app)).url
        self.url = stack.enter_context(Served(self.opentalk.app)).url
        self.browser = HttpClient("browser")
        stack.callback(self.browser.close)
        self.said: list[str] = []
        self.waited: list[float] = []
        self.steps: list[Callable[[], None]] = []
        self.account = Account(name="work", url=self.url, client_id="Frontend")

    def wait(self, seconds: float) -> None:
        self.waited.append(seconds)
        self.now += timedelta(seconds=seconds)
        if self.steps:
            self.steps.pop(0)()

    def sign_in(self, account: Account | None = None) -> tuple[Claims, str]:
        return sign_in(account or self.account, say=self.said.append, wait=self.wait, clock=lambda: self.now)

    def nothing(self) -> None:
        """The person looks for glasses."""

    def approve(self) -> None:
        """The person follows the address last shown, and signs in on that page."""
        url = next(line.strip() for line in reversed(self.said) if line.startswith(" "))
        code = parse_qs(url.partition("?")[2])["user_code"][0]
        assert any(code in line for line in self.said if not line.startswith(" "))
        form = {"user_code": code, "username": "alice", "password": "alice-pw"}
        assert self.browser.send("POST", url.partition("?")[0], form=form).status == 200

    def deny(self) -> None:
        self.identity.deny(next(line for line in self.said if "the code" in line).split("the code ")[1].split(".")[0])

    def asked(self, path: str) -> int:
        return sum(request.path == PROTOCOL + path for request in self.identity.app.log)


@contextmanager
def town(**options: Any) -> Iterator[Town]:
    with ExitStack() as stack:
        yield Town(stack, **options)


@pytest.fixture
def here() -> Iterator[Town]:
    with town() as made:
        yield made


class Kept:
    def __init__(self, token: str) -> None:
        self.token: str | None = token

    def refresh_token(self, account: str) -> str | None:
        assert account == "work"
        return self.token

    def save_refresh_token(self, account: str, token: str | None) -> None:
        assert account == "work"
        self.token = token


def listing(here: Town, kept: Kept) -> OpenTalk:
    return OpenTalk("work", url=here.url, client_id="Frontend", logins=kept, clock=lambda: here.now)


def test_whoever_signs_in_in_a_browser_is_signed_in_here_for_long(here: Town) -> None:
    here.steps = [here.nothing, here.nothing, here.approve]
    claims, token = here.sign_in()
    assert claims == Claims(here.identity.issuer, here.identity.person("alice").sub)
    assert here.waited == [5, 5, 5]
    assert here.asked("/token") == 3
    account = listing(here, Kept(token))
    here.now += timedelta(days=400)
    assert account.identity().subject == claims.subject
    account.close()


def test_a_person_is_told_the_address_and_the_code(here: Town) -> None:
    here.steps = [here.approve]
    here.sign_in()
    page = f"{here.identity.issuer}/device"
    assert len(here.said) == 3
    assert "work" in here.said[0]
    code = here.said[1].partition("user_code=")[2]
    assert here.said[1] == f"    {page}?user_code={code}"
    assert here.said[2] == f"It shows the code {code}. If it asks for it: {page}"


def test_a_client_with_a_secret_shows_it() -> None:
    class Known:
        def reveal(self) -> str:
            return "c-secret"

    with town(clients={"Ours": "c-secret"}) as there:
        there.steps = [there.approve]
        there.sign_in(msgspec.structs.replace(there.account, client_id="Ours", client_secret=Known()))
        with pytest.raises(LoginRefused, match="does not know the client_id 'Ours'"):
            there.sign_in(msgspec.structs.replace(there.account, client_id="Ours"))


def test_a_provider_that_is_asked_too_often_is_asked_less_often(here: Town) -> None:
    here.identity.app.fail(f"{PROTOCOL}/token", status=400, body='{"error": "slow_down"}', times=2)
    here.steps = [here.nothing, here.nothing, here.nothing, here.approve]
    here.sign_in()
    assert here.waited == [5, 10, 15, 15]


def test_trouble_while_waiting_is_not_the_end(here: Town) -> None:
    for _ in range(2):
        here.identity.app.fail(f"{PROTOCOL}/token", status=503, headers={"retry-after": "90"})
        here.identity.app.fail(f"{PROTOCOL}/token", status=200, body="<html>hello")
        here.identity.app.cut(f"{PROTOCOL}/token")
    here.steps = [*[here.nothing] * 7, here.approve]
    here.sign_in()
    assert here.waited == [5, 90, 60, 60, 90, 60, 60, 5]


def test_trouble_until_the_code_ends_is_what_is_told(here: Town) -> None:
    here.identity.app.fail(f"{PROTOCOL}/token", status=503, times=1000)
    with pytest.raises(Unavailable, match="503"):
        here.sign_in()
    assert sum(here.waited) == 600
    assert here.waited[:5] == [5, 10, 20, 40, 60]


def test_a_code_that_nobody_uses_ends(here: Town) -> None:
    with pytest.raises(LoginRefused, match=AGAIN):
        here.sign_in()
    assert sum(here.waited) == 600
    assert here.asked("/token") == 120


def test_a_provider_that_forgets_the_code_ends_it(here: Town) -> None:
    for error in ("expired_token", "invalid_grant"):
        here.identity.app.fail(f"{PROTOCOL}/token", status=400, body=f'{{"error": "{error}"}}')
        with pytest.raises(LoginRefused, match=AGAIN):
            here.sign_in()
    assert here.asked("/token") == 2


def test_somebody_who_says_no_is_heard(here: Town) -> None:
    here.steps = [here.deny]
    with pytest.raises(LoginRefused, match=f"denied in the browser; {AGAIN}"):
        here.sign_in()


def test_whoever_waits_may_give_up(here: Town) -> None:
    def stop(_: float) -> None:
        raise Stopped("told to end")

    with pytest.raises(Stopped):
        sign_in(here.account, say=here.said.append, wait=stop, clock=lambda: here.now)
    assert here.asked("/token") == 0


def test_a_client_that_may_not_sign_devices_in_says_what_to_allow() -> None:
    with town(devices=False) as there:
        with pytest.raises(LoginRefused, match=r"OAuth 2\.0 Device Authorization Grant"):
            there.sign_in()
        body = '{"error": "invalid_grant", "error_description": "secret"}'
        there.identity.app.fail(f"{PROTOCOL}/auth/device", status=400, body=body)
        with pytest.raises(LoginRefused, match=r"OAuth 2\.0 Device Authorization Grant") as caught:
            there.sign_in()
        assert "secret" not in str(caught.value)
        assert there.said == []


def test_a_person_without_offline_access_signs_in_once_more_for_less() -> None:
    with town(offline=False) as there:
        there.steps = [there.approve, there.approve]
        _, token = there.sign_in()
        assert "offline_access" in there.said[3]
        assert there.asked("/auth/device") == 2
        account = listing(there, Kept(token))
        assert account.identity().firstname == "Alice"
        account.close()


def test_a_provider_without_offline_access_is_asked_for_less_before_anybody_signs_in(here: Town) -> None:
    here.identity.app.fail(f"{PROTOCOL}/auth/device", status=400, body='{"error": "invalid_scope"}')
    here.steps = [here.approve]
    here.sign_in()
    assert "offline_access" in here.said[0]
    here.identity.app.fail(f"{PROTOCOL}/auth/device", status=400, body='{"error": "invalid_scope"}', times=2)
    with pytest.raises(LoginRefused, match="refuses the scopes"):
        here.sign_in()


@pytest.mark.parametrize("missing", ["refresh_token", "id_token"])
def test_half_of_the_tokens_is_no_sign_in(here: Town, missing: str) -> None:
    tokens = {"access_token": "a", "refresh_token": "r", "id_token": "e30.e30.e30"}
    del tokens[missing]
    here.identity.app.fail(f"{PROTOCOL}/token", status=200, body=msgspec.json.encode(tokens))
    with pytest.raises(NeedsYou, match="'Frontend' no refresh token or no id token"):
        here.sign_in()


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


def test_a_provider_without_device_sign_in_says_what_to_do(here: Town) -> None:
    with Tiny(provider()) as other:
        account = msgspec.structs.replace(here.account, issuer=other.url)
        with pytest.raises(NeedsYou, match=r"OAuth 2\.0 Device Authorization Grant.*username and password"):
            here.sign_in(account)
        with pytest.raises(NeedsYou, match="no address where a sign-in is ended"):
            sign_out(account, "r", clock=lambda: here.now)
        assert all(method == "GET" for method, _, _ in other.calls)


def test_no_secret_goes_where_there_is_no_tls(here: Town, tmp_path: Path) -> None:
    certificate = Certificate(tmp_path, "id", "IP:127.0.0.1")
    unsafe = {
        "device_authorization_endpoint": "http://id.example.org/",
        "revocation_endpoint": "http://id.example.org/",
    }
    with Tiny(provider(**unsafe), certificate) as other:
        account = msgspec.structs.replace(here.account, issuer=other.url, ca_file=certificate.path)
        with pytest.raises(NeedsYou, match="does not let devices sign in"):
            here.sign_in(account)
        with pytest.raises(NeedsYou, match="no address where a sign-in is ended"):
            sign_out(account, "r", clock=lambda: here.now)
        assert len(other.calls) == 2


def test_a_code_that_would_play_with_the_terminal_is_not_shown(here: Town) -> None:
    with Tiny(provider(device_authorization_endpoint="{url}/device")) as other:
        with pytest.raises(BadAnswer, match="cannot be shown"):
            here.sign_in(msgspec.structs.replace(here.account, issuer=other.url))
        assert here.said == []


def test_signing_out_ends_this_sign_in_and_no_other(here: Town) -> None:
    tokens = []
    for _ in range(2):
        here.steps = [here.approve]
        tokens.append(here.sign_in()[1])
    sign_out(here.account, tokens[0], clock=lambda: here.now)
    assert (here.asked("/logout"), here.asked("/revoke")) == (1, 0)
    ended, other = (listing(here, Kept(token)) for token in tokens)
    with pytest.raises(LoginRefused, match="has ended"):
        ended.identity()
    assert other.identity().firstname == "Alice"
    ended.close()
    other.close()


def test_what_has_ended_already_can_be_signed_out(here: Town) -> None:
    here.steps = [here.approve]
    _, token = here.sign_in()
    here.identity.end_sessions()
    sign_out(here.account, token, clock=lambda: here.now)
    sign_out(here.account, "nonsense", clock=lambda: here.now)


def test_signing_out_says_what_went_wrong(here: Town) -> None:
    here.identity.app.fail(f"{PROTOCOL}/logout", status=503)
    with pytest.raises(Unavailable):
        sign_out(here.account, "nonsense", clock=lambda: here.now)
    with pytest.raises(LoginRefused, match="does not know the client_id 'Nope'"):
        sign_out(msgspec.structs.replace(here.account, client_id="Nope"), "nonsense", clock=lambda: here.now)


def test_another_provider_than_keycloak_revokes(here: Town) -> None:
    known = provider(revocation_endpoint="{url}/revoke", end_session_endpoint="{url}/session/end")
    with Tiny(known) as other:
        sign_out(msgspec.structs.replace(here.account, issuer=other.url), "r", clock=lambda: here.now)
        form = parse_qs(other.calls[-1][2].decode())
        assert other.calls[-1][:2] == ("POST", "/revoke")
        assert form == {"token": ["r"], "token_type_hint": ["refresh_token"], "client_id": ["Frontend"]}
