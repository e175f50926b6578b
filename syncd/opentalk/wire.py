# SPDX-License-Identifier: Apache-2.0
"""OpenTalk's JSON as typed values, and the meetings made of it. No I/O.

Only the fields that are used are declared: every release adds others, leaves out optional ones and adds words for
kinds and states, and none of that may make an event unreadable. Texts are taken unchanged.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Annotated

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from syncd.decoding import decode
from syncd.errors import BadAnswer
from syncd.ical import recurrence
from syncd.model import CallIn, Meeting, Override, SharedFolder, When, meeting_digest

Instant = Annotated[datetime, Meta(tz=True)]

_EVENT_ID = re.compile(r"[0-9A-Za-z-]{1,64}")
FIRST_YEAR, LAST_YEAR = 1900, 4000  # so that no sum with a duration leaves the range of datetime
_NOTHING = timedelta(0)


class Time(Struct, frozen=True, gc=False):
    """DateTimeTz: an instant in UTC and the IANA zone of the creator's browser."""

    datetime: Instant
    timezone: str


class Creator(Struct, frozen=True, gc=False):
    """PublicUserProfile."""

    display_name: str | None = None


class Phone(Struct, frozen=True, gc=False):
    """The dial-in of a room."""

    tel: str
    id: str | None = None
    password: str | None = None


class Room(Struct, frozen=True, gc=False):
    """EventRoomInfo; ``guest_access`` since 0.34."""

    id: str
    password: str | None = None
    e2e_encryption: bool | None = None
    call_in: Phone | None = None
    guest_access: str | None = None


class Share(Struct, frozen=True, gc=False):
    """One access to a shared folder."""

    url: str
    password: str | None = None


class Folder(Struct, frozen=True, gc=False):
    """The shared folder of an event; the creator's own access is not used."""

    read: Share | None = None


class Event(Struct, frozen=True, gc=False):
    """EventResource."""

    id: str
    created_by: Creator
    created_at: Instant
    updated_at: Instant
    room: Room
    title: str | None = None
    description: str | None = None
    starts_at: Time | None = None
    ends_at: Time | None = None
    is_all_day: bool | None = None
    recurrence_pattern: tuple[str, ...] | None = None
    is_adhoc: bool | None = None
    invite_status: str | None = None
    can_edit: bool | None = None
    shared_folder: Folder | None = None


class EventException(Struct, frozen=True, gc=False):
    """EventExceptionResource: a field that is missing is as in the series."""

    original_starts_at: Time
    status: str | None = None
    title: str | None = None
    description: str | None = None
    is_all_day: bool | None = None
    starts_at: Time | None = None
    ends_at: Time | None = None


class Head(Struct, frozen=True, gc=False):
    """Enough of an item to know its event: of an exception that is ``recurring_event_id``, of an event its ``id``."""

    id: str
    recurring_event_id: str | None = None


class Me(Struct, frozen=True):
    """PrivateUserProfile."""

    id: str
    firstname: str = ""
    lastname: str = ""


class RoomInvite(Struct, frozen=True):
    """InviteResource; permanent if ``expiration`` is null."""

    invite_code: str
    active: bool = False
    expiration: str | None = None


class Listing:
    """A listing while its pages come in; ``name`` begins a message.

    ``have`` are digests of the caller's meetings by event. ``seen`` remembers (JSON, digest) pairs that matched: an
    event whose pair is in it is not decoded again, it is reported in ``same``.

    Events and exceptions may come in any order (before 0.33 an exception follows its series, since then it may come
    first or on another page). An event that comes twice, because its start was edited between two pages, counts as it
    came last.
    """

    def __init__(self, name: str, have: Mapping[str, str] = {}, seen: set[bytes] | None = None) -> None:
        self.same: set[str] = set()
        self._name = name
        self._have = have
        self._seen = set() if seen is None else seen
        self._meetings: dict[str, Meeting] = {}
        self._overrides: dict[str, dict[datetime, Override]] = {}
        self._unreadable: dict[str, str] = {}
        self._broken_series: dict[str, str] = {}
        self._texts: dict[str, str] = {}
        self._zones: dict[str, str] = {}

    def add(self, page: bytes) -> int:
        """Add a page and return the number of its items.

        Raises BadAnswer if it is no array of items with ids. Anything else that is wrong with an item makes only its
        event unreadable.
        """
        items = read_items(page, self._name)
        for item in items:
            self._add_item(item)
        return len(items)

    def _add_item(self, item: msgspec.Raw) -> None:
        try:
            head = decode(item, Head)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            head = None
        event = head and (head.recurring_event_id or head.id)
        if head is None or not event or not _EVENT_ID.fullmatch(event):
            raise BadAnswer(f"{self._name} listed something without a readable id")
        if head.recurring_event_id is None:
            self._add_event(event, item)
        else:
            self._add_exception(event, item)

    def _add_event(self, event: str, item: msgspec.Raw) -> None:
        self._meetings.pop(event, None)
        self._unreadable.pop(event, None)
        self.same.discard(event)
        have = self._have.get(event)
        pair = _fingerprint(item, have) if have else None
        if pair in self._seen:
            self.same.add(event)
            return
        try:
            meeting = self._meeting(decode(item, Event))
        except ValueError as error:  # msgspec's errors are ValueErrors, too
            self._unreadable[event] = _problem(error)
            return
        self._meetings[meeting.id] = meeting  # its own id, so that there is one object for the text
        if pair and meeting_digest(meeting) == have:
            self._seen.add(pair)

    def _add_exception(self, series: str, item: msgspec.Raw) -> None:
        try:
            override = self._override(decode(item, EventException))
        except ValueError as error:
            self._broken_series[series] = f"an exception of it: {_problem(error)}"
            return
        self._overrides.setdefault(series, {})[override.original.utc] = override

    @property
    def mistaken(self) -> bool:
        """Whether an event in ``same`` has exceptions in this listing, which the caller's meeting lacks."""
        return not self.same.isdisjoint(self._overrides)

    def join(self) -> tuple[dict[str, Meeting], dict[str, str]]:
        """The meetings with their overrides, and the unreadable events: event id -> what is wrong.

        Called after the last page. Exceptions whose series is not listed are dropped. A series with an unreadable
        exception is unreadable: without the exception, a cancelled occurrence would come back.
        """
        for event, problem in self._broken_series.items():
            if self._meetings.pop(event, None) or event in self.same:
                self.same.discard(event)
                self._unreadable[event] = problem
        for event, overrides in self._overrides.items():
            if meeting := self._meetings.get(event):
                self._meetings[event] = _with_overrides(meeting, overrides)
        return self._meetings, self._unreadable

    def _meeting(self, event: Event) -> Meeting:
        start = self._when(event.starts_at)
        end = _not_before(start, self._when(event.ends_at))
        lines = recurrence.normalise(event.recurrence_pattern or ()) if start else ()
        room = event.room
        meeting = Meeting(
            id=event.id,
            title=event.title or "",
            description=event.description or "",
            start=start,
            end=end,
            all_day=bool(event.is_all_day),
            recurrence=tuple(map(self._same, lines)),
            room=room.id,
            password=room.password or None,
            call_in=self._call_in(room.call_in) if room.call_in else None,
            e2e=bool(room.e2e_encryption),
            guest_access=self._same(room.guest_access) if room.guest_access else None,
            shared_folder=_shared_folder(event.shared_folder),
            invite_status=self._same(event.invite_status or "accepted"),
            adhoc=bool(event.is_adhoc),
            own=bool(event.can_edit),
            creator=self._same(event.created_by.display_name or ""),
            created=event.created_at.astimezone(UTC),
            updated=event.updated_at.astimezone(UTC),
        )
        recurrence.read(meeting)
        return meeting

    def _call_in(self, phone: Phone) -> CallIn:
        return CallIn(self._same(phone.tel), phone.id or "", phone.password or "")

    def _override(self, exception: EventException) -> Override:
        original = self._when(exception.original_starts_at)
        assert original is not None  # noqa: S101 -- it is required
        return Override(
            original=original,
            cancelled=exception.status == "cancelled",
            title=exception.title,
            description=exception.description,
            all_day=exception.is_all_day,
            start=self._when(exception.starts_at),
            end=self._when(exception.ends_at),
        )

    def _when(self, time: Time | None) -> When | None:
        if time is None:
            return None
        if not FIRST_YEAR <= time.datetime.year <= LAST_YEAR:
            raise ValueError(f"a time outside of {FIRST_YEAR} to {LAST_YEAR}")
        zone = self._zones.get(time.timezone)
        if zone is None:
            recurrence.zone(time.timezone)
            zone = self._zones[time.timezone] = time.timezone
        return When(time.datetime.astimezone(UTC), zone)

    def _same(self, text: str) -> str:
        """One object for equal texts, to save memory: thousands of meetings share creators, rules and states."""
        return self._texts.setdefault(text, text)


def read_items(page: bytes, name: str) -> list[msgspec.Raw]:
    """The items of a page, not decoded yet. Raises BadAnswer if the page is no JSON array."""
    try:
        return decode(page, list[msgspec.Raw])
    except (msgspec.MsgspecError, UnicodeDecodeError):
        what = "HTML" if page.lstrip()[:1] == b"<" else "something else"
        raise BadAnswer(f"{name} answered {what} instead of a list in JSON; look at its url") from None


def read_invites(page: bytes, name: str) -> Iterator[RoomInvite]:
    """The guest invites of a page; one that cannot be read is skipped, because any other will do.

    Raises BadAnswer if the page is no JSON array.
    """
    for item in read_items(page, name):
        with suppress(msgspec.MsgspecError, UnicodeDecodeError):
            yield decode(item, RoomInvite)


def _fingerprint(item: msgspec.Raw, digest: str) -> bytes:
    """A hash of an event's JSON and of the digest of the meeting made of it, which depends on nothing else.

    128 bits of SHA-256, which processors have instructions for: it takes half the time of BLAKE2.
    """
    pair = sha256(item)
    pair.update(digest.encode())
    return pair.digest()[:16]


def _problem(error: ValueError) -> str:
    """What is wrong, in msgspec's words or ours: both name types and paths, never a value."""
    return "a text is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)


def _shared_folder(folder: Folder | None) -> SharedFolder | None:
    share = folder.read if folder else None
    return SharedFolder(share.url, share.password or "") if share else None


def _not_before(start: When | None, end: When | None) -> When | None:
    """The end, or the start where the end is missing or earlier, as in old rows of OpenTalk's database."""
    if start is None or (end is not None and end.utc >= start.utc):
        return end if start else None
    return start


def _with_overrides(meeting: Meeting, overrides: dict[datetime, Override]) -> Meeting:
    duration = meeting.end.utc - meeting.start.utc if meeting.start and meeting.end else _NOTHING
    complete = (_with_end(overrides[original], duration) for original in sorted(overrides))
    return recurrence.with_overrides(meeting, complete)


def _with_end(override: Override, duration: timedelta) -> Override:
    """An override with the end that OpenTalk's mails give it: if only its start is moved, the duration stays."""
    start = override.start or override.original
    end = override.end or (When(start.utc + duration, start.zone) if override.start else None)
    return replace(override, end=_not_before(start, end) if end else None)
