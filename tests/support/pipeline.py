# SPDX-License-Identifier: Apache-2.0
"""The four steps of a sync by hand: one account, one OpenMeetings and one calendar in memory."""

from datetime import datetime, timedelta
from pathlib import Path

from msgspec.structs import replace

from syncd.ledger.ledger import Ledger
from syncd.model import Meeting, Run
from syncd.sync.mint import mint
from syncd.sync.ports import Progress
from syncd.sync.pull import ListingSettings, pull
from syncd.sync.push import push
from syncd.sync.render import Rendering, render_entries
from syncd.sync.write import Target
from tests.support.golden_meetings import OWNER
from tests.support.meetings import DAY, NOW
from tests.support.memory_servers import MemoryCalendar, MemoryLinkMaker, MemorySource

LISTING = ListingSettings(past=30 * DAY, ahead=365 * DAY)


class Pipeline:
    """A ledger, an account, an OpenMeetings and a calendar; ``pull``, ``mint``, ``render`` and ``push`` are the steps.

    ``writes`` are the changes of the calendar as (what, event); ``keep`` and ``restore`` are what to do with edits and
    deletions by its user."""

    def __init__(self, *meetings: Meeting, folder: Path | None = None) -> None:
        self.now = NOW
        self.tick = timedelta(0)
        self.progress: Progress = silent
        self.ledger: Ledger = Ledger.open(folder) if folder else Ledger.in_memory()
        self.source = MemorySource(*meetings)
        self.link_maker = MemoryLinkMaker()
        self.calendar = MemoryCalendar()
        self.writes: list[tuple[str, str]] = []
        self.keep = self.restore = False
        self.workers = 1
        self.profile = replace(OWNER, language="en", installation="0123", versions=("1",))

    def change(self, event: str, **fields: object) -> None:
        self.source.meetings[event] = replace(self.source.meetings[event], **fields)

    def pull(self) -> Run:
        return pull("work", self.source, self.ledger, LISTING, self.now)

    def mint(self) -> list[Run]:
        makers = {"openmeetings": self.link_maker}
        return mint([self.profile], {"work": self.source}, makers, self.ledger, self.clock, silent)

    def clock(self) -> datetime:
        """Now; every look at the clock moves it by ``tick``."""
        self.now += self.tick
        return self.now

    def render(self) -> Rendering:
        return render_entries(self.ledger, self.profile, self.now, silent)

    def push(self, calendar: MemoryCalendar | None = None) -> Run:
        name = calendar.name if calendar else "team"
        target = Target(
            name, calendar or self.calendar, self.profile, self.ledger, self.now, keep=self.keep, restore=self.restore
        )
        run = push(target, LISTING.window(self.now), self.progress, self._told, workers=self.workers)
        self.ledger.history.save(run)
        return run

    def _told(self, word: str, event: str) -> None:
        self.writes.append((word, event))

    def sync(self) -> Run:
        """Each step once; returns the run of the push."""
        self.pull()
        self.mint()
        return self.push()

    def entries(self) -> dict[str, bytes]:
        """The objects in the calendar, by event."""
        return {
            href.removeprefix("syncd-").removesuffix(".ics"): found.body
            for href, found in self.calendar.objects.items()
        }


def silent(_name: str, _done: int, _total: int) -> None:
    return
