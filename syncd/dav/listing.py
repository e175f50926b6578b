# SPDX-License-Identifier: Apache-2.0
"""Reads a server's listing of a calendar: the objects with their ETags, and those that are gone. Pure.

A listing that may have left something out is never taken for a complete one: it is a BadAnswer or marked as truncated.
"""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, unquote, unquote_to_bytes, urljoin, urlsplit
from xml.sax.saxutils import escape

from msgspec import Struct

from syncd.dav.answers import DAV, FULL, MULTISTATUS, parse, statuses, sync_token
from syncd.errors import BadAnswer
from syncd.transport import Answer

LIST = b'<?xml version="1.0" encoding="utf-8"?><propfind xmlns="DAV:"><prop><resourcetype/><getetag/></prop></propfind>'
GONE = (404, 410)
NO_ETAG = ""
"""In a listing, the ETag of an object for which the server sends none."""


class Multistatus(Struct, frozen=True):
    """A listing: href -> ETag, ``NO_ETAG`` where the server sends none, ``None`` for an object that is gone.

    ``cursor`` is the sync token that came with it. ``truncated`` means that there is more. ``responses`` counts all
    DAV:response elements, those of the calendar itself and of collections in it, too.
    """

    etags: Mapping[str, str | None]
    cursor: str | None
    truncated: bool
    responses: int


def changes_since(cursor: str) -> bytes:
    """The body of a sync-collection REPORT: what has changed since a sync token (RFC 6578, 3.2)."""
    return (
        '<?xml version="1.0" encoding="utf-8"?><sync-collection xmlns="DAV:">'
        f"<sync-token>{escape(cursor)}</sync-token><sync-level>1</sync-level><prop><getetag/></prop></sync-collection>"
    ).encode()


def href_of(url: str) -> str:
    """The last segment of an address, percent-encoded again, so that one object has one href.

    Servers write ``@`` or ``%40``, ``-`` or ``%2D``, and in Location not always as in a listing. Here everything that
    may be encoded is, which one.com also demands in requests.
    """
    return _last(urlsplit(url).path)


def read_listing(answer: Answer, who: str) -> Multistatus:
    """Read the multistatus of a PROPFIND or of a sync-collection REPORT of a calendar. Raises BadAnswer.

    Only the last segments of addresses are used: behind a proxy, servers write other hosts and paths than ours.
    """
    tree = parse(answer.body) if answer.status == MULTISTATUS else None
    if tree is None or tree.tag != f"{DAV}multistatus":
        raise BadAnswer(f"{who} answered something else than a listing ({answer.status})")
    here = unquote(urlsplit(answer.url).path).rstrip("/")
    etags: dict[str, str | None] = {}
    truncated, count = False, 0
    for path, status, response in _responses(tree, answer.url, who):
        count += 1
        own = unquote(path).rstrip("/") == here
        if own and status == FULL:
            truncated = True  # RFC 6578, 3.6
        elif _is_refused(status, own=own):
            raise BadAnswer(f"{who} could not tell of all that is in it ({status})")
        elif not own:
            _add(etags, _last(path), status, response)
    return Multistatus(etags, sync_token(tree), truncated, count)


def _responses(tree: Any, base: str, who: str) -> Iterator[tuple[str, int, Any]]:
    """Path, status and element of each response; several paths may share one response (RFC 4918, 14.24)."""
    for response in tree.iterfind(f"{DAV}response"):
        status = next(iter(statuses(response.iterfind(f"{DAV}status"))), 200)
        found = [(href.text or "").strip() for href in response.iterfind(f"{DAV}href")]
        if not all(found) or not found:
            raise BadAnswer(f"{who} does not say what it tells of")
        try:
            yield from [(urlsplit(urljoin(base, href)).path, status, response) for href in found]
        except ValueError:
            raise BadAnswer(f"{who} names an address that is none") from None


def _is_refused(status: int, *, own: bool) -> bool:
    """Whether a status means that something is missing in the listing: any failure but 404 and 410 of an object."""
    return status >= 300 and (own or status not in GONE)  # noqa: PLR2004


def _add(etags: dict[str, str | None], href: str, status: int, response: Any) -> None:
    """Add an object to the listing. A collection in the calendar is left out; its address may end with a slash."""
    if href and status in GONE:
        etags.setdefault(href, None)  # Cyrus may list one object both as gone and as changed
    elif href and not _is_collection(response):
        etags[href] = _etag(response)


def _last(path: str) -> str:
    return quote(unquote_to_bytes(path.rpartition("/")[2]), safe="")


def _etag(response: Any) -> str:
    """The ETag as the server writes it. A propstat with status 404 contains an empty getetag."""
    etags = ((etag.text or "").strip() for etag in response.iterfind(f"{DAV}propstat/{DAV}prop/{DAV}getetag"))
    return next(filter(None, etags), NO_ETAG)


def _is_collection(response: Any) -> bool:
    return response.find(f"{DAV}propstat/{DAV}prop/{DAV}resourcetype/{DAV}collection") is not None
