# SPDX-License-Identifier: Apache-2.0
import pytest
from msgspec.structs import replace

from syncd.ical.mark import Mark
from syncd.model import Placement
from syncd.plan.deletions import Guard, Hold, calendar_deletions, is_carried_out, is_wiped, may_delete
from tests.support.meetings import HOUR, NOW

PLACED = Placement("team", "e1", "syncd-e1.ics", '"1"', 0, "x", NOW, NOW + HOUR)


def test_only_what_is_ours_and_has_no_guests_may_be_deleted() -> None:
    placing = replace(PLACED, state="placing")
    assert may_delete(PLACED, Mark("e1", 3, "x", people=False))
    assert may_delete(placing, Mark("e1", 3, "x", people=False))
    assert may_delete(PLACED, Mark("e1", 3, None, people=False))
    assert not may_delete(placing, Mark("e1", 3, None, people=False))
    assert not may_delete(PLACED, Mark("e2", 3, "x", people=False))
    assert not may_delete(PLACED, Mark("e1", 3, "x", people=True))
    assert not may_delete(PLACED, None)


@pytest.mark.parametrize(
    ("missing", "placed", "wiped"),
    [(2, 2, False), (3, 3, True), (5, 9, False), (6, 9, True), (10, 20, False), (11, 20, True)],
)
def test_nobody_deletes_all_of_three_or_most_of_many_one_by_one(missing: int, placed: int, *, wiped: bool) -> None:
    assert is_wiped(range(missing), range(placed)) is wiped


def test_a_confirmation_is_carried_out_when_nothing_of_it_is_left_but_what_came_back() -> None:
    guard = Guard(gone=frozenset({"e1", "e2"}), confirmed=frozenset({"e1", "e3"}))
    assert not is_carried_out(guard, ["e1", "e2"])
    assert is_carried_out(guard, ["e2", "e3"])
    assert is_carried_out(Guard(gone=frozenset({"e1"})), ["e1"])


def test_what_may_be_on_its_way_to_a_calendar_counts_among_what_is_there() -> None:
    placed = {f"e{number}": replace(PLACED, event=f"e{number}", state="placing", digest="") for number in range(60)}
    (hold,) = calendar_deletions({}, placed, NOW, Guard(gone=frozenset(placed)))
    assert isinstance(hold, Hold)
    assert (len(hold.events), hold.coming) == (60, 60)
