# SPDX-License-Identifier: Apache-2.0
"""Laws of the whole: whatever people, servers, clocks and disks do, in any order.

To hunt: ``SYNCD_EXAMPLES=2000 pytest tests/test_machine.py`` runs that many stories.
"""

import os
from collections import Counter
from collections.abc import Callable, Collection
from datetime import timedelta

from hypothesis import HealthCheck, Phase, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from msgspec.structs import replace

from syncd.errors import BadAnswer, LoginRefused, Refused, SyncdError, Unavailable
from syncd.model import CallIn, Meeting, Override, Placement, Run, Visitor, When
from tests.support import calendar_servers
from tests.support.calendar_objects import digest_in, events_of, has_people, uid_of
from tests.support.entry_text import Links, Readers, assert_says, codes_made, link_codes
from tests.support.meetings import DAY, HOUR, meeting
from tests.support.occurrences import last_end, occurrences, occurrences_in, starts, touches
from tests.support.pipeline import Pipeline
from tests.support.world import (
    MemoryUserCalendar,
    ServerUserCalendar,
    UserCalendar,
    WatchedCalendar,
    World,
    in_events,
    is_live,
    unfolded,
)

PICK = st.sampled_from([0, 0, 0, 1, 1, 2, 3, 5, 8])  # much happens to few
TITLES = st.sampled_from(["Jour fixe", "Büro, 3;4", "Plan \\ B", "Retro " * 20])
ZONES = st.sampled_from(["Europe/Berlin", "America/New_York", "UTC", "Asia/Kathmandu"])
KINDS = st.sampled_from(["single", "single", "day", "series", "endless", "timeless"])
WHO = st.sampled_from(["work", "home", "both"])
ACCOUNT = st.sampled_from(["work", "home"])
CALENDAR = st.sampled_from(["mine", "team"])
VERBS = st.sampled_from(
    [
        *("", "check", "seen", "fetch", "create", "update", "delete"),
        *("done create", "done update", "done delete", "cursors", "gone"),
    ]
)
ERRORS: st.SearchStrategy[SyncdError] = st.sampled_from(
    [Unavailable("down"), Unavailable("busy", 30.0), BadAnswer("half a body"), Refused("no"), LoginRefused("who?")]
)
OUTAGES: st.SearchStrategy[SyncdError] = st.sampled_from(
    [Unavailable("down"), Unavailable("busy", 30.0), BadAnswer("half a body")]
)
RULES = st.tuples(st.sampled_from(["restore", "keep"]), st.sampled_from(["respect", "restore"]))
ALARM = b"BEGIN:VALARM\r\nACTION:DISPLAY\r\nDESCRIPTION:x\r\nTRIGGER:-PT5M\r\nEND:VALARM\r\n"
ADDITIONS = st.sampled_from([b"COLOR:red\r\n", b"CATEGORIES:MINE\r\n", ALARM, b"X-THEIRS:1\r\n"])
SHOWN = 60 * DAY


def uids(calendar: WatchedCalendar) -> set[str]:
    return {uid_of(body) for body in calendar.user.objects().values()}


def summary(body: bytes) -> str:
    return next((str(each["SUMMARY"]) for each in events_of(body) if "RECURRENCE-ID" not in each), "")


def summary_as(each: bytes, title: bytes) -> bytes:
    lines = each.split(b"\r\n")
    return b"\r\n".join(b"SUMMARY:" + title if line.startswith(b"SUMMARY") else line for line in lines)


def later(each: bytes) -> bytes:
    """An event a quarter of an hour later; of whole days it stays."""
    lines = each.split(b"\r\n")
    at = [number for number, line in enumerate(lines) if line.startswith((b"DTSTART", b"DTEND")) and b"T" in line[-8:]]
    for number in at:
        line = lines[number]
        cut = line.rindex(b"T") + 3
        lines[number] = line[:cut] + b"15" + line[cut + 2 :]
    return b"\r\n".join(lines)


def described(each: bytes) -> bytes:
    lines = each.split(b"\r\n")
    return b"\r\n".join(line + b" (mine)" if line.startswith(b"DESCRIPTION:") else line for line in lines)


def unmarked(each: bytes) -> bytes:
    return b"\r\n".join(line for line in each.split(b"\r\n") if not line.startswith(b"X-SYNCD"))


def sign_of(added: bytes) -> bytes:
    """What of an addition survives every way to write it."""
    return b"TRIGGER:-PT5M" if added is ALARM else added.strip()


def may_be_ours(href: str, body: bytes, placed: Placement | None) -> bool:
    """Whether syncd may change an object that somebody put at this address."""
    known = placed is not None and placed.href == href and placed.state in ("placed", "removed")
    return href.startswith("syncd-") and not has_people(body) and (known or digest_in(body) is not None)


class Story(RuleBasedStateMachine):
    """Everything that can happen, in any order, and what holds after each step of it."""

    world: World
    numbers: int = 0
    most = 40
    well = False

    def user_calendar(self, name: str) -> UserCalendar:
        return MemoryUserCalendar(name)

    @initialize(
        mine=RULES, team=RULES, events=st.lists(st.tuples(KINDS, WHO, st.integers(0, 20)), min_size=3, max_size=8)
    )
    def begin(self, mine: tuple[str, str], team: tuple[str, str], events: list[tuple[str, str, int]]) -> None:
        calendars = {name: WatchedCalendar(self.user_calendar(name)) for name in ("mine", "team")}
        self.world = World(calendars, {"mine": mine, "team": team})
        for kind, who, day in events:
            self.add(kind, who, day, "Jour fixe", "Europe/Berlin")
        for name in self.world.accounts:
            self.work(lambda name=name: self.world.jobs.pull(name))  # type: ignore[misc]
        self.make_links()
        for name in calendars:
            self.push(name)

    # What happens in OpenTalk

    def add(self, kind: str, who: str, day: int, title: str, zone: str) -> str:
        self.numbers += 1
        event = f"m{self.numbers}"
        start = (self.world.now + day * DAY).replace(minute=0, second=0)
        fields: dict[str, object] = {
            "title": title,
            "start": When(start, zone),
            "end": When(start + HOUR, zone),
        }
        if self.numbers % 2:
            fields |= {"password": "geheim, 12;3", "call_in": CallIn("+49 30 123", "4567", "89")}
        match kind:
            case "day":
                midnight = start.replace(hour=0)
                fields |= {"start": When(midnight, "UTC"), "end": When(midnight + DAY, "UTC"), "all_day": True}
            case "series":
                fields["recurrence"] = ("RRULE:FREQ=DAILY;COUNT=4",)
            case "endless":
                fields["recurrence"] = ("RRULE:FREQ=WEEKLY",)
            case "timeless":
                fields |= {"start": None, "end": None}
        made = meeting(event, day, **fields)
        for name, account in self.world.accounts.items():
            if who in (name, "both"):
                own = name == "work" or who == "home"
                account.meetings[event] = replace(made, own=own, invite_status="accepted")
        note(f"    {event}: {kind} of {who}")
        return event

    def event(self, pick: int) -> str:
        """One that some account has; empty if there is none."""
        events = sorted({event for account in self.world.accounts.values() for event in account.meetings})
        event = events[pick % len(events)] if events else ""
        note(f"    event {event or 'none'}")
        return event

    @rule(kind=KINDS, who=WHO, day=st.integers(-5, 45), title=TITLES, zone=ZONES)
    def somebody_makes_a_meeting(self, kind: str, who: str, day: int, title: str, zone: str) -> None:
        self.add(kind, who, day, title, zone)

    @rule(who=WHO, count=st.integers(4, 12), day=st.integers(1, 10))
    def somebody_makes_many(self, who: str, count: int, day: int) -> None:
        if self.numbers < self.most:
            for number in range(count):
                self.add("single", who, day + number % 5, "One of many", "Europe/Berlin")

    @rule(pick=PICK, title=TITLES)
    def the_title_changes(self, pick: int, title: str) -> None:
        self.world.change(self.event(pick), lambda each: replace(each, title=title))

    @rule(pick=PICK, text=st.sampled_from(["", "Agenda\n\n1. all", "Another; agenda, long " * 8]))
    def the_description_changes(self, pick: int, text: str) -> None:
        self.world.change(self.event(pick), lambda each: replace(each, description=text, password=f"for {len(text)}"))

    @rule(pick=PICK, hours=st.sampled_from([-30 * 24, -3, 1, 24, 24 * 40]))
    def it_is_moved(self, pick: int, hours: int) -> None:
        def moved(each: Meeting) -> Meeting:
            if each.start is None or each.end is None:
                return each
            by = timedelta(hours=hours if not each.all_day else hours // 24 * 24)
            start, end = replace(each.start, utc=each.start.utc + by), replace(each.end, utc=each.end.utc + by)
            return replace(each, start=start, end=end, overrides=())

        self.world.change(self.event(pick), moved)

    @rule(pick=PICK, lines=st.sampled_from([(), ("RRULE:FREQ=DAILY;COUNT=3",), ("RRULE:FREQ=WEEKLY;INTERVAL=2",)]))
    def its_rule_changes(self, pick: int, lines: tuple[str, ...]) -> None:
        self.world.change(
            self.event(pick), lambda each: replace(each, recurrence=lines if each.start else (), overrides=())
        )

    @rule(pick=PICK)
    def it_loses_its_time(self, pick: int) -> None:
        self.world.change(
            self.event(pick),
            lambda each: replace(each, start=None, end=None, all_day=False, recurrence=(), overrides=()),
        )

    @rule(pick=PICK, which=st.integers(0, 3), how=st.sampled_from(["cancelled", "moved", "named", "as the series"]))
    def an_occurrence_changes(self, pick: int, which: int, how: str) -> None:
        self.world.change(self.event(pick), lambda each: self.with_override(each, which, how))

    def with_override(self, each: Meeting, which: int, how: str) -> Meeting:
        if not each.recurrence or each.start is None:
            return each
        planned = starts(each, each.start.utc, each.start.utc + 30 * DAY)
        if not planned:
            return each
        original = When(planned[which % len(planned)], each.start.zone)
        rest = tuple(one for one in each.overrides if one.original != original)
        match how:
            case "cancelled":
                new: tuple[Override, ...] = (Override(original, cancelled=True),)
            case "moved":
                start = replace(original, utc=original.utc + DAY)
                new = (Override(original, start=start, end=replace(start, utc=start.utc + DAY)),)
            case "named":
                new = (Override(original, title="This time another", description="Only this time"),)
            case _:
                new = ()
        return replace(each, overrides=tuple(sorted((*rest, *new), key=lambda one: one.original.utc)))

    @rule(pick=PICK)
    def all_occurrences_are_cancelled(self, pick: int) -> None:
        def cancelled(each: Meeting) -> Meeting:
            for which in range(4 if "COUNT=4" in "".join(each.recurrence) else 0):
                each = self.with_override(each, which, "cancelled")
            return each

        self.world.change(self.event(pick), cancelled)

    @rule(pick=PICK, who=WHO)
    def it_goes(self, pick: int, who: str) -> None:
        self.gone(self.event(pick), who)

    def gone(self, event: str, who: str) -> None:
        for name, account in self.world.accounts.items():
            if who in (name, "both") and event in account.meetings:
                self.world.archive[name][event] = account.meetings.pop(event)
                account.unreadable.pop(event, None)

    @rule(count=st.integers(2, 30), who=WHO)
    def many_go(self, count: int, who: str) -> None:
        for event in sorted({event for account in self.world.accounts.values() for event in account.meetings})[:count]:
            self.gone(event, who)

    @rule(who=ACCOUNT)
    def what_went_comes_back(self, who: str) -> None:
        self.world.accounts[who].meetings |= self.world.archive[who]
        self.world.archive[who].clear()

    @rule(pick=PICK, who=ACCOUNT, status=st.sampled_from(["declined", "accepted", "pending"]))
    def an_invitation_is_answered(self, pick: int, who: str, status: str) -> None:
        meetings, event = self.world.accounts[who].meetings, self.event(pick)
        if event in meetings:
            meetings[event] = replace(meetings[event], invite_status=status)

    @rule(pick=PICK, who=ACCOUNT, readable=st.booleans())
    def it_becomes_unreadable_or_all_is_readable(self, pick: int, who: str, readable: bool) -> None:
        event, account = self.event(pick), self.world.accounts[who]
        if readable:
            account.unreadable.clear()
        elif event in account.meetings:
            account.unreadable[event] = "its zone is unknown"

    @rule(
        who=ACCOUNT,
        what=st.sampled_from(["snapshot", "event", "invite", "lies"]),
        error=OUTAGES,
        times=st.integers(1, 3),
    )
    def opentalk_fails_or_lies(self, who: str, what: str, error: SyncdError, times: int) -> None:
        account = self.world.accounts[who]
        if what == "lies":
            account.lies = True
        else:
            account.faults.add(what, error, times)

    @rule(error=ERRORS, times=st.integers(1, 3))
    def openmeetings_fails(self, error: SyncdError, times: int) -> None:
        self.world.link_maker.faults.add("hash", error, times)

    # What people do in their calendars

    def entry(self, name: str, pick: int) -> tuple[WatchedCalendar, str, bytes] | None:
        """One object of a calendar that is ours."""
        calendar = self.world.calendars[name]
        ours = {href: body for href, body in calendar.user.objects().items() if href not in calendar.foreign}
        if not ours:
            return None
        href = sorted(ours)[pick % len(ours)]
        note(f"    {href} of {name}")
        return calendar, href, ours[href]

    def edit(self, name: str, pick: int, change: Callable[[bytes], bytes]) -> tuple[WatchedCalendar, str, str] | None:
        """An edit of an entry of ours by somebody: the calendar, the entry's UID and the meeting's title as it was."""
        found = self.entry(name, pick)
        if found is None:
            return None
        calendar, href, body = found
        changed = change(body)
        if changed == unfolded(body):
            return None
        uid = uid_of(body)
        calendar.trash.append((href, body))
        calendar.user.put(href, changed)
        calendar.edited.add(uid)
        return calendar, uid, href

    @rule(name=CALENDAR, pick=PICK, title=st.sampled_from([b"My title", b"Mine"]))
    def somebody_edits_a_title(self, name: str, pick: int, title: bytes) -> None:
        found = self.entry(name, pick)
        if found is None:
            return
        calendar, _, body = found
        was = summary(body)
        edited = self.edit(name, pick, lambda body: in_events(body, lambda each: summary_as(each, title)))
        if edited:
            seen = self.world.seen_by(edited[1], name)
            stands = calendar.titles.pop(edited[1], None)
            place = self.world.ledger.placements.of(self.world.names[name]).get(edited[1])
            if (
                place
                and place.state == "placed"
                and seen
                and (was == seen[1].title or (stands and stands[1] == seen[1].title))
            ):
                calendar.titles[edited[1]] = (title, seen[1].title)

    @rule(name=CALENDAR, pick=PICK, how=st.sampled_from([later, described, unmarked]))
    def somebody_edits_an_entry(self, name: str, pick: int, how: Callable[[bytes], bytes]) -> None:
        self.edit(name, pick, lambda body: in_events(body, how))

    @rule(name=CALENDAR, pick=PICK, added=ADDITIONS)
    def somebody_adds_something(self, name: str, pick: int, added: bytes) -> None:
        def put(each: bytes) -> bytes:
            return each if added in each else each.replace(b"END:VEVENT", added + b"END:VEVENT")

        edited = self.edit(name, pick, lambda body: in_events(body, put))
        if edited:
            edited[0].added.setdefault(edited[1], set()).add(sign_of(added))

    @rule(name=CALENDAR, pick=PICK)
    def somebody_adds_people(self, name: str, pick: int) -> None:
        people = b"ORGANIZER:mailto:alice@example.org\r\nATTENDEE:mailto:bob@example.org\r\nEND:VEVENT"
        edited = self.edit(name, pick, lambda body: in_events(body, lambda each: each.replace(b"END:VEVENT", people)))
        if edited:
            calendar, _, href = edited
            calendar.foreign[href] = calendar.user.objects()[href]

    @rule(name=CALENDAR, pick=PICK)
    def somebody_deletes_an_object(self, name: str, pick: int) -> None:
        calendar = self.world.calendars[name]
        hrefs = sorted(calendar.user.objects())
        if hrefs:
            note(f"    {hrefs[pick % len(hrefs)]} of {name}")
            self.delete(name, hrefs[pick % len(hrefs)])

    def delete(self, name: str, href: str) -> None:
        calendar = self.world.calendars[name]
        body = calendar.user.objects()[href]
        uid = uid_of(body)
        calendar.trash.append((href, body))
        calendar.user.delete(href)
        calendar.foreign.pop(href, None)
        calendar.deleted[uid] = self.world.versions(uid, name)

    @rule(name=CALENDAR)
    def somebody_empties_a_calendar(self, name: str) -> None:
        for href in self.world.calendars[name].user.objects():
            self.delete(name, href)

    @rule(name=CALENDAR)
    def somebody_adds_an_event_of_their_own(self, name: str) -> None:
        self.numbers += 1
        self.put_foreign(name, f"own-{self.numbers}.ics", f"own-{self.numbers}")

    @rule(name=CALENDAR, pick=PICK)
    def a_mail_invitation_is_added(self, name: str, pick: int) -> None:
        calendar, event = self.world.calendars[name], self.event(pick)
        if event and event not in uids(calendar):
            self.put_foreign(name, f"mail-{event}.ics", event)

    def put_foreign(self, name: str, href: str, uid: str) -> None:
        calendar = self.world.calendars[name]
        times = b"DTSTART:20261203T100000Z\r\nDTEND:20261203T110000Z\r\nDTSTAMP:20261101T000000Z\r\n"
        head = b"BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//x//x//EN\r\nBEGIN:VEVENT\r\nUID:%b\r\n" % uid.encode()
        calendar.user.put(href, head + times + b"SUMMARY:Own\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n")
        calendar.foreign[href] = calendar.user.objects()[href]

    @rule(name=CALENDAR, pick=PICK)
    def somebody_puts_back_an_old_version(self, name: str, pick: int) -> None:
        calendar = self.world.calendars[name]
        if not calendar.trash:
            return
        href, body = calendar.trash[pick % len(calendar.trash)]
        there = calendar.user.objects()
        uid = uid_of(body)
        if any(uid_of(each) == uid for at, each in there.items() if at != href) or href in calendar.foreign:
            return
        note(f"    {href} of {name}")
        calendar.user.put(href, body)
        calendar.edited.add(uid)
        calendar.titles.pop(uid, None)
        calendar.added.pop(uid, None)
        placed = self.world.ledger.placements.of(self.world.names[name]).get(uid)
        if placed is None:
            calendar.adrift.add(uid)
        if not may_be_ours(href, body, placed):
            calendar.foreign[href] = calendar.user.objects()[href]

    @rule(name=CALENDAR, pick=PICK)
    def somebody_moves_an_entry_to_another_name(self, name: str, pick: int) -> None:
        found = self.entry(name, pick)
        if found is None:
            return
        calendar, href, body = found
        self.delete(name, href)
        calendar.user.put(f"moved-{href}", body)
        calendar.foreign[f"moved-{href}"] = calendar.user.objects()[f"moved-{href}"]

    # What servers, clocks and machines do

    @rule(name=CALENDAR, verb=VERBS, error=ERRORS, times=st.integers(1, 4))
    def a_calendar_fails(self, name: str, verb: str, error: SyncdError, times: int) -> None:
        calendar = self.world.calendars[name]
        match verb:
            case "gone":
                calendar.gone ^= True
            case "cursors":
                calendar.cursors += 1
            case _ if verb.startswith("done "):
                calendar.faults.add(verb.removeprefix("done "), BadAnswer("the answer broke off"), times, done=True)
            case _:
                calendar.faults.add(verb, error, times)

    @rule(by=st.sampled_from([-HOUR, timedelta(minutes=5), HOUR, DAY, 4 * DAY]))
    def the_clock_moves(self, by: timedelta) -> None:
        self.world.now += by

    @rule(after=st.integers(0, 5))
    def the_next_job_is_stopped_half_way(self, after: int) -> None:
        self.world.stop_after = after

    @rule()
    def the_ledger_is_lost(self) -> None:
        self.world.lose_ledger()

    @rule(
        what=st.sampled_from(["restart", "renderer", "en", "de", "window", "work", "home", "mine", "team"]),
        past=st.integers(0, 10),
        ahead=st.integers(1, 60),
    )
    def syncd_is_restarted_with_another_configuration(self, what: str, past: int, ahead: int) -> None:
        world = self.world
        match what:
            case "renderer":
                world.version += 1
            case "en" | "de":
                world.language = what
            case "window":
                world.past, world.ahead = past * DAY, ahead * DAY
            case "work" | "home" if world.ledger.accounts.identity(
                world.names[what]
            ):  # else nobody knows that it is the same
                self.numbers += 1
                world.names[what] = f"{what}-{self.numbers}"
            case "mine" | "team":
                self.numbers += 1
                world.names[what] = f"{what}-{self.numbers}"
                world.calendars[what].forget_own_writes()
        world.configure()

    # The jobs

    def work(self, job: Callable[[], Run]) -> Run:
        self.well = False
        run = job()
        note(f"    {run.key.kind} {run.key.name}: {run.state} {run.done} {run.message or ''}")
        self.well = True
        return run

    @rule(who=ACCOUNT, soon=st.booleans())
    def pull(self, who: str, soon: bool) -> None:
        world, configured_name = self.world, self.world.names[who]
        self.work(lambda: world.jobs.pull(configured_name, soon=soon))
        kept = {event: world.ledger.meetings.get(configured_name, event) for event in world.accounts[who].gone}
        world.accounts[who].gone -= {event for event, each in kept.items() if each and is_live(each)}

    @rule()
    def make_links(self) -> None:
        self.well = False
        for run in self.world.jobs.mint():
            note(f"    {run.key.kind} {run.key.name}: {run.state} {run.done}")
        self.well = True

    @rule(name=CALENDAR)
    def push(self, name: str) -> None:
        world, calendar, configured_name = self.world, self.world.calendars[name], self.world.names[name]
        placed = world.ledger.placements.of(configured_name)
        guard = world.ledger.deletions.guard(configured_name, world.configured(name), world.now - DAY)
        before = calendar.user.objects()
        calendar.log.clear()
        self.work(lambda: world.jobs.push(configured_name))
        deleted = {uid_of(body) for body in before.values()} - uids(calendar)
        assert not deleted & guard.held, "what waits for a person went"
        reported = set().union(*(world.accounts[each].gone for each in world.orders()[name]))
        assert deleted <= reported, "nobody said that it is gone"
        calendar.lost = [at for at in calendar.lost if at >= world.now - DAY]
        coming = {uid for uid, each in placed.items() if each.end is None or each.end >= world.now}
        most = max(5.0, 0.2 * (len(coming) + len(calendar.lost)))
        calendar.lost += [world.now] * len((deleted & coming) - guard.confirmed)
        assert len(calendar.lost) <= most, "too much went within a day"

    @rule()
    def build_feeds(self) -> None:
        world = self.world
        guard = world.ledger.deletions.guard("feed/phone", world.configured("phone"), world.now - DAY)
        shown = world.ledger.feeds.content(world.ledger.feeds.all()["phone"])
        self.well = False
        for run in world.jobs.build_feeds():
            note(f"    {run.key.kind} {run.key.name}: {run.state} {run.counts} {run.message or ''}")
        self.well = True
        gone = world.shown - world.feed_bodies().keys()
        world.shown = set(world.feed_bodies())
        assert not gone & guard.held, "what waits for a person left the feed"
        assert gone <= set().union(*(each.gone for each in world.accounts.values())), "nobody said that it is gone"
        coming = {uid for uid, end in shown.items() if end is None or end >= world.now}
        world.dropped = [at for at in world.dropped if at >= world.now - DAY]
        most = max(5.0, 0.2 * (len(coming) + len(world.dropped)))
        world.dropped += [world.now] * len((gone & coming) - guard.confirmed)
        assert len(world.dropped) <= most, "the feed lost too much within a day"

    @rule(what=st.sampled_from(["mine", "team", "feed/phone"]))
    def somebody_confirms(self, what: str) -> None:
        self.world.ledger.deletions.confirm(self.world.names.get(what, what))

    @rule()
    def everything_is_synced(self) -> None:
        for name in self.world.accounts:
            self.pull(name, soon=False)
        self.make_links()
        for name in self.world.calendars:
            self.push(name)
        self.build_feeds()

    @rule(by=st.sampled_from([HOUR, DAY]))
    def time_passes_and_everything_is_synced(self, by: timedelta) -> None:
        self.world.now += by
        self.everything_is_synced()

    @rule()
    def an_audit_is_made(self) -> None:
        self.world.now += HOUR
        for name in self.world.calendars:
            self.push(name)

    @rule(who=ACCOUNT)
    def what_changed_goes_out(self, who: str) -> None:
        self.pull(who, soon=False)
        for name in self.world.calendars:
            self.push(name)
        self.build_feeds()

    # What always holds

    @invariant()
    @precondition(lambda self: hasattr(self, "world"))
    def all_is_well(self) -> None:
        self.the_calendars_are_as_they_may_be()
        self.no_link_is_made_twice()
        assert self.world.feed_bodies().keys() >= self.world.shown, "the feed lost something on its own"

    def the_calendars_are_as_they_may_be(self) -> None:
        well, self.well = self.well, False
        for calendar in self.world.calendars.values():
            there = calendar.user.objects()
            found = Counter(uid_of(body) for body in there.values())
            assert not [uid for uid, count in found.items() if count > 1], "an event is there twice"
            for href, body in calendar.foreign.items():
                assert there.get(href) == body, f"{href} was not ours to touch"
            self.forget(calendar, found.keys())
            for body in there.values():
                for sign in calendar.added.get(uid_of(body), set()):
                    assert sign in unfolded(body), f"{uid_of(body)} lost what somebody added to it"
        self.well = well

    def forget(self, calendar: WatchedCalendar, there: Collection[str]) -> None:
        """What people did to objects that are gone, or deleted of those that are there again, does not count."""
        for uid in calendar.written.keys() - there:
            del calendar.written[uid]
        for known in (calendar.added, calendar.titles):
            for uid in known.keys() - there:
                known.pop(uid)
        calendar.edited &= set(there)
        for uid in there:
            calendar.deleted.pop(uid, None)

    def no_link_is_made_twice(self) -> None:
        hashes = Counter((event, who.external_id, who.moderator) for event, who in self.world.link_maker.made)
        assert not [each for each, count in hashes.items() if count > 1], "a hash was made twice"
        for account in self.world.accounts.values():
            assert not [each for each, count in account.given.items() if count > 1], "an invite was asked for twice"

    # What holds in the end

    @rule()
    def peace_comes(self) -> None:
        self.settle()

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        try:
            if self.well:
                note("    in the end")
                self.settle()
        finally:
            self.world.close()

    def settle(self) -> None:
        world = self.world
        for account in world.accounts.values():
            account.faults.clear()
            account.unreadable.clear()
            account.lies = False
        world.link_maker.faults.clear()
        world.stop_after = None
        for calendar in world.calendars.values():
            calendar.faults.clear()
            calendar.gone = False
        for _ in range(2):
            world.now += DAY + HOUR
            for _ in range(2):
                self.everything_is_synced()
                for name in ("mine", "team", "feed/phone"):
                    self.somebody_confirms(name)
        self.everything_is_synced()
        self.the_calendars_are_as_they_may_be()
        self.well = False
        for name, calendar in world.calendars.items():
            self.agree(name, calendar)
        self.feed_agrees()
        self.be_quiet()
        self.well = True

    def be_quiet(self) -> None:
        """One quiet round, and an audit: nothing is written anywhere."""
        world = self.world
        made, feed = len(world.link_maker.made), world.feed_bodies()
        asked = {name: account.requests["invite"] for name, account in world.accounts.items()}
        past, ahead = world.past, world.ahead
        for _ in range(2):
            self.everything_is_synced()
            self.well = False
            assert [calendar.writes() for calendar in world.calendars.values()] == [[], []], (
                "there was nothing to write"
            )
            assert len(world.link_maker.made) == made, "there was no hash to make"
            assert asked == {name: account.requests["invite"] for name, account in world.accounts.items()}
            assert world.feed_bodies() == feed
            world.now += HOUR  # in the same window, so that nothing comes into it
            world.past, world.ahead = world.past + HOUR, world.ahead - HOUR
            world.configure()
        world.past, world.ahead = past, ahead
        world.configure()

    def agree(self, name: str, calendar: WatchedCalendar) -> None:
        """The calendar shows what the source has, but for what people did and may."""
        world, respects = self.world, self.world.rules[name][1] == "respect"
        there = {uid_of(body): (href, body) for href, body in calendar.user.objects().items()}
        for event in self.live(name):
            if event in there:
                continue
            now = world.versions(event, name) if respects else set()
            assert calendar.deleted.get(event, set()) & now, f"{name} lacks {event}"
        placed = world.ledger.placements.of(world.names[name])
        for uid, (href, body) in there.items():
            place = placed.get(uid)
            if href in calendar.foreign:
                continue
            if place is None or place.state != "placed":
                assert uid in calendar.adrift, f"{name} has {uid}, of which nobody knows"
            else:
                self.agrees(name, calendar, place, body)

    def agrees(self, name: str, calendar: WatchedCalendar, place: Placement, body: bytes) -> None:
        """An object of ours that is where we placed it."""
        world, uid = self.world, place.event
        seen, keeps = world.seen_by(uid, name), world.rules[name][0] == "keep"
        if seen is None or not is_live(seen[1]):
            assert place.end is not None, f"{name} has still {uid}, which is gone"
            assert place.end < world.window().since, f"{name} has still {uid}, which is gone"
        elif not (keeps and uid in calendar.edited):
            self.says(body, seen, name)
        elif uid in calendar.titles:
            title, then = calendar.titles[uid]
            assert seen[1].title != then or summary(body) == title.decode(), f"{uid} lost the title it was given"

    def live(self, what: str) -> set[str]:
        """The events that a calendar or the feed must show."""
        world, window = self.world, self.world.window()
        result = set()
        for event in {event for account in world.accounts.values() for event in account.meetings}:
            seen = world.seen_by(event, what)
            if seen and is_live(seen[1]) and touches(seen[1], window):
                result.add(event)
        return result

    def links(self, body: bytes, seen: tuple[str, Meeting], *, owner: bool) -> Links:
        """The links that an entry must show. Meetings that are over may have theirs, and need none."""
        (name, each), world = seen, self.world
        account = world.accounts[name]
        end = last_end(each)
        over = end is not None and end < world.now
        visitor = Visitor(each.id)
        if owner:
            visitor = Visitor(f"user-{name}", account.person.firstname, account.person.lastname, moderator=each.own)
        invite, code = link_codes(body)
        expected = account.invites.get(each.id)
        assert invite == expected or (over and invite is None), f"the invite of {each.id} is not there"
        codes = codes_made(world.link_maker.made, each.id, visitor)
        assert code in codes or (over and code is None), f"the link of {each.id} is not the one that was made"
        return Links(f"https://meet.example.org/room/{each.room}", invite, code)

    def says(self, body: bytes, seen: tuple[str, Meeting], what: str) -> None:
        """An entry says what its meeting says now, and is shown when and as the meeting takes place."""
        uid, span = uid_of(body), (self.world.now - SHOWN, self.world.now + SHOWN)
        assert occurrences_in(body, *span) == occurrences(seen[1], *span), f"{uid} is shown at other times"
        owner = what == "mine"  # the other calendar and the feed are for guests, without passwords
        readers = Readers(owner, owner, self.world.language)
        assert_says(body, seen[1], self.links(body, seen, owner=owner), readers)

    def feed_agrees(self) -> None:
        world, window = self.world, self.world.window()
        feed = world.ledger.feeds.all()["phone"]
        bodies, shown = world.feed_bodies(), world.ledger.feeds.content(feed)
        assert self.live("phone") <= bodies.keys(), "the feed lacks something"
        for uid, body in bodies.items():
            seen = world.seen_by(uid, "phone")
            end = shown[uid]
            if seen is None or not is_live(seen[1]):
                assert end is not None, f"the feed has still {uid}, which is gone"
                assert end < window.since, f"the feed has still {uid}, which is gone"
            else:
                self.says(body, seen, "phone")


class ServerStory(Story):
    """The same with calendars on a real server."""

    most = 0

    def user_calendar(self, name: str) -> UserCalendar:  # noqa: ARG002
        return ServerUserCalendar(calendar_servers.radicale())


def story_settings(examples: int, steps: int, *phases: Phase) -> settings:
    """So many stories of so many steps, the same ones every time unless somebody hunts."""
    hunted = os.environ.get("SYNCD_EXAMPLES")
    return settings(
        max_examples=int(hunted) if hunted else examples,
        stateful_step_count=steps,
        derandomize=not hunted,
        phases=(Phase.generate, *phases),
        deadline=None,
        database=None,
        print_blob=False,
        suppress_health_check=list(HealthCheck),
    )


def test_whatever_happens_the_calendars_and_the_feed_are_right_in_the_end() -> None:
    run_state_machine_as_test(Story, settings=story_settings(50, 40, Phase.shrink))


def test_whatever_happens_a_real_server_has_it_right_in_the_end() -> None:
    run_state_machine_as_test(ServerStory, settings=story_settings(6, 20))


def test_what_somebody_deleted_comes_back_though_an_audit_and_the_change_meet() -> None:
    pipeline = Pipeline(meeting("e1"), meeting("e2", 2))
    pipeline.sync()
    pipeline.calendar.user_deletes("syncd-e1.ics")
    pipeline.change("e1", title="Another title")
    pipeline.now += HOUR
    pipeline.sync()
    assert b"Another title" in pipeline.entries()["e1"]


def test_a_meeting_that_loses_its_time_leaves_the_calendar_until_it_has_one_again() -> None:
    pipeline = Pipeline(meeting("e1"), meeting("e2", 2))
    pipeline.sync()
    timed = pipeline.source.meetings["e1"]
    pipeline.change("e1", start=None, end=None)
    assert pipeline.sync().counts["deleted"] == 1
    pipeline.change("e1", start=timed.start, end=timed.end)
    assert pipeline.sync().counts["created"] == 1
