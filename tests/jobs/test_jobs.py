# SPDX-License-Identifier: Apache-2.0
import logging
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import TypeVar

import pytest

from syncd.config import Config
from syncd.daemon.daemon import Daemon
from syncd.daemon.signals import StopRequest
from syncd.errors import BadAnswer, LedgerBusy, LoginRefused, NeedsYou, SyncdError, Unavailable
from syncd.jobs.jobs import SIDE_BY_SIDE, Jobs
from syncd.jobs.servers import Servers
from syncd.ledger.database import Database
from syncd.ledger.ledger import Ledger
from syncd.model import Identity, RunKey, Snapshot, Window
from tests.support.configuration import configure
from tests.support.jobs_rig import JobsRig
from tests.support.meetings import HOUR, NOW, meeting
from tests.support.memory_servers import MemorySource
from tests.support.single_thread import SingleThread
from tests.support.tables import full_disk

MINUTE = timedelta(minutes=1)
ACCOUNTS = tuple(f"a{number}" for number in range(20))
CALENDARS = tuple(f"c{number}" for number in range(5))
DOWN = Unavailable("cannot be reached: connection refused")
BUSY = Unavailable("asks for fewer requests (429)", 3600.0)


def configuration(folder: Path, accounts: Sequence[str] = ACCOUNTS) -> Config:
    """Accounts on one host, five calendars on another, and an OpenMeetings on a third."""
    lines = f"accounts = {list(accounts)}"
    calendars = {name: f'url = "https://dav.example.org/{name}/"\n{lines}' for name in CALENDARS}
    return configure(folder, dict.fromkeys(accounts, ""), calendars)


class BreakableServers(JobsRig):
    """The jobs of accounts with a meeting each, and servers that are broken and mended."""

    def __init__(self, config: Config, ledger: Ledger | None = None, *, workers: int = 1) -> None:
        super().__init__(config, ledger=ledger, workers=workers)
        for name, account in self.accounts.items():
            account.meetings = {f"of-{name}": meeting(f"of-{name}")}

    def requests_of_accounts(self) -> int:
        return sum(sum(source.requests.values()) for source in self.accounts.values())

    def requests_of_calendars(self) -> int:
        return sum(len(calendar.log) for calendar in self.calendars.values())

    def break_calendars(self, error: SyncdError) -> None:
        for calendar in self.calendars.values():
            calendar.fail(error, times=1000)

    def mend_calendars(self) -> None:
        for calendar in self.calendars.values():
            calendar._faults.clear()

    def break_accounts(self, error: SyncdError) -> None:
        for source in self.accounts.values():
            source.broken = {"snapshot": error, "full snapshot": error}

    def mend_accounts(self) -> None:
        for source in self.accounts.values():
            source.broken = {}


@pytest.fixture
def rig(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[BreakableServers]:
    caplog.set_level(logging.INFO, "syncd.jobs")
    with BreakableServers(configuration(tmp_path)) as rig:
        yield rig


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """The lines since it was last called, with the first letter of their level."""

    def read() -> list[str]:
        messages = [f"{record.levelname[0]} {record.getMessage()}" for record in caplog.records]
        caplog.clear()
        return messages

    return read


def test_an_outage_is_one_line_for_all_calendars_of_a_host_and_one_when_it_ends(
    rig: BreakableServers, lines: Callable[[], list[str]]
) -> None:
    rig.pull()
    rig.break_calendars(DOWN)
    for _ in range(3):
        assert {run.state for run in rig.push()} == {"retrying"}
        rig.now += HOUR
    assert lines() == [
        f"W https://dav.example.org is in trouble; 5 calendars wait for it: {rig.push()[0].message}",
    ]
    rig.mend_calendars()
    assert {run.state for run in rig.push()} == {"ok"}
    assert lines() == ["I https://dav.example.org answers again after 10800 s"]
    assert rig.recovered == [RunKey("push", name) for name in CALENDARS[1:]]


def test_an_outage_of_many_accounts_is_one_line_too(rig: BreakableServers, lines: Callable[[], list[str]]) -> None:
    rig.break_accounts(DOWN)
    rig.pull()
    rig.pull()
    assert lines() == [f"W https://meet.example.org is in trouble; 20 accounts wait for it: {DOWN}"]
    rig.mend_accounts()
    assert rig.jobs.pull("a7").state == "ok"
    assert {*rig.recovered} == {RunKey("pull", name) for name in ACCOUNTS} - {RunKey("pull", "a7")}
    rig.pull()
    assert lines() == ["I https://meet.example.org answers again after 0 s"]


def test_who_waits_for_a_host_has_a_run_of_its_own_that_says_so(rig: BreakableServers) -> None:
    rig.break_accounts(DOWN)
    rig.pull()
    standings = rig.ledger.history.standings()
    assert {standings[RunKey("pull", name)].latest.state for name in ACCOUNTS} == {"retrying"}
    assert {standings[RunKey("pull", name)].latest.next_try for name in ACCOUNTS} == {NOW + 10 * MINUTE}


def test_the_wait_for_a_host_doubles_with_its_rounds_up_to_a_quarter_of_an_hour(rig: BreakableServers) -> None:
    rig.break_accounts(DOWN)
    waits = []
    for _ in range(4):
        waits.append({run.next_try and run.next_try - rig.now for run in rig.pull()})
        rig.now += HOUR
    assert waits == [{10 * MINUTE}, {15 * MINUTE}, {15 * MINUTE}, {15 * MINUTE}]


def test_retry_after_is_obeyed_by_all_accounts_of_a_host(rig: BreakableServers) -> None:
    rig.pull()
    before = rig.requests_of_accounts()
    rig.now += 5 * MINUTE
    rig.break_accounts(BUSY)
    runs = rig.pull()
    assert rig.requests_of_accounts() == before + 1
    assert {(run.state, run.next_try) for run in runs} == {("retrying", rig.now + HOUR)}
    rig.now += HOUR - MINUTE
    runs = rig.pull()
    assert rig.requests_of_accounts() == before + 1
    assert {run.next_try for run in runs} == {rig.now + MINUTE}
    rig.mend_accounts()
    rig.now += MINUTE
    assert {run.state for run in rig.pull()} == {"ok"}


def test_retry_after_is_not_overridden_by_a_change_that_starts_a_push_but_by_a_person(rig: BreakableServers) -> None:
    rig.pull()
    rig.break_calendars(BUSY)
    rig.jobs.push("c0")
    before = rig.requests_of_calendars()
    rig.mend_calendars()
    for _ in range(3):
        rig.accounts["a1"].meetings["of-a1"] = meeting("of-a1", title="Another")
        rig.pull()
        assert {(run.state, run.next_try) for run in rig.push()} == {("retrying", NOW + HOUR)}
    assert rig.requests_of_calendars() == before
    runs = {(run.key.kind, run.key.name): run.state for run in rig.jobs.run_all()}
    assert {runs["push", name] for name in CALENDARS} == {"ok"}


def test_retry_after_of_openmeetings_is_obeyed_while_invites_are_made(rig: BreakableServers) -> None:
    rig.pull()
    rig.link_maker.broken = BUSY
    rig.jobs.mint()
    rig.link_maker.broken = None
    runs = {run.key.name: run for run in rig.jobs.mint()}
    assert (runs["openmeetings"].state, runs["openmeetings"].next_try) == ("retrying", NOW + HOUR)
    assert rig.link_maker.made == []
    assert sum(len(source.invites) for source in rig.accounts.values()) == 20
    rig.now += HOUR
    assert {run.key.name: run.state for run in rig.jobs.mint()}["openmeetings"] == "ok"
    assert len(rig.link_maker.made) == 20


def test_the_links_wait_for_the_same_host_as_the_listing(rig: BreakableServers) -> None:
    rig.pull()
    rig.break_accounts(BUSY)
    rig.now += 5 * MINUTE
    rig.pull()
    before = rig.requests_of_accounts()
    rig.jobs.mint()
    assert rig.requests_of_accounts() == before
    assert len(rig.link_maker.made) == 20


@pytest.mark.parametrize("error", [NeedsYou("look at it"), LoginRefused("sign in")])
def test_trouble_that_is_an_accounts_own_is_logged_for_it_alone(
    rig: BreakableServers, lines: Callable[[], list[str]], error: SyncdError
) -> None:
    for name in ("a1", "a2"):
        rig.accounts[name].broken["full snapshot"] = error
    assert [run.key.name for run in rig.pull() if run.state != "ok"] == ["a1", "a2"]
    rig.pull()
    assert lines() == [f"W pull a1: {error}", f"W pull a2: {error}"]
    rig.mend_accounts()
    rig.pull()
    assert lines() == ["I pull a1: well again after 0 s", "I pull a2: well again after 0 s"]
    assert rig.recovered == []


def test_an_account_that_fails_alone_does_not_let_its_host_flap(
    rig: BreakableServers, lines: Callable[[], list[str]]
) -> None:
    rig.accounts["a1"].broken = dict.fromkeys(("snapshot", "full snapshot"), BadAnswer("answered HTML"))
    waits = []
    for _ in range(5):
        waits.append(next(run.next_try - rig.now for run in rig.pull() if run.key.name == "a1" and run.next_try))
        rig.now += HOUR
    messages = lines()
    assert [line[0] for line in messages] == ["W", "I", "W"]
    assert messages[-1] == "W pull a1: answered HTML"
    assert rig.recovered == [RunKey("pull", "a1")]
    assert waits == [10 * MINUTE, *[15 * MINUTE] * 4]
    rig.mend_accounts()
    rig.pull()
    assert [line[:18] for line in lines()] == ["I pull a1: well ag"]


def test_a_calendar_in_which_nothing_is_to_be_done_says_nothing_of_its_host(
    rig: BreakableServers, lines: Callable[[], list[str]]
) -> None:
    rig.pull()
    rig.jobs.push("c0")
    before = rig.requests_of_calendars()
    rig.break_calendars(DOWN)
    rig.jobs.push("c1")
    asked = rig.requests_of_calendars()
    assert asked > before
    assert rig.jobs.push("c0").state == "ok"
    assert rig.requests_of_calendars() == asked
    assert [line[0] for line in lines()] == ["W"]
    assert rig.recovered == []


def test_a_full_disk_makes_no_links_at_servers_and_all_goes_on_when_there_is_room(rig: BreakableServers) -> None:
    rig.pull()
    rig.jobs.mint()
    for name, source in rig.accounts.items():
        source.meetings[f"more-{name}"] = meeting(f"more-{name}", 2)
    rig.now += 5 * MINUTE
    rig.pull()
    made = len(rig.link_maker.made)
    with full_disk(rig.ledger):
        for _ in range(3):
            (run,) = rig.jobs.mint()
            assert (run.key.kind, run.state) == ("links", "needs_you")
        assert len(rig.link_maker.made) == made
    rig.jobs.mint()
    assert len(rig.link_maker.made) == made + 20


T = TypeVar("T")


class LockedDatabase(Database):
    """A database that another program may hold locked."""

    locked = False

    def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self.locked:
            raise LedgerBusy("another program holds it locked; it is tried again")
        return super().write(work)


def test_what_a_locked_ledger_could_not_record_of_the_links_is_not_reported_for_ever(tmp_path: Path) -> None:
    config = configuration(tmp_path, ACCOUNTS[:1])
    database = LockedDatabase(config.state)
    with BreakableServers(config, Ledger(database)) as rig:
        rig.jobs.pull("a0")
        database.locked = True
        assert [run.state for run in rig.jobs.mint()] == ["retrying"]
        assert [run.key for run in rig.jobs.unsaved_runs] == [("links", "all")]
        database.locked = False
        rig.jobs.mint()
        assert rig.jobs.unsaved_runs == []


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
    with BreakableServers(configuration(tmp_path), workers=4) as rig:
        runs = {(run.key.kind, run.key.name): run for run in rig.jobs.run_all()}
        assert {run.state for run in runs.values()} == {"ok"}
        assert runs["maker", "openmeetings"].counts == {"hashes": 20}
        assert all(len(calendar.objects) == 20 for calendar in rig.calendars.values())
        assert rig.jobs.mint() == []


def test_the_daemon_does_at_once_what_waits_for_a_host_that_answers_again(rig: BreakableServers) -> None:
    scheduler = SingleThread()
    daemon = Daemon(rig.config, rig.ledger, rig.servers, rig.clock, StopRequest(), scheduler=scheduler, workers=1)
    rig.break_accounts(DOWN)
    daemon.start()
    scheduler.run()
    assert scheduler.later["pull a3"] > NOW
    asked = rig.requests_of_accounts()
    rig.mend_accounts()
    daemon._tasks[RunKey("pull", "a3")].run_soon()
    scheduler.run()
    assert rig.requests_of_accounts() == asked + 20 + 20  # each is listed and its invite is made
    assert rig.ledger.history.standings()[RunKey("pull", "a9")].latest.state == "ok"
