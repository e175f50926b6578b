# SPDX-License-Identifier: Apache-2.0
"""The addresses of rooms and links, as text. Pure.

Nothing may ever open them: a GET of a link may use it up, or let a stranger in under somebody's name.
"""

from collections.abc import Mapping

from syncd.model import Addresses, Link, Meeting, Profile, WaysIn
from syncd.plan.links import OPENTALK, LinkKey, Origin, link_key


def room_address(url: str, room: str) -> str:
    """Where registered users enter an OpenTalk room."""
    return OPENTALK.members.format(url=url, room=room)


def guest_address(url: str, room: str, code: str) -> str:
    """Where guests enter an OpenTalk room."""
    return OPENTALK.address.format(url=url, room=room, code=code)


def ways_in(meeting: Meeting, origin: Origin, profile: Profile, links: Mapping[LinkKey, Link]) -> WaysIn:
    """The addresses that a profile's readers get for a meeting, by the key of each way."""
    found = {}
    for way in profile.ways_in:
        fields = {
            "url": profile.makers[way.maker] if way.maker else profile.urls[profile.accounts.index(origin.account)],
            "room": meeting.room,
            "language": way.languages.get(profile.language, profile.language),
        }
        link = links.get(link_key(way, meeting.id, origin, profile))
        found[way.key] = Addresses(
            link=way.address.format(code=link.code, **fields) if link and link.code else None,
            members=way.members.format(**fields) if way.members else None,
        )
    return found
