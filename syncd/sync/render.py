# SPDX-License-Identifier: Apache-2.0
"""Renders entries from meetings and their links; ``plan.entries`` decides which. ``push`` puts them into calendars."""

from collections.abc import Iterable, Mapping, Sequence, Set
from datetime import datetime

from msgspec import Struct

from syncd.errors import BadEvent
from syncd.ical.render import render, with_revision
from syncd.model import Entry, Link, Meeting, Profile
from syncd.plan.addresses import ways_in
from syncd.plan.entries import Erase, Render, entry_changes, revision_of
from syncd.plan.links import LinkKey, Origin
from syncd.sync.ports import Progress, RenderLedger

BATCH = 200
"""Entries that are rendered, then saved in one transaction."""


class Rendering(Struct, frozen=True):
    """What rendering did to a profile: how many entries it ``changed``, and what it could not render.

    ``entries`` are all entries of the profile afterwards, by event; ``present`` are the events of its meetings.
    """

    changed: int
    problems: tuple[str, ...]
    entries: Mapping[str, Entry]
    present: Set[str]


def summary(problems: Sequence[str]) -> str | None:
    """The first three problems in one line, the message of a run; ``None`` without any."""
    return "; ".join(problems[:3]) or None


def render_entries(ledger: RenderLedger, profile: Profile, now: datetime, progress: Progress) -> Rendering:
    """Make a profile's entries agree with its meetings and links.

    An entry that cannot be rendered any more stays as it was.
    """
    origins, links = ledger.meetings.origins(profile.accounts), ledger.links.of(profile.accounts)
    entries = ledger.entries.of(profile.key)
    changes = entry_changes(origins, links, entries, profile)
    problems: list[str] = []
    for first in range(0, len(changes), BATCH):
        rendered: list[tuple[Entry, bytes]] = []
        for change in changes[first : first + BATCH]:
            if isinstance(change, Render):
                origin = origins[change.event]
                meeting = ledger.meetings.get(origin.account, change.event)
                versions = ledger.entries.versions(change.event)
                try:
                    rendered.append(render_one(change, meeting, origin, links, versions, profile))
                except BadEvent as error:
                    problems.append(str(error))
        erasures = [change.event for change in changes[first : first + BATCH] if isinstance(change, Erase)]
        ledger.entries.save(profile.key, rendered, erasures, now)
        progress("entries", first + len(rendered), len(changes))
    entries = ledger.entries.of(profile.key) if changes else entries
    return Rendering(len(changes) - len(problems), tuple(problems), entries, origins.keys())


def render_one(
    change: Render,
    meeting: Meeting | None,
    origin: Origin,
    links: Mapping[LinkKey, Link],
    versions: Iterable[tuple[int, str]],
    profile: Profile,
) -> tuple[Entry, bytes]:
    """Render an entry, with its iCalendar bytes (empty where every occurrence is cancelled). Pure.

    ``versions`` are the (revision, digest) that the event has had. Raises BadEvent if it cannot be rendered.
    """
    if meeting is None:
        raise BadEvent(change.event, "it left the ledger while it was rendered; it is looked at again")
    content = render(meeting, ways_in(meeting, origin, profile, links), profile, 0)
    digest = content.digest if content else ""
    revision = revision_of(digest, versions)
    entry = Entry(change.event, change.inputs, digest, revision, origin.start, origin.end)
    return entry, with_revision(content.body, revision) if content else b""
