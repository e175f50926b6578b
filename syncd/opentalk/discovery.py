# SPDX-License-Identifier: Apache-2.0
"""From the address that people type to the places a client needs: API, identity provider, client id.

It asks without a login and sends no secret. What it learnt over https never leads to http, except on this
machine: a password would follow.
"""

from ipaddress import ip_address
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from syncd.errors import NeedsYou
from syncd.transport import Answer, HttpClient, unavailable

T = TypeVar("T")


class Addresses(Struct, frozen=True):
    """What the configuration says: the web app's address, and the others where they are given."""

    web: str
    controller: str | None = None
    issuer: str | None = None
    client_id: str | None = None


class Places(Struct, frozen=True):
    """Where everything is; ``api`` has no slash at its end.

    The identity provider need not let devices sign in (RFC 8628), nor end what they began: RFC 7009's
    revocation, OpenID Connect's logout. ``None`` is also what would be reached without TLS.
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


def discover(remote: HttpClient, known: Addresses) -> Places:
    """Follow the chain that OpenTalk's own clients follow.

    Raises NeedsYou, which names the key that helps, Unavailable and BadAnswer.
    """
    web = known.web.rstrip("/")
    controller = known.controller or _controller(remote, web)
    api = _api(remote, controller.rstrip("/"))
    login = _read(_get(remote, f"{api}/auth/login"), _Login)
    if login is None:
        raise NeedsYou(
            f"{remote.name}: there is no OpenTalk API at {_host(api)}; set {remote.name}.controller to the address "
            "of the controller"
        )
    issuer = known.issuer or _safe(remote, login.oidc.url, api, "issuer")
    client_id = known.client_id or _client_id(remote, login.oidc.name)
    place = issuer.rstrip("/") + "/.well-known/openid-configuration"  # not a join, that would drop the realm
    openid = _read(_get(remote, place), _OpenID)
    if openid is None:
        raise NeedsYou(f"{remote.name}: there is no identity provider at {_host(issuer)}; set {remote.name}.issuer")
    token_endpoint = _safe(remote, openid.token_endpoint, issuer, "issuer")
    others = (openid.device_authorization_endpoint, openid.revocation_endpoint, openid.end_session_endpoint)
    return Places(
        api, issuer, client_id, token_endpoint, *(each if _is_safe(each, issuer) else None for each in others)
    )


def _controller(remote: HttpClient, web: str) -> str:
    found = _read(_get(remote, f"{web}/.well-known/opentalk/client"), _Client)
    return _safe(remote, found.opentalk_controller.base_url, web, "controller") if found else web


def _api(remote: HttpClient, controller: str) -> str:
    found = _read(_get(remote, f"{controller}/.well-known/opentalk/api"), _Api)
    base = found.opentalk_api.v1.base_url if found else "v1"
    if urlsplit(base).scheme:
        return _safe(remote, base, controller, "controller").rstrip("/")
    return f"{controller}/{base.strip('/')}"


def _client_id(remote: HttpClient, name: str) -> str:
    if name == "default":
        raise NeedsYou(
            f"{remote.name}: this OpenTalk does not tell its client id; set {remote.name}.client_id (often 'Frontend')"
        )
    return name


def _get(remote: HttpClient, url: str) -> Answer:
    answer = remote.send("GET", url)
    if answer.status == 429 or answer.status >= 500:  # noqa: PLR2004
        raise unavailable(answer, f"{remote.name} ({_host(url)})")
    return answer


def _read(answer: Answer, kind: type[T]) -> T | None:
    """What was answered, or ``None`` if it is not there: a web app answers unknown addresses with its first page."""
    if answer.status != 200:  # noqa: PLR2004
        return None
    try:
        return msgspec.json.decode(answer.body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _safe(remote: HttpClient, found: str, source: str, key: str) -> str:
    if not _is_safe(found, source):
        raise NeedsYou(
            f"{remote.name}: {_host(source)} leads to {_host(found)} without TLS, where no password is sent; "
            f"set {remote.name}.{key} to its https address"
        )
    return found


def _is_safe(found: str | None, source: str) -> bool:
    """Whether an address does not lead from TLS to where there is none."""
    return not found or urlsplit(source).scheme != "https" or urlsplit(found).scheme == "https" or _is_loopback(found)


def _host(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2]


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
