# SPDX-License-Identifier: Apache-2.0
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from syncd.demo.identity import IdentityProvider
from syncd.demo.serve import Served
from tests.demo.replay import Replay, recorded

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
        self.served = Served(self.identity.app)
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


def test_a_device_code_ends(realm: Realm) -> None:
    endpoint = realm.discovered()["device_authorization_endpoint"]
    device = realm.http.post(endpoint, data={"client_id": "Frontend", "scope": "openid"}).json()
    realm.clock.now += timedelta(seconds=device["expires_in"])
    grant = "urn:ietf:params:oauth:grant-type:device_code"
    assert realm.ask(grant_type=grant, device_code=device["device_code"]).json()["error"] == "expired_token"
