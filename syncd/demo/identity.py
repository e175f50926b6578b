# SPDX-License-Identifier: Apache-2.0
"""An identity provider that answers as Keycloak 26 does: OpenID Connect discovery, tokens, device sign-in, logout.

People and sessions are in memory, and tokens are signed with a key that is made at start: for demonstrations and
tests only.
"""

import base64
import hashlib
import hmac
import html
import secrets
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl
from uuid import uuid4

import msgspec
from msgspec import Struct
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from syncd.demo.serve import Traffic

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
REFRESH_LIFE = 1800
DEVICE_LIFE = 600
DEVICE_INTERVAL = 5
"""Seconds for which a refresh token and a device code are valid, and between two polls of a device."""


class Person(Struct, frozen=True):
    """Somebody who can sign in; ``sub`` is the subject of their tokens."""

    sub: str
    username: str
    password: str
    firstname: str
    lastname: str
    email: str


class _Device(Struct):
    client: str
    scope: str
    user_code: str
    expires: float
    polled: float = 0.0
    username: str | None = None
    denied: bool = False


class _Session(Struct, frozen=True):
    username: str
    client: str


class _Error(Exception):
    def __init__(self, status: int, error: str, description: str) -> None:
        super().__init__(error)
        self.answer = _json({"error": error, "error_description": description}, status)


class IdentityProvider:
    """A realm with its people. Serve ``app``, and set ``url`` to its address.

    Tokens are valid for ``token_life`` seconds by ``clock``. ``clients`` maps the ids of clients to their secrets,
    ``None`` for public ones. With ``rotate`` a refresh token can be used once, and a second use ends its session; by
    default Keycloak accepts an old one again. Without ``devices`` no client may use the device grant, without
    ``offline`` nobody has the role offline_access.
    """

    def __init__(
        self,
        clock: Callable[[], datetime],
        realm: str = "OPENTALK",
        *,
        token_life: int = 300,
        clients: Mapping[str, str | None] = {"Frontend": None},
        rotate: bool = False,
        devices: bool = True,
        offline: bool = True,
    ) -> None:
        self.url = ""
        self.realm = realm
        self.token_life = token_life
        self._clock = clock
        self._clients = clients
        self._rotate = rotate
        self._allows_devices = devices
        self._allows_offline = offline
        self._key = secrets.token_bytes(32)
        self._people: dict[str, Person] = {}
        self._sessions: dict[str, _Session] = {}
        self._spent: set[str] = set()
        self._devices: dict[str, _Device] = {}
        path = f"/realms/{realm}"
        protocol = f"{path}/protocol/openid-connect"
        routes = [
            Route(f"{path}/.well-known/openid-configuration", self._discover),
            Route(f"{protocol}/token", self._token, methods=["POST"]),
            Route(f"{protocol}/auth/device", self._device, methods=["POST"]),
            Route(f"{protocol}/logout", self._logout, methods=["POST"]),
            Route(f"{protocol}/revoke", self._revoke, methods=["POST"]),
            Route(f"{path}/device", self._device_page, methods=["GET", "POST"]),
        ]
        self.app = Traffic(Starlette(routes=routes))

    @property
    def issuer(self) -> str:
        """The realm's address, which OpenTalk names as its provider."""
        return f"{self.url}/realms/{self.realm}"

    def add_user(self, username: str, password: str, firstname: str, lastname: str, email: str) -> Person:
        """Add somebody who can sign in. The same name again is another person, with a new subject."""
        person = Person(str(uuid4()), username, password, firstname, lastname, email)
        self._people[username] = person
        return person

    def set_password(self, username: str, password: str) -> None:
        """Change a password; sessions go on."""
        self._people[username] = msgspec.structs.replace(self._people[username], password=password)

    def person(self, username: str) -> Person:
        """The person with this user name. Raises KeyError."""
        return self._people[username]

    def end_sessions(self) -> None:
        """End every session, as an administrator can: all refresh tokens, offline ones too, are refused from now on."""
        self._sessions.clear()

    def approve(self, user_code: str, username: str) -> None:
        """Sign in for the device with this code, as on the device page. Raises StopIteration if there is none."""
        self._device_with(user_code).username = username

    def deny(self, user_code: str) -> None:
        """Deny the sign-in of the device with this code. Raises StopIteration if there is none."""
        self._device_with(user_code).denied = True

    def _device_with(self, user_code: str) -> _Device:
        return next(device for device in self._devices.values() if device.user_code == user_code)

    def read(self, token: str) -> dict[str, Any] | None:
        """The claims of a token of this realm that has not expired, even if its session has ended."""
        head, _, signature = token.rpartition(".")
        if not hmac.compare_digest(signature.encode(), self._sign(head)):
            return None
        claims: dict[str, Any] = msgspec.json.decode(_unbase64(head.partition(".")[2]))
        return claims if claims.get("exp", float("inf")) > self._clock().timestamp() else None

    def active(self, token: str) -> dict[str, Any] | None:
        """The claims of an access token whose session has not ended, either: the answer of an introspection."""
        claims = self.read(token)
        return claims if claims and claims["typ"] == "Bearer" and claims["sid"] in self._sessions else None

    def _sign(self, text: str) -> bytes:
        return _base64(hmac.digest(self._key, text.encode(), hashlib.sha256)).encode()

    def _jwt(self, claims: Mapping[str, Any]) -> str:
        head = _base64(msgspec.json.encode({"alg": "HS256", "typ": "JWT"}))
        text = f"{head}.{_base64(msgspec.json.encode(claims))}"
        return f"{text}.{self._sign(text).decode()}"

    def _tokens(self, client: str, session: str, scope: str) -> Response:
        """A token answer, with the members and in the order of Keycloak 26.5."""
        person = self._people[self._sessions[session].username]
        now = int(self._clock().timestamp())
        requested = scope.split()
        if "offline_access" in requested and not self._allows_offline:
            raise _Error(400, "not_allowed", "Offline tokens not allowed for the user or client")
        granted = [name for name in ("openid", "offline_access") if name in requested] + ["profile", "email"]
        claims = {
            "iss": self.issuer,
            "azp": client,
            "sid": session,
            "scope": " ".join(granted),
            "iat": now,
            **_claims(person),
        }
        offline = "offline_access" in requested
        ends = {} if offline else {"exp": now + REFRESH_LIFE}
        end = now + self.token_life

        def jwt(kind: str, **ends: int) -> str:
            return self._jwt({**claims, **ends, "typ": kind, "jti": secrets.token_hex(16)})

        identity = {"id_token": jwt("ID", exp=end)} if "openid" in requested else {}
        return _json(
            {
                "access_token": jwt("Bearer", exp=end),
                "expires_in": self.token_life,
                "refresh_expires_in": 0 if offline else REFRESH_LIFE,
                "refresh_token": jwt("Offline" if offline else "Refresh", **ends),
                "token_type": "Bearer",
                **identity,
                "not-before-policy": 0,
                "session_state": session,
                "scope": claims["scope"],
            }
        )

    async def _discover(self, _: Request) -> Response:
        protocol = f"{self.issuer}/protocol/openid-connect"
        return _json(
            {
                "issuer": self.issuer,
                "authorization_endpoint": f"{protocol}/auth",
                "token_endpoint": f"{protocol}/token",
                "end_session_endpoint": f"{protocol}/logout",
                "revocation_endpoint": f"{protocol}/revoke",
                "device_authorization_endpoint": f"{protocol}/auth/device",
                "grant_types_supported": ["password", "refresh_token", DEVICE_GRANT],
            }
        )

    async def _token(self, request: Request) -> Response:
        try:
            form, client = await self._form(request)
            match form.get("grant_type"):
                case "password":
                    return self._by_password(client, form)
                case "refresh_token":
                    return self._by_refresh(client, form.get("refresh_token", ""))
                case grant if grant == DEVICE_GRANT:
                    return self._by_device(client, form.get("device_code", ""))
                case _:
                    raise _Error(400, "unsupported_grant_type", "Unsupported grant_type")
        except _Error as error:
            return error.answer

    async def _form(self, request: Request) -> tuple[dict[str, str], str]:
        """The form and the id of the client that sent it; the client's secret may be in the form or in the header."""
        form = dict(parse_qsl((await request.body()).decode()))
        client, secret = form.get("client_id", ""), form.get("client_secret")
        scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "basic":
            client, _, secret = _unbase64(credentials).decode().partition(":")
        if client not in self._clients or self._clients[client] not in (None, secret):
            raise _Error(401, "invalid_client", "Invalid client or Invalid client credentials")
        return form, client

    def _begin(self, username: str, client: str) -> str:
        session = secrets.token_urlsafe(18)
        self._sessions[session] = _Session(username, client)
        return session

    def _by_password(self, client: str, form: Mapping[str, str]) -> Response:
        person = self._people.get(form.get("username", ""))
        if person is None or person.password != form.get("password"):
            raise _Error(401, "invalid_grant", "Invalid user credentials")
        return self._tokens(client, self._begin(person.username, client), form.get("scope", ""))

    def _by_refresh(self, client: str, token: str) -> Response:
        claims = self.read(token)
        if claims is None or claims["typ"] not in ("Refresh", "Offline"):
            raise _Error(400, "invalid_grant", "Invalid refresh token")
        if claims["azp"] != client:
            unlike = "Invalid refresh token. Token client and authorized client don't match"
            raise _Error(400, "invalid_grant", unlike)
        if claims["sid"] not in self._sessions:
            raise _Error(400, "invalid_grant", "Session not active")
        if token in self._spent:
            del self._sessions[claims["sid"]]
            raise _Error(400, "invalid_grant", "Maximum allowed refresh token reuse exceeded")
        if self._rotate:
            self._spent.add(token)
        return self._tokens(client, claims["sid"], claims["scope"])

    def _by_device(self, client: str, code: str) -> Response:
        now = self._clock().timestamp()
        device = self._devices.get(code)
        if device is None or device.client != client:
            raise _Error(400, "invalid_grant", "Device code not valid")
        if now >= device.expires:
            raise _Error(400, "expired_token", "Device code is expired")
        if now < device.polled + DEVICE_INTERVAL:
            raise _Error(400, "slow_down", "Slow down")
        device.polled = now
        if device.denied:
            raise _Error(400, "access_denied", "The end user denied the authorization request")
        if device.username is None:
            raise _Error(400, "authorization_pending", "The authorization request is still pending")
        del self._devices[code]
        return self._tokens(client, self._begin(device.username, client), device.scope)

    async def _device(self, request: Request) -> Response:
        try:
            form, client = await self._form(request)
            if not self._allows_devices:
                what = "Client is not allowed to initiate OAuth 2.0 Device Authorization Grant."
                raise _Error(400, "unauthorized_client", f"{what} The flow is disabled for the client.")
        except _Error as error:
            return error.answer
        code = secrets.token_urlsafe(32)
        letters = "".join(secrets.choice("BCDFGHJKLMNPQRSTVWXZ") for _ in range(8))
        user_code = f"{letters[:4]}-{letters[4:]}"
        expires = self._clock().timestamp() + DEVICE_LIFE
        self._devices[code] = _Device(client, form.get("scope", ""), user_code, expires)
        page = f"{self.issuer}/device"
        return _json(
            {
                "device_code": code,
                "user_code": user_code,
                "verification_uri": page,
                "verification_uri_complete": f"{page}?user_code={user_code}",
                "expires_in": DEVICE_LIFE,
                "interval": DEVICE_INTERVAL,
            }
        )

    async def _device_page(self, request: Request) -> Response:
        """The page on which a person types the code and signs in, which approves the device."""
        form = {**request.query_params, **dict(parse_qsl((await request.body()).decode()))}
        code = form.get("user_code", "")
        if request.method == "POST":
            person = self._people.get(form.get("username", ""))
            waiting = any(device.user_code == code for device in self._devices.values())
            if waiting and person and person.password == form.get("password"):
                self.approve(code, person.username)
                return HTMLResponse("<!doctype html><title>Signed in</title><p>Device login successful.")
            return HTMLResponse("<!doctype html><title>Refused</title><p>Invalid code, username or password.", 400)
        fields = "".join(
            f'<label>{word} <input name="{name}" type="{kind}" value="{html.escape(value)}"></label> '
            for word, name, kind, value in (
                ("Code", "user_code", "text", code),
                ("Username", "username", "text", ""),
                ("Password", "password", "password", ""),
            )
        )
        return HTMLResponse(
            f'<!doctype html><title>Device login</title><form method="post">{fields}<button>Sign in</button>'
        )

    async def _revoke(self, request: Request) -> Response:
        """Revoke a refresh token. As in Keycloak, this ends all sessions of its person with its client."""
        try:
            form, client = await self._form(request)
        except _Error as error:
            return error.answer
        claims = self.read(form.get("token", ""))
        if claims is None or claims["sid"] not in self._sessions:
            return _Error(200, "invalid_token", "Invalid token").answer
        if claims["azp"] != client:
            return _Error(400, "invalid_request", "Unmatching clients").answer
        gone = self._sessions[claims["sid"]]
        self._sessions = {sid: session for sid, session in self._sessions.items() if session != gone}
        return Response(status_code=200)

    async def _logout(self, request: Request) -> Response:
        try:
            form, _ = await self._form(request)
        except _Error as error:
            return error.answer
        claims = self.read(form.get("refresh_token", ""))
        if claims is None:
            return _Error(400, "invalid_grant", "Invalid refresh token").answer
        self._sessions.pop(claims["sid"], None)
        return Response(status_code=204)


def _claims(person: Person) -> dict[str, str]:
    """The claims of a token about its person."""
    return {
        "sub": person.sub,
        "email": person.email,
        "given_name": person.firstname,
        "family_name": person.lastname,
        "preferred_username": person.username,
    }


def _json(value: Mapping[str, Any], status: int = 200) -> Response:
    headers = {"cache-control": "no-store", "pragma": "no-cache", "content-type": "application/json"}
    return Response(msgspec.json.encode(value), status, headers)


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _unbase64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
