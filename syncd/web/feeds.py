# SPDX-License-Identifier: Apache-2.0
"""The feeds over HTTP, for calendar programs that subscribe to them.

A feed never answers 200 with less than it has because something failed: it gives its last good body, or 503.
A token is a password: it is looked up by its SHA-256 alone, which leaves no timing to learn from, and must not
be logged. Nothing is compressed, rendered or fetched here.
"""

import logging
import re
import sqlite3
from hashlib import sha256
from typing import Protocol

from msgspec import Struct
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from syncd.errors import SyncdError

log = logging.getLogger(__name__)

RETRY_AFTER = "60"  # seconds
HEADERS = {
    "Content-Type": "text/calendar; charset=utf-8",
    "Content-Disposition": 'inline; filename="syncd.ics"',
    "Cache-Control": "private, max-age=300",
    "Referrer-Policy": "no-referrer",
    "X-Robots-Tag": "noindex",
}
# RFC 9111 calls Warning obsolete; it harms nobody and tells people why a change is not there yet.
STALE = {"Warning": '110 syncd "the last good answer"'}


def token_key(token: str) -> str:
    """What is kept of a feed's token: its SHA-256, hexadecimal."""
    return sha256(token.encode("utf-8", "replace")).hexdigest()


def feed_address(public_url: str, token: str) -> str:
    """Where the feed of a token is subscribed to."""
    return f"{public_url.rstrip('/')}/feed/{token}.ics"


class FeedState(Struct, frozen=True):
    """A feed as it stands: ``version`` is the digest of its content, ``ready`` false before there is any."""

    name: str
    version: str
    ready: bool


class Published(Protocol):
    """Where the feeds lie. Both methods may raise SyncdError and sqlite3.Error; they are called from threads."""

    def feed(self, token_sha256: str) -> FeedState | None:
        """The feed with the token of this SHA-256 (hex), cheap to ask; ``None`` for an unknown or revoked one."""

    def body(self, name: str) -> tuple[str, bytes]:
        """A feed's version and iCalendar text from one read: the ledger may have moved on since ``feed``."""


class _Body(Struct, frozen=True):
    version: str
    content: bytes


class _Feeds:
    """The endpoint of all feeds; remembers the last good body of each."""

    def __init__(self, shelf: Published) -> None:
        self._shelf = shelf
        self._last: dict[str, _Body] = {}  # SHA-256 of the token -> what it got last

    def get(self, request: Request) -> Response:
        """GET and HEAD of a feed. A sync function: Starlette runs it in its thread pool."""
        key = token_key(request.path_params["token"])
        try:
            state = self._shelf.feed(key)
            if state is None:
                self._last.pop(key, None)
                raise HTTPException(404)
            if not state.ready:
                return _later()
            if _has(request, state.version):
                return _unchanged(state.version, {})
            return _whole(self._body(key, state), {})
        except (SyncdError, sqlite3.Error) as error:
            return self._last_good(request, key, error)

    def _body(self, key: str, state: FeedState) -> _Body:
        last = self._last.get(key)
        if last is None or last.version != state.version:
            last = self._last[key] = _Body(*self._shelf.body(state.name))
        return last

    def _last_good(self, request: Request, key: str, error: Exception) -> Response:
        last = self._last.get(key)
        log.warning(
            "a feed cannot be read from the ledger (%s): answered with %s",
            type(error).__name__,
            "its last good body" if last else "503, try again later",
        )
        if last is None:
            return _later()
        if _has(request, last.version):
            return _unchanged(last.version, STALE)
        return _whole(last, STALE)


def feed_app(shelf: Published) -> Starlette:
    """The application that serves ``/feed/TOKEN.ics`` from a shelf; everything else is a plain 404."""
    app = Starlette(
        routes=[
            Route("/feed/{token}.ics", _Feeds(shelf).get, methods=["GET", "HEAD"]),
            Route("/robots.txt", _robots, methods=["GET", "HEAD"]),
        ]
    )
    app.router.redirect_slashes = False  # a redirect would repeat the token, to the host that the client names
    return app


def _robots(_: Request) -> Response:
    """Google's calendar obeys robots.txt: whoever has a feed's address may fetch it. Its headers forbid the index."""
    return PlainTextResponse("User-agent: *\nDisallow:\n")


def _has(request: Request, version: str) -> bool:
    """Whether the client has this version (RFC 9110, 13.1.2: weak comparison, for proxies weaken tags)."""
    asked = ",".join(request.headers.getlist("if-none-match"))
    return asked.strip() == "*" or version in re.findall(r'"([^"]*)"', asked)


def _unchanged(version: str, extra: dict[str, str]) -> Response:
    headers = {name: value for name, value in HEADERS.items() if not name.startswith("Content-")}
    return Response(status_code=304, headers={**headers, **extra, "ETag": f'"{version}"'})


def _whole(body: _Body, extra: dict[str, str]) -> Response:
    """For HEAD too: the server leaves out the body and keeps its length."""
    return Response(body.content, headers={**HEADERS, **extra, "ETag": f'"{body.version}"'})


def _later() -> Response:
    """Clients keep what they have on a 503, and may drop it all on an empty 200."""
    headers = {"Retry-After": RETRY_AFTER, "Cache-Control": "no-store"}
    return PlainTextResponse("This feed is not ready. Try again in a minute.\n", 503, headers)
