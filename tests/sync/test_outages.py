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


class Time:
    """Outages of five calendars and an OpenMeetings, and a clock."""

    def __init__(self) -> None:
        self.now = NOW
        hosts: dict[RunKey, str] = {**dict.fromkeys(TEAM, HOST), LINKS: OTHER}
        self.outages = Outages(hosts, lambda: self.now)


@pytest.fixture
def time() -> Time:
    return Time()


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


def test_an_outage_begins_once_and_ends_once_and_tells_who_waits(time: Time) -> None:
    assert [time.outages.failed(job) for job in TEAM] == ["begins", *["lasts"] * 4]
    time.now += HOUR
    ended = time.outages.answered(TEAM[2])
    assert ended is not None
    assert ended.begun == NOW
    assert {*ended.waiting} == {*TEAM} - {TEAM[2]}
    assert [time.outages.answered(job) for job in TEAM] == [None] * 5


def test_what_all_jobs_of_a_host_do_once_is_one_round(time: Time) -> None:
    for rounds in range(1, 4):
        for job in TEAM:
            time.outages.failed(job)
            assert time.outages.failures(job) == rounds
    assert time.outages.failures(LINKS) == 0


def test_a_job_that_fails_while_others_are_answered_is_alone_with_that(time: Time) -> None:
    first, second, *_ = TEAM
    assert time.outages.failed(first) == "begins"
    assert time.outages.answered(second) is not None
    assert [time.outages.failed(first) for _ in range(3)] == ["alone"] * 3
    assert time.outages.failed(second) == "begins"
    assert time.outages.failed(first) == "lasts"
    time.outages.answered(first)
    assert time.outages.failed(first) == "begins"


def test_a_host_that_asked_for_time_is_held_for_all_until_then_or_until_a_person_asks(time: Time) -> None:
    time.outages.pause(TEAM[0], NOW + HOUR)
    time.outages.pause(TEAM[1], NOW + HOUR / 2)
    assert {time.outages.paused_until(job) for job in TEAM} == {NOW + HOUR}
    assert time.outages.paused_until(LINKS) is None
    time.now = NOW + HOUR
    assert time.outages.paused_until(TEAM[0]) is None
    time.outages.pause(TEAM[0], NOW + 2 * HOUR)
    time.outages.end_pauses()
    assert time.outages.paused_until(TEAM[0]) is None


def test_an_answer_to_what_was_asked_before_does_not_end_a_hold(time: Time) -> None:
    time.outages.pause(TEAM[0], NOW + HOUR)
    time.outages.failed(TEAM[0])
    assert time.outages.answered(TEAM[1]) is None
    assert time.outages.paused_until(TEAM[1]) == NOW + HOUR
    time.now += HOUR
    assert time.outages.answered(TEAM[1]) is not None


def test_who_is_not_asked_has_not_failed_once_more(time: Time) -> None:
    time.outages.pause(TEAM[0], NOW + HOUR)
    for _ in range(5):
        for job in TEAM:
            time.outages.failed(job)
    assert time.outages.failures(TEAM[0]) == 1
    time.now += HOUR
    time.outages.failed(TEAM[0])
    assert time.outages.failures(TEAM[0]) == 2


def test_a_hold_of_a_clock_that_was_wrong_counts_for_nothing(time: Time) -> None:
    time.now = NOW + 3000 * DAY
    time.outages.pause(TEAM[0], time.now + HOUR)
    time.now = NOW
    assert time.outages.paused_until(TEAM[0]) is None


def test_a_job_without_a_host_is_always_alone(time: Time) -> None:
    time.outages.pause(FEED, NOW + HOUR)
    assert time.outages.paused_until(FEED) is None
    assert [time.outages.failed(FEED) for _ in range(2)] == ["alone", "alone"]
    assert (time.outages.failures(FEED), time.outages.answered(FEED)) == (0, None)


class Weather(RuleBasedStateMachine):
    """Whatever happens: beginnings and ends take turns, and who waits is heard of when it is over."""

    def __init__(self) -> None:
        super().__init__()
        self.time = Time()
        self.out: dict[str | None, set[RunKey]] = {}

    @rule(job=JOBS)
    def fail(self, job: RunKey) -> None:
        host, held = self.time.outages.host(job), self.time.outages.paused_until(job)
        match self.time.outages.failed(job):
            case "begins":
                assert host not in self.out
                self.out[host] = {job}
            case "lasts":
                self.out[host].add(job)
            case "alone":
                assert held is None
                return
        assert self.time.outages.failures(job) >= 1

    @rule(job=JOBS)
    def answer(self, job: RunKey) -> None:
        host, held = self.time.outages.host(job), self.time.outages.paused_until(job)
        ended = self.time.outages.answered(job)
        assert (ended is not None) == (host in self.out and held is None)
        if ended is not None:
            assert {*ended.waiting} == self.out.pop(host) - {job}

    @rule(job=JOBS, seconds=st.integers(1, 7200))
    def pause(self, job: RunKey, seconds: int) -> None:
        until = self.time.now + timedelta(seconds=seconds)
        self.time.outages.pause(job, until)
        assert job == FEED or (self.time.outages.paused_until(job) or until) >= until

    @rule(seconds=st.integers(0, 7200))
    def sleep(self, seconds: int) -> None:
        self.time.now += timedelta(seconds=seconds)

    @rule()
    def end_pauses(self) -> None:
        self.time.outages.end_pauses()

    @invariant()
    def a_host_is_held_for_all_or_none(self) -> None:
        assert len({self.time.outages.paused_until(job) for job in TEAM}) == 1


TestWeather = Weather.TestCase
