# SPDX-License-Identifier: Apache-2.0
"""The listing of events in the embedded OpenTalk: query, order, cursor, and the faults of controller 0.30 in them.

Nothing here changes an event.
"""

import base64
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from itertools import islice
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from msgspec import Struct

from syncd.decoding import decode
from syncd.demo.events import JSON, Event, Refusal, order_key, read_time
from syncd.demo.signin import Version

PER_PAGE, MOST = 30, 100
STATUSES = ("accepted", "pending", "tentative", "declined")


class Cursor(Struct, frozen=True, array_like=True):
    """The last event of a page. The controller's cursor is bincode in base64url; clients must not look into it."""

    id: str
    created: datetime
    starts: datetime | None

    @property
    def key(self) -> tuple[bool, datetime, datetime, str]:
        """Its position in the order of events."""
        return order_key(self.id, self.created, self.starts)


class Query(Struct, frozen=True):
    """The query of a listing; a filter that is ``None`` lets everything pass."""

    per_page: int = PER_PAGE
    invitees_max: int = 0
    after: Cursor | None = None
    time_min: datetime | None = None
    time_max: datetime | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    favorites: bool = False
    adhoc: bool | None = None
    time_independent: bool | None = None
    invite_status: tuple[str, ...] = ()


def read_query(query: str, version: Version = "0.30") -> Query:
    """Read the query of a listing; unknown names are ignored, as by the controller. Raises Refusal (400)."""
    values: JSON = {}
    for name, text in parse_qsl(query, keep_blank_values=True):
        if name in values:
            raise _bad_query(f"duplicate field `{name}`")
        if name in _READERS:
            values[name] = _READERS[name](text)
    if version in ("0.29", "0.30"):
        return Query(**{**values, "per_page": _clamped(values.get("per_page", PER_PAGE))})
    # In 0.32 invitees_max has the type of a page size, too, which may not be 0; later versions allow it
    for name, least in (("per_page", 1), ("invitees_max", 1 if version == "0.32" else 0)):
        if not least <= values.get(name, least) <= MOST:
            raise _bad_query(f"Page size is outside the allowed range ({least}..={MOST})")
    return Query(**values)


def _clamped(size: int) -> int:
    return min(max(size, 1), MOST)


def _bad_query(message: str) -> Refusal:
    return Refusal(400, "query", f"Query deserialize error: {message}")


def _number(text: str) -> int:
    if not re.fullmatch(r"-?\d+", text):
        raise _bad_query("invalid digit found in string")
    return int(text)


def _time(text: str) -> datetime:
    """An RFC 3339 time; the ``+`` of an offset that was not encoded arrives as a space and is refused."""
    try:
        return read_time(text)
    except ValueError:
        raise _bad_query("input contains invalid characters") from None


def _truth(text: str) -> bool:
    if text not in ("true", "false"):
        raise _bad_query("provided string was not `true` or `false`")
    return text == "true"


def _statuses(text: str) -> tuple[str, ...]:
    for status in text.split(","):
        if status not in STATUSES:
            raise _bad_query(f'unknown invite_status "{status}"')
    return tuple(text.split(","))


def _cursor(text: str) -> Cursor:
    try:
        return decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), Cursor)
    except (ValueError, msgspec.MsgspecError):
        raise _bad_query("invalid value: byte array, expected base64 + bincode encoded cursor data") from None


_READERS: Mapping[str, Callable[[str], Any]] = {
    "per_page": _number,
    "invitees_max": _number,
    "after": _cursor,
    "time_min": _time,
    "time_max": _time,
    "created_after": _time,
    "created_before": _time,
    "favorites": _truth,
    "adhoc": _truth,
    "time_independent": _truth,
    "invite_status": _statuses,
}


class Events:
    """All events, in the order of listings."""

    def __init__(self) -> None:
        self._all: dict[str, Event] = {}
        self._order: list[Event] | None = None

    def get(self, event_id: str) -> Event | None:
        """The event of this id."""
        return self._all.get(event_id)

    def put(self, event: Event) -> None:
        """Add an event, or replace it by a changed one."""
        self._all[event.id] = event
        self._order = None

    def remove(self, event: Event) -> None:
        """Remove an event."""
        del self._all[event.id]
        self._order = None

    def __iter__(self) -> Iterator[Event]:
        return iter(self._all.values())

    def page(self, user: str, query: Query) -> tuple[list[JSON], str | None]:
        """One page as JSON, and its cursor. Exceptions follow their series and do not count for the page's size.

        Every page that is not empty has a cursor, also the last one (before 0.34).
        """
        if self._order is None:
            self._order = sorted(self._all.values(), key=lambda event: event.key)
        start = bisect_right(self._order, query.after.key, key=lambda e: e.key) if query.after else 0
        matching = (event for event in islice(self._order, start, None) if _is_listed(event, user, query))
        events = list(islice(matching, query.per_page))
        items: list[JSON] = []
        for event in events:
            items += [event.view(user, query.invitees_max, in_listing=True), *event.exceptions_for(user)]
        if not events:
            return items, None
        end = msgspec.json.encode(Cursor(events[-1].id, events[-1].created, events[-1].starts))
        return items, base64.urlsafe_b64encode(end).rstrip(b"=").decode()


def _is_listed(event: Event, user: str, query: Query) -> bool:
    status = event.status_for(user)
    after = query.after
    if status is None or (query.invite_status and status not in query.invite_status):
        return False
    if after and after.starts is None and (event.created, event.id) <= (after.created, after.id):
        # Before 0.33, after a page that ends with an event without a time, all events that were created earlier are
        # left out, whenever they start: so a listing of both kinds loses events.
        return False
    return _is_of_kind(event, query) and _is_within(event, query.time_min, query.time_max)


def _is_of_kind(event: Event, query: Query) -> bool:
    """Whether an event passes all filters but those of time."""
    return (
        query.adhoc in (None, event.body["is_adhoc"])
        and query.time_independent in (None, event.starts is None)
        and (not query.favorites or event.body["is_favorite"])
        and (query.created_after is None or event.created >= query.created_after)
        and (query.created_before is None or event.created <= query.created_before)
    )


def _is_within(event: Event, earliest: datetime | None, latest: datetime | None) -> bool:
    """Whether an event passes the time filter, which is inclusive; one without a time does not."""
    if earliest is None and latest is None:
        return True
    if event.starts is None or event.ends is None:
        return False
    if earliest is None or latest is None:
        return event.ends >= earliest if earliest else latest is not None and event.starts <= latest
    begins_or_ends = any(earliest <= each <= latest for each in (event.starts, event.ends))
    return begins_or_ends or any(event.starts <= each <= event.ends for each in (earliest, latest))


def numbered_page(items: list[JSON], query: Mapping[str, str], address: str) -> tuple[list[JSON], str]:
    """A page of a listing with page numbers, and its Link header, which is empty if there is only one page."""
    size = _clamped(_number(query.get("per_page", str(PER_PAGE))))
    page = max(_number(query.get("page", "1")), 1)
    last = max(-(-len(items) // size), 1)
    relations = {"first": 1, "prev": page - 1} if page > 1 else {}
    relations |= {"next": page + 1, "last": last} if page < last else {}
    links = (f'<{address}?per_page={size}&page={n}>; rel="{rel}"' for rel, n in relations.items())
    return items[(page - 1) * size : page * size], ",".join(links)
