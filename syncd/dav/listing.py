# SPDX-License-Identifier: Apache-2.0
"""What is in a calendar, as a server lists it: objects with their ETags, and what has gone.

Pure. It takes nothing for told that a server did not tell: an answer that may have left something out is
a BadAnswer or marked as truncated.
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
UNTOLD = ""


class Multistatus(Struct, frozen=True):
    """One answer: href -> ETag, ``UNTOLD`` where the server tells none, ``None`` for what is not there any more.

    ``cursor`` is the sync token that came with it. ``truncated`` means that there is more than this.
    ``told`` counts all that it tells of, the calendar itself and collections in it too.
    """

    etags: Mapping[str, str | None]
    cursor: str | None
    truncated: bool
    told: int


def changes_since(cursor: str) -> bytes:
    """The body of a REPORT that asks what changed since a sync token (RFC 6578, 3.2)."""
    return (
        '<?xml version="1.0" encoding="utf-8"?><sync-collection xmlns="DAV:">'
        f"<sync-token>{escape(cursor)}</sync-token><sync-level>1</sync-level><prop><getetag/></prop></sync-collection>"
    ).encode()


def href_of(url: str) -> str:
    """The last segment of an address, encoded anew, so that one object has one href.

    Servers write ``@`` and ``%40``, ``-`` and ``%2D`` as they like, and Location not always like a listing.
    The stricter of the forms is also what one.com wants in requests.
    """
    return _last(urlsplit(url).path)


def read_listing(answer: Answer, who: str) -> Multistatus:
    """Read the multistatus of a PROPFIND or of a sync-collection REPORT of a calendar. Raises BadAnswer.

    Only the last segments of addresses count: behind a proxy servers name other hosts and paths than ours.
    """
    tree = parse(answer.body) if answer.status == MULTISTATUS else None
    if tree is None or tree.tag != f"{DAV}multistatus":
        raise BadAnswer(f"{who} answered something else than a listing ({answer.status})")
    here = unquote(urlsplit(answer.url).path).rstrip("/")
    etags: dict[str, str | None] = {}
    truncated, told = False, 0
    for path, status, response in _told(tree, answer.url, who):
        told += 1
        own = unquote(path).rstrip("/") == here
        if own and status == FULL:
            truncated = True  # RFC 6578, 3.6
        elif _is_refused(status, own=own):
            raise BadAnswer(f"{who} could not tell of all that is in it ({status})")
        elif not own:
            _note(etags, _last(path), status, response)
    return Multistatus(etags, sync_token(tree), truncated, told)


def _told(tree: Any, base: str, who: str) -> Iterator[tuple[str, int, Any]]:
    """Path, status and element of each response; several paths may share one (RFC 4918, 14.24)."""
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
    """Whether something is there that the server does not tell of; an object may be gone, the calendar may not."""
    return status >= 300 and (own or status not in GONE)  # noqa: PLR2004


def _note(etags: dict[str, str | None], href: str, status: int, response: Any) -> None:
    """Take up what is told of an object; of another collection, whose address ends with a slash, nothing."""
    if href and status in GONE:
        etags.setdefault(href, None)  # Cyrus tells of one object both that it is gone and that it changed
    elif href and not _is_collection(response):
        etags[href] = _etag(response)


def _last(path: str) -> str:
    return quote(unquote_to_bytes(path.rpartition("/")[2]), safe="")


def _etag(response: Any) -> str:
    """The ETag as the server writes it; a propstat that says that there is none names it without a value."""
    etags = ((etag.text or "").strip() for etag in response.iterfind(f"{DAV}propstat/{DAV}prop/{DAV}getetag"))
    return next(filter(None, etags), UNTOLD)


def _is_collection(response: Any) -> bool:
    return response.find(f"{DAV}propstat/{DAV}prop/{DAV}resourcetype/{DAV}collection") is not None
