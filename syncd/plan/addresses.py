# SPDX-License-Identifier: Apache-2.0
"""The addresses of rooms, guest invites and entry hashes: pure text, nothing is ever fetched here.

A GET of an entry hash consumes it, or lets a stranger in under somebody's name: nothing may open them.
"""

from collections.abc import Mapping

from syncd.model import Link, Meeting, Profile, WaysIn
from syncd.plan.links import LinkKey, Origin, hash_key, invite_key

LANGUAGES = {"en": 1, "de": 2}
"""OpenMeetings' numbers of the languages that we speak (its languages.xml)."""


def room_address(url: str, room: str) -> str:
    """Where registered users enter an OpenTalk room."""
    return f"{url}/room/{room}"


def guest_address(url: str, room: str, code: str) -> str:
    """Where guests enter an OpenTalk room; the web app's canonical form since 2.0."""
    return f"{url}/room/{room}?invite={code}"


def entry_address(public_url: str, code: str, language: str) -> str:
    """Where the holder of an OpenMeetings hash enters."""
    return f"{public_url}/hash?secure={code}&language={LANGUAGES[language]}"


def ways_in(meeting: Meeting, source: Origin, profile: Profile, links: Mapping[LinkKey, Link]) -> WaysIn:
    """The addresses that a profile's readers get for a meeting."""
    url = profile.urls[profile.accounts.index(source.account)]
    invite = links.get(invite_key(meeting.id))
    entry_hash = links.get(hash_key(meeting.id, source, profile))
    guest = openmeetings = None
    if invite and invite.code and "opentalk" in profile.ways_in:
        guest = guest_address(url, meeting.room, invite.code)
    if entry_hash and entry_hash.code and profile.openmeetings and "openmeetings" in profile.ways_in:
        openmeetings = entry_address(profile.openmeetings, entry_hash.code, profile.language)
    return WaysIn(room_address(url, meeting.room), guest, openmeetings)
