# SPDX-License-Identifier: Apache-2.0
"""The forms that a client sends to an identity provider, and the answers: tokens, claims, refusals.

It sends nothing. No message contains a token, a name, or anything of an answer but the standard names of errors.
"""

import base64
from collections.abc import Callable, Mapping
from datetime import timedelta

import msgspec
from msgspec import Struct

from syncd import decoding
from syncd.errors import BadAnswer, LoginRefused, SyncdError
from syncd.transport import Answer, decode, unavailable

MARGIN = 30.0
"""Seconds before its expiry at which a token is renewed; a third of its lifetime if that is less."""

USUAL_LIFETIME = 300.0
"""Seconds for which a token without ``expires_in`` is valid; Keycloak's default."""

NAMED_ERRORS = ("invalid_client", "invalid_grant", "unauthorized_client", "invalid_request", "invalid_scope")
"""The errors of RFC 6749, 5.2 that a message may name."""


class Tokens(Struct, frozen=True):
    """A token answer (RFC 6749, 5.1; OpenID Connect Core, 3.1.3.3)."""

    access_token: str
    expires_in: float | None = None
    refresh_token: str | None = None
    id_token: str | None = None

    @property
    def usable(self) -> timedelta:
        """How long after its request the access token is used."""
        lifetime = USUAL_LIFETIME if self.expires_in is None else self.expires_in
        return timedelta(seconds=lifetime - min(MARGIN, lifetime / 3))

    def __repr__(self) -> str:
        return "Tokens()"


class Claims(Struct, frozen=True, rename={"issuer": "iss", "subject": "sub"}):
    """The person whom an id token identifies."""

    issuer: str
    subject: str


class Problem(Struct, frozen=True):
    """An error of the identity provider (``error``) or of OpenTalk (``code``)."""

    error: str | None = None
    code: str | None = None


class Client(Struct, frozen=True):
    """An OAuth client: ``id`` and ``secret`` at the provider; ``name`` begins a message."""

    name: str
    id: str
    secret: Callable[[], str] | None = None

    def form(self, **fields: str) -> Mapping[str, str]:
        """The form of a request with the client's own fields (RFC 6749, 2.3.1). The secret is read now."""
        secret = {"client_secret": self.secret()} if self.secret else {}
        return {**fields, "client_id": self.id, **secret}

    def tokens(self, answer: Answer, permission: str) -> Tokens:
        """Decode a token answer. Raises what ``refusal`` returns, and BadAnswer."""
        if answer.status == 200:  # noqa: PLR2004
            return decode(answer, Tokens, f"{self.name}: the identity provider")
        raise self.refusal(answer, permission)

    def refusal(self, answer: Answer, permission: str) -> SyncdError:
        """The exception for any other answer; ``permission`` completes "does not let the client ..."."""
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
                what = f"does not let {client} {permission}, or choose another client_id"
            case _:
                what = f"refuses the login for {client} ({status})"
        return LoginRefused(f"{who} {what} ({error if error in NAMED_ERRORS else 'another error'})")


def problem_of(answer: Answer) -> Problem:
    """The error in an answer; a Problem without any if the answer is no JSON."""
    try:
        return decoding.decode(answer.body, Problem)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return Problem()


def claims_of(id_token: str, name: str) -> Claims:
    """The claims of an id token. Raises BadAnswer.

    Its signature is not verified: it came from the issuer's token endpoint over TLS (OpenID Connect Core, 3.1.3.7).
    """
    payload = id_token.partition(".")[2].partition(".")[0]
    try:
        return decoding.decode(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)), Claims)
    except (ValueError, msgspec.MsgspecError):
        raise BadAnswer(f"{name}: the identity provider sent an id token that cannot be read") from None
