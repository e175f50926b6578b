# SPDX-License-Identifier: Apache-2.0
"""Which entries are to be rendered or erased, and as which revision. Pure."""

from collections.abc import Iterable, Mapping

from msgspec import Struct

from syncd.model import Entry, EntryInputs, Link, Profile
from syncd.plan.links import LinkKey, Origin, link_key


def inputs_of(event: str, origin: Origin, links: Mapping[LinkKey, Link], profile: Profile) -> EntryInputs:
    """All that an entry is rendered from besides its profile."""
    found = ((way.key, links.get(link_key(way, event, origin, profile))) for way in profile.ways_in)
    codes = {key: link.code for key, link in found if link and link.code}
    return EntryInputs(origin.account, origin.digest, codes)


class Render(Struct, frozen=True):
    """Render an entry that is missing or was rendered from something else."""

    event: str
    inputs: EntryInputs


class Erase(Struct, frozen=True):
    """Erase an entry whose meeting is gone. Calendars and feeds let it go later (see ``plan.deletions``)."""

    event: str


def entry_changes(
    origins: Mapping[str, Origin],
    links: Mapping[LinkKey, Link],
    entries: Mapping[str, Entry],
    profile: Profile,
) -> list[Render | Erase]:
    """Compare a profile's entries with its meetings (``origins``) and links."""
    changes: list[Render | Erase] = []
    for event, origin in origins.items():
        inputs = inputs_of(event, origin, links, profile)
        if event not in entries or entries[event].inputs != inputs:
            changes.append(Render(event, inputs))
    changes += [Erase(event) for event, entry in entries.items() if event not in origins and entry.inputs]
    return changes


def revision_of(digest: str, versions: Iterable[tuple[int, str]]) -> int:
    """The SEQUENCE of a content: that of the latest of ``versions`` if it has the same digest, else one above all.

    ``versions`` are the (revision, digest) that the event has had. Never lower than one that was used: SOGo answers
    403 to a lower SEQUENCE.
    """
    used = list(versions)
    top, latest = max(used, default=(-1, ""))
    return top if latest == digest and used else top + 1
