# SPDX-License-Identifier: Apache-2.0
"""Which links are lacking, nearest meeting first. Pure."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from msgspec import Struct
from msgspec.structs import replace

from syncd.model import GUEST, Link, LinkKind, Profile, digest_of
from syncd.plan.timing import is_over

ASK_AGAIN = timedelta(days=1)


class Origin(Struct, frozen=True, gc=False):
    """Where an entry comes from: the first account of a profile that has the meeting, and all of them."""

    account: str
    accounts: tuple[str, ...]
    digest: str
    start: datetime
    end: datetime | None
    room: str
    own: bool


class MissingLink(Struct, frozen=True):
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


def hash_key(event: str, source: Origin, profile: Profile) -> LinkKey:
    """The key of the OpenMeetings hash by which a profile's readers enter."""
    own = profile.audience == "owner" and profile.moderator
    return ("hash", event, source.account if own else GUEST)


def once_each(wishes: Iterable[MissingLink]) -> list[MissingLink]:
    """Each link once, nearest meeting first; whoever may have it is asked, in the order of the first wish for it."""
    found: dict[LinkKey, MissingLink] = {}
    for wish in wishes:
        key = (wish.kind, wish.event, wish.whose)
        first = found.get(key, wish)
        accounts = tuple(dict.fromkeys((*first.accounts, *wish.accounts)))
        found[key] = replace(first, accounts=accounts, start=min(first.start, wish.start))
    return sorted(found.values(), key=_by_start)


def _by_start(wish: MissingLink) -> datetime:
    return wish.start


def missing_links(
    sources: Mapping[str, Origin], links: Mapping[LinkKey, Link], profile: Profile, now: datetime
) -> list[MissingLink]:
    """The links that a profile's coming meetings lack, nearest meeting first.

    Meetings that are over get none. A link that could not be had is asked for again after a day.
    """
    lacking: list[MissingLink] = []
    for event, source in sources.items():
        if source.end is not None and source.end < now:
            continue
        for mint in _mints(event, source, profile, max(source.start, now)):
            link = links.get((mint.kind, event, mint.whose))
            known = link is not None and link.depends == mint.depends
            if not known or (link and link.code is None and is_over(link.at, ASK_AGAIN, now)):
                lacking.append(mint)
    return sorted(lacking, key=_by_start)


def _mints(event: str, source: Origin, profile: Profile, start: datetime) -> Iterable[MissingLink]:
    if "opentalk" in profile.ways_in:
        yield MissingLink(*invite_key(event), source.accounts, digest_of(source.room), start)
    if "openmeetings" in profile.ways_in:
        key = hash_key(event, source, profile)
        moderator = source.own and key[2] != GUEST
        yield MissingLink(*key, (source.account,), digest_of(profile.openmeetings, moderator), start, moderator)
