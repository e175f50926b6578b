# SPDX-License-Identifier: Apache-2.0
"""The HTTP application that serves feeds to the calendar programs that subscribed to them.

A feed never answers 200 with a shortened body because something failed: it sends its last good body, or 503. A token
is a password: it is looked up by its SHA-256 only, so that timing reveals nothing, and is never logged. Nothing is
compressed, rendered or fetched here.
"""

import logging
import re
from typing import Protocol

from msgspec import Struct
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from syncd.errors import SyncdError
from syncd.web.addresses import token_key

log = logging.getLogger(__name__)

RETRY_AFTER = "60"  # seconds
HEADERS = {
    "Content-Type": "text/calendar; charset=utf-8",
    "Content-Disposition": 'inline; filename="syncd.ics"',
    "Cache-Control": "private, max-age=300",
    "Referrer-Policy": "no-referrer",
    "X-Robots-Tag": "noindex",
}
# RFC 9111, 5.5 calls Warning obsolete; it does no harm and explains why a change has not arrived yet.
STALE = {"Warning": '110 syncd "the last good answer"'}


class FeedState(Struct, frozen=True):
    """A feed's name, the digest of its content (``version``), and whether it was built at all (``ready``)."""

    name: str
    version: str
    ready: bool


class FeedSource(Protocol):
    """The feeds to serve. Both methods may raise SyncdError; several threads call them."""

    def feed(self, token_sha256: str) -> FeedState | None:
        """The feed whose token has this SHA-256 (hex); ``None`` for an unknown one. Called with every request."""

    def body(self, name: str) -> tuple[str, bytes]:
        """A feed's version and iCalendar text, from one read: the version may be another than ``feed`` returned."""


class _Body(Struct, frozen=True):
    version: str
    content: bytes


class _Feeds:
    """The endpoint of all feeds; remembers the last good body of each."""

    def __init__(self, source: FeedSource) -> None:
        self._source = source
        self._last: dict[str, _Body] = {}  # SHA-256 of the token -> the body that was sent last

    def get(self, request: Request) -> Response:
        """GET and HEAD of a feed. A sync function: Starlette runs it in its thread pool."""
        key = token_key(request.path_params["token"])
        try:
            state = self._source.feed(key)
            if state is None:
                self._last.pop(key, None)
                raise HTTPException(404)
            if not state.ready:
                return _later()
            if _has(request, state.version):
                return _unchanged(state.version, {})
            return _whole(self._body(key, state), {})
        except SyncdError as error:
            return self._last_good(request, key, error)

    def _body(self, key: str, state: FeedState) -> _Body:
        last = self._last.get(key)
        if last is None or last.version != state.version:
            last = self._last[key] = _Body(*self._source.body(state.name))
        return last

    def _last_good(self, request: Request, key: str, error: SyncdError) -> Response:
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


def feed_app(source: FeedSource) -> Starlette:
    """The application that serves ``/feed/TOKEN.ics``; every other path is a plain 404."""
    app = Starlette(
        routes=[
            Route("/feed/{token}.ics", _Feeds(source).get, methods=["GET", "HEAD"]),
            Route("/robots.txt", _robots, methods=["GET", "HEAD"]),
        ]
    )
    app.router.redirect_slashes = False  # a redirect would repeat the token, to the host that the client names
    return app


def _robots(_: Request) -> Response:
    """Allow everything: Google's calendar obeys robots.txt. The headers of feeds keep search engines out."""
    return PlainTextResponse("User-agent: *\nDisallow:\n")


def _has(request: Request, version: str) -> bool:
    """Whether If-None-Match names this version (RFC 9110, 13.1.2); W/ is ignored, as proxies add it."""
    tags = ",".join(request.headers.getlist("if-none-match"))
    return tags.strip() == "*" or version in re.findall(r'"([^"]*)"', tags)


def _unchanged(version: str, extra: dict[str, str]) -> Response:
    headers = {name: value for name, value in HEADERS.items() if not name.startswith("Content-")}
    return Response(status_code=304, headers={**headers, **extra, "ETag": f'"{version}"'})


def _whole(body: _Body, extra: dict[str, str]) -> Response:
    """Answer with the whole body. For HEAD, too: the server leaves the body out and sends its length."""
    return Response(body.content, headers={**HEADERS, **extra, "ETag": f'"{body.version}"'})


def _later() -> Response:
    """Answer 503: calendar programs keep their entries then, and may drop them all on an empty 200."""
    headers = {"Retry-After": RETRY_AFTER, "Cache-Control": "no-store"}
    return PlainTextResponse("This feed is not ready. Try again in a minute.\n", 503, headers)
