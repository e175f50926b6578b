# SPDX-License-Identifier: Apache-2.0
"""The values that all packages share, frozen. No I/O, no clock.

Every datetime is aware and in UTC; a zone is an IANA name. ``account`` is the name of an account in the configuration,
``event`` an OpenTalk event id (a bare lower-case UUID).
"""

from collections.abc import Mapping, Set
from datetime import datetime
from hashlib import blake2b
from typing import Literal, NamedTuple

import msgspec
from msgspec import Struct

VERSION = "1"
"""The version of the renderer. Raise it when entries look different: then all of them are rendered again."""


Audience = Literal["owner", "guests"]
Scope = Literal["", "soon", "window", "everything", "audit"]
GUEST = "guest"


def digest_of(*parts: object) -> str:
    """A stable digest (32 hexadecimal digits) of values that msgspec can encode."""
    return blake2b(msgspec.json.encode(parts), digest_size=16).hexdigest()


class Window(Struct, frozen=True):
    """The stretch of time that is listed: OpenTalk's ``time_min`` and ``time_max``, both inclusive."""

    since: datetime
    until: datetime


class When(Struct, frozen=True, gc=False):
    """OpenTalk's DateTimeTz: a moment in UTC, and the zone in whose local time people think of it."""

    utc: datetime
    zone: str


class Override(Struct, frozen=True, gc=False):
    """One occurrence of a series that is changed or cancelled; OpenTalk calls it an exception.

    A field that is ``None`` is as in the series. ``original`` is the start that the series gives the occurrence
    (RECURRENCE-ID, RFC 5545, 3.8.4.4).
    """

    original: When
    cancelled: bool = False
    title: str | None = None
    description: str | None = None
    all_day: bool | None = None
    start: When | None = None
    end: When | None = None


class CallIn(Struct, frozen=True, gc=False):
    """The dial-in: a telephone number as people write it, the conference id and its PIN."""

    tel: str
    id: str
    pin: str


class SharedFolder(Struct, frozen=True, gc=False):
    """The folder of a meeting, at the address where everybody invited may read it."""

    url: str
    password: str


class Meeting(Struct, frozen=True, kw_only=True, dict=True):
    """What one account sees of one event, as far as it is used in entries.

    ``start`` and ``end`` are ``None`` for time-independent events; for a series they are those of its first
    occurrence. ``recurrence`` are RFC 5545 lines with their names (``RRULE:...``). ``own`` is true if the account
    created the event. ``updated`` is OpenTalk's ``updated_at``; it changes without a change of the event and may stay
    with one, so it is not part of the digest. ``ical.recurrence`` caches the parsed ``recurrence`` in the object.
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
    """The digest of a meeting: all of it but ``updated``."""
    return digest_of(msgspec.structs.replace(meeting, updated=meeting.created))


class Unreadable(Struct, frozen=True):
    """An event that an account has and that cannot be read. ``reason`` says why and contains none of its text."""

    event: str
    reason: str


class Snapshot(Struct, frozen=True):
    """A complete listing of an account; it exists only if paging came to its end.

    ``window`` is ``None`` if the listing was not filtered by time. ``unreadable`` events stay in the ledger as they
    are. ``same`` are the events that match the digests which the caller gave; they are not among the ``meetings``.
    """

    meetings: Mapping[str, Meeting]
    window: Window | None
    unreadable: Mapping[str, Unreadable] = {}
    same: Set[str] = frozenset()


class Identity(Struct, frozen=True):
    """The person behind an account: issuer and subject at the identity provider, and OpenTalk's profile of the user."""

    issuer: str
    subject: str
    user_id: str
    firstname: str
    lastname: str


class Link(Struct, frozen=True):
    """A link into one meeting, made once and stored.

    ``kind`` is that of its ``Way``. ``code`` is the part of its address that no other link has; ``None`` records that
    a link was requested and refused. ``whose`` is ``"guest"`` or the account for whose holder it was made. ``depends``
    is the digest of what it was made from; where that changes, another link is needed. ``made`` is true if syncd made
    it, false if it found it. ``at`` is when.
    """

    kind: str
    event: str
    whose: str
    code: str | None
    depends: str
    made: bool
    at: datetime


class Invite(Struct, frozen=True):
    """An OpenTalk guest invite: its code, and whether it was made now or existed before."""

    code: str
    made: bool


class Visitor(Struct, frozen=True):
    """The person whom a link lets in; without a name they are asked for one when they enter."""

    external_id: str
    firstname: str = ""
    lastname: str = ""
    moderator: bool = False


class Way(Struct, frozen=True, kw_only=True):
    """A way into meetings: what it is called, what its links look like, who gets one and who makes them.

    ``key`` names it in the configuration's ``ways_in``, ``label`` in entries, ``kind`` its links in the ledger.
    ``link`` and ``links`` are the words for one and several of them. ``maker`` is the link maker, by the name of its
    table in the configuration; ``None`` means that OpenTalk accounts make the links: this way leads into the meeting's
    own room, with its password and its dial-in. If it is ``personal``, the owner of an entry gets a link of their own,
    which also ``moderates`` meetings that their account created; all other readers share the guests' link.

    ``address`` is the format of a link's address, ``members`` that of the address at which registered users enter
    without a link; if it is empty, nobody does. The fields are ``url`` (the public address of the maker or account),
    ``room``, ``code`` and ``language`` (the profile's, translated by ``languages``).
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
    """The addresses of one meeting for one way in: its ``link``, and the one for ``members``; ``None`` without one."""

    link: str | None = None
    members: str | None = None


WaysIn = Mapping[str, Addresses]
"""The addresses of one meeting, by the key of each way in."""


class Profile(Struct, frozen=True, kw_only=True):
    """All that an entry's bytes depend on besides its meeting and its links.

    ``accounts`` are in the order of the configuration: the first that has the meeting provides the text. ``urls`` are
    their web addresses. ``ways_in`` are in the order in which entries show them; ``makers`` has the public address of
    each link maker. With ``moderator``, an owner's entries have links of their own, which may moderate; else the
    guests' links. ``versions`` are those of the renderer and of tzdata; ``installation`` marks objects as ours.
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
        """The key of this profile in the ledger."""
        return digest_of(self)


class EntryInputs(Struct, frozen=True, gc=False):
    """What an entry was rendered from besides its profile: a meeting and its links.

    ``account`` provided the meeting, ``digest`` is the meeting's. ``codes`` are those of the links by the key of each
    way in; ways without a link are missing.
    """

    account: str
    digest: str
    codes: Mapping[str, str]


class Entry(Struct, frozen=True, gc=False):
    """A meeting as rendered for a profile. Its bytes are in the ledger only.

    ``inputs`` is ``None`` if the meeting is gone. ``digest`` is the content's, which is also in the bytes as
    X-SYNCD-DIGEST; it is empty if there is nothing to show (the meeting is gone, or every occurrence is cancelled).
    ``revision`` is the SEQUENCE. ``start`` and ``end`` bound the whole series; ``end`` is ``None`` if it has none.
    """

    event: str
    inputs: EntryInputs | None
    digest: str
    revision: int
    start: datetime
    end: datetime | None


class Placement(Struct, frozen=True, gc=False):
    """An entry in a calendar, as we last put or saw it. The bytes that we put, the base of a merge, are in the ledger.

    ``state`` is ``"placed"``; ``"placing"`` while a new object is being put and the answer is not recorded;
    ``"left"`` if the calendar has somebody else's copy of the event; or ``"removed"`` if somebody deleted ours, and
    then ``digest`` is the meeting's. ``etag`` is ``None`` if the server sent none. ``edited`` is true if the object
    contains more than we put: it is fetched and merged before it is written.
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
    """The answer of a calendar server to a PUT: the object's href, and its ETag if the server sent one."""

    href: str
    etag: str | None


class Found(Struct, frozen=True):
    """An object in a calendar."""

    href: str
    etag: str | None
    body: bytes


class Seen(Struct, frozen=True):
    """A server's listing of a calendar.

    ``etags`` are href -> ETag, empty where the server sends none, ``None`` for an object that is gone. A ``complete``
    listing has all objects; any other has what changed since the cursor (sync token, RFC 6578) that was sent.
    ``cursor`` is the new one, ``None`` if the server has none.
    """

    etags: Mapping[str, str | None]
    cursor: str | None
    complete: bool


RunKind = Literal["pull", "mint", "push", "feed", "maker", "links", "feeds", "housekeeping"]
"""What runs. For tables of the user: an account's ``pull`` and ``mint`` (its guest invites), a calendar's ``push``, a
``feed``. For syncd itself, in kinds of their own, so that no table's name can clash with them: a link ``maker``, the
search for missing ``links``, ``feeds`` as a whole, and ``housekeeping``."""


class RunKey(NamedTuple):
    """What ran: its kind, and the name of the account, calendar, feed or link maker."""

    kind: RunKind
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


class Run(Struct, frozen=True):
    """One run: what ran, and how it ended.

    ``state`` is a word of ``syncd status``. ``scope`` is what was listed: of an account the next days (``soon``), the
    window or everything; of a calendar its objects (``audit``). ``counts`` are by words of ``syncd sync``.
    ``next_try`` is when a daemon runs it again. ``plan.timing`` computes that from the last three fields, which are not
    stored: when the account's window or the calendar was last listed, the longest Retry-After in seconds, and whether
    work was left undone.
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
        """The counts of what the run changed, without zeros; empty if it changed nothing."""
        of_links = self.key.kind in ("mint", "maker")
        changes = self.counts.keys() - {"none"} if of_links else CHANGES
        return {word: count for word, count in self.counts.items() if count and word in changes}


CHANGES = frozenset(("changed", "gone", "created", "updated", "deleted", "adopted", "left", "removed", "failed"))


class Decision(Struct, frozen=True):
    """What a run decided about an event, and why; ``word`` is one of ``syncd sync``."""

    event: str
    at: datetime
    run: RunKey
    word: str
    why: str = ""


class Standing(Struct, frozen=True):
    """The latest run of a job, and when a run of it last succeeded."""

    latest: Run
    last_success: datetime | None


class Feed(Struct, frozen=True):
    """A feed. Of its token only the SHA-256 (hexadecimal) is stored.

    ``built`` is the key of the profile whose entries it shows; ``None`` before it is first built.
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
    """Whether a meeting from ``start`` to ``end`` (``None`` for an endless one) touches the window, ends included."""
    return start <= window.until and (end is None or end >= window.since)
