# SPDX-License-Identifier: Apache-2.0
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from syncd.model import Entry, EntryInputs
from syncd.plan.deletions import Delete, Guard, Hold
from syncd.plan.feed import Carry, feed_actions
from tests.support.meetings import DAY, NOW

EVENTS = [f"e{number}" for number in range(1, 21)]
SHOWN = {event: NOW + number * DAY for number, event in enumerate(EVENTS, 1)}


def entry(event: str, digest: str = "x", *, gone: bool = False) -> Entry:
    inputs = None if gone else EntryInputs("work", "m", {})
    return Entry(event, inputs, digest, 0, SHOWN[event] - timedelta(hours=1), SHOWN[event])


def entries(*events: str) -> dict[str, Entry]:
    return {event: entry(event) for event in events}


def erased(*events: str) -> dict[str, Entry]:
    return {event: entry(event, "", gone=True) for event in events}


def test_what_has_entries_stays_and_what_is_erased_is_let_go() -> None:
    wanted = entries(*EVENTS[2:]) | erased("e1", "e2")
    assert feed_actions(SHOWN, wanted, EVENTS[2:], NOW, Guard()) == [Delete("e1"), Delete("e2")]


def test_what_a_feed_never_showed_is_not_let_go() -> None:
    assert feed_actions({}, erased("e1") | entries("e2"), ["e2"], NOW, Guard()) == []


def test_too_much_that_is_erased_is_held_out_of_all_that_is_coming() -> None:
    shown = {event: SHOWN[event] for event in EVENTS[:10]}
    actions = feed_actions(shown, erased(*EVENTS[:8]) | entries(*EVENTS[8:]), EVENTS[8:], NOW, Guard())
    assert actions == [Hold(tuple(EVENTS[:8]), 20)]


def test_an_entry_whose_occurrences_are_all_cancelled_is_let_go() -> None:
    assert feed_actions({"e1": SHOWN["e1"]}, {"e1": entry("e1", "")}, ["e1"], NOW, Guard()) == [Delete("e1")]


def test_a_former_profile_is_carried_over_as_far_as_the_new_one_lacks_it() -> None:
    shown = {event: SHOWN[event] for event in ("e1", "e2", "e3")}
    actions = feed_actions(shown, entries("e1"), ["e1", "e2"], NOW, Guard())
    assert actions == [Carry("e2", erased=False), Carry("e3", erased=True), Delete("e3")]


states = st.dictionaries(st.sampled_from(EVENTS), st.sampled_from(["live", "erased", "cancelled"]))


@given(st.sets(st.sampled_from(EVENTS)), states, st.sets(st.sampled_from(EVENTS)))
def test_nothing_that_was_shown_vanishes_without_being_let_go(
    before: set[str], then: dict[str, str], present: set[str]
) -> None:
    shown = {event: SHOWN[event] for event in before}
    kinds = {"live": ("x", False), "erased": ("", True), "cancelled": ("", False)}
    wanted = {event: entry(event, kinds[kind][0], gone=kinds[kind][1]) for event, kind in then.items()}
    actions = feed_actions(shown, wanted, present, NOW, Guard())
    carried = {each.event for each in actions if isinstance(each, Carry)}
    dropped = {each.event for each in actions if isinstance(each, Delete)}
    held = {event for each in actions if isinstance(each, Hold) for event in each.events}
    live = {event for event, kind in then.items() if kind == "live"}
    assert before <= live | carried | dropped | held
    assert not (dropped | held) & (live | (carried & present))
    assert not dropped & held
