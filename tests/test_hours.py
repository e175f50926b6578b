# SPDX-License-Identifier: Apache-2.0
"""Hours in which servers, the ledger or the clock are bad: ``status`` says so, nothing is lost, and it heals alone."""

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import count
from pathlib import Path

import pytest
from msgspec.structs import replace

from syncd.config import load
from syncd.demo.serve import Traffic
from syncd.demo.stage import Stage
from syncd.errors import BadAnswer, LedgerBusy, LedgerError, SyncdError, Unavailable
from syncd.jobs.servers import connect
from syncd.model import CallIn, Feed, Visitor
from syncd.plan.links import WAYS
from syncd.plan.timing import LONGEST_WAIT
from tests.support.configuration import configure
from tests.support.entry_text import Links, Readers, assert_says, codes_made, link_codes
from tests.support.meetings import DAY, HOUR, NOW, meeting
from tests.support.occurrences import occurrences, occurrences_in
from tests.support.simulated_daemon import Clocks, SimulatedDaemon, healthy

ACCOUNTS = {name: f'url = "https://{name}.example.org"' for name in ("alice", "bob")}
CALENDARS = {"team": 'accounts = ["alice", "bob"]'}
MINUTE = timedelta(minutes=1)
SHOWN = 100 * DAY
STEP = 5 * MINUTE
ROUND = 2 * MINUTE
"""Within this an account that fails is asked, and said to fail; a calendar is within an hour, when it is looked at."""

HEALED = LONGEST_WAIT + ROUND
ALL = {"alice", "bob", "team", "openmeetings"}


@pytest.fixture
def simulated(tmp_path: Path) -> Iterator[SimulatedDaemon]:
    """Two accounts of twelve meetings, all in one calendar and a feed, all at rest."""
    with SimulatedDaemon(configure(tmp_path, accounts=ACCOUNTS, calendars=CALENDARS), Clocks(NOW)) as simulated:
        for name, account in simulated.accounts.items():
            access = {"password": "geheim; 12,3", "call_in": CallIn("+49 30 123", "4567", "89")}
            account.meetings = {f"{name}-{day}": meeting(f"{name}-{day}", day=day, **access) for day in range(1, 13)}
        simulated.ledger.feeds.add(Feed("phone", "0" * 64, ("alice",), "owner", False, "phone", NOW))
        simulated.go(2 * HOUR + ROUND)
        assert simulated.troubled() == set()
        assert_agrees(simulated)
        yield simulated


def assert_agrees(simulated: SimulatedDaemon) -> None:
    """The calendar has what the ledger has, and that is what the accounts have; each entry was made once."""
    wanted = simulated.wanted(list(simulated.accounts))
    profile = simulated.daemon._jobs.profiles["team"].key
    entries = {event: entry for event, entry in simulated.ledger.entries.of(profile).items() if entry.inputs}
    placed = simulated.ledger.placements.of("team")
    assert simulated.entries("team").keys() == placed.keys() == entries.keys() == wanted.keys()
    assert all(placed[event].digest == entries[event].digest for event in wanted)
    for event, body in simulated.entries("team").items():
        assert occurrences_in(body, NOW, NOW + SHOWN) == occurrences(wanted[event], NOW, NOW + SHOWN) != set()
        (code,) = codes_made(simulated.link_maker.made, event, Visitor(event))
        assert link_codes(body) == (f"code-{event}", code)
        room = f"https://{event.split('-')[0]}.example.org/room/room-{event}"
        assert_says(body, wanted[event], Links(room, f"code-{event}", code), Readers(owner=False, passwords=False))
    assert all(place.state == "placed" for place in placed.values())
    made = Counter((event, visitor.external_id) for event, visitor in simulated.link_maker.made)
    assert set(made.values()) == {1}
    (feed,) = simulated.ledger.feeds.all().values()
    assert simulated.ledger.feeds.content(feed).keys() == simulated.accounts["alice"].meetings.keys()


def in_steps(simulated: SimulatedDaemon, span: timedelta) -> Iterator[timedelta]:
    """Live through a stretch of time, and stop to look now and then: at how long it has lasted."""
    for number in range(1, int(span / STEP) + 1):
        simulated.go(STEP)
        yield number * STEP


def assert_heals(simulated: SimulatedDaemon) -> None:
    simulated.go(HEALED)
    assert simulated.troubled() == set()
    assert simulated.daemon.unsaved_runs() == []
    assert_agrees(simulated)
    starts = Counter((ring.name, int(ring.steady // 3600)) for ring in simulated.scheduler.starts)
    assert max(starts.values()) <= 70, starts.most_common(3)


def change(simulated: SimulatedDaemon, account: str, event: str, **fields: object) -> None:
    meetings = simulated.accounts[account].meetings
    meetings[event] = replace(meetings[event], **fields)


def failing(error: SyncdError, *servers: str) -> Callable[[str, str], None]:
    def rule(server: str, _what: str) -> None:
        if server in servers:
            raise error

    return rule


@pytest.mark.parametrize(
    "error",
    [Unavailable("it does not answer"), Unavailable("later (429)", 600.0), BadAnswer("HTML instead of an answer")],
    ids=["away", "429", "nonsense"],
)
def test_after_six_hours_without_any_remote_and_two_with_half_of_them_all_is_well(
    simulated: SimulatedDaemon, error: SyncdError
) -> None:
    before, writes = simulated.entries("team"), simulated.calendars["team"].writes
    simulated.network.rule = failing(error, *ALL)
    change(simulated, "alice", "alice-1", title="Changed", description="Other\nthings")
    simulated.accounts["bob"].meetings["bob-new"] = meeting("bob-new", day=3)
    for lasted in in_steps(simulated, 6 * HOUR):
        assert simulated.troubled() >= {"alice", "bob"}
        assert lasted < HOUR + ROUND or "team" in simulated.troubled()
        assert simulated.entries("team") == before
    numbers = count()

    def half(_server: str, _what: str) -> None:
        if next(numbers) % 2:
            raise error

    simulated.network.rule = half
    for _ in in_steps(simulated, 2 * HOUR):
        assert before.keys() <= simulated.entries("team").keys()
    simulated.network.rule = healthy
    assert_heals(simulated)
    assert simulated.calendars["team"].writes - writes <= 2 * 2 + 2 * 2


@pytest.mark.parametrize(
    ("server", "troubled"), [("alice", "alice"), ("team", "team"), ("openmeetings", "syncd links")]
)
def test_an_unforeseen_exception_of_any_kind_of_job_is_shown_stops_no_other_and_heals(
    simulated: SimulatedDaemon, server: str, troubled: str
) -> None:
    def rule(asked: str, _what: str) -> None:
        if asked == server:
            raise KeyError("unforeseen")

    simulated.network.rule = rule
    simulated.accounts["alice"].meetings["alice-new"] = meeting("alice-new", day=3)
    simulated.accounts["bob"].meetings["bob-new"] = meeting("bob-new", day=3)
    for _ in in_steps(simulated, HOUR):
        assert simulated.troubled() == {troubled}
    if server != "team":
        assert "bob-new" in simulated.entries("team")
    simulated.network.rule = healthy
    assert_heals(simulated)


def test_a_listing_that_is_empty_or_halved_though_the_events_are_there_changes_nothing(
    simulated: SimulatedDaemon,
) -> None:
    before, log = simulated.entries("team"), len(simulated.calendars["team"].log)
    for lie in (lambda _all: {}, lambda each: dict(list(each.items())[::2])):
        for account in simulated.accounts.values():
            account.listing = lie
        for _ in in_steps(simulated, 3 * HOUR):
            assert simulated.troubled() == set()
            assert simulated.entries("team") == before
    assert {verb for verb, _ in simulated.calendars["team"].log[log:]} == {"seen"}
    for account in simulated.accounts.values():
        account.listing = dict
    assert_heals(simulated)
    assert sum(each.requests["event"] for each in simulated.accounts.values()) == 2 * 12


@pytest.mark.parametrize("left", [0, 6], ids=["all", "half"])
def test_an_account_whose_server_lost_its_meetings_is_held_and_let_go_when_they_are_back(
    simulated: SimulatedDaemon, left: int
) -> None:
    before, writes = simulated.entries("team"), simulated.calendars["team"].writes
    meetings = simulated.accounts["alice"].meetings
    simulated.accounts["alice"].meetings = dict(list(meetings.items())[:left])
    for _ in in_steps(simulated, 6 * HOUR):
        assert simulated.troubled() == {"team", "phone"}
        assert simulated.entries("team") == before
    simulated.accounts["alice"].meetings = meetings
    assert_heals(simulated)
    assert simulated.entries("team") == before
    assert simulated.calendars["team"].writes == writes


def test_when_every_answer_takes_twenty_seconds_all_that_happens_arrives(simulated: SimulatedDaemon) -> None:
    simulated.network.rule = lambda _server, _what: simulated.clocks.pass_by(20.0)
    change(simulated, "alice", "alice-1", title="Changed", description="Other\nthings")
    simulated.accounts["bob"].meetings |= {f"bob-{day}": meeting(f"bob-{day}", day=day) for day in range(20, 30)}
    asked = simulated.network.requests_to("alice", "bob")
    for _ in in_steps(simulated, 3 * HOUR):
        assert simulated.troubled() == set()
    assert_agrees(simulated)
    assert simulated.network.requests_to("alice", "bob") - asked <= 2 * 3 * HOUR / MINUTE + 2 * 10
    simulated.network.rule = healthy
    assert_heals(simulated)


def test_a_ledger_that_another_program_has_locked_is_reported_and_all_is_done_later(simulated: SimulatedDaemon) -> None:
    writes = simulated.calendars["team"].writes
    with simulated.locked():
        change(simulated, "alice", "alice-1", title="Changed", description="Other\nthings")
        simulated.accounts["bob"].meetings["bob-new"] = meeting("bob-new", day=3)
        for lasted in in_steps(simulated, 2 * HOUR):
            assert simulated.troubled() >= {"alice", "bob"}
            assert lasted < HOUR + ROUND or "team" in simulated.troubled()
            accounts = simulated.status()["accounts"]
            assert isinstance(accounts, dict)
            assert accounts["alice"]["state"] == LedgerBusy.state
            assert "locked" in accounts["alice"]["message"]
        assert simulated.calendars["team"].writes == writes
    assert_heals(simulated)


def test_a_ledger_that_is_locked_between_a_put_and_its_record_doubles_nothing(simulated: SimulatedDaemon) -> None:
    with simulated.locking() as lock:

        def rule(_server: str, what: str) -> None:
            if what in ("create", "update", "delete"):
                lock()

        simulated.network.rule = rule
        change(simulated, "alice", "alice-1", title="Changed", description="Other\nthings")
        simulated.accounts["bob"].meetings["bob-new"] = meeting("bob-new", day=3)
        del simulated.accounts["bob"].meetings["bob-2"]
        for _ in in_steps(simulated, HOUR):
            assert simulated.troubled()
        simulated.network.rule = healthy
    assert_heals(simulated)
    assert len(simulated.calendars["team"].objects) == 24


def test_a_full_disk_is_reported_and_all_is_done_when_there_is_room(simulated: SimulatedDaemon) -> None:
    before = simulated.entries("team")
    with simulated.full():
        for name, account in simulated.accounts.items():
            long = {"description": "x" * 5000}
            account.meetings |= {f"{name}-{day}": meeting(f"{name}-{day}", day=day, **long) for day in range(20, 80)}
        for _ in in_steps(simulated, 6 * HOUR):
            assert simulated.troubled() >= {"alice", "bob"}
            accounts = simulated.status()["accounts"]
            assert isinstance(accounts, dict)
            assert accounts["alice"]["state"] == LedgerError.state
            assert "disk is full" in accounts["alice"]["message"]
            assert simulated.entries("team") == before
    assert_heals(simulated)


@pytest.mark.parametrize(
    "wrong",
    [
        3 * HOUR,
        -3 * HOUR,
        400 * DAY,
        -400 * DAY,
    ],
    ids=str,
)
def test_a_clock_that_was_wrong_for_an_hour_costs_nothing_but_a_look_at_everything(
    simulated: SimulatedDaemon, wrong: timedelta
) -> None:
    before = simulated.entries("team")
    for account in simulated.accounts.values():
        account.requests.clear()
    simulated.clocks.jump(wrong)
    change(simulated, "alice", "alice-1", title="Changed", description="Other\nthings")
    simulated.go(HOUR)
    assert before.keys() <= simulated.entries("team").keys()
    simulated.clocks.jump(-wrong)
    change(simulated, "bob", "bob-1", title="Changed, too")
    simulated.go(ROUND)
    assert all(moment <= simulated.clocks.now + DAY for moment, _, _ in simulated.scheduler.jobs.values())
    assert simulated.troubled() == set()
    assert_agrees(simulated)
    simulated.go(HOUR)
    for account in simulated.accounts.values():
        assert account.requests["full snapshot"] <= 2  # one for each jump
    assert_heals(simulated)


def test_an_unforeseen_exception_is_reported_and_the_job_tried_again(simulated: SimulatedDaemon) -> None:
    def rule(server: str, _what: str) -> None:
        if server == "alice":
            raise KeyError("unforeseen")

    simulated.network.rule = rule
    for _ in in_steps(simulated, 2 * HOUR):
        assert simulated.troubled() == {"alice"}
    simulated.network.rule = healthy
    assert_heals(simulated)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[tuple[SimulatedDaemon, Stage]]:
    """Alice's five meetings in an OpenTalk and an OpenMeetings that speak HTTP, and a calendar in memory."""
    clocks = Clocks(NOW)
    with Stage(clocks.clock) as stage:
        for hour in range(5):
            starts = NOW + DAY + hour * HOUR
            stage.opentalk.create("alice", title="Meeting", starts_at=starts, ends_at=starts + HOUR)
        path = stage.write_config(tmp_path, {"team": "http://127.0.0.1:9/"}, calendar_password="x")
        config = load(path, {}, WAYS)
        with SimulatedDaemon(config, clocks, connect(config, clocks.clock)) as simulated:
            simulated.go(HOUR)
            assert simulated.troubled() == set()
            assert len(simulated.entries("team")) == 5
            yield simulated, stage


EVENTS, EVER = "/v1/events", 10**6
HTML = "<html>Please log in</html>"
TROUBLES: dict[str, Callable[[Stage], None]] = {
    "503": lambda stage: stage.opentalk.app.fail("/", status=503, times=EVER),
    "429": lambda stage: stage.opentalk.app.fail("/", status=429, headers={"Retry-After": "600"}, times=EVER),
    "HTML": lambda stage: stage.opentalk.app.fail("/", status=200, body=HTML, content_type="text/html", times=EVER),
    "half of each listing": lambda stage: stage.opentalk.app.cut(EVENTS, times=EVER),
    "half of each JSON": lambda stage: stage.opentalk.app.cut(EVENTS, mend=True, times=EVER),
    "no sign-in": lambda stage: stage.identity.app.fail("/", status=500, times=EVER),
    "no word after sign-in": lambda stage: stage.identity.app.cut("/", times=EVER),
}


@pytest.mark.parametrize("name", TROUBLES)
def test_two_hours_of_a_server_that_fails_in_one_way_are_reported_and_lose_nothing(
    stage: tuple[SimulatedDaemon, Stage], name: str
) -> None:
    simulated, servers = stage
    before, log = simulated.entries("team"), len(simulated.calendars["team"].log)
    servers.identity.end_sessions()
    TROUBLES[name](servers)
    opentalk, identity = servers.opentalk.app, servers.identity.app
    asked = requests(opentalk, identity)
    simulated.go(2 * LONGEST_WAIT)  # a token lives for five minutes; until then nobody asks who is who
    event = servers.opentalk.create("alice", title="New", starts_at=NOW + DAY, ends_at=NOW + DAY + HOUR)["id"]
    for _ in in_steps(simulated, 2 * HOUR):
        assert simulated.troubled() == {"alice"}
        assert simulated.entries("team") == before
    assert requests(opentalk, identity) - asked <= 10 * 3 * HOUR / (5 * MINUTE)
    opentalk.clear()
    identity.clear()
    simulated.go(HEALED)
    assert simulated.troubled() == set()
    assert simulated.entries("team").keys() == before.keys() | {event}
    changes = [verb for verb, _ in simulated.calendars["team"].log[log:] if verb in ("create", "update", "delete")]
    assert changes == ["create"]
    assert len(servers.openmeetings.hashes) == 6


def requests(*servers: Traffic) -> int:
    return sum(len(each.log) for each in servers)
