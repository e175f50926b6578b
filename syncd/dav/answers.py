# SPDX-License-Identifier: Apache-2.0
"""Reads the answers of WebDAV servers: statuses, preconditions, properties, ETags. Pure.

The body decides before the status does: servers agree on the names of preconditions (RFC 4791, 5.3.2.1) and not on
their statuses. Nothing of a body gets into an exception but those names.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any

from lxml import etree  # type: ignore[import-untyped]
from msgspec import Struct
from msgspec.structs import replace

from syncd.errors import BadAnswer, Changed, NeedsYou, Refused, SyncdError, UidTaken
from syncd.transport import Answer, unavailable

DAV = "{DAV:}"
CALDAV = "{urn:ietf:params:xml:ns:caldav}"

MULTISTATUS = 207
UNAUTHORIZED = 401
FULL = 507
BUSY = frozenset({408, 423, 425, 429})
# Statuses that a caller may want to judge itself: neither a refused login nor what passes with time.
OTHER_4XX = frozenset(range(400, 500)) - BUSY - {UNAUTHORIZED}

# RFC 4791 and, for Cyrus, where a UID is taken in the whole account, RFC 6638 (3.2.4.1).
UID_TAKEN = frozenset({"no-uid-conflict", "unique-scheduling-object-resource"})
# Nextcloud answers a plain 400 with this text, also for an object in its trash bin, and SOGo a plain 409.
UID_TEXT = re.compile(rb"\buid\b[^<]{0,120}\balready (exists|in use)", re.IGNORECASE)
NO_ROOM = frozenset({"quota-not-exceeded", "sufficient-disk-space"})  # RFC 4331, 6
INVALID = frozenset(
    {
        "allowed-attendee-scheduling-object-change",
        "allowed-organizer-scheduling-object-change",
        "max-attendees-per-instance",
        "max-date-time",
        "max-instances",
        "max-resource-size",
        "min-date-time",
        "same-organizer-in-all-components",
        "supported-calendar-component",
        "supported-calendar-data",
        "valid-calendar-data",
        "valid-calendar-object-resource",
    }
)


class Collection(Struct, frozen=True):
    """The properties of an address; ``None`` for one that the server does not send (Google: privileges).

    ``calendar`` is true if it is a calendar; ``components`` are those that it takes (``VEVENT``); ``privileges`` the
    current user's. ``cursor`` is the sync token of RFC 6578, if it was requested. ``home`` is true if the address is
    a principal, which has a calendar-home-set.
    """

    status: int
    url: str
    calendar: bool = False
    components: frozenset[str] | None = None
    privileges: frozenset[str] | None = None
    cursor: str | None = None
    principal: str | None = None
    home: bool = False


def read_collection(answer: Answer, who: str) -> Collection:
    """Read the answer to a PROPFIND with Depth 0. ``who`` begins a message. Raises BadAnswer."""
    if answer.status in OTHER_4XX:
        return Collection(answer.status, answer.url)
    tree = parse(answer.body) if answer.status == MULTISTATUS else None
    if tree is None:
        raise BadAnswer(f"{who} answered something else than CalDAV ({answer.status}); is its url right?")
    refused = statuses(tree.iterfind(f"{DAV}response[1]/{DAV}status"))
    if refused and refused[0] in OTHER_4XX:  # Xandikos wraps a plain 404 in a multistatus
        return Collection(refused[0], answer.url)
    found = _properties(tree)
    return Collection(
        status=answer.status,
        url=answer.url.rstrip("/") + "/",
        calendar=found.find(f"{DAV}resourcetype/{CALDAV}calendar") is not None,
        components=_each(found, f"{CALDAV}supported-calendar-component-set", _component),
        privileges=_each(found, f"{DAV}current-user-privilege-set", _privilege),
        cursor=sync_token(found),
        principal=found.findtext(f"{DAV}current-user-principal/{DAV}href"),
        home=found.find(f"{CALDAV}calendar-home-set/{DAV}href") is not None,
    )


def sync_token(tree: Any) -> str | None:
    """The sync token among a collection's properties or of a listing; ``None`` where the server has none."""
    return (tree.findtext(f"{DAV}sync-token") or "").strip() or None


def _properties(tree: Any) -> Any:
    """The properties in the first response of a multistatus, without those whose propstat is no 200."""
    found = etree.Element("props")
    for propstat in tree.iterfind(f"{DAV}response[1]/{DAV}propstat"):
        if " 200" in (propstat.findtext(f"{DAV}status") or " 200"):
            found.extend(propstat.findall(f"{DAV}prop/*"))
    return found


def problem(answer: Answer, who: str) -> SyncdError:
    """The exception for an answer that is no success; ``who`` begins its message."""
    if answer.status in BUSY or (answer.status >= 500 and answer.status != FULL):  # noqa: PLR2004
        return unavailable(answer, who)
    return _named_problem(answer, who) or _plain_problem(answer, who)


def _named_problem(answer: Answer, who: str) -> SyncdError | None:
    status, named = answer.status, _preconditions(answer.body)
    if named & UID_TAKEN or (status in (400, 409) and UID_TEXT.search(answer.body)):
        return UidTaken(f"{who}: another object there, or in its trash bin, has the UID ({status})")
    if named & NO_ROOM or status == FULL:
        return NeedsYou(f"{who} has no room left ({status}); make some, or ask for a larger quota")
    if "need-privileges" in named:
        return NeedsYou(f"{who} may not be written by this user ({status}); let its owner grant writing")
    if named & INVALID:
        return Refused(f"{who} refuses the object: {', '.join(sorted(named & INVALID))} ({status})")
    return None


def _plain_problem(answer: Answer, who: str) -> SyncdError:
    match answer.status:
        case 404 | 410 | 412:
            return Changed(f"{who}: the object is not the one we remember ({answer.status})")
        case status if status in OTHER_4XX:
            return Refused(f"{who} refuses the object ({status})")
        case status:
            return BadAnswer(f"{who} answered with status {status}, which nothing asked for")


def parse(body: bytes) -> Any | None:
    """Parse an XML body, without entities, network and huge trees; ``None`` if it is no XML."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=False)
    try:
        return etree.fromstring(body, parser)
    except (etree.XMLSyntaxError, ValueError):
        return None


def with_inner_status(answer: Answer, who: str) -> Answer:
    """A multistatus that answers a PUT or DELETE, with the first failure in it as its status, else 200.

    Raises BadAnswer if it is no XML.
    """
    tree = parse(answer.body)
    if tree is None:
        raise BadAnswer(f"{who} answered something that is not XML")
    failures = (status for status in statuses(tree.iter(f"{DAV}status")) if status >= 300)  # noqa: PLR2004
    return replace(answer, status=next(failures, 200))


def statuses(elements: Iterable[Any]) -> list[int]:
    """The codes of DAV:status elements, each of which is a status line (RFC 4918, 14.28)."""
    lines = (re.match(r"\s*HTTP/\S+\s+(\d{3})\b", element.text or "") for element in elements)
    return [int(line[1]) for line in lines if line]


def etag_of(answer: Answer) -> str | None:
    """The ETag header as the server writes it; ``None`` if it sends none."""
    return answer.headers.get("etag", "").strip() or None


def strong(etag: str | None) -> str | None:
    """An ETag for If-Match; ``None`` if there is none or it is weak (RFC 9110, 13.1.1). Yandex forgets the quotes."""
    if not etag or etag.startswith("W/"):
        return None
    return etag if etag.startswith('"') else f'"{etag}"'


def same(one: str, other: str) -> bool:
    """Whether two ETags are equal by weak comparison (RFC 9110, 8.8.3.2)."""
    return one.removeprefix("W/").strip('"') == other.removeprefix("W/").strip('"')


def _preconditions(body: bytes) -> frozenset[str]:
    """The local names of the elements in DAV:error (RFC 4918, 16)."""
    tree = parse(body)
    if tree is None:
        return frozenset()
    errors = tree.iter(f"{DAV}error")
    return frozenset(etree.QName(each).localname for error in errors for each in error.iterchildren("*"))


def _each(props: Any, name: str, read: Callable[[Any], str]) -> frozenset[str] | None:
    """``read`` of each element in a property; ``None`` if the property is missing."""
    found = props.find(name)
    return None if found is None else frozenset(read(each) for each in found.iterchildren("*"))


def _component(element: Any) -> str:
    return str(element.get("name", "")).upper()


def _privilege(element: Any) -> str:
    return str(etree.QName(element[0]).localname) if len(element) else ""
