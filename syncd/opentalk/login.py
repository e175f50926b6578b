# SPDX-License-Identifier: Apache-2.0
"""Signs in to an OpenTalk account with any browser (RFC 8628, the device authorization grant), and out again.

Nothing is stored here: the caller checks who signed in and stores the refresh token. Nothing sleeps or prints, and no
line for people contains a token.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from syncd.errors import BadAnswer, LoginRefused, NeedsYou, SyncdError, Unavailable
from syncd.opentalk.discovery import Addresses, Endpoints, discover
from syncd.opentalk.tokens import Claims, Client, Tokens, claims_of, problem_of
from syncd.transport import Answer, HttpClient, decode

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
SCOPE = "openid profile email"
"""OpenTalk reads the person's name and address at the provider, for which it needs at least ``openid``."""

OFFLINE_SCOPE = f"{SCOPE} offline_access"
"""With it the refresh token outlives the browser's session (OpenID Connect Core, 11)."""

SLOWER = 5.0
LONGEST_PAUSE = 60.0
KEYCLOAK_LOGOUT = "/protocol/openid-connect/logout"
PERMISSION = 'sign in devices: allow it that (in Keycloak "OAuth 2.0 Device Authorization Grant")'


class Secret(Protocol):
    """A secret that is read when it is needed."""

    def reveal(self) -> str:
        """Its text."""


class Account(Protocol):
    """The settings of an account that signing in needs; ``config.Account`` describes them."""

    @property
    def name(self) -> str:
        """Its name in the configuration."""

    @property
    def url(self) -> str:
        """The address of the OpenTalk web app."""

    @property
    def controller(self) -> str | None:
        """The controller's address; ``None`` to discover it."""

    @property
    def issuer(self) -> str | None:
        """The identity provider's address; ``None`` to discover it."""

    @property
    def client_id(self) -> str | None:
        """The id of the client at the identity provider; ``None`` to discover it."""

    @property
    def client_secret(self) -> Secret | None:
        """The secret of that client, if it has one."""

    @property
    def ca_file(self) -> Path | None:
        """Certificates to trust instead of the system's."""


class _Device(Struct, frozen=True):
    """A device authorization answer (RFC 8628, 3.2); ``expires_in`` and ``interval`` are seconds."""

    device_code: str
    user_code: str
    verification_uri: str
    expires_in: float
    verification_uri_complete: str | None = None
    interval: float = 5.0


class _ScopeRefused(LoginRefused):
    """The provider refuses the scope, mostly because of ``offline_access``."""


class _Provider(Struct, frozen=True):
    """An account's identity provider: its endpoints, our client there, and what sends the requests."""

    account: str
    http: HttpClient
    endpoints: Endpoints
    client: Client

    def post(self, url: str, **fields: str) -> Answer:
        return self.http.send("POST", url, form=self.client.form(**fields), headers={"Accept": "application/json"})

    def refusal(self, what: str) -> LoginRefused:
        return LoginRefused(f"{self.client.name}: {what}; run `syncd login {self.account}` again")


def sign_in(
    account: Account, *, say: Callable[[str], None], wait: Callable[[float], None], clock: Callable[[], datetime]
) -> tuple[Claims, str]:
    """Let a person sign in. Returns who it was (issuer and subject) and the refresh token to store.

    ``say`` is called with each line for that person, ``wait`` with seconds to sleep; it may raise to give up. This
    lasts until the person has signed in or the provider's code expires, with Keycloak after ten minutes. Raises
    LoginRefused, NeedsYou, Unavailable and BadAnswer.
    """
    with _provider(account, clock) as provider:
        try:
            tokens = _tokens(provider, OFFLINE_SCOPE, say, wait, clock)
        except _ScopeRefused:
            say(
                "The identity provider allows no lasting sign-in (offline_access) here: without it you will have "
                "to sign in again whenever its session ends."
            )
            tokens = _tokens(provider, SCOPE, say, wait, clock)
        if tokens.refresh_token is None or tokens.id_token is None:
            raise NeedsYou(
                f"{provider.client.name}: the identity provider gives the client_id {provider.client.id!r} no refresh "
                "token or no id token; allow it both, or choose another client_id"
            )
        return claims_of(tokens.id_token, provider.client.name), tokens.refresh_token


def sign_out(account: Account, refresh_token: str, *, clock: Callable[[], datetime]) -> None:
    """End a sign-in at the identity provider; nothing happens if it has ended already.

    Keycloak's own logout (a POST with the refresh token) is preferred: its revocation ends all sign-ins of the person
    with this client, which may be the client of OpenTalk's web app, in the midst of a meeting. Raises NeedsYou if the
    provider has neither, LoginRefused, Unavailable and BadAnswer.
    """
    with _provider(account, clock) as provider:
        logout, revocation = provider.endpoints.logout_endpoint, provider.endpoints.revocation_endpoint
        if logout and logout.endswith(KEYCLOAK_LOGOUT):
            answer = provider.post(logout, refresh_token=refresh_token)
        elif revocation:
            answer = provider.post(revocation, token=refresh_token, token_type_hint="refresh_token")  # noqa: S106
        else:
            raise NeedsYou(
                f"{provider.client.name}: the identity provider has no address where a sign-in is ended; end it on "
                "the person's own page there"
            )
        if answer.status not in (200, 204) and problem_of(answer).error not in ("invalid_grant", "invalid_token"):
            raise provider.client.refusal(answer, "end sign-ins: allow it that")


@contextmanager
def _provider(account: Account, clock: Callable[[], datetime]) -> Iterator[_Provider]:
    http = HttpClient(f"opentalk.{account.name}", ca_file=account.ca_file, clock=clock)
    configured = Addresses(account.url, account.controller, account.issuer, account.client_id)
    secret = account.client_secret.reveal if account.client_secret else None
    try:
        found = discover(http, configured)
        yield _Provider(account.name, http, found, Client(http.name, found.client_id, secret))
    finally:
        http.close()


def _tokens(
    provider: _Provider,
    scope: str,
    say: Callable[[str], None],
    wait: Callable[[float], None],
    clock: Callable[[], datetime],
) -> Tokens:
    requested = clock()
    device = _request_code(provider, scope)
    say(f"To sign in to {provider.account}, open this address in a browser, on any device:")
    say(f"    {device.verification_uri_complete or device.verification_uri}")
    if device.verification_uri_complete:
        say(f"It shows the code {device.user_code}. If it asks for it: {device.verification_uri}")
    else:
        say(f"and enter the code {device.user_code}")
    return _poll(provider, device, requested + timedelta(seconds=device.expires_in), wait, clock)


def _request_code(provider: _Provider, scope: str) -> _Device:
    """A code with which a person signs in (RFC 8628, 3.1)."""
    if provider.endpoints.device_endpoint is None:
        raise NeedsYou(
            f"{provider.client.name}: the identity provider does not let devices sign in (RFC 8628); switch that on "
            'there (in Keycloak "OAuth 2.0 Device Authorization Grant" of the client), or put username and password '
            "into the configuration"
        )
    answer = provider.post(provider.endpoints.device_endpoint, scope=scope)
    if answer.status != 200:  # noqa: PLR2004
        match problem_of(answer).error:
            case "invalid_scope":
                raise _ScopeRefused(
                    f"{provider.client.name}: the identity provider refuses the scopes {scope!r} to the client"
                )
            case "invalid_grant":  # some versions of Keycloak answer so where the client lacks the permission
                raise LoginRefused(
                    f"{provider.client.name}: the identity provider does not let the client_id "
                    f"{provider.client.id!r} {PERMISSION}, or choose another client_id (invalid_grant)"
                )
        raise provider.client.refusal(answer, PERMISSION)
    device = decode(answer, _Device, provider.client.name)
    texts = f"{device.user_code}{device.verification_uri}{device.verification_uri_complete}"
    if not texts.isprintable():  # they go to a terminal
        raise BadAnswer(f"{provider.client.name}: the identity provider sent a code that cannot be shown")
    return device


def _poll(
    provider: _Provider, device: _Device, end: datetime, wait: Callable[[float], None], clock: Callable[[], datetime]
) -> Tokens:
    """The tokens, once somebody has signed in (RFC 8628, 3.4 and 3.5). While the provider fails, pauses grow."""
    interval = pause = max(device.interval, 1.0)
    trouble: SyncdError | None = None
    while (left := (end - clock()).total_seconds()) > 0:
        wait(min(pause, left))
        try:
            answer = provider.post(
                provider.endpoints.token_endpoint, grant_type=DEVICE_GRANT, device_code=device.device_code
            )
            match problem_of(answer).error:
                case "authorization_pending":
                    trouble = None
                case "slow_down":
                    trouble = None
                    interval += SLOWER
                case error:
                    return _final_tokens(provider, answer, error)
        except Unavailable as error:
            trouble = error
            pause = max(min(2 * pause, LONGEST_PAUSE), error.retry_after or 0)
        else:
            pause = interval
    raise trouble or provider.refusal("nobody signed in while the code was good")


def _final_tokens(provider: _Provider, answer: Answer, error: str | None) -> Tokens:
    """The tokens of the answer that ends the polling, or the exception for its error."""
    match error:
        case "expired_token" | "invalid_grant":
            raise provider.refusal("nobody signed in while the code was good")
        case "access_denied":
            raise provider.refusal("the sign-in was denied in the browser")
        case "invalid_scope" | "not_allowed":  # the latter is Keycloak's, for people without the role offline_access
            raise _ScopeRefused(
                f"{provider.client.name}: the identity provider refuses this person the scopes asked for"
            )
    return provider.client.tokens(answer, PERMISSION)
