# SPDX-License-Identifier: Apache-2.0
import sqlite3
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from syncd.errors import LedgerError
from syncd.ledger.database import MemoryDatabase
from syncd.ledger.ledger import Ledger
from syncd.model import Meeting, meeting_digest
from syncd.opentalk.client import OpenTalk
from syncd.opentalk.wire import Listing
from syncd.sync.pull import ListingSettings, pull
from tests.support.opentalk_json import event_json, exception_json, series_json, time_json
from tests.support.served_opentalk import NOW, ServedOpenTalk
from tests.support.tables import rows

IDS = [f"{number:08}-0000-4000-8000-000000000000" for number in range(3)]
ONCE = {name: event_json(id=name) for name in IDS}
SERIES = {name: series_json(id=name) for name in IDS}
WISHES = ListingSettings(past=timedelta(days=30), ahead=timedelta(days=365))


def excepted(name: str, day: int, **fields: Any) -> dict[str, Any]:
    return {**exception_json(day, **fields), "id": f"{name}_{day}", "recurring_event_id": name}


variants = [
    lambda _: [],
    lambda name: [ONCE[name]],
    lambda name: [{**ONCE[name], "title": "Another"}],
    lambda name: [{**ONCE[name], "updated_at": "2025-06-04T06:00:01.5Z"}],
    lambda name: [{**ONCE[name], "title": 7}],
    lambda name: [{**ONCE[name], "title": "Another"}, ONCE[name]],
    lambda name: [ONCE[name], {**ONCE[name], "title": 7}],
    lambda name: [SERIES[name]],
    lambda name: [SERIES[name], excepted(name, 21, status="cancelled")],
    lambda name: [excepted(name, 21), SERIES[name], excepted(name, 28)],
    lambda name: [SERIES[name], excepted(name, 21, title=7)],
    lambda name: [ONCE[name], excepted(name, 21)],
]
polls = st.lists(
    st.tuples(st.tuples(*[st.sampled_from(variants)] * len(IDS)), st.integers(1, 4), st.booleans()), max_size=8
)


def listed(items: list[Any], size: int, have: dict[str, str], seen: set[bytes]) -> Listing:
    listing = Listing("opentalk.work", have, seen)
    for first in range(0, len(items), size):
        listing.add(msgspec.json.encode(items[first : first + size]))
    return listing


def published(each: Meeting) -> Meeting:
    """What of a meeting can be seen in a calendar: all of it but when it was changed last."""
    return replace(each, updated=each.created)


@given(polls)
def test_what_was_seen_before_is_listed_as_if_it_was_not(sequence: list[Any]) -> None:
    ledger: dict[str, Meeting] = {}
    seen: set[bytes] = set()
    for chosen, size, saved in (poll for poll in sequence for _ in range(2)):
        have = {name: meeting_digest(each) for name, each in ledger.items()}
        items = [item for name, variant in zip(IDS, chosen, strict=True) for item in variant(name)]
        listing = listed(items, size, have, seen)
        if listing.mistaken:
            listing = listed(items, size, {}, seen)
        meetings, unreadable = listing.join()
        truth, wrong = listed(items, size, {}, set()).join()
        assert unreadable == wrong
        assert meetings == {name: each for name, each in truth.items() if name not in listing.same}
        assert listing.same <= truth.keys()
        assert all(published(ledger[name]) == published(truth[name]) for name in listing.same)
        if saved:
            ledger = dict(truth)


def test_what_the_asker_has_is_read_once_more_and_then_only_if_it_changes() -> None:
    digest = meeting_digest(listed([ONCE[IDS[0]]], 1, {}, set()).join()[0][IDS[0]])
    have, seen = {IDS[0]: digest}, set[bytes]()
    for same in (set(), {IDS[0]}, {IDS[0]}):
        assert listed([ONCE[IDS[0]]], 1, have, seen).same == same
    assert listed([{**ONCE[IDS[0]], "title": "Another"}], 1, have, seen).same == set()
    assert listed([ONCE[IDS[0]]], 1, {IDS[0]: "another"}, seen).same == set()


T = TypeVar("T")


class FullDatabase(MemoryDatabase):
    """A database that takes nothing while it is ``full``."""

    full = False

    def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self.full:
            raise LedgerError("the disk is full")
        return super().write(work)


def contents(ledger: Ledger) -> list[tuple[Any, ...]]:
    return rows(ledger, "SELECT event, digest, starts, ends, unlisted, content FROM meeting ORDER BY event")


def test_pulls_by_an_account_that_remembers_are_those_of_one_that_does_not(server: ServedOpenTalk) -> None:
    remembering = server.account(per_page=2)
    once, weekly = server.create(), server.create(days=2, recurrence_pattern=["RRULE:FREQ=WEEKLY"])
    gone, adhoc = server.create(days=3), server.create(days=4, is_adhoc=True)
    occurrence = f"{NOW + timedelta(days=9):%Y%m%dT%H%M%SZ}"
    edits: list[Callable[[], object]] = [
        lambda: None,
        lambda: None,
        lambda: server.opentalk.patch(once, title="Another"),
        lambda: server.opentalk.patch(once, title="Meeting"),
        lambda: server.opentalk.cancel(weekly, occurrence),
        lambda: server.opentalk.change(weekly, occurrence, status="ok"),
        lambda: server.opentalk.patch(once, starts_at=time_json(NOW), ends_at=time_json(NOW + timedelta(hours=2))),
        lambda: server.opentalk.delete(gone),
        lambda: server.opentalk.patch(adhoc, title="At once"),
        lambda: server.opentalk.patch(weekly, description="Agenda"),
        lambda: None,
    ]
    databases = FullDatabase(Path("one")), FullDatabase(Path("other"))
    with Ledger(databases[0]) as one, Ledger(databases[1]) as other:
        for number, edit in enumerate(edits):
            edit()
            for full in (number % 3 == 2, False, False):
                databases[0].full = databases[1].full = full
                counts = [
                    pulled(account, ledger)
                    for account, ledger in ((remembering, one), (server.account(per_page=2), other))
                ]
                assert counts[0] == counts[1]
                assert contents(one) == contents(other)
        assert pulled(remembering, one)["meetings"] == len(contents(one)) > 1


def pulled(account: OpenTalk, ledger: Ledger) -> dict[str, int]:
    try:
        return dict(pull("work", account, ledger, WISHES, NOW).counts)
    except LedgerError:
        return {}


@pytest.mark.parametrize("full", [True, False])
def test_what_could_not_be_saved_is_not_taken_for_what_the_ledger_has(server: ServedOpenTalk, full: bool) -> None:
    account, name = server.account(), server.create()
    database = FullDatabase(Path("memory"))
    with Ledger(database) as ledger:
        for _ in range(3):
            pulled(account, ledger)
        server.opentalk.patch(name, title="Another")
        for database.full in (full, full, False):
            pulled(account, ledger)
        saved = ledger.meetings.get("work", name)
        assert saved is not None
        assert saved.title == "Another"
        server.opentalk.delete(name)
        assert pulled(account, ledger)["gone"] == 1
