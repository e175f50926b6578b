# SPDX-License-Identifier: Apache-2.0
"""Every remote failing in its own way: the message names it, the others go on, nothing is deleted."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from syncd.config import load
from syncd.demo.serve import Traffic
from syncd.demo.stage import Stage
from syncd.jobs.servers import connect
from syncd.model import Run, RunKey
from syncd.plan.links import WAYS
from tests.support.jobs_rig import JobsRig
from tests.support.meetings import NOW
from tests.support.tables import full_disk

EVENTS = "/v1/events"


class Accounts(JobsRig):
    """Alice's and Bob's accounts with five meetings each at a real controller, and one calendar for both."""

    def __init__(self, folder: Path) -> None:
        self.now = NOW
        self.stage = Stage(self.clock)
        for person in ("alice", "bob"):
            for hour in range(5):
                starts = NOW + timedelta(days=1, hours=hour)
                self.stage.opentalk.create(person, title="Secret title", starts_at=starts, ends_at=starts)
        table = 'url = "http://127.0.0.1:9/"\naccounts = ["alice", "bob"]'
        path = self.stage.write_config(
            folder, {"team": table}, accounts=("alice", "bob"), openmeetings=False, calendar_password="x"
        )
        config = load(path, {}, WAYS)
        super().__init__(config, connect=partial(connect, config))
        self.calendar = self.calendars["team"]

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self.stage.close()

    @property
    def opentalk(self) -> Traffic:
        return self.stage.opentalk.app

    def sync(self) -> dict[str, Run]:
        runs = [self.jobs.pull("alice"), self.jobs.pull("bob"), *self.jobs.mint(), self.jobs.push("team")]
        return {run.key.name: run for run in runs if run.key.kind in ("pull", "push")}


@pytest.fixture
def accounts(tmp_path: Path) -> Iterator[Accounts]:
    with Accounts(tmp_path) as accounts:
        yield accounts


def html(traffic: Traffic) -> None:
    traffic.fail(EVENTS, status=200, body="<html>Welcome</html>", content_type="text/html")


TROUBLES: dict[str, tuple[Callable[[Traffic], None], str, str]] = {
    "5xx": (lambda t: t.fail(EVENTS, status=503), "retrying", "in trouble (503)"),
    "429 in seconds": (
        lambda t: t.fail(EVENTS, status=429, headers={"Retry-After": "3600"}),
        "retrying",
        "fewer requests",
    ),
    "429 with a date": (
        lambda t: t.fail(EVENTS, status=429, headers={"Retry-After": "Mon, 23 Nov 2026 13:00:00 GMT"}),
        "retrying",
        "fewer requests",
    ),
    "half a body": (lambda t: t.cut(EVENTS), "retrying", "broke off"),
    "half of the JSON": (lambda t: t.cut(EVENTS, mend=True), "retrying", "JSON"),
    "other JSON": (lambda t: t.fail(EVENTS, status=200, body='{"a":1}'), "retrying", "JSON"),
    "HTML": (html, "retrying", "HTML"),
    "a page in the middle": (lambda t: t.fail(EVENTS, status=500, after=1, times=2), "retrying", "500"),
    "things without ids": (lambda t: t.fail(EVENTS, status=200, body="[{}]"), "retrying", "id"),
    "session ended": (lambda t: t.fail(EVENTS, status=401, times=2), "needs_login", "opentalk.alice"),
}


@pytest.mark.parametrize("name", TROUBLES)
@pytest.mark.parametrize("later", [False, True], ids=["in the window", "in the daily listing"])
def test_a_listing_that_fails_is_reported_and_nothing_is_lost(accounts: Accounts, name: str, later: bool) -> None:
    spoil, state, text = TROUBLES[name]
    accounts.sync()
    assert len(accounts.calendar.objects) == 10
    before, known = accounts.calendar.objects, sorted(event for event, _ in accounts.ledger.meetings.of("alice"))
    accounts.now += timedelta(days=1, minutes=1) if later else timedelta(minutes=5)
    spoil(accounts.opentalk)
    runs = accounts.sync()
    held = name == "429 in seconds" or (name == "429 with a date" and not later)  # the date is over then
    others = "retrying" if held else "ok"
    assert (runs["alice"].state, runs["bob"].state, runs["team"].state) == (state, others, "ok")
    message = runs["alice"].message or ""
    assert "opentalk.alice" in message
    assert text in message
    assert "Secret title" not in message
    assert accounts.calendar.objects == before
    assert sorted(event for event, _ in accounts.ledger.meetings.of("alice")) == known
    accounts.opentalk.clear()
    accounts.now += timedelta(hours=2)
    assert accounts.sync()["alice"].state == "ok"
    assert accounts.calendar.objects == before


def test_retry_after_is_obeyed_in_both_forms(accounts: Accounts) -> None:
    for header in ("3600", "Mon, 23 Nov 2026 13:00:00 GMT"):
        accounts.opentalk.fail(EVENTS, status=429, headers={"Retry-After": header})
        run = accounts.jobs.pull("alice")
        assert run.next_try == NOW + timedelta(hours=1)


def test_an_unknown_zone_or_a_broken_rule_keeps_one_event_as_it_was_and_names_it(accounts: Accounts) -> None:
    accounts.sync()
    before = accounts.calendar.objects
    first, second, *_ = (event for event, _ in accounts.ledger.meetings.of("alice"))
    accounts.stage.opentalk._existing(first).body["starts_at"]["timezone"] = "Mars/Olympus"
    accounts.stage.opentalk._existing(second).body["recurrence_pattern"] = ["RRULE:FREQ=SOMETIMES"]
    accounts.now += timedelta(minutes=5)
    runs = accounts.sync()
    assert runs["alice"].counts["unreadable"] == 2
    assert any(event in (runs["alice"].message or "") for event in (first, second))
    assert accounts.calendar.objects == before


def test_an_expired_token_is_refreshed_silently(accounts: Accounts) -> None:
    accounts.sync()
    accounts.stage.identity.app.clear()
    accounts.now += timedelta(seconds=290)
    assert accounts.sync()["alice"].state == "ok"
    accounts.now += timedelta(days=40)
    assert accounts.sync()["alice"].state == "ok"
    grants = [request.path for request in accounts.stage.identity.app.log if request.path.endswith("/token")]
    assert len(grants) >= 2


def test_a_session_ended_by_an_administrator_is_begun_again(accounts: Accounts) -> None:
    accounts.sync()
    accounts.stage.identity.end_sessions()
    accounts.now += timedelta(minutes=10)
    assert accounts.sync()["alice"].state == "ok"


def test_a_calendar_that_is_gone_is_reported_while_the_accounts_go_on(accounts: Accounts) -> None:
    accounts.sync()
    accounts.calendar.gone = True
    event = next(event for event, _ in accounts.ledger.meetings.of("alice"))
    accounts.stage.opentalk.delete(event)
    accounts.now += timedelta(minutes=5)
    runs = accounts.sync()
    assert (runs["alice"].state, runs["team"].state) == ("ok", "needs_you")
    assert "team" in (runs["team"].message or "")
    accounts.calendar.gone = False
    assert accounts.sync()["team"].counts["deleted"] == 1


def test_a_full_disk_is_reported_and_all_goes_on_when_there_is_room(accounts: Accounts) -> None:
    for number in range(300):
        starts = NOW + timedelta(days=2, hours=number)
        accounts.stage.opentalk.create("alice", title="x" * 200, starts_at=starts, ends_at=starts)
    with full_disk(accounts.ledger):
        run = accounts.jobs.pull("alice")
    assert run.state == "needs_you"
    assert "disk is full" in (run.message or "")
    assert accounts.jobs.pull("alice").counts["meetings"] == 305


def test_a_missing_password_file_stops_only_its_account(accounts: Accounts, tmp_path: Path) -> None:
    (tmp_path / "alice.password").unlink()
    runs = accounts.sync()
    assert (runs["alice"].state, runs["bob"].state) == ("needs_you", "ok")
    assert "opentalk.alice.password" in (runs["alice"].message or "")
    assert runs["team"].counts["created"] == 5


def test_a_server_whose_links_nobody_needs_any_more_is_not_in_trouble_for_ever(accounts: Accounts) -> None:
    accounts.jobs.pull("alice")
    accounts.opentalk.fail("/v1/rooms", status=503, times=50)
    assert {run.key.name: run.state for run in accounts.jobs.mint()}["alice"] == "retrying"
    for event, _ in list(accounts.ledger.meetings.of("alice")):
        accounts.stage.opentalk.delete(event)
    accounts.opentalk.clear()
    accounts.now += timedelta(minutes=5)
    accounts.jobs.pull("alice")
    accounts.jobs.mint()
    assert accounts.ledger.history.standings()[RunKey("mint", "alice")].latest.state == "ok"
