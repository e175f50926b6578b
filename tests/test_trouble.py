# SPDX-License-Identifier: Apache-2.0
"""Every remote failing in its own way: the message names it, the others go on, nothing is deleted."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from syncd.config import load
from syncd.demo.serve import Traffic
from syncd.demo.stage import Stage
from syncd.jobs.jobs import Jobs
from syncd.jobs.servers import Servers, connect
from syncd.ledger.ledger import Ledger
from syncd.model import Run, RunKey
from syncd.plan.links import WAYS
from tests.support.memory_servers import MemoryCalendar
from tests.support.tables import full_disk

START = datetime(2026, 11, 23, 12, tzinfo=UTC)
EVENTS = "/v1/events"


class Place:
    """Alice's and Bob's accounts with five meetings each, one calendar for both, and a clock."""

    def __init__(self, folder: Path) -> None:
        self.now = START
        self.stage = Stage(lambda: self.now)
        for person in ("alice", "bob"):
            for hour in range(5):
                starts = START + timedelta(days=1, hours=hour)
                self.stage.opentalk.create(person, title="Secret title", starts_at=starts, ends_at=starts)
        table = 'url = "http://127.0.0.1:9/"\naccounts = ["alice", "bob"]'
        path = self.stage.write_config(
            folder, {"team": table}, accounts=("alice", "bob"), openmeetings=False, calendar_password="x"
        )
        config = load(path, {}, WAYS)
        real = connect(config, lambda: self.now)
        self.calendar = MemoryCalendar("team")
        self.ledger = Ledger.open(config.state)
        self._servers = Servers(real.sources, {}, {"team": self.calendar}, real.close)
        self.jobs = Jobs(config, self.ledger, self._servers, lambda: self.now, jitter=lambda: 0.0)

    @property
    def opentalk(self) -> Traffic:
        return self.stage.opentalk.app

    def close(self) -> None:
        self._servers.close()
        self.ledger.close()
        self.stage.close()

    def sync(self) -> dict[str, Run]:
        runs = [self.jobs.pull("alice"), self.jobs.pull("bob"), *self.jobs.mint(), self.jobs.push("team")]
        return {run.key.name: run for run in runs if run.key.kind in RunKey("pull", "push")}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.close()


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
def test_a_listing_that_fails_is_told_and_nothing_is_lost(place: Place, name: str, later: bool) -> None:
    spoil, state, text = TROUBLES[name]
    place.sync()
    assert len(place.calendar.objects) == 10
    before, known = place.calendar.objects, sorted(event for event, _ in place.ledger.meetings.of("alice"))
    place.now += timedelta(days=1, minutes=1) if later else timedelta(minutes=5)
    spoil(place.opentalk)
    runs = place.sync()
    held = name == "429 in seconds" or (name == "429 with a date" and not later)  # the date is over then
    others = "retrying" if held else "ok"
    assert (runs["alice"].state, runs["bob"].state, runs["team"].state) == (state, others, "ok")
    message = runs["alice"].message or ""
    assert "opentalk.alice" in message
    assert text in message
    assert "Secret title" not in message
    assert place.calendar.objects == before
    assert sorted(event for event, _ in place.ledger.meetings.of("alice")) == known
    place.opentalk.clear()
    place.now += timedelta(hours=2)
    assert place.sync()["alice"].state == "ok"
    assert place.calendar.objects == before


def test_retry_after_is_kept_to_in_both_forms(place: Place) -> None:
    for header in ("3600", "Mon, 23 Nov 2026 13:00:00 GMT"):
        place.opentalk.fail(EVENTS, status=429, headers={"Retry-After": header})
        run = place.jobs.pull("alice")
        assert run.next_try == START + timedelta(hours=1)


def test_an_unknown_zone_or_a_broken_rule_keeps_one_event_as_it_was_and_names_it(place: Place) -> None:
    place.sync()
    before = place.calendar.objects
    first, second, *_ = (event for event, _ in place.ledger.meetings.of("alice"))
    place.stage.opentalk._existing(first).body["starts_at"]["timezone"] = "Mars/Olympus"
    place.stage.opentalk._existing(second).body["recurrence_pattern"] = ["RRULE:FREQ=SOMETIMES"]
    place.now += timedelta(minutes=5)
    runs = place.sync()
    assert runs["alice"].counts["unreadable"] == 2
    assert any(event in (runs["alice"].message or "") for event in (first, second))
    assert place.calendar.objects == before


def test_an_expired_token_is_refreshed_without_a_word(place: Place) -> None:
    place.sync()
    place.stage.identity.app.clear()
    place.now += timedelta(seconds=290)
    assert place.sync()["alice"].state == "ok"
    place.now += timedelta(days=40)
    assert place.sync()["alice"].state == "ok"
    grants = [request.path for request in place.stage.identity.app.log if request.path.endswith("/token")]
    assert len(grants) >= 2


def test_a_session_ended_by_an_administrator_is_begun_again(place: Place) -> None:
    place.sync()
    place.stage.identity.end_sessions()
    place.now += timedelta(minutes=10)
    assert place.sync()["alice"].state == "ok"


def test_a_calendar_that_is_gone_is_told_while_the_accounts_go_on(place: Place) -> None:
    place.sync()
    place.calendar.gone = True
    event = next(event for event, _ in place.ledger.meetings.of("alice"))
    place.stage.opentalk.delete(event)
    place.now += timedelta(minutes=5)
    runs = place.sync()
    assert (runs["alice"].state, runs["team"].state) == ("ok", "needs_you")
    assert "team" in (runs["team"].message or "")
    place.calendar.gone = False
    assert place.sync()["team"].counts["deleted"] == 1


def test_a_full_disk_is_told_and_healed_without_a_hand(place: Place) -> None:
    for number in range(300):
        starts = START + timedelta(days=2, hours=number)
        place.stage.opentalk.create("alice", title="x" * 200, starts_at=starts, ends_at=starts)
    with full_disk(place.ledger):
        run = place.jobs.pull("alice")
    assert run.state == "needs_you"
    assert "disk is full" in (run.message or "")
    assert place.jobs.pull("alice").counts["meetings"] == 305


def test_a_missing_password_file_stops_only_its_account(place: Place, tmp_path: Path) -> None:
    (tmp_path / "alice.password").unlink()
    runs = place.sync()
    assert (runs["alice"].state, runs["bob"].state) == ("needs_you", "ok")
    assert "opentalk.alice.password" in (runs["alice"].message or "")
    assert runs["team"].counts["created"] == 5


def test_a_server_whose_links_nobody_needs_any_more_is_not_in_trouble_for_ever(place: Place) -> None:
    place.jobs.pull("alice")
    place.opentalk.fail("/v1/rooms", status=503, times=50)
    assert {run.key.name: run.state for run in place.jobs.mint()}["alice"] == "retrying"
    for event, _ in list(place.ledger.meetings.of("alice")):
        place.stage.opentalk.delete(event)
    place.opentalk.clear()
    place.now += timedelta(minutes=5)
    place.jobs.pull("alice")
    place.jobs.mint()
    assert place.ledger.history.standings()[RunKey("mint", "alice")].latest.state == "ok"
