# SPDX-License-Identifier: Apache-2.0
"""Which entries are to be rendered or erased, and as which revision. Pure."""

from collections.abc import Iterable, Mapping

from msgspec import Struct

from syncd.model import Entry, EntryInputs, Link, Profile
from syncd.plan.links import LinkKey, Origin, link_key


def inputs_of(event: str, source: Origin, links: Mapping[LinkKey, Link], profile: Profile) -> EntryInputs:
    """All that an entry is rendered from besides its profile."""
    found = ((way.key, links.get(link_key(way, event, source, profile))) for way in profile.ways_in)
    codes = {key: link.code for key, link in found if link and link.code}
    return EntryInputs(source.account, source.digest, codes)


class Render(Struct, frozen=True):
    """An entry is missing or was made from something else."""

    event: str
    inputs: EntryInputs


class Erase(Struct, frozen=True):
    """An entry has no meeting any more."""

    event: str


def entry_changes(
    sources: Mapping[str, Origin],
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
