# SPDX-License-Identifier: Apache-2.0
import logging
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import TypeVar

import pytest

from syncd.daemon.daemon import Daemon
from syncd.daemon.signals import StopRequest
from syncd.errors import BadAnswer, LedgerBusy, LoginRefused, NeedsYou, SyncdError, Unavailable
from syncd.jobs.jobs import SIDE_BY_SIDE, Jobs
from syncd.jobs.servers import Servers
from syncd.ledger.database import Database
from syncd.ledger.ledger import Ledger
from syncd.model import Identity, Run, RunKey, Snapshot, Window
from tests.support.configuration import configure
from tests.support.meetings import HOUR, NOW, meeting
from tests.support.memory_servers import MemoryCalendar, MemoryMinter, MemorySource
from tests.support.single_thread import SingleThread
from tests.support.tables import full_disk

MINUTE = timedelta(minutes=1)
ACCOUNTS = tuple(f"a{number}" for number in range(20))
CALENDARS = tuple(f"c{number}" for number in range(5))
DOWN = Unavailable("cannot be reached: connection refused")
BUSY = Unavailable("asks for fewer requests (429)", 3600.0)


class Office:
    """Twenty accounts on one host, five calendars on another and an OpenMeetings on a third, and a clock.

    ``told`` are the lines that people read, ``rung`` the jobs that were told to wait no longer.
    """

    def __init__(self, folder: Path, accounts: Sequence[str] = ACCOUNTS, *, workers: int = 1) -> None:
        self.now = NOW
        self.sources = {name: MemorySource(meeting(f"of-{name}")) for name in accounts}
        for name, source in self.sources.items():
            source.person = Identity("https://id.example.org", name, f"u-{name}", name, "Adams")
        self.calendars = {name: MemoryCalendar(name) for name in CALENDARS}
        self.minter = MemoryMinter()
        self.config = configure(
            folder,
            dict.fromkeys(accounts, ""),
            {name: f'url = "https://dav.example.org/{name}/"\naccounts = {list(accounts)}' for name in CALENDARS},
        )
        self.ledger = Ledger.open(self.config.state)
        self.rung: list[RunKey] = []
        servers = Servers(self.sources, {"openmeetings": self.minter}, self.calendars, lambda: None)
        self.jobs = Jobs(
            self.config,
            self.ledger,
            servers,
            lambda: self.now,
            workers=workers,
            jitter=lambda: 0.0,
            recovered=self.rung.append,
        )

    def pull(self) -> list[Run]:
        return [self.jobs.pull(name) for name in self.sources]

    def push(self) -> list[Run]:
        return [self.jobs.push(name) for name in self.calendars]

    def listed(self) -> int:
        return sum(sum(source.asked.values()) for source in self.sources.values())

    def written(self) -> int:
        return sum(len(calendar.log) for calendar in self.calendars.values())

    def break_calendars(self, error: SyncdError) -> None:
        for calendar in self.calendars.values():
            calendar.fail(error, times=1000)

    def mend_calendars(self) -> None:
        for calendar in self.calendars.values():
            calendar._faults.clear()

    def break_accounts(self, error: SyncdError) -> None:
        for source in self.sources.values():
            source.broken = {"snapshot": error, "full snapshot": error}

    def mend_accounts(self) -> None:
        for source in self.sources.values():
            source.broken = {}


@pytest.fixture
def office(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Office]:
    caplog.set_level(logging.INFO, "syncd.jobs")
    office = Office(tmp_path)
    yield office
    office.ledger.close()


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """The lines since it was last called, with the first letter of their level."""

    def read() -> list[str]:
        told = [f"{record.levelname[0]} {record.getMessage()}" for record in caplog.records]
        caplog.clear()
        return told

    return read


def test_an_outage_is_one_line_for_all_calendars_of_a_host_and_one_when_it_ends(
    office: Office, lines: Callable[[], list[str]]
) -> None:
    office.pull()
    office.break_calendars(DOWN)
    for _ in range(3):
        assert {run.state for run in office.push()} == {"retrying"}
        office.now += HOUR
    assert lines() == [
        f"W https://dav.example.org is in trouble; 5 calendars wait for it: {office.push()[0].message}",
    ]
    office.mend_calendars()
    assert {run.state for run in office.push()} == {"ok"}
    assert lines() == ["I https://dav.example.org answers again after 10800 s"]
    assert office.rung == [RunKey("push", name) for name in CALENDARS[1:]]


def test_an_outage_of_many_accounts_is_one_line_too(office: Office, lines: Callable[[], list[str]]) -> None:
    office.break_accounts(DOWN)
    office.pull()
    office.pull()
    assert lines() == [f"W https://meet.example.org is in trouble; 20 accounts wait for it: {DOWN}"]
    office.mend_accounts()
    assert office.jobs.pull("a7").state == "ok"
    assert {*office.rung} == {RunKey("pull", name) for name in ACCOUNTS} - {RunKey("pull", "a7")}
    office.pull()
    assert lines() == ["I https://meet.example.org answers again after 0 s"]


def test_who_waits_for_a_host_has_a_run_of_its_own_that_says_so(office: Office) -> None:
    office.break_accounts(DOWN)
    office.pull()
    standings = office.ledger.history.standings()
    assert {standings[RunKey("pull", name)].latest.state for name in ACCOUNTS} == {"retrying"}
    assert {standings[RunKey("pull", name)].latest.next_try for name in ACCOUNTS} == {NOW + 10 * MINUTE}


def test_the_wait_for_a_host_doubles_with_its_rounds_up_to_a_quarter_of_an_hour(office: Office) -> None:
    office.break_accounts(DOWN)
    waits = []
    for _ in range(4):
        waits.append({run.next_try and run.next_try - office.now for run in office.pull()})
        office.now += HOUR
    assert waits == [{10 * MINUTE}, {15 * MINUTE}, {15 * MINUTE}, {15 * MINUTE}]


def test_retry_after_is_kept_to_by_all_accounts_of_a_host(office: Office) -> None:
    office.pull()
    before = office.listed()
    office.now += 5 * MINUTE
    office.break_accounts(BUSY)
    runs = office.pull()
    assert office.listed() == before + 1
    assert {(run.state, run.next_try) for run in runs} == {("retrying", office.now + HOUR)}
    office.now += HOUR - MINUTE
    runs = office.pull()
    assert office.listed() == before + 1
    assert {run.next_try for run in runs} == {office.now + MINUTE}
    office.mend_accounts()
    office.now += MINUTE
    assert {run.state for run in office.pull()} == {"ok"}


def test_retry_after_is_not_overridden_by_a_change_that_rings_a_push_but_by_a_person(office: Office) -> None:
    office.pull()
    office.break_calendars(BUSY)
    office.jobs.push("c0")
    before = office.written()
    office.mend_calendars()
    for _ in range(3):
        office.sources["a1"].meetings["of-a1"] = meeting("of-a1", title="Another")
        office.pull()
        assert {(run.state, run.next_try) for run in office.push()} == {("retrying", NOW + HOUR)}
    assert office.written() == before
    runs = {(run.key.kind, run.key.name): run.state for run in office.jobs.run_all()}
    assert {runs["push", name] for name in CALENDARS} == {"ok"}


def test_retry_after_of_openmeetings_is_kept_to_while_invites_are_made(office: Office) -> None:
    office.pull()
    office.minter.broken = BUSY
    office.jobs.mint()
    office.minter.broken = None
    runs = {run.key.name: run for run in office.jobs.mint()}
    assert (runs["openmeetings"].state, runs["openmeetings"].next_try) == ("retrying", NOW + HOUR)
    assert office.minter.made == []
    assert sum(len(source.invites) for source in office.sources.values()) == 20
    office.now += HOUR
    assert {run.key.name: run.state for run in office.jobs.mint()}["openmeetings"] == "ok"
    assert len(office.minter.made) == 20


def test_the_links_wait_for_the_same_host_as_the_listing(office: Office) -> None:
    office.pull()
    office.break_accounts(BUSY)
    office.now += 5 * MINUTE
    office.pull()
    before = office.listed()
    office.jobs.mint()
    assert office.listed() == before
    assert len(office.minter.made) == 20


@pytest.mark.parametrize("error", [NeedsYou("look at it"), LoginRefused("sign in")])
def test_trouble_that_is_an_accounts_own_is_told_for_it_alone(
    office: Office, lines: Callable[[], list[str]], error: SyncdError
) -> None:
    for name in ("a1", "a2"):
        office.sources[name].broken["full snapshot"] = error
    assert [run.key.name for run in office.pull() if run.state != "ok"] == ["a1", "a2"]
    office.pull()
    assert lines() == [f"W pull a1: {error}", f"W pull a2: {error}"]
    office.mend_accounts()
    office.pull()
    assert lines() == ["I pull a1: well again after 0 s", "I pull a2: well again after 0 s"]
    assert office.rung == []


def test_an_account_that_fails_alone_does_not_let_its_host_flap(office: Office, lines: Callable[[], list[str]]) -> None:
    office.sources["a1"].broken = dict.fromkeys(("snapshot", "full snapshot"), BadAnswer("answered HTML"))
    waits = []
    for _ in range(5):
        waits.append(next(run.next_try - office.now for run in office.pull() if run.key.name == "a1" and run.next_try))
        office.now += HOUR
    told = lines()
    assert [line[0] for line in told] == ["W", "I", "W"]
    assert told[-1] == "W pull a1: answered HTML"
    assert office.rung == [RunKey("pull", "a1")]
    assert waits == [10 * MINUTE, *[15 * MINUTE] * 4]
    office.mend_accounts()
    office.pull()
    assert [line[:18] for line in lines()] == ["I pull a1: well ag"]


def test_a_calendar_in_which_nothing_is_to_be_done_says_nothing_of_its_host(
    office: Office, lines: Callable[[], list[str]]
) -> None:
    office.pull()
    office.jobs.push("c0")
    before = office.written()
    office.break_calendars(DOWN)
    office.jobs.push("c1")
    asked = office.written()
    assert asked > before
    assert office.jobs.push("c0").state == "ok"
    assert office.written() == asked
    assert [line[0] for line in lines()] == ["W"]
    assert office.rung == []


def test_a_disk_that_is_full_makes_no_links_outside_and_heals(office: Office) -> None:
    office.pull()
    office.jobs.mint()
    for name, source in office.sources.items():
        source.meetings[f"more-{name}"] = meeting(f"more-{name}", 2)
    office.now += 5 * MINUTE
    office.pull()
    made = len(office.minter.made)
    with full_disk(office.ledger):
        for _ in range(3):
            (run,) = office.jobs.mint()
            assert (run.key.kind, run.state) == ("links", "needs_you")
        assert len(office.minter.made) == made
    office.jobs.mint()
    assert len(office.minter.made) == made + 20


T = TypeVar("T")


class LockedDatabase(Database):
    """A database that another program may hold locked."""

    locked = False

    def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self.locked:
            raise LedgerBusy("another program holds it locked; it is tried again")
        return super().write(work)


def test_what_a_locked_ledger_could_not_note_of_the_links_is_not_told_for_ever(tmp_path: Path) -> None:
    office = Office(tmp_path, ACCOUNTS[:1])
    office.ledger.close()
    database = LockedDatabase(office.config.state)
    office.ledger = ledger = Ledger(database)
    servers = Servers(office.sources, {"openmeetings": office.minter}, office.calendars, lambda: None)
    jobs = Jobs(office.config, ledger, servers, lambda: office.now, workers=1)
    jobs.pull("a0")
    database.locked = True
    assert [run.state for run in jobs.mint()] == ["retrying"]
    assert [run.key for run in jobs.unsaved] == [("links", "all")]
    database.locked = False
    jobs.mint()
    assert jobs.unsaved == []
    ledger.close()


class Waiting(MemorySource):
    """An account that is listed when the gate is open, and ``opens`` it itself, or not."""

    def __init__(self, name: str, gate: Event, *, opens: bool) -> None:
        super().__init__(meeting(f"of-{name}"))
        self.person = Identity("https://id.example.org", name, f"u-{name}", "Alice", "Adams")
        self._gate = gate
        self._opens = opens

    def snapshot(self, window: Window | None, have: Mapping[str, str] = {}) -> Snapshot:
        if self._opens:
            self._gate.set()
        assert self._gate.wait(timeout=10)
        return super().snapshot(window, have)


def test_a_slow_host_holds_no_account_on_another_up(tmp_path: Path) -> None:
    gate, names = Event(), [f"slow{number}" for number in range(SIDE_BY_SIDE)]
    urls = {**dict.fromkeys(names, 'url = "https://slow.example.org"'), "other": 'url = "https://other.example.org"'}
    config = configure(tmp_path, accounts=urls, calendars={})
    sources = {name: Waiting(name, gate, opens=name == "other") for name in urls}
    with Ledger.open(config.state) as ledger:
        runs = Jobs(config, ledger, Servers(sources, {}, {}, lambda: None), lambda: NOW).run_all()
    assert {run.key.name: run.state for run in runs if run.key.kind == "pull"} == dict.fromkeys(urls, "ok")


def test_links_of_all_servers_are_made_side_by_side_on_one_ledger(tmp_path: Path) -> None:
    office = Office(tmp_path, workers=4)
    try:
        runs = {(run.key.kind, run.key.name): run for run in office.jobs.run_all()}
        assert {run.state for run in runs.values()} == {"ok"}
        assert runs["maker", "openmeetings"].counts == {"hashes": 20}
        assert all(len(calendar.objects) == 20 for calendar in office.calendars.values())
        assert office.jobs.mint() == []
    finally:
        office.ledger.close()


def test_the_daemon_does_at_once_what_waits_for_a_host_that_answers_again(office: Office) -> None:
    scheduler = SingleThread()
    servers = Servers(office.sources, {"openmeetings": office.minter}, office.calendars, lambda: None)
    daemon = Daemon(
        office.config, office.ledger, servers, lambda: office.now, StopRequest(), scheduler=scheduler, workers=1
    )
    office.break_accounts(DOWN)
    daemon.start()
    scheduler.run()
    assert scheduler.later["pull a3"] > NOW
    asked = office.listed()
    office.mend_accounts()
    daemon._tasks[RunKey("pull", "a3")].run_soon()
    scheduler.run()
    assert office.listed() == asked + 20 + 20  # each is listed and its invite is made
    assert office.ledger.history.standings()[RunKey("pull", "a9")].latest.state == "ok"
