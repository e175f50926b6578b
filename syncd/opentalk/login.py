# SPDX-License-Identifier: Apache-2.0
"""Signing in to an OpenTalk account in any browser (RFC 8628, the device authorization grant), and out again.

It keeps nothing: whoever calls checks who it was and saves the refresh token. It neither sleeps nor prints,
and nothing that it says holds a token.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from syncd.errors import BadAnswer, LoginRefused, NeedsYou, SyncdError, Unavailable
from syncd.opentalk.discovery import Addresses, Places, discover
from syncd.opentalk.tokens import Claims, Client, Tokens, claims_of, problem_of
from syncd.transport import Answer, HttpClient, decode

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
SCOPE = "openid profile email"
"""OpenTalk asks the provider for the person's name and address, which takes ``openid`` at least."""

LASTING = f"{SCOPE} offline_access"
"""With a refresh token that outlives the browser's session (OpenID Connect Core, 11)."""

SLOWER = 5.0
LONGEST_PAUSE = 60.0
KEYCLOAK_LOGOUT = "/protocol/openid-connect/logout"
WISH = 'sign in devices: allow it that (in Keycloak "OAuth 2.0 Device Authorization Grant")'


class Secret(Protocol):
    """What is read when it is needed."""

    def reveal(self) -> str:
        """Its text."""


class Account(Protocol):
    """What signing in needs of an account's settings; ``config.Account`` tells what each means."""

    @property
    def name(self) -> str:
        """Its name in the configuration."""

    @property
    def url(self) -> str:
        """Where its OpenTalk is."""

    @property
    def controller(self) -> str | None:
        """The controller's address, if it is not found by itself."""

    @property
    def issuer(self) -> str | None:
        """The identity provider, if it is not found by itself."""

    @property
    def client_id(self) -> str | None:
        """Our client id there."""

    @property
    def client_secret(self) -> Secret | None:
        """Our client's secret there, if it has one."""

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


class _NotLasting(LoginRefused):
    """The provider refuses the scope, mostly ``offline_access``."""


class _Provider(Struct, frozen=True):
    """An account's identity provider and the way to it."""

    account: str
    remote: HttpClient
    places: Places
    client: Client

    def ask(self, url: str, **fields: str) -> Answer:
        return self.remote.send("POST", url, form=self.client.form(**fields), headers={"Accept": "application/json"})

    def refused(self, what: str) -> LoginRefused:
        return LoginRefused(f"{self.client.name}: {what}; run `syncd login {self.account}` again")


def sign_in(
    account: Account, *, say: Callable[[str], None], wait: Callable[[float], None], clock: Callable[[], datetime]
) -> tuple[Claims, str]:
    """Let somebody sign in: who it was (issuer and subject), and the refresh token to save.

    ``say`` gets, line by line, what a person must know who has a browser somewhere; ``wait`` takes seconds and
    may raise to give up. It lasts as long as the provider's code is good, ten minutes with Keycloak. Raises
    LoginRefused, NeedsYou, Unavailable and BadAnswer.
    """
    with _provider(account, clock) as provider:
        try:
            tokens = _signed_in(provider, LASTING, say, wait, clock)
        except _NotLasting:
            say(
                "The identity provider allows no lasting sign-in (offline_access) here: without it you will have "
                "to sign in again whenever its session ends."
            )
            tokens = _signed_in(provider, SCOPE, say, wait, clock)
        if tokens.refresh_token is None or tokens.id_token is None:
            raise NeedsYou(
                f"{provider.client.name}: the identity provider gives the client_id {provider.client.id!r} no refresh "
                "token or no id token; allow it both, or choose another client_id"
            )
        return claims_of(tokens.id_token, provider.client.name), tokens.refresh_token


def sign_out(account: Account, refresh_token: str, *, clock: Callable[[], datetime]) -> None:
    """End a sign-in at the identity provider; one that has ended already is fine.

    Keycloak's own logout (a POST with the refresh token) comes first: its revocation ends every sign-in of the
    person with this client, which may be that of OpenTalk's web app, in the midst of a meeting. Raises
    NeedsYou if the provider has neither, else LoginRefused, Unavailable and BadAnswer.
    """
    with _provider(account, clock) as provider:
        places = provider.places
        if places.logout_endpoint and places.logout_endpoint.endswith(KEYCLOAK_LOGOUT):
            answer = provider.ask(places.logout_endpoint, refresh_token=refresh_token)
        elif places.revocation_endpoint:
            answer = provider.ask(places.revocation_endpoint, token=refresh_token, token_type_hint="refresh_token")  # noqa: S106
        else:
            raise NeedsYou(
                f"{provider.client.name}: the identity provider has no address where a sign-in is ended; end it on "
                "the person's own page there"
            )
        if answer.status not in (200, 204) and problem_of(answer).error not in ("invalid_grant", "invalid_token"):
            raise provider.client.refusal(answer, "end sign-ins: allow it that")


@contextmanager
def _provider(account: Account, clock: Callable[[], datetime]) -> Iterator[_Provider]:
    remote = HttpClient(f"opentalk.{account.name}", ca_file=account.ca_file, clock=clock)
    known = Addresses(account.url, account.controller, account.issuer, account.client_id)
    secret = account.client_secret.reveal if account.client_secret else None
    try:
        places = discover(remote, known)
        yield _Provider(account.name, remote, places, Client(remote.name, places.client_id, secret))
    finally:
        remote.close()


def _signed_in(
    provider: _Provider,
    scope: str,
    say: Callable[[str], None],
    wait: Callable[[float], None],
    clock: Callable[[], datetime],
) -> Tokens:
    asked = clock()
    device = _begun(provider, scope)
    say(f"To sign in to {provider.account}, open this address in a browser, on any device:")
    say(f"    {device.verification_uri_complete or device.verification_uri}")
    if device.verification_uri_complete:
        say(f"It shows the code {device.user_code}. If it asks for it: {device.verification_uri}")
    else:
        say(f"and enter the code {device.user_code}")
    return _polled(provider, device, asked + timedelta(seconds=device.expires_in), wait, clock)


def _begun(provider: _Provider, scope: str) -> _Device:
    """A code for somebody to sign in with (RFC 8628, 3.1)."""
    if provider.places.device_endpoint is None:
        raise NeedsYou(
            f"{provider.client.name}: the identity provider does not let devices sign in (RFC 8628); switch that on "
            'there (in Keycloak "OAuth 2.0 Device Authorization Grant" of the client), or put username and password '
            "into the configuration"
        )
    answer = provider.ask(provider.places.device_endpoint, scope=scope)
    if answer.status != 200:  # noqa: PLR2004
        match problem_of(answer).error:
            case "invalid_scope":
                raise _NotLasting(
                    f"{provider.client.name}: the identity provider refuses the scopes {scope!r} to the client"
                )
            case "invalid_grant":  # what some Keycloaks say of a client that may not
                raise LoginRefused(
                    f"{provider.client.name}: the identity provider does not let the client_id "
                    f"{provider.client.id!r} {WISH}, or choose another client_id (invalid_grant)"
                )
        raise provider.client.refusal(answer, WISH)
    device = decode(answer, _Device, provider.client.name)
    shown = f"{device.user_code}{device.verification_uri}{device.verification_uri_complete}"
    if not shown.isprintable():  # it goes to a terminal
        raise BadAnswer(f"{provider.client.name}: the identity provider sent a code that cannot be shown")
    return device


def _polled(
    provider: _Provider, device: _Device, end: datetime, wait: Callable[[float], None], clock: Callable[[], datetime]
) -> Tokens:
    """The tokens, once somebody has signed in (RFC 8628, 3.4 and 3.5); trouble on the way makes it ask less often."""
    interval = pause = max(device.interval, 1.0)
    trouble: SyncdError | None = None
    while (left := (end - clock()).total_seconds()) > 0:
        wait(min(pause, left))
        try:
            answer = provider.ask(
                provider.places.token_endpoint, grant_type=DEVICE_GRANT, device_code=device.device_code
            )
            match problem_of(answer).error:
                case "authorization_pending":
                    trouble = None
                case "slow_down":
                    trouble = None
                    interval += SLOWER
                case error:
                    return _answered(provider, answer, error)
        except Unavailable as error:
            trouble = error
            pause = max(min(2 * pause, LONGEST_PAUSE), error.retry_after or 0)
        else:
            pause = interval
    raise trouble or provider.refused("nobody signed in while the code was good")


def _answered(provider: _Provider, answer: Answer, error: str | None) -> Tokens:
    """What ends the polling."""
    match error:
        case "expired_token" | "invalid_grant":
            raise provider.refused("nobody signed in while the code was good")
        case "access_denied":
            raise provider.refused("the sign-in was denied in the browser")
        case "invalid_scope" | "not_allowed":  # the latter is Keycloak's, for people without the role offline_access
            raise _NotLasting(f"{provider.client.name}: the identity provider refuses this person the scopes asked for")
    return provider.client.tokens(answer, WISH)
