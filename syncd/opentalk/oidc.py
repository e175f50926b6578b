# SPDX-License-Identifier: Apache-2.0
"""Adds a valid bearer token to every request of an OpenTalk account, as an ``httpx.Auth``.

It sends nothing itself: httpx sends the requests that it yields with the same client as the one that needs a token.
A password or refresh token is not stored longer than it takes to use it, unless it was refused.
"""

import threading
from abc import abstractmethod
from collections.abc import Callable, Generator
from datetime import datetime
from typing import Protocol

import httpx
from msgspec.structs import replace

from syncd.errors import LoginRefused, NeedsYou
from syncd.opentalk.tokens import Claims, Client, Tokens, claims_of, problem_of
from syncd.transport import USER_AGENT, Answer, read, unavailable

HEADERS = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity", "Accept": "application/json"}

Flow = Generator[httpx.Request, httpx.Response, None]
AnswerFlow = Generator[httpx.Request, httpx.Response, Answer]
TokenFlow = Generator[httpx.Request, httpx.Response, Tokens]


class Logins(Protocol):
    """The stored refresh tokens, by the account's name in the configuration. Other processes use them, too."""

    def refresh_token(self, account: str) -> str | None:
        """The stored token; ``None`` if nobody is signed in."""

    def save_refresh_token(self, account: str, token: str | None) -> None:
        """Store this token instead, durably; ``None`` deletes it."""


class Grant(httpx.Auth):
    """The access token of an account, its renewal, and OpenTalk's sessions; subclasses obtain the tokens.

    ``login_url`` is OpenTalk's ``/v1/auth/login``. Threads share one token, and one of them renews it.

    A request that gets 401 or 500 is sent a second time with a new token: OpenTalk 0.30 answers 500 to expired and
    revoked tokens of Keycloak. OpenTalk up to 0.29 demands that the id token of every refresh is posted before the
    access token is used, and never accepts a token that it refused for this reason. Once a server has answered so,
    id tokens are posted.

    Tokens of another person are refused: their listing would lack the meetings, which would then be deleted.
    """

    requires_response_body = True

    def __init__(self, client: Client, *, token_endpoint: str, login_url: str, clock: Callable[[], datetime]) -> None:
        self.claims: Claims | None = None
        """The person whom the id tokens identify; ``None`` before the first request."""
        self._client = client
        self._token_endpoint = token_endpoint
        self._login_url = login_url
        self._clock = clock
        self._lock = threading.Lock()
        self._tokens: Tokens | None = None
        self._until: datetime | None = None
        self._posts_sessions = False

    @abstractmethod
    def _new_tokens(self) -> TokenFlow:
        """Obtain new tokens."""

    def auth_flow(self, request: httpx.Request) -> Flow:
        """Yield a request with its token, and the requests that this takes (see ``httpx.Auth``).

        Raises LoginRefused, NeedsYou, Unavailable and BadAnswer.
        """
        token = yield from self._token(None)
        request.headers["Authorization"] = f"Bearer {token}"
        response = yield request
        if response.status_code in (401, 500):
            if response.status_code == 401 and _wants_session(read(response, self._clock())):  # noqa: PLR2004
                self._posts_sessions = True
            token = yield from self._token(token)
            request.headers["Authorization"] = f"Bearer {token}"
            yield request

    def _token(self, stale: str | None) -> Generator[httpx.Request, httpx.Response, str]:
        """A valid access token that is not ``stale``."""
        with self._lock:
            tokens = self._tokens
            if tokens is None or tokens.access_token == stale or self._until is None or self._clock() >= self._until:
                tokens = yield from self._renew()
            return tokens.access_token

    def _renew(self) -> TokenFlow:
        self._until = None  # whatever fails below, the old tokens are not used again
        requested = self._clock()
        fresh = yield from self._new_tokens()
        if fresh.id_token:
            claims = claims_of(fresh.id_token, self._client.name)
            if self.claims not in (None, claims):
                raise NeedsYou(
                    f"{self._client.name}: somebody else is signed in than before; sign in as the same person again, "
                    "or give the other one an account of its own in the configuration and restart"
                )
            self.claims = claims
        if self._posts_sessions:
            yield from self._post_session(fresh.id_token)
        self._tokens, self._until = fresh, requested + fresh.usable
        return fresh

    def _refresh(self, refresh_token: str) -> Generator[httpx.Request, httpx.Response, Tokens | None]:
        """New tokens, or ``None`` if the refresh token is no longer valid."""
        answer = yield from self._request(grant_type="refresh_token", refresh_token=refresh_token)
        if problem_of(answer).error == "invalid_grant":
            return None
        fresh = self._client.tokens(answer, "refresh tokens: allow it that")
        return fresh if fresh.refresh_token else replace(fresh, refresh_token=refresh_token)  # RFC 6749, 6

    def _request(self, **fields: str) -> AnswerFlow:
        form = self._client.form(**fields)
        response = yield httpx.Request("POST", self._token_endpoint, data=form, headers=HEADERS)
        return read(response, self._clock())

    def _post_session(self, id_token: str | None) -> Flow:
        """Begin a session; up to 0.29 it lasts as long as the id token that was posted last."""
        response = yield httpx.Request("POST", self._login_url, json={"id_token": id_token}, headers=HEADERS)
        status = response.status_code
        if status == httpx.codes.TOO_MANY_REQUESTS or status >= httpx.codes.INTERNAL_SERVER_ERROR:
            raise unavailable(read(response, self._clock()), self._client.name)
        if not response.is_success:
            raise LoginRefused(
                f"{self._client.name}: OpenTalk refuses the session ({status}); look at the identity provider in its "
                "settings"
            )


class PasswordGrant(Grant):
    """The resource owner password grant (RFC 6749, 4.3) and its refreshes. ``password`` is read when it is needed.

    A password that was refused is not sent again, because identity providers lock accounts.
    """

    def __init__(
        self,
        client: Client,
        *,
        username: str,
        password: Callable[[], str],
        token_endpoint: str,
        login_url: str,
        clock: Callable[[], datetime],
    ) -> None:
        super().__init__(client, token_endpoint=token_endpoint, login_url=login_url, clock=clock)
        self._username = username
        self._password = password
        self._refused: tuple[str, str] | None = None  # the password and the message of the refusal

    def _new_tokens(self) -> TokenFlow:
        if self._tokens and self._tokens.refresh_token:
            fresh = yield from self._refresh(self._tokens.refresh_token)
            if fresh and (fresh.id_token or not self._posts_sessions):
                return fresh
        return (yield from self._log_in())

    def _log_in(self) -> TokenFlow:
        password = self._password()
        if self._refused and self._refused[0] == password:
            raise LoginRefused(self._refused[1])
        self._refused = None
        fields = {"username": self._username, "password": password}
        answer = yield from self._request(grant_type="password", scope="openid", **fields)
        try:
            return self._client.tokens(answer, "use passwords: allow it direct access grants")
        except LoginRefused as refusal:
            if problem_of(answer).error == "invalid_grant":
                self._refused = (password, str(refusal))
            raise


class RefreshGrant(Grant):
    """Refreshes (RFC 6749, 6) with the token that ``syncd login`` stores in ``logins``; it may change at any time.

    A provider may accept each refresh token only once, so a new one is stored before anything else is done with the
    answer. One that was refused is not sent again, but another that was stored meanwhile is.
    """

    def __init__(
        self,
        client: Client,
        *,
        account: str,
        logins: Logins,
        token_endpoint: str,
        login_url: str,
        clock: Callable[[], datetime],
    ) -> None:
        super().__init__(client, token_endpoint=token_endpoint, login_url=login_url, clock=clock)
        self._account = account
        self._logins = logins
        self._refused: str | None = None
        self._unsaved: tuple[str, str] | None = None  # the token that was used, and the one to store instead

    def _new_tokens(self) -> TokenFlow:
        """Refresh. Where another process used the same token first, ours is refused and its new one is tried."""
        while (token := self._stored_token()) != self._refused:
            fresh = yield from self._refresh(token)
            if fresh and fresh.refresh_token:
                self._unsaved = (token, fresh.refresh_token)
                self._save()
                return fresh
            self._refused = token
        raise LoginRefused(f"{self._client.name}: the sign-in has ended; run `syncd login {self._account}`")

    def _stored_token(self) -> str:
        self._save()  # a token that could not be stored the last time, because the disk was full
        token = self._logins.refresh_token(self._account)
        if token is None:
            raise LoginRefused(f"{self._client.name}: nobody is signed in; run `syncd login {self._account}`")
        return token

    def _save(self) -> None:
        """Store a token that is not stored yet, unless there was a login or logout in between."""
        if self._unsaved:
            used, fresh = self._unsaved
            if fresh != used and self._logins.refresh_token(self._account) == used:
                self._logins.save_refresh_token(self._account, fresh)
            self._unsaved = None


def _wants_session(answer: Answer) -> bool:
    expired = "user session expired" in answer.headers.get("www-authenticate", "")
    return expired or problem_of(answer).code in ("unknown_sub", "unknown_tenant_id")
