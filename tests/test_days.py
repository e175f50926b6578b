# SPDX-License-Identifier: Apache-2.0
"""A month of a daemon that nobody looks after, among people who change their minds and servers that fail."""

import random
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import replace

from syncd.config import Config
from syncd.daemon.process import TICK
from syncd.errors import BadAnswer, Unavailable
from syncd.model import CallIn, Feed, Meeting, Override, Placement, Visitor, When
from syncd.plan.timing import FIRST_HOUSEKEEPING, FULL_LISTING, HOUSEKEEPING_EVERY, LONGEST_WAIT
from tests.support.calendar_objects import uid_of
from tests.support.configuration import configure
from tests.support.entry_text import Links, Readers, assert_says, codes_made, link_codes
from tests.support.meetings import DAY, HOUR, meeting
from tests.support.occurrences import is_endless, last_end, occurrences, occurrences_in
from tests.support.simulated_daemon import Clocks, SimulatedDaemon, healthy

START = datetime(2026, 10, 19, 5, tzinfo=UTC)  # Berlin puts its clocks back on the 25th, New York on 1 November
ZONES = ("Europe/Berlin", "America/New_York", "Asia/Kolkata", "Pacific/Auckland")
MINUTE = timedelta(minutes=1)
PAST = 30 * DAY
AWAY, DEAD = 4, (8, 9)
"""The day on which a calendar server is away, and two whole ones on which OpenMeetings is dead."""

FAR = 55
"""Weeks to an exception of a series without an end that is beyond what is listed of it, which is a year."""

SHOWN = 450 * DAY
OWNER, GUESTS, PHONE = Readers(True, True), Readers(False, False), Readers(True, False)
EVER, NEVER = START - 1000 * DAY, START + 1000 * DAY
RINGS = 12
"""What no bell does more often in an hour, whatever happens."""

SET_BACK = 3 * HOUR
"""By how much the clock is set back on one day."""

MORE = 10
"""Requests of a day beyond those of the timers: what failed is asked again, and so is what waited for its host."""

ACCOUNTS = dict.fromkeys(("alice", "bob", "carol"), 'every = "1h"\nsoon_every = "30m"')
CALENDARS = {
    "own": 'accounts = ["alice"]\non_delete = "restore"\naudit = "2h"',
    "team": 'accounts = ["alice", "bob", "carol"]\naudit = "4h"',
}


class People:
    """People who at random make, change and drop meetings and edit their calendars."""

    def __init__(self, simulated: SimulatedDaemon, chance: random.Random) -> None:
        self._simulated = simulated
        self._chance = chance
        self._made = 0
        self.theirs: dict[tuple[str, str], bytes] = {}
        for account in simulated.accounts.values():
            account.meetings = {each.id: each for each in (self._meeting() for _ in range(6))}
        shared = self._meeting()
        for name in ("alice", "bob"):
            simulated.accounts[name].meetings[shared.id] = replace(shared, own=name == "bob")

    def _start(self, zone: str) -> datetime:
        day = self._simulated.clocks.now.astimezone(ZoneInfo(zone)).date() + timedelta(days=self._chance.randint(0, 40))
        clock = datetime(day.year, day.month, day.day, self._chance.randint(0, 23), tzinfo=ZoneInfo(zone))
        return clock.astimezone(UTC)

    def _meeting(self) -> Meeting:
        self._made += 1
        zone = self._chance.choice(ZONES)
        start = When(self._start(zone), zone)
        end = When(start.utc + HOUR, zone)
        kind = self._chance.choice(("single", "single", "all-day", "series", "endless"))
        if kind == "all-day":
            midnight = datetime.combine(start.utc.date(), datetime.min.time(), UTC)
            start = end = When(midnight, zone)
        rule = {"series": ("RRULE:FREQ=WEEKLY;COUNT=6",), "endless": ("RRULE:FREQ=WEEKLY",)}.get(kind, ())
        fields: dict[str, Any] = {"start": start, "end": end, "all_day": kind == "all-day", "recurrence": rule}
        fields |= self._chance.choice(({}, {"password": "geheim; 12,3", "call_in": CallIn("+49 30 123", "4567", "89")}))
        return meeting(f"e{self._made}", **fields)

    def changes_of_mind(self) -> None:
        """Each account: perhaps something new, something moved, something dropped."""
        for account in self._simulated.accounts.values():
            if self._chance.random() < 0.3:
                each = self._meeting()
                account.meetings[each.id] = each
            coming = [each for each in account.meetings.values() if self._is_coming(each)]
            for each in self._chance.sample(coming, min(2, len(coming))):
                account.meetings[each.id] = self._changed(each)
            if coming and self._chance.random() < 0.25:
                del account.meetings[self._chance.choice(coming).id]

    def _is_coming(self, each: Meeting) -> bool:
        return bool(each.recurrence) or (each.end is not None and each.end.utc > self._simulated.clocks.now)

    def _changed(self, each: Meeting) -> Meeting:
        assert each.start
        word = self._chance.choice(("title", "time", "occurrence", "cancelled", "description", "password"))
        if word == "time" and not each.all_day:
            start = When(self._start(each.start.zone), each.start.zone)
            return replace(each, start=start, end=When(start.utc + HOUR, start.zone), overrides=())
        if word in ("occurrence", "cancelled") and each.recurrence:
            weeks = FAR if is_endless(each) and self._chance.random() < 0.2 else self._chance.randint(1, 4)
            local = each.start.utc.astimezone(ZoneInfo(each.start.zone)) + timedelta(weeks=weeks)
            original = When(local.astimezone(UTC), each.start.zone)
            more = (
                {}
                if word == "cancelled"
                else {"title": f"Special {self._chance.random()}", "description": "Other\nthings"}
            )
            override = Override(original, cancelled=word == "cancelled", **more)  # type: ignore[arg-type]
            return replace(each, overrides=(*(o for o in each.overrides if o.original != original), override))
        if word in ("description", "password"):
            return replace(each, **{word: f"{word} {self._chance.random()}"})
        return replace(each, title=f"Meeting {self._chance.random()}")

    def meddle(self) -> None:
        """Somebody edits one entry, drops one, and adds one of their own."""
        for name, calendar in self._simulated.calendars.items():
            ours = sorted(self._simulated.entries(name))
            if ours and self._chance.random() < 0.4:
                edit(self._simulated, name, self._chance.choice(ours))
            ours = sorted(self._simulated.entries(name))
            if ours and self._chance.random() < 0.2:
                calendar.user_deletes(f"syncd-{self._chance.choice(ours)}.ics")
            if self._chance.random() < 0.2:
                href = f"theirs-{len(self.theirs)}.ics"
                self.theirs[name, href] = THEIRS.replace(b"number", str(len(self.theirs)).encode())
                calendar.user_puts(href, self.theirs[name, href])

    def stumble(self, server: str, _what: str) -> None:
        """One request in fifty fails."""
        if self._chance.random() < 0.02:
            wait = self._chance.choice((None, 90.0, 600.0))
            raise self._chance.choice(
                (Unavailable(f"{server} is in trouble (503)", wait), BadAnswer(f"{server} sent half an answer"))
            )

    def lose_answers(self) -> None:
        """Calendars do what they are asked, and the line breaks before they can tell."""
        for calendar in self._simulated.calendars.values():
            calendar.lose_answer(verb=self._chance.choice(("create", "update", "delete")))


THEIRS = b"\r\n".join(
    [b"BEGIN:VCALENDAR", b"VERSION:2.0", b"BEGIN:VEVENT", b"UID:theirs-number", b"END:VEVENT", b"END:VCALENDAR", b""]
)


def edit(simulated: SimulatedDaemon, calendar: str, event: str) -> None:
    """Somebody gives an entry another title, in a program that counts SEQUENCE up."""
    body = simulated.entries(calendar)[event]
    lines = [b"SUMMARY:Mine" if line.startswith(b"SUMMARY:") else line for line in body.split(b"\r\n")]
    simulated.calendars[calendar].user_puts(f"syncd-{event}.ics", b"\r\n".join(lines))


def without(*servers: str, then: Callable[[str, str], None]) -> Callable[[str, str], None]:
    def rule(server: str, what: str) -> None:
        if server in servers:
            raise Unavailable(f"{server} does not answer")
        then(server, what)

    return rule


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return configure(tmp_path, accounts=ACCOUNTS, calendars=CALENDARS)


@pytest.fixture(params=["a known month", "a new month"])
def chance(request: pytest.FixtureRequest) -> random.Random:
    seed = 1 if request.param == "a known month" else random.randrange(2**32)
    print("the seed of this month:", seed)  # noqa: T201 -- pytest shows it if the month went wrong
    return random.Random(seed)


def begin(day: int, simulated: SimulatedDaemon, people: People) -> None:
    """What happens to the machine and the servers at the beginning of this day."""
    simulated.network.rule = people.stumble
    if day == AWAY:
        simulated.network.rule = without("team", then=people.stumble)
    if 7 <= day < 10:
        simulated.network.rule = without("openmeetings", then=people.stumble)
    if day == 12:
        simulated.clocks.jump(8 * HOUR)
    if day in (14, 15):
        simulated.clocks.jump(SET_BACK if day == 14 else -SET_BACK)
    if day == 17:
        simulated.calendars["own"].expire_cursors()
    if day == 19:
        with simulated.locked():
            simulated.go(7 * MINUTE)


def live_through(simulated: SimulatedDaemon, chance: random.Random) -> People:
    """Thirty days; what happens to the machine and the servers, happens on days of its own."""
    people = People(simulated, chance)
    for day in range(30):
        begin(day, simulated, people)
        for _ in range(8):
            people.changes_of_mind() if chance.random() < 0.3 else people.meddle()
            if chance.random() < 0.1:
                people.lose_answers()
            simulated.go(3 * HOUR)
        confirm(simulated)
    return people


def confirm(simulated: SimulatedDaemon) -> None:
    """Confirm all deletions that are held, as a person does once a day."""
    for name in simulated.troubled():
        for hold in (name, f"feed/{name}"):
            simulated.ledger.deletions.confirm(hold)


def test_after_a_month_of_everything_the_calendars_are_what_the_accounts_have(
    config: Config, chance: random.Random
) -> None:
    feed = Feed("phone", "0" * 64, ("alice",), "owner", False, "phone", START)
    with SimulatedDaemon(config, Clocks(START)) as simulated:
        simulated.ledger.feeds.add(feed)
        people = live_through(simulated, chance)
        simulated.network.rule = healthy
        for calendar in simulated.calendars.values():
            calendar.forgive()
        simulated.go(DAY + HOUR)
        confirm(simulated)
        simulated.go(5 * HOUR)
        assert simulated.troubled() == set()
        for name, settings in config.calendars.items():
            assert_agrees(simulated, name, settings.accounts)
        for (name, href), body in people.theirs.items():
            assert simulated.calendars[name].objects[href].body == body
        assert_feed_agrees(simulated)
        assert_is_patient(simulated)
        before = {name: calendar.objects for name, calendar in simulated.calendars.items()}
        simulated.go(DAY)
        assert {name: calendar.objects for name, calendar in simulated.calendars.items()} == before


def test_what_people_do_in_a_calendar_is_repaired_or_respected_with_the_next_audit(config: Config) -> None:
    with SimulatedDaemon(config, Clocks(START)) as simulated:
        People(simulated, random.Random(3))
        simulated.go(HOUR)
        before = {name: simulated.entries(name) for name in config.calendars}
        for name in config.calendars:
            edited, dropped, *_ = sorted(before[name])
            edit(simulated, name, edited)
            simulated.calendars[name].user_deletes(f"syncd-{dropped}.ics")
        simulated.go(max(each.audit for each in config.calendars.values()))
        for name in config.calendars:
            edited, dropped, *_ = sorted(before[name])
            after = simulated.entries(name)
            assert title_of(after[edited]) == title_of(before[name][edited])
            assert (dropped in after) == (name == "own")
        (account,) = (
            each for each in simulated.accounts.values() if dropped in each.meetings and each.meetings[dropped].own
        )
        account.meetings[dropped] = replace(account.meetings[dropped], title="Changed")
        simulated.go(2 * HOUR)
        assert title_of(simulated.entries("team")[dropped]) == b"SUMMARY:Changed"
        assert simulated.troubled() == set()


def title_of(body: bytes) -> bytes:
    return next(line for line in body.split(b"\r\n") if line.startswith(b"SUMMARY:"))


REST = """
every = "6m"
soon_every = "2m"
"""


def test_a_day_at_rest_has_the_starts_of_its_timers_and_no_others(tmp_path: Path) -> None:
    config = configure(tmp_path, accounts={"work": REST}, calendars={"team": 'audit = "50m"'})
    account, calendar = config.accounts["work"], config.calendars["team"]
    with SimulatedDaemon(config, Clocks(START)) as simulated:
        simulated.accounts["work"].meetings = {f"e{day}": meeting(f"e{day}", day=day) for day in range(-35, 40)}
        simulated.ledger.feeds.add(Feed("phone", "0" * 64, ("work",), "owner", False, "phone", START))
        simulated.go(10 * MINUTE)
        simulated.scheduler.starts.clear()
        simulated.network.requests.clear()
        begun, looks = simulated.clocks.now, simulated.looks
        simulated.go(DAY)
        moments = {
            "pull work": every(account.soon_every, START, begun, simulated.clocks.now),
            "links all": every(FULL_LISTING, START, begun, simulated.clocks.now),
            "feeds all": sorted(
                2 * every(FULL_LISTING, START, begun, simulated.clocks.now)
            ),  # before the links and after
            "push team": [
                *every(FULL_LISTING, START, begun, simulated.clocks.now),
                *every(calendar.audit, START, begun, simulated.clocks.now),
            ],
            "housekeeping ledger": every(HOUSEKEEPING_EVERY, START + FIRST_HOUSEKEEPING, begun, simulated.clocks.now),
        }
        rung = {name: [ring.at for ring in simulated.scheduler.starts if ring.name == name] for name in moments}
        assert rung == {name: sorted(each) for name, each in moments.items()}
        assert len(simulated.scheduler.starts) == sum(map(len, moments.values()))
        kinds = {
            what: simulated.network.requests[0, "work", what] + simulated.network.requests[1, "work", what]
            for what in ("snapshot", "full snapshot")
        }
        assert kinds == {
            "full snapshot": len(moments["links all"]),
            "snapshot": len(moments["pull work"]) - len(moments["links all"]),
        }
        assert simulated.network.requests_to("team") == len(every(calendar.audit, START, begun, simulated.clocks.now))
        assert simulated.network.requests_to("openmeetings") == 0
        assert sorted(simulated.scheduler.jobs) == ["housekeeping ledger", "pull work", "push team"]
        assert simulated.looks - looks == DAY.total_seconds() / TICK


def test_an_event_that_the_next_days_lack_and_the_window_has_is_asked_for_once_between_two_windows(
    tmp_path: Path,
) -> None:
    """OpenTalk hides an event of a whole day for its last 24 hours from a listing that begins a day ago.

    A series of Auckland is hidden for 14: OpenTalk has its end 13 hours too early, and without the hour that it lasts.
    Each listing of the window has both again, so the next days are asked for them anew, at half past every hour. But
    for 5:30: at 5:00 everything is listed in place of the window, and that tells nothing of what time filters lack.
    """
    config = configure(tmp_path, accounts={"alice": 'every = "1h"\nsoon_every = "30m"'}, calendars={"team": ""})
    midnight = When(datetime(2026, 10, 20, tzinfo=UTC), "Europe/Berlin")
    noon = When(datetime(2026, 10, 19, 12, tzinfo=UTC), "Pacific/Auckland")
    end = When(noon.utc + HOUR, noon.zone)
    meetings = (
        meeting("day", start=midnight, end=midnight, all_day=True),
        meeting("series", start=noon, end=end, recurrence=("RRULE:FREQ=DAILY;COUNT=2",)),
        meeting("single", start=noon, end=end),
        meeting("endless", start=noon, end=end, recurrence=("RRULE:FREQ=DAILY",)),
    )
    with SimulatedDaemon(config, Clocks(START)) as simulated:
        account = simulated.accounts["alice"]
        account.meetings = {each.id: each for each in meetings}
        simulated.go(6 * DAY)
        assert account.hidden == {"day": 24 - 1, "series": 14 - 1}
        assert account.requests["event"] == 23 + 13


def every(interval: timedelta, first: datetime, after: datetime, until: datetime) -> list[datetime]:
    """The moments at which a timer of this interval starts."""
    found = [first + number * interval for number in range(int((until - first) / interval) + 1)]
    return [moment for moment in found if after < moment <= until]


def assert_is_noted(simulated: SimulatedDaemon, name: str, placed: Mapping[str, Placement]) -> None:
    shown, entries = simulated.entries(name), simulated.ledger.entries.of(simulated.daemon._jobs.profiles[name].key)
    assert shown.keys() == {event for event, place in placed.items() if place.state == "placed"}
    assert all(place.state in ("placed", "removed") for place in placed.values())
    for event, body in shown.items():
        place = placed[event]
        assert simulated.calendars[name].objects[place.href].etag == place.etag
        if event in entries:
            assert place.digest == entries[event].digest
            assert b"SUMMARY:Mine" not in body


def assert_agrees(simulated: SimulatedDaemon, name: str, accounts: tuple[str, ...]) -> None:
    """A calendar holds what the ledger has placed there, and that is what its accounts have."""
    now = simulated.clocks.now
    placed, shown, wanted = simulated.ledger.placements.of(name), simulated.entries(name), simulated.wanted(accounts)
    assert_is_noted(simulated, name, placed)
    ends = {event: last_end(each) for event, each in wanted.items()}
    coming = {event for event, end in ends.items() if end is None or end >= now - PAST}
    removed = {event for event, place in placed.items() if place.state == "removed"}
    assert not removed or name == "team"
    empty = {event for event, each in wanted.items() if not is_endless(each) and not occurrences(each, EVER, NEVER)}
    assert coming - removed - empty <= shown.keys()
    assert not {event for event in shown if event not in wanted}, "what its accounts dropped is gone"
    for event in coming & shown.keys():
        assert_is_shown(simulated, shown[event], wanted[event], OWNER if name == "own" else GUESTS)


def assert_is_shown(simulated: SimulatedDaemon, body: bytes, meeting: Meeting, readers: Readers) -> None:
    """An entry is shown when its meeting takes place, and says what it says, with the links that were made for it."""
    span = simulated.clocks.now - PAST, simulated.clocks.now + SHOWN
    assert occurrences_in(body, *span) == occurrences(meeting, *span)
    invites = (account.invites for account in simulated.accounts.values())
    invite = next((each[meeting.id] for each in invites if meeting.id in each), None)
    alice = Visitor("user-alice", "Alice", "Adams", moderator=meeting.own)
    codes = codes_made(simulated.link_maker.made, meeting.id, alice if readers == OWNER else Visitor(meeting.id))
    _, code = link_codes(body)
    assert code in codes or (code is None and not codes)
    assert_says(body, meeting, Links(f"https://meet.example.org/room/{meeting.room}", invite, code), readers)


def assert_feed_agrees(simulated: SimulatedDaemon) -> None:
    (feed,) = simulated.ledger.feeds.all().values()
    wanted = simulated.wanted(feed.accounts)
    shown = simulated.ledger.feeds.content(feed)
    assert shown.keys() == {event for event in simulated.ledger.entries.of(feed.built or "") if event in wanted}
    for *_, body in simulated.ledger.feeds.edition_bodies(feed):
        each = wanted[uid_of(body)]
        end = last_end(each)
        if end is None or end >= simulated.clocks.now - PAST:
            assert_is_shown(simulated, body, each, PHONE)


def assert_is_patient(simulated: SimulatedDaemon) -> None:
    """Accounts are asked as often as the timers say, and nothing starts without end."""
    hours = Counter((ring.name, int(ring.steady // 3600)) for ring in simulated.scheduler.starts)
    assert max(hours.values()) <= RINGS, hours.most_common(3)
    requests, days = simulated.network.requests, range(int(simulated.clocks.steady // 86400))
    for name, account in simulated.config.accounts.items():
        listed = [requests[day, name, "snapshot"] + requests[day, name, "full snapshot"] for day in days]
        assert max(listed) <= DAY / account.soon_every + MORE, (name, listed)
        assert sum(requests[day, name, "full snapshot"] for day in days) <= DAY / FULL_LISTING * len(days) + MORE
        hidden, failed = simulated.accounts[name].hidden, simulated.network.failed[name, "event"]
        assert sum(requests[day, name, "event"] for day in days) - hidden.total() <= 2 * len(days)
        there = simulated.accounts[name].meetings
        assert all(there[event].all_day for event in hidden if event in there), "no series ends in this month"
        assert max(hidden.values(), default=0) <= (DAY + SET_BACK) / account.every + failed, "once an hour for a day"
    for name, calendar in simulated.config.calendars.items():
        looks = [requests[day, name, "seen"] for day in days if day != AWAY]
        assert max(looks) <= DAY / calendar.audit + MORE, (name, looks)
    assert max(requests[day, "openmeetings", "hash"] for day in DEAD) <= DAY / LONGEST_WAIT
    assert requests[AWAY, "team", "seen"] <= DAY / LONGEST_WAIT
