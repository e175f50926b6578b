# SPDX-License-Identifier: Apache-2.0
"""The nouns. Frozen values without behaviour beyond their own arithmetic; no I/O, no clock.

All instants are aware datetimes in UTC; a zone is an IANA name. ``account`` is the name of an account
in the configuration, ``event`` an OpenTalk event id (a bare lower-case UUID).
"""

from collections.abc import Mapping, Set
from datetime import datetime
from hashlib import blake2b
from typing import Literal, NamedTuple

import msgspec
from msgspec import Struct

VERSION = "1"
"""Of this renderer: another one means that all entries are rendered again."""


Audience = Literal["owner", "guests"]
Scope = Literal["", "soon", "window", "everything", "audit"]
GUEST = "guest"


def digest_of(*parts: object) -> str:
    """A short stable digest (32 hex digits) of values that msgspec can encode."""
    return blake2b(msgspec.json.encode(parts), digest_size=16).hexdigest()


class Window(Struct, frozen=True):
    """The stretch of time that is looked at: OpenTalk's ``time_min`` and ``time_max``, both inclusive."""

    since: datetime
    until: datetime


class When(Struct, frozen=True, gc=False):
    """OpenTalk's DateTimeTz: an instant in UTC and the zone in which people mean it."""

    utc: datetime
    zone: str


class Override(Struct, frozen=True, gc=False):
    """OpenTalk's exception of a series: what is ``None`` is as in the series.

    ``original`` is the start of the occurrence as the series has it (RFC 5545 RECURRENCE-ID).
    """

    original: When
    cancelled: bool = False
    title: str | None = None
    description: str | None = None
    all_day: bool | None = None
    start: When | None = None
    end: When | None = None


class CallIn(Struct, frozen=True, gc=False):
    """How to dial in: a number as people write it, the conference id and its PIN."""

    tel: str
    id: str
    pin: str


class SharedFolder(Struct, frozen=True, gc=False):
    """The folder that belongs to a meeting, as everybody invited may read it."""

    url: str
    password: str


class Meeting(Struct, frozen=True, kw_only=True, dict=True):
    """What one account sees of one event, as far as we publish it.

    ``start`` and ``end`` are ``None`` for time-independent events; for a series they are its first
    occurrence. ``recurrence`` are RFC 5545 lines with their names (``RRULE:...``). ``own`` means that
    the account made the event. ``updated`` says when OpenTalk last touched the event; it moves without
    a change and stays still with one, so it is not part of the digest. ``ical.recurrence`` keeps beside
    these fields what it read in ``recurrence``.
    """

    id: str
    title: str
    description: str
    start: When | None
    end: When | None
    all_day: bool = False
    recurrence: tuple[str, ...] = ()
    overrides: tuple[Override, ...] = ()
    room: str
    password: str | None = None
    call_in: CallIn | None = None
    e2e: bool = False
    guest_access: str | None = None
    shared_folder: SharedFolder | None = None
    invite_status: str = "accepted"
    adhoc: bool = False
    own: bool = False
    creator: str = ""
    created: datetime
    updated: datetime


def meeting_digest(meeting: Meeting) -> str:
    """The digest of what we publish of a meeting: all of it but ``updated``."""
    return digest_of(msgspec.structs.replace(meeting, updated=meeting.created))


class Unreadable(Struct, frozen=True):
    """An event that an account has, but that cannot be read: ``reason`` says what is wrong, never more of its text."""

    event: str
    reason: str


class Snapshot(Struct, frozen=True):
    """A complete listing of an account; it exists only if paging came to its end.

    ``window`` is ``None`` if the listing was not filtered by time. What is ``unreadable`` is neither changed nor
    missed. ``same`` are events that are as the asker said to have them; they are not among the meetings.
    """

    meetings: Mapping[str, Meeting]
    window: Window | None
    unreadable: Mapping[str, Unreadable] = {}
    same: Set[str] = frozenset()


class Identity(Struct, frozen=True):
    """Who an account is: the identity provider's issuer and subject, and OpenTalk's profile of the user."""

    issuer: str
    subject: str
    user_id: str
    firstname: str
    lastname: str


class Link(Struct, frozen=True):
    """A way in, made once and kept.

    ``kind`` is that of its ``Way``. ``code`` is what its address holds; ``None`` records that there is none to
    be had. ``whose`` is ``"guest"`` or the account for whose holder it was made. ``depends`` is the digest
    of what it was made from: another one means another link. ``made`` is true if syncd made it.
    """

    kind: str
    event: str
    whose: str
    code: str | None
    depends: str
    made: bool
    at: datetime


class Invite(Struct, frozen=True):
    """An OpenTalk guest invite: its code, and whether it was made just now or found."""

    code: str
    made: bool


class Visitor(Struct, frozen=True):
    """Whom a link lets in; without a name people are asked for one when they enter."""

    external_id: str
    firstname: str = ""
    lastname: str = ""
    moderator: bool = False


class Way(Struct, frozen=True, kw_only=True):
    """A way into meetings: what it is called, what its links are, who gets one and who makes them.

    ``key`` names it in the configuration's ``ways_in``, ``label`` in entries. ``kind`` is that of its links in the
    ledger; people read of a link as ``link``, and of several as ``links``. ``maker`` is the key of the link maker,
    which is the name of its table in the configuration; ``None`` means that the accounts make the links: it is the
    meeting's own room, with its password and its dial-in. Where it is ``personal`` the owner of an entry gets a link
    of their own, which also ``moderates`` what their account made; all other readers share the guests' link.

    ``address`` is that of a link, ``members`` that by which registered users enter without one. Both are formatted with
    ``url``, the public address of the maker or account, ``room``, ``code``, and ``language``: the profile's, as
    ``languages`` has it. Without ``members`` nobody enters without a link.
    """

    key: str
    label: str
    kind: str
    link: str
    links: str
    maker: str | None
    address: str
    members: str = ""
    personal: bool = False
    moderates: bool = False
    languages: Mapping[str, str] = {}


class Addresses(Struct, frozen=True):
    """The addresses of one meeting by one way: that of its ``link``, and that of ``members``; ``None`` without one."""

    link: str | None = None
    members: str | None = None


WaysIn = Mapping[str, Addresses]
"""The addresses of one meeting by the key of each way, ready to be shown."""


class Profile(Struct, frozen=True, kw_only=True):
    """All that an entry's bytes depend on besides its meeting and its links.

    ``accounts`` are in their order, with the web address of each in ``urls``: the first that has the meeting
    provides its text. ``ways_in`` are in the order in which they are shown, with the public address of each link
    maker in ``makers``. Owners enter by links of their own, which may moderate, if ``moderator``, else as guests.
    ``versions`` are those of our renderer and of tzdata; ``installation`` marks what is ours.
    """

    accounts: tuple[str, ...]
    urls: tuple[str, ...]
    makers: Mapping[str, str]
    audience: Audience
    passwords: bool
    ways_in: tuple[Way, ...]
    language: str
    installation: str
    versions: tuple[str, ...]
    moderator: bool = True

    @property
    def key(self) -> str:
        """The key of a profile in the ledger."""
        return digest_of(self)


class EntryInputs(Struct, frozen=True, gc=False):
    """What an entry was rendered from besides its profile: the meeting, and the links of its ways in.

    ``account`` provided the meeting, whose digest is ``digest``; ``codes`` are those of the links by the key of
    each way, without the ways that have none.
    """

    account: str
    digest: str
    codes: Mapping[str, str]


class Entry(Struct, frozen=True, gc=False):
    """A meeting as rendered for a profile.

    ``inputs`` is ``None`` where the meeting is gone. ``digest`` is that of the content, which the object carries as
    ``X-SYNCD-DIGEST``; it is empty where there is nothing to show (the meeting is gone, or every occurrence is
    cancelled). ``revision`` is its SEQUENCE. ``start`` and ``end`` bound the whole series; an ``end`` of ``None`` is a
    series without one. The ledger has the bytes.
    """

    event: str
    inputs: EntryInputs | None
    digest: str
    revision: int
    start: datetime
    end: datetime | None


class Placement(Struct, frozen=True, gc=False):
    """An entry in a calendar, as we last put or saw it.

    ``state`` is ``"placed"``, ``"left"`` where the calendar has somebody else's copy of the event, ``"placing"``
    where a new object is on its way and nobody has heard yet whether it arrived, or ``"removed"`` where somebody
    deleted it; then ``digest`` is the meeting's. ``etag`` is ``None`` if the server gave none. ``edited`` is what
    holds more than we put: whoever writes it looks at it first. Our own bytes, the base of a merge, are kept
    beside it.
    """

    calendar: str
    event: str
    href: str
    etag: str | None
    revision: int
    digest: str
    start: datetime
    end: datetime | None
    state: Literal["placed", "left", "placing", "removed"] = "placed"
    edited: bool = False


class Stored(Struct, frozen=True):
    """What a calendar server answered to a PUT: where the object lies and its ETag, if it told one."""

    href: str
    etag: str | None


class Found(Struct, frozen=True):
    """An object that lies in a calendar."""

    href: str
    etag: str | None
    body: bytes


class Seen(Struct, frozen=True):
    """What a calendar server says is in a calendar.

    ``etags`` are href -> ETag, empty where the server told none, or ``None`` for an object that is gone. Where
    ``complete`` is true an href that is missing is not there either; otherwise ``etags`` is what changed since the
    cursor (RFC 6578, sync token) with which was asked. The new ``cursor`` is ``None`` where the server has none.
    """

    etags: Mapping[str, str | None]
    cursor: str | None
    complete: bool


RunKind = Literal["pull", "mint", "push", "feed", "maker", "links", "feeds", "housekeeping"]
"""What runs: of the user's tables an account's ``pull`` and ``mint`` (links made with it), a calendar's ``push``, a
``feed``; of syncd's own a ``maker`` of links beside OpenTalk, the search for lacking ``links``, ``feeds`` together, and
``housekeeping``."""


class RunKey(NamedTuple):
    """What ran: its kind, and the name of the account, calendar, feed or maker."""

    kind: RunKind
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


class Run(Struct, frozen=True):
    """One run: what ran, and how it went.

    ``state`` is a word of ``syncd status``; ``scope`` is what was looked at: of an account the events of the
    next days (``soon``), the window or everything; of a calendar what is really there (``audit``). ``next_try``
    is when a daemon does it again; ``plan.timing`` makes it of the last three, which no ledger keeps: when all was
    last looked at (an account's window, a calendar), the longest Retry-After in seconds, and whether work is left.
    """

    key: RunKey
    ended: datetime
    state: str = "ok"
    scope: Scope = ""
    counts: Mapping[str, int] = {}
    message: str | None = None
    next_try: datetime | None = None
    last_look: datetime | None = None
    retry_after: float | None = None
    cut_short: bool = False

    @property
    def done(self) -> dict[str, int]:
        """The counts of what was changed by it; a run without any was quiet."""
        return {word: count for word, count in self.counts.items() if count and word in CHANGES}


CHANGES = frozenset(
    ("changed", "gone", "invites", "hashes", "created", "updated", "deleted", "adopted", "left", "removed", "failed")
)


class Decision(Struct, frozen=True):
    """What was decided about an event by which run, and why."""

    event: str
    at: datetime
    run: RunKey
    word: str
    why: str = ""


class Standing(Struct, frozen=True):
    """How something stands: its latest run, and when it last went well."""

    latest: Run
    last_success: datetime | None


class Feed(Struct, frozen=True):
    """A feed: of its token only the SHA-256 (hexadecimal) is known.

    ``built`` is the key of the profile that it shows, ``None`` before it was built.
    """

    name: str
    token_sha256: str
    accounts: tuple[str, ...]
    audience: Audience
    passwords: bool
    label: str
    made: datetime
    built: str | None = None


def overlaps(start: datetime, end: datetime | None, window: Window) -> bool:
    """Whether the span of a meeting touches the window; both its ends are inclusive, as OpenTalk's are."""
    return start <= window.until and (end is None or end >= window.since)
