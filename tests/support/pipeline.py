# SPDX-License-Identifier: Apache-2.0
"""An OpenTalk account and an OpenMeetings in memory, and a small house around them."""

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from msgspec.structs import replace

from syncd.errors import SyncdError
from syncd.ledger.ledger import Ledger, Rehearsal
from syncd.model import Identity, Invite, Meeting, Profile, Run, Snapshot, Visitor, When, Window, overlaps
from syncd.plan.links import WAYS
from syncd.plan.pull import Keep, known_as
from syncd.sync.mint import mint
from syncd.sync.ports import Progress
from syncd.sync.pull import ListingSettings, pull
from syncd.sync.push import push
from syncd.sync.render import Rendering, render_entries
from syncd.sync.write import Target
from tests.support.memory_servers import MemoryCalendar

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
LISTING = ListingSettings(past=30 * DAY, ahead=365 * DAY)


def meeting(event: str = "e1", day: float = 1, **fields: object) -> Meeting:
    start = NOW + timedelta(days=day)
    told: dict[str, object] = {
        "id": event,
        "title": f"Meeting {event}",
        "description": "Agenda",
        "start": When(start, "Europe/Berlin"),
        "end": When(start + HOUR, "Europe/Berlin"),
        "room": f"room-{event}",
        "own": True,
        "creator": "Alice Adams",
        "created": NOW - 5 * DAY,
        "updated": NOW - 5 * DAY,
    }
    return Meeting(**(told | fields))  # type: ignore[arg-type]


class MemorySource:
    """An account whose ``meetings`` tests edit; ``asked`` counts its requests, ``broken`` names a failing one."""

    def __init__(self, *meetings: Meeting) -> None:
        self.meetings = {each.id: each for each in meetings}
        self.unreadable: dict[str, str] = {}
        self.invites: dict[str, str] = {}
        self.asked: Counter[str] = Counter()
        self.broken: dict[str, SyncdError] = {}
        self.person = Identity("https://id.example.org", "alice", "u1", "Alice", "Adams")

    def _ask(self, what: str) -> None:
        self.asked[what] += 1
        if what in self.broken:
            raise self.broken[what]

    def identity(self) -> Identity:
        return self.person

    def snapshot(self, window: Window | None, have: Mapping[str, str] = {}) -> Snapshot:  # noqa: ARG002
        self._ask("snapshot" if window else "full snapshot")
        listed = {
            event: each
            for event, each in self.meetings.items()
            if event not in self.unreadable and (window is None or self._listed(each, window))
        }
        return Snapshot(listed, window, self.unreadable)

    def _listed(self, each: Meeting, window: Window) -> bool:
        known = known_as(each)
        return known.start is not None and overlaps(known.start, known.end, window)

    def event(self, event_id: str) -> Meeting | None:
        self._ask("event")
        return self.meetings.get(event_id)

    def find_invite(self, meeting: Meeting) -> Invite | None:
        code = self.invites.get(meeting.id)
        return Invite(code, made=False) if code else None

    def invite(self, meeting: Meeting) -> Invite | None:
        self._ask("invite")
        if meeting.id not in self.invites:
            if not meeting.own or meeting.e2e:
                return None
            self.invites[meeting.id] = f"code-{meeting.id}"
            return Invite(self.invites[meeting.id], made=True)
        return self.find_invite(meeting)


class MemoryMinter:
    """An OpenMeetings that notes whom it made a hash for."""

    def __init__(self) -> None:
        self.made: list[tuple[str, Visitor]] = []
        self.broken: SyncdError | None = None

    def hash(self, event: str, name: str, visitor: Visitor) -> str:  # noqa: ARG002
        if self.broken:
            raise self.broken
        self.made.append((event, visitor))
        return f"hash-{len(self.made)}"

    def check(self) -> None:
        return


class House:
    """A ledger, an account, an OpenMeetings and a calendar; each method is a job of ``syncd``."""

    def __init__(self, *meetings: Meeting, folder: Path | None = None) -> None:
        self.now = NOW
        self.tick = timedelta(0)
        self.progress: Progress = silent
        self.ledger: Ledger = Ledger(folder) if folder else Rehearsal(Path("memory"))
        self.source = MemorySource(*meetings)
        self.minter = MemoryMinter()
        self.calendar = MemoryCalendar()
        self.writes: list[tuple[str, str]] = []
        self.keep = self.restore = False
        self.profile = Profile(
            accounts=("work",),
            urls=("https://meet.example.org",),
            makers={"openmeetings": "https://om.example.org/openmeetings"},
            audience="owner",
            passwords=True,
            ways_in=WAYS,
            language="en",
            installation="0123",
            versions=("1",),
        )

    def change(self, event: str, **fields: object) -> None:
        self.source.meetings[event] = replace(self.source.meetings[event], **fields)

    def pull(self) -> Run:
        return pull("work", self.source, self.ledger, LISTING, self.now)

    def mint(self) -> list[Run]:
        return mint([self.profile], {"work": self.source}, self.minter, self.ledger, self.clock, silent)

    def clock(self) -> datetime:
        """Now; every look at the clock moves it by ``tick``."""
        self.now += self.tick
        return self.now

    def as_kept(self) -> list[Keep]:
        """The source's meetings as a pull would keep them."""
        return [Keep(each, known_as(each)) for each in self.source.meetings.values()]

    def render(self) -> Rendering:
        return render_entries(self.ledger, self.profile, self.now, silent)

    def push(self, calendar: MemoryCalendar | None = None) -> Run:
        name = calendar.name if calendar else "team"
        target = Target(
            name, calendar or self.calendar, self.profile, self.ledger, self.now, keep=self.keep, restore=self.restore
        )
        run = push(target, LISTING.window(self.now), self.progress, self._told, workers=1)
        self.ledger.save_run(run)
        return run

    def _told(self, word: str, event: str) -> None:
        self.writes.append((word, event))

    def sync(self) -> Run:
        """Everything once; returns the push."""
        self.pull()
        self.mint()
        return self.push()

    def shown(self) -> dict[str, bytes]:
        """What lies in the calendar, by event."""
        return {
            href.removeprefix("syncd-").removesuffix(".ics"): found.body
            for href, found in self.calendar.objects.items()
        }


def silent(_name: str, _done: int, _total: int) -> None:
    return
