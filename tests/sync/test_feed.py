# SPDX-License-Identifier: Apache-2.0
from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from syncd.model import Feed, Override, Run
from syncd.sync.feed import build_feed
from tests.support.calendar_objects import uid_of
from tests.support.meetings import DAY, NOW, meeting
from tests.support.pipeline import Pipeline, silent
from tests.support.tables import rows

PHONE = Feed("phone", "0" * 64, ("work",), "owner", False, "", NOW)


class Reader:
    """A pipeline with a feed; ``events`` is what somebody who subscribes sees."""

    def __init__(self, *names: str) -> None:
        self.pipeline = Pipeline(*(meeting(f"e{number}", number) for number in range(1, 21)))
        self.ledger = self.pipeline.ledger
        for name in names or ("phone",):
            self.ledger.feeds.add(replace(PHONE, name=name, token_sha256=name))

    def build(self, name: str = "phone") -> Run | None:
        feed = self.ledger.feeds.all()[name]
        run = build_feed(feed, self.pipeline.profile, self.ledger, self.pipeline.now, silent)
        self.ledger.entries.sweep([self.pipeline.profile.key])
        return run

    def events(self, name: str = "phone") -> set[str]:
        """The UIDs that icalendar reads in the entries of a feed."""
        found = self.ledger.feeds.edition_bodies(self.ledger.feeds.all()[name])
        uids = [uid_of(body) for *_, body in found]
        assert len(set(uids)) == len(uids), "an event is there twice"
        return set(uids)

    def lose(self, count: int, *, first: int = 1) -> None:
        for number in range(first, first + count):
            self.pipeline.source.meetings.pop(f"e{number}")
        self.pipeline.now += DAY / 24
        self.pipeline.pull()


ALL = {f"e{number}" for number in range(1, 21)}


@pytest.fixture
def reader() -> Iterator[Reader]:
    reader = Reader()
    reader.pipeline.pull()
    reader.build()
    assert reader.events() == ALL
    yield reader
    reader.ledger.close()


def state(run: Run | None) -> tuple[str, int]:
    assert run
    return run.state, run.counts["held"]


def test_a_feed_is_not_built_before_its_account_was_listed() -> None:
    reader = Reader()
    assert reader.build() is None
    assert reader.ledger.feeds.all()["phone"].built is None


def test_a_few_meetings_that_go_leave_the_feed_and_nothing_of_them_stays(reader: Reader) -> None:
    reader.lose(3)
    assert state(reader.build()) == ("ok", 0)
    assert reader.events() == ALL - {"e1", "e2", "e3"}
    assert rows(reader.ledger, "SELECT count(*) FROM entry") == [(17,)]
    assert rows(reader.ledger, "SELECT count(*) FROM released") == [(0,)]


def test_too_much_that_goes_is_held_until_a_person_lets_exactly_that_pass(reader: Reader) -> None:
    reader.lose(8)
    for _ in range(2):
        run = reader.build()
        assert state(run) == ("held", 8)
        assert run
        assert run.message == "would drop 8 of 20: syncd confirm phone"
        assert reader.events() == ALL
    assert reader.ledger.deletions.confirm("feed/phone") == 8
    reader.lose(1, first=9)
    assert state(reader.build()) == ("ok", 0)
    assert reader.events() == {f"e{number}" for number in range(10, 21)}
    assert reader.ledger.deletions.confirm("feed/phone") == 0


def test_small_portions_are_held_too_and_a_day_later_they_are_not(reader: Reader) -> None:
    for first in (1, 3):
        reader.lose(2, first=first)
        assert state(reader.build()) == ("ok", 0)
    reader.lose(2, first=5)
    assert state(reader.build()) == ("held", 2)
    assert len(reader.events()) == 16
    reader.ledger.deletions.confirm("feed/phone")
    reader.build()
    reader.pipeline.now += 2 * DAY
    reader.lose(2, first=7)
    assert state(reader.build()) == ("ok", 0)


def test_a_meeting_that_comes_back_while_it_is_held_is_shown_as_it_is_now(reader: Reader) -> None:
    lost = {f"e{number}": reader.pipeline.source.meetings[f"e{number}"] for number in range(1, 9)}
    reader.lose(8)
    reader.build()
    reader.pipeline.source.meetings |= lost
    reader.pipeline.change("e1", title="Back again")
    reader.pipeline.pull()
    assert state(reader.build()) == ("ok", 0)
    assert reader.events() == ALL
    bodies = [body for *_, body in reader.ledger.feeds.edition_bodies(reader.ledger.feeds.all()["phone"])]
    assert any(b"Back again" in body for body in bodies)
    assert reader.ledger.deletions.guard("feed/phone", ("work",), NOW).held == frozenset()


def test_each_feed_is_asked_for_on_its_own() -> None:
    reader = Reader("phone", "tablet")
    reader.pipeline.pull()
    for name in ("phone", "tablet"):
        reader.build(name)
    reader.lose(8)
    for name in ("phone", "tablet"):
        reader.build(name)
    reader.ledger.deletions.confirm("feed/phone")
    assert state(reader.build()) == ("ok", 0)
    assert state(reader.build("tablet")) == ("held", 8)
    assert len(reader.events()) == 12
    assert reader.events("tablet") == ALL
    reader.ledger.deletions.confirm("feed/tablet")
    reader.build("tablet")
    assert len(reader.events("tablet")) == 12
    assert rows(reader.ledger, "SELECT count(*) FROM entry") == [(12,)]
    reader.ledger.close()


def test_a_feed_shows_its_former_profile_until_the_new_one_is_rendered_and_keeps_what_is_held(reader: Reader) -> None:
    reader.lose(8)
    reader.build()
    former = reader.pipeline.profile
    reader.pipeline.profile = replace(former, versions=("2",))
    assert reader.events() == ALL
    assert state(reader.build()) == ("held", 8)
    assert reader.events() == ALL
    profiles = rows(reader.ledger, "SELECT DISTINCT profile FROM entry")
    assert profiles == [(reader.pipeline.profile.key,)]


def test_an_upgrade_that_finds_an_empty_account_lets_nothing_go(reader: Reader) -> None:
    reader.pipeline.profile = replace(reader.pipeline.profile, versions=("2",))
    reader.lose(20)
    assert state(reader.build()) == ("held", 20)
    assert reader.events() == ALL


def test_a_series_whose_last_occurrence_was_cancelled_leaves_and_comes_back(reader: Reader) -> None:
    fields = {"start": meeting("e1", 1).start, "end": meeting("e1", 1).end}
    whole = replace(meeting("e1", 1), recurrence=("RRULE:FREQ=DAILY;COUNT=1",), **fields)
    assert whole.start
    empty = replace(whole, overrides=(Override(whole.start, cancelled=True),))
    for each, shown in ((whole, True), (empty, False), (whole, True)):
        reader.pipeline.source.meetings["e1"] = each
        reader.pipeline.now += DAY / 24
        reader.pipeline.pull()
        assert state(reader.build()) == ("ok", 0)
        assert ("e1" in reader.events()) is shown


def test_a_revoked_feed_leaves_no_trace(reader: Reader) -> None:
    reader.lose(8)
    reader.build()
    assert reader.ledger.feeds.revoke("phone")
    reader.ledger.entries.sweep([])
    for table in ("entry", "feed", "released", "hold", "lost"):
        assert rows(reader.ledger, f"SELECT count(*) FROM {table}") == [(0,)], table


def test_a_renamed_account_keeps_its_feed(reader: Reader) -> None:
    person = reader.pipeline.source.person
    reader.ledger.accounts.identify("office", person, ("office",))
    assert reader.ledger.feeds.all()["phone"].accounts == ("office",)
