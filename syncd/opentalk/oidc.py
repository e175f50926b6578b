# SPDX-License-Identifier: Apache-2.0
"""Tokens for an OpenTalk account, as httpx drives it: every request gets a bearer token that is still good.

It sends nothing itself: the requests that it yields go the way of the one that needs a token. It knows no
password or refresh token longer than it takes to use it, unless it was refused.
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
Asking = Generator[httpx.Request, httpx.Response, Answer]
Getting = Generator[httpx.Request, httpx.Response, Tokens]


class Logins(Protocol):
    """Where refresh tokens are kept, by the account's name in the configuration; other processes use it too."""

    def refresh_token(self, account: str) -> str | None:
        """What is kept now; ``None`` if nobody is signed in."""

    def save_refresh_token(self, account: str, token: str | None) -> None:
        """Keep this one instead, for good when it returns; ``None`` forgets it."""


class Grant(httpx.Auth):
    """The access token of an account, its renewal, and OpenTalk's sessions. How tokens are come by, others say.

    ``login_url`` is OpenTalk's ``/v1/auth/login``. Threads share one token, and one of them renews it.

    A request that gets 401 or 500 is sent a second time with a new token: Keycloak's expired and revoked
    tokens make OpenTalk 0.30 answer 500. OpenTalk up to 0.29 wants the id token of every refresh posted
    before the access token is used; a token that it refused because of that stays refused. A server that
    showed this is posted to from then on.

    Tokens of another person than before are not used: what is deleted at their sight would be somebody's.
    """

    requires_response_body = True

    def __init__(self, client: Client, *, token_endpoint: str, login_url: str, clock: Callable[[], datetime]) -> None:
        self.claims: Claims | None = None
        """Whom the id tokens are about; ``None`` before the first request."""
        self._client = client
        self._token_endpoint = token_endpoint
        self._login_url = login_url
        self._clock = clock
        self._lock = threading.Lock()
        self._tokens: Tokens | None = None
        self._until: datetime | None = None
        self._posts_sessions = False

    @abstractmethod
    def _fresh(self) -> Getting:
        """New tokens."""

    def auth_flow(self, request: httpx.Request) -> Flow:
        """The conversation that one request takes. Raises LoginRefused, NeedsYou, Unavailable and BadAnswer."""
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
        """An access token, another than ``stale``."""
        with self._lock:
            tokens = self._tokens
            if tokens is None or tokens.access_token == stale or self._until is None or self._clock() >= self._until:
                tokens = yield from self._renewed()
            return tokens.access_token

    def _renewed(self) -> Getting:
        self._until = None  # whatever fails below, these tokens are not used again
        asked = self._clock()
        fresh = yield from self._fresh()
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
        self._tokens, self._until = fresh, asked + fresh.usable
        return fresh

    def _refreshed(self, refresh_token: str) -> Generator[httpx.Request, httpx.Response, Tokens | None]:
        """New tokens, or ``None`` if the refresh token is not good any more."""
        answer = yield from self._ask(grant_type="refresh_token", refresh_token=refresh_token)
        if problem_of(answer).error == "invalid_grant":
            return None
        fresh = self._client.tokens(answer, "refresh tokens: allow it that")
        return fresh if fresh.refresh_token else replace(fresh, refresh_token=refresh_token)  # RFC 6749, 6

    def _ask(self, **fields: str) -> Asking:
        form = self._client.form(**fields)
        response = yield httpx.Request("POST", self._token_endpoint, data=form, headers=HEADERS)
        return read(response, self._clock())

    def _post_session(self, id_token: str | None) -> Flow:
        """Begin a session, which OpenTalk up to 0.29 binds to the life of the id token posted last."""
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
    """The resource owner password grant (RFC 6749, 4.3) and its refreshes; ``password`` is read when it is needed.

    A refused login is not tried again with the same password: identity providers lock accounts.
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
        self._refused: tuple[str, str] | None = None  # the password and what was said

    def _fresh(self) -> Getting:
        if self._tokens and self._tokens.refresh_token:
            fresh = yield from self._refreshed(self._tokens.refresh_token)
            if fresh and (fresh.id_token or not self._posts_sessions):
                return fresh
        return (yield from self._logged_in())

    def _logged_in(self) -> Getting:
        password = self._password()
        if self._refused and self._refused[0] == password:
            raise LoginRefused(self._refused[1])
        self._refused = None
        answer = yield from self._ask(grant_type="password", username=self._username, password=password, scope="openid")
        try:
            return self._client.tokens(answer, "use passwords: allow it direct access grants")
        except LoginRefused as refusal:
            if problem_of(answer).error == "invalid_grant":
                self._refused = (password, str(refusal))
            raise


class RefreshGrant(Grant):
    """Refreshes (RFC 6749, 6) of what ``syncd login`` keeps in ``logins``, which may change at any time.

    A provider may take each refresh token once only, so a new one is saved before anything else is done with
    the answer. One that was refused is not tried again; another that is there meanwhile is.
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
        self._unsaved: tuple[str, str] | None = None  # the token that was used, and the one to save instead

    def _fresh(self) -> Getting:
        """Another process may use the same token at the same time: whose is refused looks for the other's."""
        while (kept := self._kept()) != self._refused:
            fresh = yield from self._refreshed(kept)
            if fresh and fresh.refresh_token:
                self._unsaved = (kept, fresh.refresh_token)
                self._save()
                return fresh
            self._refused = kept
        raise LoginRefused(f"{self._client.name}: the sign-in has ended; run `syncd login {self._account}`")

    def _kept(self) -> str:
        self._save()  # what a full disk kept from being saved the last time
        kept = self._logins.refresh_token(self._account)
        if kept is None:
            raise LoginRefused(f"{self._client.name}: nobody is signed in; run `syncd login {self._account}`")
        return kept

    def _save(self) -> None:
        """Save what is not yet; a login or logout that came between is not undone."""
        if self._unsaved:
            used, fresh = self._unsaved
            if fresh != used and self._logins.refresh_token(self._account) == used:
                self._logins.save_refresh_token(self._account, fresh)
            self._unsaved = None


def _wants_session(answer: Answer) -> bool:
    expired = "user session expired" in answer.headers.get("www-authenticate", "")
    return expired or problem_of(answer).code in ("unknown_sub", "unknown_tenant_id")
