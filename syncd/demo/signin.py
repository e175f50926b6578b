# SPDX-License-Identifier: Apache-2.0
"""The bearer check of the embedded OpenTalk, as its versions do it, with their faults. It makes no users."""

from collections.abc import Callable
from datetime import datetime
from typing import Literal, NoReturn

from syncd.demo.events import JSON, Refusal, failure
from syncd.demo.identity import IdentityProvider

Version = Literal["0.29", "0.30", "0.32", "0.35"]


class SignIn:
    """The bearer check of a controller.

    Up to 0.29 an id token must be posted first, an access token that came earlier stays refused, and the session ends
    when the id token that was posted last expires. 0.30 answers 500 to every bad token.
    """

    def __init__(self, identity: IdentityProvider, clock: Callable[[], datetime], version: Version) -> None:
        self._identity = identity
        self._clock = clock
        self._version = version
        self._sessions: dict[str, float] = {}  # subject -> end of the id token last posted
        self._passed: set[str] = set()  # tokens that the provider has confirmed; each is checked there once
        self._early: set[str] = set()

    def username(self, authorization: str) -> str:
        """The user name of the sender of this Authorization header. Raises Refusal."""
        scheme, _, token = authorization.partition(" ")
        if scheme != "Bearer":
            description = "The provided access token is invalid"
            _unauthorized("Unable to parse access token or invite code", description)
        if self._version == "0.29":
            self._check_session(token)
        name: str = self._claims(token)["preferred_username"]
        return name

    def post(self, body: JSON) -> JSON:
        """Post an id token, which begins or prolongs a session; from 0.30 on sessions are not used."""
        if "id_token" not in body:
            raise Refusal(400, "invalid_json", "Json deserialize error: missing field `id_token`")
        claims = self._identity.read(body["id_token"])
        if claims is None or claims["typ"] != "ID":
            _unauthorized("Authentication failed", "The provided id token is invalid")
        self._sessions[claims["sub"]] = claims["exp"]
        return {"permissions": []}

    def _check_session(self, token: str) -> None:
        subject = self._claims(token)["sub"]
        if token in self._early or subject not in self._sessions:
            self._early.add(token)
            raise Refusal(401, "unknown_sub", "Unknown subject in access token. Please login first!")
        if self._clock().timestamp() > self._sessions[subject]:
            _unauthorized("The session for this user has expired", "The user session expired")

    def _claims(self, token: str) -> JSON:
        claims = self._identity.read(token)
        if claims is None:
            self._refuse("The provided access token is invalid")
        if token not in self._passed:
            if self._identity.active(token) is None:
                self._refuse("The provided access token expired")
            if self._version != "0.29" and "openid" not in claims["scope"].split():
                raise failure()  # the provider's userinfo endpoint wants that scope
            self._passed.add(token)
        return claims

    def _refuse(self, description: str) -> NoReturn:
        if self._version == "0.30":
            raise failure()
        _unauthorized("Authentication failed", description)


def _unauthorized(message: str, description: str) -> NoReturn:
    challenge = f'Bearer error="invalid_token", error_description="{description}"'
    raise Refusal(401, "unauthorized", message, challenge)
