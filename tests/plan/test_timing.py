# SPDX-License-Identifier: Apache-2.0
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import syncd
from syncd.model import Link, Run, RunKey, RunKind
from syncd.plan.timing import (
    LONGEST_WAIT,
    LastAudit,
    LastListings,
    Rhythm,
    audit_due,
    backoff,
    full_audit_due,
    is_paused,
    link_due,
    link_retry,
    listing_due,
    next_run,
    retry_at,
    retry_unforeseen,
    soonest,
)

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
URL = "https://dav.example.org/calendar/"


def test_the_next_days_are_listed_between_two_windows_and_a_wrong_clock_counts_for_nothing() -> None:
    every, listed = timedelta(minutes=5), LastListings(NOW, NOW)
    for seconds, scope in ((60, "soon"), (299, "soon"), (300, "window"), (86400, "everything")):
        assert listing_due(listed, NOW + timedelta(seconds=seconds), every, soon=True) == scope
    assert listing_due(listed, NOW + timedelta(seconds=60), every, soon=False) == "window"
    assert listing_due(LastListings(None, None), NOW, every, soon=True) == "everything"
    assert listing_due(listed, NOW - timedelta(days=400), every, soon=True) == "everything"


def test_an_audit_is_due_by_its_interval_and_full_once_a_day_or_at_another_address() -> None:
    assert audit_due(None, HOUR, NOW)
    assert full_audit_due(None, URL, NOW)
    before = LastAudit(NOW, NOW, URL, "cursor")
    assert not audit_due(before, HOUR, NOW + HOUR / 2)
    assert audit_due(before, HOUR, NOW + HOUR)
    assert audit_due(before, HOUR, NOW - HOUR), "a clock that was wrong counts for nothing"
    assert not full_audit_due(before, URL, NOW + HOUR)
    assert full_audit_due(before, URL + "else/", NOW + HOUR)
    assert full_audit_due(before, URL, NOW + DAY)


def test_a_link_that_was_not_to_be_had_is_due_a_day_later_and_one_that_is_there_never() -> None:
    none = Link("invite", "e1", "guest", None, "d", False, NOW)
    assert link_retry(none) == NOW + DAY
    assert [link_due(none, NOW + after) for after in (DAY - HOUR, DAY, -HOUR)] == [False, True, True]
    there = Link("invite", "e1", "guest", "code", "d", True, NOW)
    assert not link_due(there, NOW + 9 * DAY)


@pytest.mark.parametrize(
    ("ahead", "paused"),
    [(None, False), (timedelta(0), False), (-HOUR, False), (HOUR, True), (DAY, True), (DAY + HOUR, False)],
)
def test_a_pause_ends_and_one_that_a_wrong_clock_made_is_none(ahead: timedelta | None, paused: bool) -> None:
    assert is_paused(None if ahead is None else NOW + ahead, NOW) == paused


@given(st.integers(0, 50), st.none() | st.floats(0, 7200), st.integers(10, 3600), st.floats(0, 0.99))
def test_a_backoff_keeps_to_the_interval_the_limit_and_retry_after(
    failures: int, retry_after: float | None, seconds: int, jitter: float
) -> None:
    interval = timedelta(seconds=seconds)
    wait = backoff(failures, retry_after, interval, jitter)
    assert wait >= interval
    assert wait >= timedelta(seconds=retry_after or 0)
    assert wait <= max(interval, LONGEST_WAIT, timedelta(seconds=retry_after or 0))


@given(st.integers(1, 20), st.integers(10, 3600), st.floats(0, 0.99))
def test_jitter_takes_less_than_a_tenth_of_the_doubled_wait(failures: int, seconds: int, jitter: float) -> None:
    interval = timedelta(seconds=seconds)
    whole, less = (backoff(failures, None, interval, each) for each in (0.0, jitter))
    assert whole == min(interval * 2**failures, max(interval, LONGEST_WAIT))
    assert 0.9 * whole <= less <= whole


MINUTE = timedelta(minutes=1)
RHYTHM = Rhythm(every=10 * MINUTE, soon_every=2 * MINUTE, retry=5 * MINUTE)


@pytest.mark.parametrize(
    ("kind", "last_look", "cut_short", "due"),
    [
        ("pull", NOW, False, NOW + 2 * MINUTE),
        ("pull", NOW - 7 * MINUTE, False, NOW + 2 * MINUTE),
        ("pull", NOW - 9 * MINUTE, False, NOW + 1 * MINUTE),
        ("pull", None, False, NOW + 2 * MINUTE),
        ("push", NOW, False, NOW + 10 * MINUTE),
        ("push", NOW - 9 * MINUTE, False, NOW + 1 * MINUTE),
        ("push", None, False, NOW + 10 * MINUTE),
        ("housekeeping", None, False, NOW + 10 * MINUTE),
        ("mint", None, True, NOW),
        ("maker", None, True, NOW),
        ("mint", None, False, None),
        ("maker", None, False, None),
        ("feed", None, False, None),
        ("feeds", None, False, None),
        ("links", None, False, None),
    ],
)
def test_what_went_well_is_due_by_its_interval_or_at_once_if_work_is_left(
    kind: RunKind, last_look: datetime | None, cut_short: bool, due: datetime | None
) -> None:
    run = Run(RunKey(kind, "any"), NOW, last_look=last_look, cut_short=cut_short)
    assert next_run(run, RHYTHM) == due


@pytest.mark.parametrize(
    ("failures", "retry_after", "paused", "waits"),
    [
        (1, None, None, 10 * MINUTE),
        (2, None, None, 15 * MINUTE),
        (1, 60.0, None, 10 * MINUTE),
        (1, 3600.0, None, 60 * MINUTE),
        (1, None, 5 * MINUTE, 10 * MINUTE),
        (1, 3600.0, 90 * MINUTE, 90 * MINUTE),
    ],
)
def test_what_failed_is_tried_again_after_the_backoff_retry_after_and_the_pause_of_its_host(
    failures: int, retry_after: float | None, paused: timedelta | None, waits: timedelta
) -> None:
    run = Run(RunKey("push", "team"), NOW - HOUR, "retrying", retry_after=retry_after)
    until = NOW + paused if paused else None
    assert retry_at(run, failures, until, RHYTHM, NOW, 0.0) == NOW + waits


def test_an_unforeseen_end_is_tried_again_after_the_longest_wait() -> None:
    assert retry_unforeseen(NOW) == NOW + 15 * MINUTE


def test_the_first_of_several_runs_counts_and_those_that_are_never_due_do_not() -> None:
    never = Run(RunKey("feed", "phone"), NOW)
    runs = [Run(RunKey("mint", name), NOW, next_try=NOW + after) for name, after in (("a", DAY), ("b", HOUR))]
    assert soonest([never, *runs]) == NOW + HOUR
    assert soonest([never]) is None


def test_nothing_else_says_when_a_run_is_made_again() -> None:
    house = Path(syncd.__file__).parent
    texts = {str(path.relative_to(house)): path.read_text(encoding="utf-8") for path in house.rglob("*.py")}
    saying = {
        path for path, text in texts.items() if re.search(r"\bnext_try=|\bbackoff\(|\bretry_at\(|\bnext_run\(", text)
    }
    assert saying == {"plan/timing.py", "jobs/outcome.py", "ledger/history.py"}  # history reads what was said
