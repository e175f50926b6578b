# SPDX-License-Identifier: Apache-2.0
"""What people read and click in an entry: the ways in, in their order, and the text around them.

Here it is decided what guests may see. No time and no date is in it.
"""

import re
from collections.abc import Iterator

from msgspec import Struct

from syncd.ical.lines import address, clean, one_line, shorten
from syncd.ical.words import Words, words
from syncd.model import Addresses, CallIn, Meeting, Profile, SharedFolder, Way, WaysIn

LIMIT = 16_000
"""Octets of a DESCRIPTION: servers cap a whole object, Stalwart at 512 kB for all overrides of a series."""


class Call(Struct, frozen=True):
    """Something to click: RFC 7986 features, a label and the address."""

    features: str
    label: str
    address: str


def calls(meeting: Meeting, ways: WaysIn, profile: Profile) -> list[Call]:
    """The ways in, the Join link first; a link that is not there, or is no link, is left out."""
    found = ((way, _link(way, ways, profile)) for way in profile.ways_in)
    result = [Call("AUDIO,VIDEO", way.label, link) for way, link in found if link]
    dial = _dial(meeting.call_in) if _shows_room(profile) else None
    if dial:
        result.append(Call("PHONE", words(profile.language).phone, dial))
    return result


def _link(way: Way, ways: WaysIn, profile: Profile) -> str | None:
    """The address of one way for the readers of an entry; owners get the members' one if there is one."""
    found = ways.get(way.key, Addresses())
    first, second = (found.members, found.link) if profile.audience == "owner" else (found.link, found.members)
    return address(first or second)


def _guest_link(way: Way, ways: WaysIn, profile: Profile) -> str | None:
    """The link that owners, who enter without it, may pass on to guests."""
    found = ways.get(way.key)
    return address(found.link) if found and found.members and profile.audience == "owner" else None


def _shows_room(profile: Profile) -> bool:
    """Whether people enter the meeting's own room, which has a password and a dial-in."""
    return any(way.maker is None for way in profile.ways_in)


def _dial(call_in: CallIn | None) -> str | None:
    """A number to tap. The conference id and the PIN stand in the text alone.

    RFC 7986, 5.11 would append them with pauses, but Radicale cuts such a value at its first comma.
    """
    number = re.sub(r"[^0-9+]", "", call_in.tel) if call_in else ""
    return f"tel:{number}" if re.fullmatch(r"\+?[0-9]{3,}", number) else None


def describe(text: str, meeting: Meeting, ways: WaysIn, profile: Profile) -> str:
    """The DESCRIPTION of the meeting or, with its own ``text``, of one occurrence.

    The Join link stands alone on the first line, because that is all that some programs find. A text that
    is too long is cut, never the lines about how to get in.
    """
    say = words(profile.language)
    head = "\n".join(_head(meeting, ways, profile, say))
    by = one_line(meeting.creator) if profile.audience == "owner" else ""
    tail = f"{say.invited_by} {by}" if by else ""
    room = LIMIT - len(head.encode()) - len(tail.encode()) - 4
    return "\n\n".join(part for part in (head, shorten(clean(text).strip(), room), tail) if part)


def _head(meeting: Meeting, ways: WaysIn, profile: Profile, say: Words) -> list[str]:
    lines = list(_links(ways, profile, say))
    if _shows_room(profile):
        if meeting.call_in and one_line(meeting.call_in.tel):
            lines.append(_phone(meeting.call_in, profile, say))
        if profile.passwords and meeting.password:
            lines.append(f"{say.password}: {one_line(meeting.password)}")
    if profile.audience == "owner" and meeting.shared_folder:
        lines += _folder(meeting.shared_folder, profile, say)
    return lines


def _folder(folder: SharedFolder, profile: Profile, say: Words) -> list[str]:
    if not address(folder.url):
        return []
    shows_password = profile.passwords and folder.password
    password = [f"{say.folder_password}: {one_line(folder.password)}"] if shows_password else []
    return [f"{say.folder}: {folder.url}", *password]


def _links(ways: WaysIn, profile: Profile, say: Words) -> Iterator[str]:
    """The lines of the links, the Join link alone on its line."""
    joined = False
    for way in profile.ways_in:
        if link := _link(way, ways, profile):
            yield f"{way.label}: {link}" if joined else link
            joined = True
        if guest := _guest_link(way, ways, profile):
            yield f"{say.guests}: {guest}"


def _phone(call_in: CallIn, profile: Profile, say: Words) -> str:
    parts = [f"{say.phone}: {one_line(call_in.tel)}"]
    if call_in.id:
        parts.append(f"{say.conference_id} {one_line(call_in.id)}")
    if profile.passwords and call_in.pin:
        parts.append(f"PIN {one_line(call_in.pin)}")
    return " · ".join(parts)
