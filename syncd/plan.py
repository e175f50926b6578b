# SPDX-License-Identifier: Apache-2.0
"""The decisions, pure: each function takes what is known and returns a list of small actions.

Nothing here does I/O or reads a clock; ``sync`` carries the actions out. So a dry run, an explanation and
a test are the same call.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from msgspec import Struct
from msgspec.structs import replace

from syncd.ical.recurrence import last_end
from syncd.model import (
    GUEST,
    Entry,
    Link,
    LinkKind,
    Meeting,
    Override,
    Profile,
    Scope,
    Snapshot,
    Window,
    digest_of,
    meeting_digest,
    overlaps,
)

ASKS = 200
ASK_AGAIN = timedelta(days=1)
FULL_LISTING = timedelta(days=1)
LONGEST_WAIT = timedelta(minutes=15)
NOT_WANTED = "it was declined, or is an instant meeting now"


class Known(Struct, frozen=True, gc=False):
    """What the ledger has of a meeting, as far as decisions need it.

    ``start`` is ``None`` for a time-independent event; an ``end`` of ``None`` beside a start is a series
    without an end. ``unlisted`` means that a windowed listing lacked the event though it exists: its time
    filters go by the start of a series' last occurrence, and by columns that may be wrong.
    """

    digest: str
    start: datetime | None
    end: datetime | None
    unlisted: bool = False


class Keep(Struct, frozen=True):
    """Write this version of a meeting into the ledger; ``fresh`` if it has none yet."""

    meeting: Meeting
    known: Known
    fresh: bool = False


class Ask(Struct, frozen=True):
    """An event is missing from a listing that should have it: ask for it by its id."""

    event: str


class Drop(Struct, frozen=True):
    """The meeting is gone for this account, or is not to be published any more."""

    event: str
    why: str = ""


class Listed(Struct, frozen=True):
    """When an account's window was last listed to its end, and when everything was."""

    window: datetime | None
    everything: datetime | None


def listing_due(listed: Listed, now: datetime, every: timedelta, *, soon: bool) -> Scope:
    """What is to be listed: everything at first and then daily, the window at its interval.

    Before that the next days alone will do if ``soon``. A last time that lies in the future is that of a clock
    which was wrong, and counts for nothing.
    """
    if is_over(listed.everything, FULL_LISTING, now):
        return "everything"
    return "soon" if soon and not is_over(listed.window, every, now) else "window"


def is_over(last: datetime | None, interval: timedelta, now: datetime) -> bool:
    """Whether it is time again; a last time that lies in the future counts for nothing."""
    return last is None or not timedelta(0) <= now - last < interval


def with_overrides_outside(meeting: Meeting, known: Meeting, window: Window) -> Meeting:
    """The meeting with the overrides that lie outside the window as they were known.

    Controllers from 0.33 on filter exceptions by their own times, so that a windowed listing says nothing
    of those outside. A series that was itself moved has lost its exceptions (OpenTalk deletes them).
    """
    if (meeting.start, meeting.recurrence) != (known.start, known.recurrence):
        return meeting
    listed = {override.original for override in meeting.overrides}
    outside = [each for each in known.overrides if each.original not in listed and _is_outside(each, window)]
    if not outside:
        return meeting
    return replace(meeting, overrides=tuple(sorted((*meeting.overrides, *outside), key=_by_original)))


def _is_outside(override: Override, window: Window) -> bool:
    moments = [when.utc for when in (override.original, override.start, override.end) if when]
    return max(moments) < window.since or min(moments) > window.until


def _by_original(override: Override) -> datetime:
    return override.original.utc


def publishes(meeting: Meeting, *, adhoc: bool, declined: bool) -> bool:
    """Whether the account wants this meeting at all."""
    return (adhoc or not meeting.adhoc) and (declined or meeting.invite_status != "declined")


def known_as(meeting: Meeting, *, unlisted: bool = False) -> Known:
    """What the ledger will know of a meeting."""
    start = meeting.start.utc if meeting.start else None
    return Known(meeting_digest(meeting), start, last_end(meeting) if start else None, unlisted)


def ledger_changes(
    snapshot: Snapshot, known: Iterable[tuple[str, Known]], window: Window, *, adhoc: bool, declined: bool
) -> list[Keep | Ask | Drop]:
    """Compare a complete listing with the ledger; what does not appear in the answer stays as it is.

    ``known`` are the ledger's meetings, (event, Known); it is read once, so that it may come row by row.
    Absence is a question (``Ask``), never an answer. What the window has left behind is neither asked for
    nor dropped; what it has not reached yet is not taken up, but for time-independent events. A meeting that
    is not wanted any more is dropped when it changes: an edit of the configuration alone deletes nothing.
    """
    changes: list[Keep | Ask | Drop] = []
    asks: list[Keep | Ask | Drop] = []
    seen: set[str] = set()
    for event, have in known:
        if event in snapshot.same:
            continue
        meeting = snapshot.meetings.get(event)
        if meeting is None:
            if event not in snapshot.unreadable and len(asks) < ASKS and _expected(have, snapshot, window):
                asks.append(Ask(event))
            continue
        seen.add(meeting.id)
        if have.digest != meeting_digest(meeting):
            wanted = publishes(meeting, adhoc=adhoc, declined=declined)
            changes.append(Keep(meeting, known_as(meeting)) if wanted else Drop(event, NOT_WANTED))
        elif have.unlisted and snapshot.window:
            changes.append(Keep(meeting, known_as(meeting)))
    for event, meeting in snapshot.meetings.items():
        if event not in seen and publishes(meeting, adhoc=adhoc, declined=declined):
            now_known = known_as(meeting)
            if now_known.start is None or overlaps(now_known.start, now_known.end, window):
                changes.append(Keep(meeting, now_known, fresh=True))
    return changes + asks


def _expected(have: Known, snapshot: Snapshot, window: Window) -> bool:
    if snapshot.window is None:
        return have.start is None or have.end is None or have.end >= window.since
    return have.start is not None and not have.unlisted and overlaps(have.start, have.end, snapshot.window)


def answered(ask: Ask, meeting: Meeting | None, *, windowed: bool, adhoc: bool, declined: bool) -> Keep | Drop:
    """What the answer to an ``Ask`` means; ``None`` is the server's word that the event is gone for us."""
    if meeting is None:
        return Drop(ask.event, "its account has it no more")
    if not publishes(meeting, adhoc=adhoc, declined=declined):
        return Drop(ask.event, NOT_WANTED)
    return Keep(meeting, known_as(meeting, unlisted=windowed))


def is_emptied(changes: Iterable[Keep | Drop], listed: int) -> bool:
    """Whether a part of the window turned empty: then all of it may have, which is another thing."""
    return listed == 0 and any(isinstance(change, Drop) for change in changes)


class Source(Struct, frozen=True, gc=False):
    """Where an entry comes from: the first account of a profile that has the meeting, and all of them."""

    account: str
    accounts: tuple[str, ...]
    digest: str
    start: datetime
    end: datetime | None
    room: str
    own: bool


class Mint(Struct, frozen=True):
    """A link that a meeting lacks from ``start`` on: ``accounts`` may be asked for it in this order."""

    kind: LinkKind
    event: str
    whose: str
    accounts: tuple[str, ...]
    depends: str
    start: datetime
    moderator: bool = False


LinkKey = tuple[LinkKind, str, str]


def invite_key(event: str) -> LinkKey:
    """The key of the guest invite of an event."""
    return ("invite", event, GUEST)


def hash_key(event: str, source: Source, profile: Profile) -> LinkKey:
    """The key of the OpenMeetings hash by which a profile's readers enter."""
    own = profile.audience == "owner" and profile.moderator
    return ("hash", event, source.account if own else GUEST)


def merged(wishes: Iterable[Mint]) -> list[Mint]:
    """Each link once, nearest meeting first; whoever may have it is asked, in the order of the first wish for it."""
    found: dict[LinkKey, Mint] = {}
    for wish in wishes:
        key = (wish.kind, wish.event, wish.whose)
        first = found.get(key, wish)
        accounts = tuple(dict.fromkeys((*first.accounts, *wish.accounts)))
        found[key] = replace(first, accounts=accounts, start=min(first.start, wish.start))
    return sorted(found.values(), key=_by_start)


def _by_start(wish: Mint) -> datetime:
    return wish.start


def links_to_mint(
    sources: Mapping[str, Source], links: Mapping[LinkKey, Link], profile: Profile, now: datetime
) -> list[Mint]:
    """The links that a profile's coming meetings lack, nearest meeting first.

    Meetings that are over get none. A link that could not be had is asked for again after a day.
    """
    lacking: list[Mint] = []
    for event, source in sources.items():
        if source.end is not None and source.end < now:
            continue
        for mint in _mints(event, source, profile, max(source.start, now)):
            link = links.get((mint.kind, event, mint.whose))
            known = link is not None and link.depends == mint.depends
            if not known or (link and link.code is None and is_over(link.at, ASK_AGAIN, now)):
                lacking.append(mint)
    return sorted(lacking, key=_by_start)


def _mints(event: str, source: Source, profile: Profile, start: datetime) -> Iterable[Mint]:
    if "opentalk" in profile.ways_in:
        yield Mint(*invite_key(event), source.accounts, digest_of(source.room), start)
    if "openmeetings" in profile.ways_in:
        key = hash_key(event, source, profile)
        moderator = source.own and key[2] != GUEST
        yield Mint(*key, (source.account,), digest_of(profile.openmeetings, moderator), start, moderator)


def inputs_of(event: str, source: Source, links: Mapping[LinkKey, Link], profile: Profile) -> str:
    """All that an entry is made from besides its profile, in one comparable string."""
    invite = links.get(invite_key(event))
    entry_hash = links.get(hash_key(event, source, profile))
    return " ".join(
        (
            source.account,
            source.digest,
            (invite and invite.code) or "-",
            (entry_hash and entry_hash.code) or "-",
        )
    )


class Render(Struct, frozen=True):
    """An entry is missing or was made from something else."""

    event: str
    inputs: str


class Erase(Struct, frozen=True):
    """An entry has no meeting any more."""

    event: str


def entry_changes(
    sources: Mapping[str, Source],
    links: Mapping[LinkKey, Link],
    entries: Mapping[str, Entry],
    profile: Profile,
) -> list[Render | Erase]:
    """Compare a profile's entries with its meetings and links."""
    changes: list[Render | Erase] = []
    for event, source in sources.items():
        inputs = inputs_of(event, source, links, profile)
        if event not in entries or entries[event].inputs != inputs:
            changes.append(Render(event, inputs))
    changes += [Erase(event) for event, entry in entries.items() if event not in sources and entry.inputs]
    return changes


def revision_of(digest: str, versions: Iterable[tuple[int, str]]) -> int:
    """The SEQUENCE of a content: that of the latest content if it is the same, else one above all others.

    Never lower than one that was used: SOGo answers 403 to a lower SEQUENCE.
    """
    known = list(versions)
    top, latest = max(known, default=(-1, ""))
    return top if latest == digest and known else top + 1


def next_revision(versions: Iterable[tuple[int, str]]) -> int:
    """The SEQUENCE above all that an event has had, from 0."""
    return max((revision for revision, _ in versions), default=-1) + 1


def next_try(failures: int, retry_after: float | None, interval: timedelta, jitter: float) -> timedelta:
    """When to try again: at the interval, doubled for each failure up to 15 min, not before Retry-After.

    ``jitter`` in [0, 1) spreads the tries of many over a tenth of what is added to the interval.
    """
    longest = min(interval * 2.0 ** min(failures, 10), max(interval, LONGEST_WAIT))
    wait = longest - (longest - interval) * jitter / 10
    return max(wait, timedelta(seconds=retry_after)) if retry_after else wait
