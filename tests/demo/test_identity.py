# SPDX-License-Identifier: Apache-2.0
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from syncd.demo.identity import IdentityProvider
from syncd.demo.serve import RunningServer
from tests.support.replay import Replay, recorded

NOW = datetime(2026, 11, 22, 4, 40, 46, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


class Realm:
    def __init__(self, **options: Any) -> None:
        self.clock = Clock()
        self.identity = IdentityProvider(self.clock, **options)
        self.identity.add_user("alice", "alice-pw", "Alice", "Adams", "alice@example.org")
        self.served = RunningServer(self.identity.app)
        self.identity.url = self.served.url
        self.http = httpx.Client()

    def discovered(self) -> Any:
        return self.http.get(f"{self.identity.issuer}/.well-known/openid-configuration").json()

    def ask(self, **form: str) -> httpx.Response:
        return self.http.post(self.discovered()["token_endpoint"], data={"client_id": "Frontend", **form})

    def sign_in(self, scope: str = "openid") -> Any:
        return self.ask(grant_type="password", username="alice", password="alice-pw", scope=scope).json()

    def refresh(self, token: str) -> httpx.Response:
        return self.ask(grant_type="refresh_token", refresh_token=token)

    def close(self) -> None:
        self.http.close()
        self.served.close()


@pytest.fixture
def realm() -> Iterator[Realm]:
    realm = Realm()
    yield realm
    realm.close()


def test_answers_what_keycloak_was_recorded_to_answer(realm: Realm) -> None:
    replay = Replay({"https://id.example.org": realm.served.url}, realm.served.url)
    try:
        for exchange in recorded("keycloak-26.5.jsonl"):
            answer = replay.send(exchange)
            assert not list(replay.differences(exchange, answer)), exchange["request"]["body"]
    finally:
        replay.close()


def test_an_access_token_is_active_until_its_end_and_not_longer(realm: Realm) -> None:
    token = realm.sign_in()["access_token"]
    claims = realm.identity.active(token)
    assert claims is not None
    assert (claims["email"], claims["given_name"], claims["family_name"]) == ("alice@example.org", "Alice", "Adams")
    realm.clock.now += timedelta(seconds=299)
    assert realm.identity.active(token)
    realm.clock.now += timedelta(seconds=1)
    assert realm.identity.active(token) is None


def test_only_an_access_token_is_active(realm: Realm) -> None:
    tokens = realm.sign_in()
    assert realm.identity.active(tokens["id_token"]) is None
    assert realm.identity.active(tokens["refresh_token"]) is None
    assert realm.identity.active(tokens["access_token"][:-1]) is None
    assert realm.identity.active("") is None


def test_ended_sessions_take_even_offline_tokens_with_them(realm: Realm) -> None:
    tokens = realm.sign_in("openid offline_access")
    realm.clock.now += timedelta(days=400)
    assert realm.refresh(tokens["refresh_token"]).status_code == 200
    realm.identity.end_sessions()
    assert realm.refresh(tokens["refresh_token"]).json()["error"] == "invalid_grant"


def test_a_refresh_token_without_offline_access_ends_with_the_session(realm: Realm) -> None:
    tokens = realm.sign_in()
    realm.clock.now += timedelta(seconds=tokens["refresh_expires_in"])
    assert realm.refresh(tokens["refresh_token"]).status_code == 400


@pytest.mark.parametrize(("rotate", "again"), [(False, 200), (True, 400)])
def test_a_refresh_token_works_again_unless_the_realm_rotates_them(rotate: bool, again: int) -> None:
    realm = Realm(rotate=rotate)
    token = realm.sign_in()["refresh_token"]
    assert realm.refresh(token).status_code == 200
    assert realm.refresh(token).status_code == again
    realm.close()


def test_a_changed_password_is_the_one_that_counts(realm: Realm) -> None:
    realm.identity.set_password("alice", "other")
    assert realm.sign_in()["error"] == "invalid_grant"


@pytest.mark.parametrize(("secret", "status"), [("right", 200), ("wrong", 401)])
def test_a_client_with_a_secret_must_know_it(secret: str, status: int) -> None:
    realm = Realm(clients={"Ours": "right"})
    form = {"grant_type": "password", "username": "alice", "password": "alice-pw", "scope": "openid"}
    endpoint = realm.discovered()["token_endpoint"]
    in_form = realm.http.post(endpoint, data={**form, "client_id": "Ours", "client_secret": secret})
    in_header = realm.http.post(endpoint, data=form, auth=("Ours", secret))
    assert (in_form.status_code, in_header.status_code) == (status, status)
    realm.close()


def test_a_device_signs_in_once_somebody_approved_it(realm: Realm) -> None:
    endpoint = realm.discovered()["device_authorization_endpoint"]
    device = realm.http.post(endpoint, data={"client_id": "Frontend", "scope": "openid offline_access"}).json()
    poll = {"grant_type": "urn:ietf:params:oauth:grant-type:device_code", "device_code": device["device_code"]}
    assert realm.ask(**poll).json()["error"] == "authorization_pending"
    realm.identity.approve(device["user_code"], "alice")
    assert realm.ask(**poll).json()["error"] == "slow_down"
    realm.clock.now += timedelta(seconds=device["interval"])
    assert realm.ask(**poll).json()["refresh_expires_in"] == 0
    assert realm.ask(**poll).json()["error"] == "invalid_grant"


def test_a_device_is_approved_on_its_page_by_whoever_knows_the_password(realm: Realm) -> None:
    endpoint = realm.discovered()["device_authorization_endpoint"]
    device = realm.http.post(endpoint, data={"client_id": "Frontend", "scope": "openid"}).json()
    page = realm.http.get(device["verification_uri_complete"])
    assert f'value="{device["user_code"]}"' in page.text
    form = {"user_code": device["user_code"], "username": "alice", "password": "alice-pw"}
    assert realm.http.post(device["verification_uri"], data={**form, "password": "wrong"}).status_code == 400
    assert realm.http.post(device["verification_uri"], data={**form, "user_code": "ABCD"}).status_code == 400
    grant = "urn:ietf:params:oauth:grant-type:device_code"
    assert realm.ask(grant_type=grant, device_code=device["device_code"]).json()["error"] == "authorization_pending"
    realm.clock.now += timedelta(seconds=device["interval"])
    assert realm.http.post(device["verification_uri"], data=form).status_code == 200
    assert realm.ask(grant_type=grant, device_code=device["device_code"]).status_code == 200


def test_a_revocation_ends_every_session_of_the_person_a_logout_only_one() -> None:
    for name, fields, others in (("revocation_endpoint", "token", 400), ("end_session_endpoint", "refresh_token", 200)):
        realm = Realm()
        one, other = realm.sign_in()["refresh_token"], realm.sign_in("openid offline_access")["refresh_token"]
        realm.http.post(realm.discovered()[name], data={"client_id": "Frontend", fields: one})
        assert realm.refresh(one).json()["error_description"] == "Session not active"
        assert realm.refresh(other).status_code == others
        again = realm.http.post(realm.discovered()["revocation_endpoint"], data={"client_id": "Frontend", "token": one})
        assert (again.status_code, again.json()["error"]) == (200, "invalid_token")
        realm.close()


def test_a_refresh_token_that_comes_twice_ends_its_session_where_they_rotate() -> None:
    realm = Realm(rotate=True)
    first = realm.sign_in()["refresh_token"]
    second = realm.refresh(first).json()["refresh_token"]
    assert realm.refresh(first).json()["error_description"] == "Maximum allowed refresh token reuse exceeded"
    assert realm.refresh(second).json()["error_description"] == "Session not active"
    realm.close()


def test_a_refresh_token_is_for_its_own_client_only() -> None:
    realm = Realm(clients={"Frontend": None, "Ours": None})
    token = realm.sign_in()["refresh_token"]
    other = {"client_id": "Ours", "grant_type": "refresh_token", "refresh_token": token}
    assert realm.http.post(realm.discovered()["token_endpoint"], data=other).json()["error"] == "invalid_grant"
    assert realm.refresh(token).status_code == 200
    realm.close()


def test_a_device_code_ends(realm: Realm) -> None:
    endpoint = realm.discovered()["device_authorization_endpoint"]
    device = realm.http.post(endpoint, data={"client_id": "Frontend", "scope": "openid"}).json()
    realm.clock.now += timedelta(seconds=device["expires_in"])
    grant = "urn:ietf:params:oauth:grant-type:device_code"
    assert realm.ask(grant_type=grant, device_code=device["device_code"]).json()["error"] == "expired_token"
