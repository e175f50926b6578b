# SPDX-License-Identifier: Apache-2.0
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from syncd.ical.mark import Mark
from syncd.model import Entry, EntryInputs, Placement, Window
from syncd.plan.calendar import Adopt, Create, Leave, Update, after_conflict, calendar_actions
from syncd.plan.deletions import Delete, Forget, Guard, Hold

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
DAY = timedelta(days=1)
WINDOW = Window(NOW - 30 * DAY, NOW + 365 * DAY)


def entry(event: str, day: int, content: str = "x", meeting: str = "m") -> Entry:
    start = NOW + day * DAY
    return Entry(event, EntryInputs("work", meeting, {}), content, 0, start, start + timedelta(hours=1))


def placement(each: Entry, state: str = "placed") -> Placement:
    return Placement("team", each.event, f"syncd-{each.event}.ics", '"1"', 0, each.digest, each.start, each.end, state)  # type: ignore[arg-type]


GONE = Guard(gone=frozenset(f"e{number}" for number in range(40)))

entries = st.dictionaries(
    st.sampled_from([f"e{number}" for number in range(40)]),
    st.tuples(st.integers(-60, 400), st.sampled_from(["x", "y", ""])),
).map(lambda drawn: {event: entry(event, day, content) for event, (day, content) in drawn.items()})


@given(entries, entries)
def test_carrying_out_a_plan_leaves_nothing_to_plan(wanted: dict[str, Entry], before: dict[str, Entry]) -> None:
    placed = {event: placement(each) for event, each in before.items() if each.digest}
    actions = calendar_actions(wanted, placed, WINDOW, NOW, GONE)
    held = next((action.events for action in actions if isinstance(action, Hold)), ())
    for action in actions:
        match action:
            case Create(event) | Update(event):
                placed[event] = placement(wanted[event])
            case Delete(event) | Forget(event):
                del placed[event]
    again = calendar_actions(wanted, placed, WINDOW, NOW, replace(GONE, confirmed=frozenset(held)))
    assert sorted(action.event for action in again if isinstance(action, Delete)) == sorted(held)
    assert len(again) == len(held)


@given(entries, entries, st.integers(0, 30))
def test_no_more_than_a_fifth_of_what_is_coming_goes_within_a_day_without_a_word(
    wanted: dict[str, Entry], before: dict[str, Entry], lately: int
) -> None:
    placed = {event: placement(each) for event, each in before.items() if each.digest}
    actions = calendar_actions(wanted, placed, WINDOW, NOW, replace(GONE, lately=lately))
    coming = {event for event, place in placed.items() if place.end and place.end >= NOW}
    lost = {action.event for action in actions if isinstance(action, Delete)} & coming
    assert not lost or len(lost) + lately <= max(5, 0.2 * (len(coming) + lately))


def test_a_confirmed_deletion_passes_but_not_more_than_was_shown() -> None:
    placed = {f"e{n}": placement(entry(f"e{n}", n + 1)) for n in range(20)}
    guard = Guard(gone=frozenset([*placed, *(f"n{n}" for n in range(20))]))
    shown = Hold(tuple(placed), 20)
    assert calendar_actions({}, placed, WINDOW, NOW, guard) == [shown]
    placed |= {f"n{n}": placement(entry(f"n{n}", n + 1)) for n in range(20)}
    actions = calendar_actions({}, placed, WINDOW, NOW, replace(guard, confirmed=frozenset(shown.events)))
    assert sum(isinstance(action, Delete) for action in actions) == 20
    assert actions[-1] == Hold(tuple(f"n{n}" for n in range(20)), 40)


def test_somebody_elses_copy_is_tried_again_only_when_ours_changes() -> None:
    left = {"e1": placement(entry("e1", 1), "left")}
    assert calendar_actions({"e1": entry("e1", 1)}, left, WINDOW, NOW, GONE) == []
    assert calendar_actions({"e1": entry("e1", 1, "y")}, left, WINDOW, NOW, GONE) == [Create("e1")]
    assert calendar_actions({}, left, WINDOW, NOW, GONE) == [Forget("e1")]


def test_only_what_bears_our_mark_and_no_people_is_adopted() -> None:
    ours = entry("e1", 1)
    assert after_conflict(ours, Mark("e1", 4, "x", False), placed=False) == Adopt(4)
    for mark in (None, Mark("e2", 0, "x", False), Mark("e1", 0, None, False), Mark("e1", 0, "x", True)):
        assert isinstance(after_conflict(ours, mark, placed=False), Leave)


def test_what_we_placed_is_ours_without_our_marks_too() -> None:
    ours = entry("e1", 1)
    assert after_conflict(ours, Mark("e1", 4, None, False), placed=True) == Adopt(4)
    for mark in (None, Mark("e2", 0, None, False), Mark("e1", 0, None, True)):
        assert isinstance(after_conflict(ours, mark, placed=True), Leave)


def test_what_somebody_deleted_comes_back_when_the_meeting_changes_and_not_with_a_new_rendering() -> None:
    removed = {"e1": replace(placement(entry("e1", 1), "removed"), digest="m")}
    assert calendar_actions({"e1": entry("e1", 1)}, removed, WINDOW, NOW, GONE) == []
    assert calendar_actions({"e1": entry("e1", 1, "y")}, removed, WINDOW, NOW, GONE) == []
    changed = entry("e1", 1, "y", "n")
    assert calendar_actions({"e1": changed}, removed, WINDOW, NOW, GONE) == [Create("e1")]
    assert calendar_actions({}, removed, WINDOW, NOW, GONE) == [Forget("e1")]


def test_what_no_server_called_gone_is_not_deleted_because_a_configuration_does_not_want_it() -> None:
    placed = {f"e{n}": placement(entry(f"e{n}", n + 1)) for n in range(3)}
    assert calendar_actions({}, placed, WINDOW, NOW, Guard()) == []


def test_an_account_that_lost_all_of_three_meetings_is_held() -> None:
    placed = {f"e{n}": placement(entry(f"e{n}", n + 1)) for n in range(3)}
    emptied = Guard(gone=frozenset(placed), emptied=frozenset(placed))
    assert calendar_actions({}, placed, WINDOW, NOW, emptied) == [Hold(tuple(placed), 3)]


def test_what_is_held_does_not_carry_itself_out_by_being_over() -> None:
    placed = {f"e{n}": placement(entry(f"e{n}", n + 1)) for n in range(20)}
    held = frozenset(placed)
    guard = Guard(gone=held, held=held)
    assert calendar_actions({}, placed, WINDOW, NOW + 60 * DAY, guard) == [Hold(tuple(placed), 0)]
