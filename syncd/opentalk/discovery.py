# SPDX-License-Identifier: Apache-2.0
"""Discovers an OpenTalk's API, identity provider and client id from the address that people open in the browser.

It sends no secret. An address that was found over https is never one without TLS, except on this machine, because
passwords will be sent there.
"""

from ipaddress import ip_address
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from syncd.decoding import decode
from syncd.errors import NeedsYou
from syncd.transport import Answer, HttpClient, unavailable

T = TypeVar("T")


class Addresses(Struct, frozen=True):
    """The configured addresses: the web app's, and others where discovery is not to look for them."""

    web: str
    controller: str | None = None
    issuer: str | None = None
    client_id: str | None = None


class Endpoints(Struct, frozen=True):
    """The discovered addresses; ``api`` has no slash at its end.

    Optional are device authorization (RFC 8628), revocation (RFC 7009) and OpenID Connect's logout. They are ``None``
    where the identity provider has none, or none with TLS.
    """

    api: str
    issuer: str
    client_id: str
    token_endpoint: str
    device_endpoint: str | None = None
    revocation_endpoint: str | None = None
    logout_endpoint: str | None = None


class _Base(Struct, frozen=True):
    base_url: str


class _Client(Struct, frozen=True):
    """The web app's ``/.well-known/opentalk/client``, since web app 2.4."""

    opentalk_controller: _Base


class _Versions(Struct, frozen=True):
    v1: _Base


class _Api(Struct, frozen=True):
    """The controller's ``/.well-known/opentalk/api``, since 0.29.5."""

    opentalk_api: _Versions


class _Provider(Struct, frozen=True):
    name: str
    url: str


class _Login(Struct, frozen=True):
    """``GET /v1/auth/login``: ``name`` is the web app's client id, or ``default`` with an old configuration."""

    oidc: _Provider


class _OpenID(Struct, frozen=True):
    """OpenID Connect Discovery, section 4.2; RFC 8414, 2; RFC 8628, 4; RP-Initiated Logout, 2.1."""

    token_endpoint: str
    device_authorization_endpoint: str | None = None
    revocation_endpoint: str | None = None
    end_session_endpoint: str | None = None


def discover(client: HttpClient, configured: Addresses) -> Endpoints:
    """Discover as OpenTalk's own clients do: web app, controller, identity provider.

    Raises NeedsYou, which names the key to set, Unavailable and BadAnswer.
    """
    web = configured.web.rstrip("/")
    controller = configured.controller or _controller(client, web)
    api = _api(client, controller.rstrip("/"))
    login = _read(_get(client, f"{api}/auth/login"), _Login)
    if login is None:
        raise NeedsYou(
            f"{client.name}: there is no OpenTalk API at {_host(api)}; set {client.name}.controller to the address "
            "of the controller"
        )
    issuer = configured.issuer or _safe(client, login.oidc.url, api, "issuer")
    client_id = configured.client_id or _client_id(client, login.oidc.name)
    url = issuer.rstrip("/") + "/.well-known/openid-configuration"  # urljoin would drop the realm
    openid = _read(_get(client, url), _OpenID)
    if openid is None:
        raise NeedsYou(f"{client.name}: there is no identity provider at {_host(issuer)}; set {client.name}.issuer")
    token_endpoint = _safe(client, openid.token_endpoint, issuer, "issuer")
    others = (openid.device_authorization_endpoint, openid.revocation_endpoint, openid.end_session_endpoint)
    return Endpoints(
        api, issuer, client_id, token_endpoint, *(each if _is_safe(each, issuer) else None for each in others)
    )


def _controller(client: HttpClient, web: str) -> str:
    found = _read(_get(client, f"{web}/.well-known/opentalk/client"), _Client)
    return _safe(client, found.opentalk_controller.base_url, web, "controller") if found else web


def _api(client: HttpClient, controller: str) -> str:
    found = _read(_get(client, f"{controller}/.well-known/opentalk/api"), _Api)
    base = found.opentalk_api.v1.base_url if found else "v1"
    if urlsplit(base).scheme:
        return _safe(client, base, controller, "controller").rstrip("/")
    return f"{controller}/{base.strip('/')}"


def _client_id(client: HttpClient, name: str) -> str:
    if name == "default":
        raise NeedsYou(
            f"{client.name}: this OpenTalk does not tell its client id; set {client.name}.client_id (often 'Frontend')"
        )
    return name


def _get(client: HttpClient, url: str) -> Answer:
    answer = client.send("GET", url)
    if answer.status == 429 or answer.status >= 500:  # noqa: PLR2004
        raise unavailable(answer, f"{client.name} ({_host(url)})")
    return answer


def _read(answer: Answer, kind: type[T]) -> T | None:
    """Decode an answer; ``None`` if it is another document: a web app answers unknown paths with its first page."""
    if answer.status != 200:  # noqa: PLR2004
        return None
    try:
        return decode(answer.body, kind)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _safe(client: HttpClient, found: str, source: str, key: str) -> str:
    if not _is_safe(found, source):
        raise NeedsYou(
            f"{client.name}: {_host(source)} leads to {_host(found)} without TLS, where no password is sent; "
            f"set {client.name}.{key} to its https address"
        )
    return found


def _is_safe(found: str | None, source: str) -> bool:
    """Whether an address has TLS, is on this machine, or was itself found without TLS."""
    return not found or urlsplit(source).scheme != "https" or urlsplit(found).scheme == "https" or _is_loopback(found)


def _host(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2]


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
