# SPDX-License-Identifier: Apache-2.0
"""What a client says to an identity provider, and what the answers mean: tokens, who they are about, refusals.

It sends nothing. No message holds a token, a name or a word of an answer but the known names of errors.
"""

import base64
from collections.abc import Callable, Mapping
from datetime import timedelta

import msgspec
from msgspec import Struct

from syncd.errors import BadAnswer, LoginRefused, SyncdError
from syncd.transport import Answer, decode, unavailable

MARGIN = 30.0
"""Seconds before its end at which a token is renewed; a third of its life if that is less."""

USUAL_LIFE = 300.0
"""Seconds that a token lives whose answer does not say it; Keycloak's default."""

TOLD = ("invalid_client", "invalid_grant", "unauthorized_client", "invalid_request", "invalid_scope")


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

    def __repr__(self) -> str:
        return "Tokens()"


class Claims(Struct, frozen=True, rename={"issuer": "iss", "subject": "sub"}):
    """Who an id token is about."""

    issuer: str
    subject: str


class Problem(Struct, frozen=True):
    """An error of the identity provider (``error``) or of OpenTalk (``code``)."""

    error: str | None = None
    code: str | None = None


class Client(Struct, frozen=True):
    """Who asks: ``name`` is what messages call the account, ``id`` and ``secret`` are the provider's client."""

    name: str
    id: str
    secret: Callable[[], str] | None = None

    def form(self, **fields: str) -> Mapping[str, str]:
        """A request's form with the client's own fields (RFC 6749, 2.3.1); the secret is read now."""
        secret = {"client_secret": self.secret()} if self.secret else {}
        return {**fields, "client_id": self.id, **secret}

    def tokens(self, answer: Answer, wish: str) -> Tokens:
        """The tokens of an answer. Raises what ``refusal`` returns, and BadAnswer."""
        if answer.status == 200:  # noqa: PLR2004
            return decode(answer, Tokens, f"{self.name}: the identity provider")
        raise self.refusal(answer, wish)

    def refusal(self, answer: Answer, wish: str) -> SyncdError:
        """The exception for any other answer; ``wish`` completes "does not let the client ..."."""
        who, status = f"{self.name}: the identity provider", answer.status
        if status == 429 or status >= 500:  # noqa: PLR2004
            return unavailable(answer, who)
        error, client = problem_of(answer).error, f"the client_id {self.id!r}"
        match status, error:
            case _, None:
                return BadAnswer(f"{who} answered {status} without saying why")
            case _, "invalid_grant":
                what = "refuses username or password; put the right ones into the configuration, then restart or reload"
            case _, "invalid_client":
                what = f"does not know {client}, or wants another client_secret; look at both in the configuration"
            case 401, "unauthorized_client":
                what = f"wants a client_secret for {client}, or another one"
            case _, "unauthorized_client":
                what = f"does not let {client} {wish}, or choose another client_id"
            case _:
                what = f"refuses the login for {client} ({status})"
        return LoginRefused(f"{who} {what} ({error if error in TOLD else 'another error'})")


def problem_of(answer: Answer) -> Problem:
    """The error that an answer names; an answer that is no JSON names none."""
    try:
        return msgspec.json.decode(answer.body, type=Problem)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return Problem()


def claims_of(id_token: str, name: str) -> Claims:
    """Whom an id token is about. Raises BadAnswer.

    It is not verified: it came from the issuer's own token endpoint (OpenID Connect Core, 3.1.3.7).
    """
    payload = id_token.partition(".")[2].partition(".")[0]
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)), type=Claims)
    except (ValueError, msgspec.MsgspecError):
        raise BadAnswer(f"{name}: the identity provider sent an id token that cannot be read") from None
