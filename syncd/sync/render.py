# SPDX-License-Identifier: Apache-2.0
"""Makes entries of meetings and of the links that ``mint`` makes; ``push`` puts them into calendars."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from msgspec import Struct

from syncd.errors import BadEvent
from syncd.ical.render import render, with_revision
from syncd.model import Entry, Link, Profile
from syncd.plan.addresses import ways_in
from syncd.plan.entries import Erase, Render, entry_changes, revision_of
from syncd.plan.links import LinkKey, Origin
from syncd.sync.ports import Ledger, Progress

BATCH = 200
"""Entries that are rendered between two transactions."""


class Rendering(Struct, frozen=True):
    """What rendering did: how many entries it made or erased, and what it could not render."""

    changed: int
    problems: tuple[str, ...]


def summary(problems: Sequence[str]) -> str | None:
    """The first problems in one line, which is what a run has room for; ``None`` without any."""
    return "; ".join(problems[:3]) or None


def render_entries(ledger: Ledger, profile: Profile, now: datetime, progress: Progress) -> Rendering:
    """Make a profile's entries agree with its meetings and links.

    An entry that cannot be rendered any more stays as it was.
    """
    sources, links = ledger.sources(profile.accounts), ledger.links(profile.accounts)
    changes = entry_changes(sources, links, ledger.entries(profile.key), profile)
    problems: list[str] = []
    for first in range(0, len(changes), BATCH):
        rendered: list[tuple[Entry, bytes]] = []
        for change in changes[first : first + BATCH]:
            if isinstance(change, Render):
                try:
                    rendered.append(_render_one(ledger, profile, change, sources[change.event], links))
                except BadEvent as error:
                    problems.append(str(error))
        erased = [change.event for change in changes[first : first + BATCH] if isinstance(change, Erase)]
        ledger.save_entries(profile.key, rendered, erased, now)
        progress("entries", first + len(rendered), len(changes))
    return Rendering(len(changes) - len(problems), tuple(problems))


def _render_one(
    ledger: Ledger,
    profile: Profile,
    change: Render,
    source: Origin,
    links: Mapping[LinkKey, Link],
) -> tuple[Entry, bytes]:
    meeting = ledger.meeting(source.account, change.event)
    if meeting is None:
        raise BadEvent(change.event, "it left the ledger while it was rendered; it is looked at again")
    drawn = render(meeting, ways_in(meeting, source, profile, links), profile, 0)
    digest = drawn.digest if drawn else ""
    revision = revision_of(digest, ledger.versions(change.event))
    entry = Entry(change.event, change.inputs, digest, revision, source.start, source.end)
    return entry, with_revision(drawn.body, revision) if drawn else b""
