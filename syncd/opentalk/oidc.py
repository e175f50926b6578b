# SPDX-License-Identifier: Apache-2.0
"""Tokens for an OpenTalk account, as httpx drives it: every request gets a bearer token that is still good.

It sends nothing itself: the requests that it yields go the way of the one that needs a token. It knows no
password longer than it takes to use it, unless it was refused.
"""

import base64
import threading
from collections.abc import Callable, Generator, Mapping
from datetime import datetime, timedelta

import httpx
import msgspec
from msgspec import Struct

from syncd.errors import BadAnswer, LoginRefused
from syncd.transport import USER_AGENT, decode, read, unavailable

MARGIN = 30.0
"""Seconds before its end at which a token is renewed; a third of its life if that is less."""

USUAL_LIFE = 300.0
"""Seconds that a token lives whose answer does not say it; Keycloak's default."""

TOLD = ("invalid_client", "invalid_grant", "unauthorized_client", "invalid_request", "invalid_scope")

HEADERS = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity", "Accept": "application/json"}

Flow = Generator[httpx.Request, httpx.Response, None]


class Tokens(Struct, frozen=True):
    """A token answer (RFC 6749, 5.1; OpenID Connect Core, 3.1.3.3)."""

    access_token: str
    expires_in: float | None = None
    refresh_token: str | None = None
    id_token: str | None = None

    @property
    def usable(self) -> timedelta:
        """How long after it was asked for the access token is to be used."""
        life = USUAL_LIFE if self.expires_in is None else self.expires_in
        return timedelta(seconds=life - min(MARGIN, life / 3))


class Claims(Struct, frozen=True):
    """Who an id token is about."""

    iss: str
    sub: str


class Problem(Struct, frozen=True):
    """An error of the identity provider (``error``) or of OpenTalk (``code``)."""

    error: str | None = None
    code: str | None = None


class PasswordGrant(httpx.Auth):
    """The resource owner password grant (RFC 6749, 4.3), its refreshes, and OpenTalk's sessions.

    ``name`` is what messages call the account; ``password`` is read when it is needed. ``login_url`` is
    OpenTalk's ``/v1/auth/login``. Threads share one token, and one of them renews it.

    A request that gets 401 or 500 is sent a second time with a new token: Keycloak's expired and revoked
    tokens make OpenTalk 0.30 answer 500. OpenTalk up to 0.29 wants the id token of every refresh posted
    before the access token is used; a token that it refused because of that stays refused. A server that
    showed this is posted to from then on.

    A refused login is not tried again with the same password: identity providers lock accounts.
    """

    requires_response_body = True

    def __init__(
        self,
        name: str,
        *,
        username: str,
        password: Callable[[], str],
        client_id: str,
        client_secret: Callable[[], str] | None,
        token_endpoint: str,
        login_url: str,
        clock: Callable[[], datetime],
    ) -> None:
        self._name = name
        self._username = username
        self._password = password
        self._client_id = client_id
        self._client_secret = client_secret
        self._token_endpoint = token_endpoint
        self._login_url = login_url
        self._clock = clock
        self._lock = threading.Lock()
        self._tokens: Tokens | None = None
        self._until: datetime | None = None
        self._posts_sessions = False
        self._refused: tuple[str, str] | None = None  # the password and what was said
        self._claims: Claims | None = None

    @property
    def issuer(self) -> str | None:
        """Who issued the latest id token; ``None`` before the first request.

        The token is not verified: it came from the issuer's own token endpoint (OpenID Connect Core, 3.1.3.7).
        """
        return self._claims.iss if self._claims else None

    @property
    def subject(self) -> str | None:
        """Whom the latest id token is about; ``None`` before the first request."""
        return self._claims.sub if self._claims else None

    def auth_flow(self, request: httpx.Request) -> Flow:
        """The conversation that one request takes. Raises LoginRefused, Unavailable and BadAnswer."""
        token = yield from self._token(None)
        request.headers["Authorization"] = f"Bearer {token}"
        response = yield request
        if response.status_code in (401, 500):
            if response.status_code == 401 and _wants_session(response):  # noqa: PLR2004
                self._posts_sessions = True
            token = yield from self._token(token)
            request.headers["Authorization"] = f"Bearer {token}"
            yield request

    def _token(self, stale: str | None) -> Generator[httpx.Request, httpx.Response, str]:
        """An access token, another than ``stale``."""
        with self._lock:
            tokens = self._tokens
            if tokens is None or tokens.access_token == stale or self._until is None or self._clock() >= self._until:
                tokens = yield from self._renewed(tokens)
            return tokens.access_token

    def _renewed(self, tokens: Tokens | None) -> Generator[httpx.Request, httpx.Response, Tokens]:
        self._until = None  # whatever fails below, these tokens are not used again
        asked = self._clock()
        fresh: Tokens | None = None
        if tokens and tokens.refresh_token:
            fresh = yield from self._refreshed(tokens.refresh_token)
        if fresh is None or (self._posts_sessions and fresh.id_token is None):
            fresh = yield from self._logged_in()
        if fresh.id_token:
            self._claims = _claims(fresh.id_token, self._name)
        if self._posts_sessions:
            yield from self._post_session(fresh.id_token)
        if fresh.refresh_token is None and tokens:
            fresh = msgspec.structs.replace(fresh, refresh_token=tokens.refresh_token)  # RFC 6749, 6
        self._tokens, self._until = fresh, asked + fresh.usable
        return fresh

    def _refreshed(self, refresh_token: str) -> Generator[httpx.Request, httpx.Response, Tokens | None]:
        """New tokens, or ``None`` if the refresh token is not good any more."""
        response = yield self._request({"grant_type": "refresh_token", "refresh_token": refresh_token})
        if response.status_code == 400 and _problem(response).error == "invalid_grant":  # noqa: PLR2004
            return None
        return self._read(response)

    def _logged_in(self) -> Generator[httpx.Request, httpx.Response, Tokens]:
        password = self._password()
        if self._refused and self._refused[0] == password:
            raise LoginRefused(self._refused[1])
        self._refused = None
        response = yield self._request(
            {"grant_type": "password", "username": self._username, "password": password, "scope": "openid"}
        )
        try:
            return self._read(response)
        except LoginRefused as refusal:
            if _problem(response).error == "invalid_grant":
                self._refused = (password, str(refusal))
            raise

    def _request(self, form: Mapping[str, str]) -> httpx.Request:
        client = {"client_id": self._client_id}
        if self._client_secret:
            client["client_secret"] = self._client_secret()
        return httpx.Request("POST", self._token_endpoint, data={**form, **client}, headers=HEADERS)

    def _read(self, response: httpx.Response) -> Tokens:
        who = f"{self._name}: the identity provider"
        answer = read(response, self._clock())
        status = response.status_code
        if status == httpx.codes.OK:
            return decode(answer, Tokens, who)
        if status == httpx.codes.TOO_MANY_REQUESTS or status >= httpx.codes.INTERNAL_SERVER_ERROR:
            raise unavailable(answer, who)
        error = _problem(response).error
        if error is None:
            raise BadAnswer(f"{who} answered {status} without saying why")
        raise self._refusal(status, error if error in TOLD else "another error")

    def _refusal(self, status: int, error: str) -> LoginRefused:
        client = f"the client_id {self._client_id!r}"
        match status, error:
            case _, "invalid_grant":
                what = "refuses username or password; put the right ones into the configuration, then restart or reload"
            case _, "invalid_client":
                what = f"does not know {client}, or wants another client_secret; look at both in the configuration"
            case 401, "unauthorized_client":
                what = f"wants a client_secret for {client}, or another one"
            case _, "unauthorized_client":
                what = (
                    f"does not let {client} use passwords: allow it direct access grants, or choose another client_id"
                )
            case _:
                what = f"refuses the login for {client} ({status})"
        return LoginRefused(f"{self._name}: the identity provider {what} ({error})")

    def _post_session(self, id_token: str | None) -> Flow:
        """Begin a session, which OpenTalk up to 0.29 binds to the life of the id token posted last."""
        response = yield httpx.Request("POST", self._login_url, json={"id_token": id_token}, headers=HEADERS)
        status = response.status_code
        if status == httpx.codes.TOO_MANY_REQUESTS or status >= httpx.codes.INTERNAL_SERVER_ERROR:
            raise unavailable(read(response, self._clock()), self._name)
        if not response.is_success:
            raise LoginRefused(
                f"{self._name}: OpenTalk refuses the session ({status}); look at the identity provider in its settings"
            )


def _problem(response: httpx.Response) -> Problem:
    try:
        return msgspec.json.decode(response.content, type=Problem)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return Problem()


def _wants_session(response: httpx.Response) -> bool:
    expired = "user session expired" in response.headers.get("www-authenticate", "")
    return expired or _problem(response).code in ("unknown_sub", "unknown_tenant_id")


def _claims(token: str, name: str) -> Claims:
    payload = token.partition(".")[2].partition(".")[0]
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)), type=Claims)
    except (ValueError, msgspec.MsgspecError):
        raise BadAnswer(f"{name}: the identity provider sent an id token that cannot be read") from None
