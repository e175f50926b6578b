# SPDX-License-Identifier: Apache-2.0
"""The ways into meetings, all in one table, and which of their links are lacking, nearest meeting first. Pure.

Another conference server is a row of ``WAYS`` besides its package, its table in ``config`` and its wiring in ``jobs``:
everything else goes by the rows of the configuration and of profiles.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

from syncd.model import GUEST, Link, Profile, Way, digest_of
from syncd.plan.timing import link_due

OPENTALK = Way(
    key="opentalk",
    label="OpenTalk",
    kind="invite",
    link="guest link",
    links="invites",
    maker=None,
    address="{url}/room/{room}?invite={code}",  # the web app's canonical form since 2.0
    members="{url}/room/{room}",
)
OPENMEETINGS = Way(
    key="openmeetings",
    label="OpenMeetings",
    kind="hash",
    link="OpenMeetings link",
    links="hashes",
    maker="openmeetings",
    address="{url}/hash?secure={code}&language={language}",
    personal=True,
    moderates=True,
    languages={"en": "1", "de": "2"},  # its numbers for the languages that we speak (its languages.xml)
)
WAYS = (OPENTALK, OPENMEETINGS)
"""All ways in, in the order in which entries show them where the configuration names no other."""


class Origin(Struct, frozen=True, gc=False):
    """Where an entry comes from: the first account of a profile that has the meeting, and all of them."""

    account: str
    accounts: tuple[str, ...]
    digest: str
    start: datetime
    end: datetime | None
    room: str
    own: bool


LinkKey = tuple[str, str, str]
"""Kind, event and whose."""


class MissingLink(Struct, frozen=True):
    """A link that a meeting lacks from ``start`` on: ``accounts`` may be asked for it in this order."""

    way: Way
    event: str
    whose: str
    accounts: tuple[str, ...]
    depends: str
    start: datetime
    moderator: bool = False

    @property
    def key(self) -> LinkKey:
        """The key that the link will have."""
        return (self.way.kind, self.event, self.whose)


def link_key(way: Way, event: str, origin: Origin, profile: Profile) -> LinkKey:
    """The key of the link by which a profile's readers enter."""
    own = way.personal and profile.audience == "owner" and profile.moderator
    return (way.kind, event, origin.account if own else GUEST)


def once_each(links: Iterable[MissingLink]) -> list[MissingLink]:
    """Each link once, nearest meeting first. Those of one key become one, with the accounts of all, in their order."""
    found: dict[LinkKey, MissingLink] = {}
    for link in links:
        first = found.get(link.key, link)
        accounts = tuple(dict.fromkeys((*first.accounts, *link.accounts)))
        found[link.key] = replace(first, accounts=accounts, start=min(first.start, link.start))
    return sorted(found.values(), key=_by_start)


def _by_start(link: MissingLink) -> datetime:
    return link.start


def missing_links(
    origins: Mapping[str, Origin], links: Mapping[LinkKey, Link], profile: Profile, now: datetime
) -> list[MissingLink]:
    """The links that a profile's coming meetings lack, nearest meeting first.

    Meetings that are over get none. A link that could not be had is requested again after a day.
    """
    missing: list[MissingLink] = []
    for event, origin in origins.items():
        if origin.end is not None and origin.end < now:
            continue
        for needed in _needed_links(event, origin, profile, max(origin.start, now)):
            link = links.get(needed.key)
            if link is None or link.depends != needed.depends or link_due(link, now):
                missing.append(needed)
    return sorted(missing, key=_by_start)


def _needed_links(event: str, origin: Origin, profile: Profile, start: datetime) -> Iterable[MissingLink]:
    """The links with which the readers of a profile enter a meeting, whether they exist or not."""
    for way in profile.ways_in:
        _, _, whose = link_key(way, event, origin, profile)
        if way.maker is None:
            yield MissingLink(way, event, whose, origin.accounts, digest_of(origin.room), start)
        else:
            moderator = way.moderates and origin.own and whose != GUEST
            depends = digest_of(profile.makers[way.maker], moderator)
            yield MissingLink(way, event, whose, (origin.account,), depends, start, moderator)
