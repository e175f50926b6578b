# SPDX-License-Identifier: Apache-2.0
from datetime import timedelta

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from syncd.model import RunKey
from syncd.sync.outages import Outages, host_of
from tests.support.meetings import DAY, HOUR, NOW

HOST, OTHER = "https://dav.example.org", "https://om.example.org"
TEAM = [RunKey("push", f"c{number}") for number in range(5)]
LINKS = RunKey("maker", "openmeetings")
FEED = RunKey("feed", "phone")
JOBS = st.sampled_from([*TEAM, LINKS, FEED])


class OutagesRig:
    """Outages of five calendars and an OpenMeetings, and a clock."""

    def __init__(self) -> None:
        self.now = NOW
        hosts: dict[RunKey, str] = {**dict.fromkeys(TEAM, HOST), LINKS: OTHER}
        self.outages = Outages(hosts, lambda: self.now)


@pytest.fixture
def rig() -> OutagesRig:
    return OutagesRig()


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://dav.example.org/alice/opentalk/", "https://dav.example.org"),
        ("https://DAV.example.org:443", "https://dav.example.org"),
        ("http://127.0.0.1:8080/x?y", "http://127.0.0.1:8080"),
        ("https://alice:secret@dav.example.org:8443/", "https://dav.example.org:8443"),
        ("http://[::1]:80/", "http://[::1]"),
    ],
)
def test_a_host_is_scheme_name_and_unusual_port_and_nothing_else(url: str, host: str) -> None:
    assert host_of(url) == host


def test_an_outage_begins_once_and_ends_once_and_names_who_waits(rig: OutagesRig) -> None:
    assert [rig.outages.note_failure(job) for job in TEAM] == ["begins", *["lasts"] * 4]
    rig.now += HOUR
    ended = rig.outages.note_answer(TEAM[2])
    assert ended is not None
    assert ended.start == NOW
    assert {*ended.waiting} == {*TEAM} - {TEAM[2]}
    assert [rig.outages.note_answer(job) for job in TEAM] == [None] * 5


def test_what_all_jobs_of_a_host_do_once_is_one_round(rig: OutagesRig) -> None:
    for rounds in range(1, 4):
        for job in TEAM:
            rig.outages.note_failure(job)
            assert rig.outages.failures(job) == rounds
    assert rig.outages.failures(LINKS) == 0


def test_a_job_that_fails_while_others_are_answered_is_alone_with_that(rig: OutagesRig) -> None:
    first, second, *_ = TEAM
    assert rig.outages.note_failure(first) == "begins"
    assert rig.outages.note_answer(second) is not None
    assert [rig.outages.note_failure(first) for _ in range(3)] == ["alone"] * 3
    assert rig.outages.note_failure(second) == "begins"
    assert rig.outages.note_failure(first) == "lasts"
    rig.outages.note_answer(first)
    assert rig.outages.note_failure(first) == "begins"


def test_a_host_that_asked_for_time_is_held_for_all_until_then_or_until_a_person_asks(rig: OutagesRig) -> None:
    rig.outages.pause(TEAM[0], NOW + HOUR)
    rig.outages.pause(TEAM[1], NOW + HOUR / 2)
    assert {rig.outages.paused_until(job) for job in TEAM} == {NOW + HOUR}
    assert rig.outages.paused_until(LINKS) is None
    rig.now = NOW + HOUR
    assert rig.outages.paused_until(TEAM[0]) is None
    rig.outages.pause(TEAM[0], NOW + 2 * HOUR)
    rig.outages.end_pauses()
    assert rig.outages.paused_until(TEAM[0]) is None


def test_an_answer_to_what_was_asked_before_does_not_end_a_hold(rig: OutagesRig) -> None:
    rig.outages.pause(TEAM[0], NOW + HOUR)
    rig.outages.note_failure(TEAM[0])
    assert rig.outages.note_answer(TEAM[1]) is None
    assert rig.outages.paused_until(TEAM[1]) == NOW + HOUR
    rig.now += HOUR
    assert rig.outages.note_answer(TEAM[1]) is not None


def test_who_is_not_asked_has_not_failed_once_more(rig: OutagesRig) -> None:
    rig.outages.pause(TEAM[0], NOW + HOUR)
    for _ in range(5):
        for job in TEAM:
            rig.outages.note_failure(job)
    assert rig.outages.failures(TEAM[0]) == 1
    rig.now += HOUR
    rig.outages.note_failure(TEAM[0])
    assert rig.outages.failures(TEAM[0]) == 2


def test_a_hold_of_a_clock_that_was_wrong_counts_for_nothing(rig: OutagesRig) -> None:
    rig.now = NOW + 3000 * DAY
    rig.outages.pause(TEAM[0], rig.now + HOUR)
    rig.now = NOW
    assert rig.outages.paused_until(TEAM[0]) is None


def test_a_job_without_a_host_is_always_alone(rig: OutagesRig) -> None:
    rig.outages.pause(FEED, NOW + HOUR)
    assert rig.outages.paused_until(FEED) is None
    assert [rig.outages.note_failure(FEED) for _ in range(2)] == ["alone", "alone"]
    assert (rig.outages.failures(FEED), rig.outages.note_answer(FEED)) == (0, None)


class Weather(RuleBasedStateMachine):
    """Any runs in any order: outages begin and end by turns, and whoever waited is named at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.rig = OutagesRig()
        self.out: dict[str | None, set[RunKey]] = {}

    @rule(job=JOBS)
    def fail(self, job: RunKey) -> None:
        host, held = self.rig.outages.host(job), self.rig.outages.paused_until(job)
        match self.rig.outages.note_failure(job):
            case "begins":
                assert host not in self.out
                self.out[host] = {job}
            case "lasts":
                self.out[host].add(job)
            case "alone":
                assert held is None
                return
        assert self.rig.outages.failures(job) >= 1

    @rule(job=JOBS)
    def answer(self, job: RunKey) -> None:
        host, held = self.rig.outages.host(job), self.rig.outages.paused_until(job)
        ended = self.rig.outages.note_answer(job)
        assert (ended is not None) == (host in self.out and held is None)
        if ended is not None:
            assert {*ended.waiting} == self.out.pop(host) - {job}

    @rule(job=JOBS, seconds=st.integers(1, 7200))
    def pause(self, job: RunKey, seconds: int) -> None:
        until = self.rig.now + timedelta(seconds=seconds)
        self.rig.outages.pause(job, until)
        assert job == FEED or (self.rig.outages.paused_until(job) or until) >= until

    @rule(seconds=st.integers(0, 7200))
    def sleep(self, seconds: int) -> None:
        self.rig.now += timedelta(seconds=seconds)

    @rule()
    def end_pauses(self) -> None:
        self.rig.outages.end_pauses()

    @invariant()
    def a_host_is_held_for_all_or_none(self) -> None:
        assert len({self.rig.outages.paused_until(job) for job in TEAM}) == 1


TestWeather = Weather.TestCase
