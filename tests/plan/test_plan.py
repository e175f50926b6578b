# SPDX-License-Identifier: Apache-2.0
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from syncd.model import Link, Meeting, Override, Snapshot, Unreadable, When, Window
from syncd.plan.entries import revision_of
from syncd.plan.links import OPENTALK, LinkKey, MissingLink, Origin, missing_links, once_each
from syncd.plan.pull import (
    ASKS,
    NOT_WANTED,
    Ask,
    Drop,
    Keep,
    KnownMeeting,
    after_ask,
    ledger_changes,
    row_of,
    unreadable_after,
    with_overrides_outside,
)
from tests.support.golden_meetings import OWNER
from tests.support.meetings import DAY, NOW, meeting
from tests.support.occurrences import last_end

WINDOW = Window(NOW - 30 * DAY, NOW + 365 * DAY)
WISHES = {"adhoc": False, "declined": False}


meetings = st.builds(
    meeting,
    event=st.sampled_from([f"e{number}" for number in range(8)]),
    day=st.integers(-60, 500),
    title=st.sampled_from(["a", "b"]),
    invite_status=st.sampled_from(["accepted", "pending", "declined"]),
    adhoc=st.booleans(),
    recurrence=st.sampled_from([(), ("RRULE:FREQ=WEEKLY",), ("RRULE:FREQ=DAILY;COUNT=3",)]),
)
listings = st.lists(meetings, max_size=8).map(lambda found: {each.id: each for each in found})


def carry_out(
    changes: list[Keep | Ask | Drop],
    known: dict[str, KnownMeeting],
    truth: dict[str, Meeting],
    *,
    windowed: bool,
) -> dict[str, KnownMeeting]:
    after = dict(known)
    for change in changes:
        if isinstance(change, Ask):
            change = after_ask(change, truth.get(change.event), windowed=windowed, **WISHES)  # noqa: PLW2901
        if isinstance(change, Drop):
            after.pop(change.event, None)
        elif isinstance(change, Keep):
            after[change.meeting.id] = change.row
    return after


@given(listings, listings, st.booleans())
def test_a_second_pull_of_the_same_listing_changes_nothing(
    before: dict[str, Meeting], listed: dict[str, Meeting], windowed: bool
) -> None:
    snapshot = Snapshot(listed, WINDOW if windowed else None)
    known = {event: row_of(each) for event, each in before.items()}
    known = carry_out(ledger_changes(snapshot, known.items(), WINDOW, **WISHES), known, listed, windowed=windowed)
    assert ledger_changes(snapshot, known.items(), WINDOW, **WISHES) == []


@given(listings, listings)
def test_absence_alone_never_drops_a_meeting(before: dict[str, Meeting], listed: dict[str, Meeting]) -> None:
    known = {event: row_of(each) for event, each in before.items()}
    changes = ledger_changes(Snapshot(listed, WINDOW), known.items(), WINDOW, **WISHES)
    assert {change.event for change in changes if isinstance(change, Drop)} <= listed.keys()


@given(listings, listings)
def test_what_the_window_has_left_behind_is_neither_asked_for_nor_dropped(
    before: dict[str, Meeting], listed: dict[str, Meeting]
) -> None:
    known = {event: row_of(each) for event, each in before.items()}
    left = {
        event
        for event, each in before.items()
        if (end := last_end(each)) is not None and end < WINDOW.since and event not in listed
    }
    for window in (WINDOW, None):
        changes = ledger_changes(Snapshot(listed, window), known.items(), WINDOW, **WISHES)
        assert not {change.event for change in changes if not isinstance(change, Keep)} & left


@given(listings)
def test_unreadable_events_are_neither_changed_nor_missed(before: dict[str, Meeting]) -> None:
    known = {event: row_of(each) for event, each in before.items()}
    snapshot = Snapshot({}, None, {event: Unreadable(event, "unknown zone") for event in before})
    assert ledger_changes(snapshot, known.items(), WINDOW, **WISHES) == []


def test_what_a_listing_says_nothing_of_is_as_unreadable_as_it_was() -> None:
    before = [Unreadable(event, "unknown zone") for event in ("further", "listed", "same", "still")]
    now = {event: Unreadable(event, "no rule") for event in ("new", "still")}
    snapshot = Snapshot({"listed": meeting("listed")}, WINDOW, now, {"same"})
    assert unreadable_after(snapshot, before) == (*now.values(), before[0])
    assert unreadable_after(snapshot, ()) == tuple(now.values())


def test_a_series_that_the_windowed_listing_lacks_is_asked_for_once_and_then_only_by_the_daily_listing() -> None:
    series = meeting(recurrence=("RRULE:FREQ=WEEKLY",))
    known = {"e1": row_of(series)}
    windowed = Snapshot({}, WINDOW)
    changes = ledger_changes(windowed, known.items(), WINDOW, **WISHES)
    assert changes == [Ask("e1")]
    known = carry_out(changes, known, {"e1": series}, windowed=True)
    assert ledger_changes(windowed, known.items(), WINDOW, **WISHES) == []
    assert ledger_changes(Snapshot({}, None), known.items(), WINDOW, **WISHES) == [Ask("e1")]


def test_an_event_that_moves_in_time_only_by_its_update_stamp_is_unchanged() -> None:
    known = {"e1": row_of(meeting())}
    touched = meeting(updated=NOW)
    assert ledger_changes(Snapshot({"e1": touched}, WINDOW), known.items(), WINDOW, **WISHES) == []


def test_a_thousand_missing_events_are_asked_for_in_portions() -> None:
    known = {f"e{number}": row_of(meeting(f"e{number}")) for number in range(1000)}
    changes = ledger_changes(Snapshot({}, WINDOW), known.items(), WINDOW, **WISHES)
    assert len(changes) == ASKS


PROFILE = replace(OWNER, language="en", installation="i", versions=())


def origin(event: str, day: int, *, own: bool = True) -> Origin:
    start = NOW + day * DAY
    return Origin("work", ("work",), f"digest-{event}", start, start + timedelta(hours=1), f"room-{event}", own)


def test_links_are_made_nearest_meeting_first_and_none_for_what_is_over() -> None:
    origins = {"far": origin("far", 9), "near": origin("near", 1), "over": origin("over", -1)}
    wishes = missing_links(origins, {}, PROFILE, NOW)
    assert [wish.event for wish in wishes] == ["near", "near", "far", "far"]
    assert {wish.way.kind for wish in wishes} == {"invite", "hash"}
    assert all(wish.moderator for wish in wishes if wish.way.kind == "hash")


def links_for(wishes: list[MissingLink], code: str | None, at: datetime) -> dict[LinkKey, Link]:
    return {wish.key: Link(wish.way.kind, wish.event, wish.whose, code, wish.depends, True, at) for wish in wishes}


def test_links_that_are_there_are_not_made_again() -> None:
    origins = {"near": origin("near", 1)}
    wishes = missing_links(origins, {}, PROFILE, NOW)
    assert missing_links(origins, links_for(wishes, "c", NOW), PROFILE, NOW + 300 * DAY) == []


def test_a_link_that_could_not_be_had_is_asked_for_again_after_a_day() -> None:
    origins = {"near": origin("near", 5)}
    wishes = missing_links(origins, {}, PROFILE, NOW)
    none = links_for(wishes, None, NOW)
    assert missing_links(origins, none, PROFILE, NOW + DAY / 2) == []
    assert missing_links(origins, none, PROFILE, NOW + DAY) == wishes


@pytest.mark.parametrize("change", [{"audience": "guests"}, {"moderator": False}])
def test_guests_and_feeds_get_hashes_of_their_own_that_do_not_moderate(change: dict[str, object]) -> None:
    wishes = missing_links({"near": origin("near", 1)}, {}, replace(PROFILE, **change), NOW)
    hashes = [wish for wish in wishes if wish.way.kind == "hash"]
    assert [(wish.whose, wish.moderator) for wish in hashes] == [("guest", False)]


@given(st.lists(st.tuples(st.integers(0, 50), st.sampled_from("abc"))), st.sampled_from("abcd"))
def test_a_revision_never_goes_down_for_a_new_content(versions: list[tuple[int, str]], digest: str) -> None:
    revision = revision_of(digest, versions)
    if versions and max(versions)[1] == digest:
        assert (revision, digest) == max(versions)
    else:
        assert all(revision > other for other, _ in versions)


def test_a_meeting_that_is_not_wanted_any_more_is_dropped_only_when_it_changes() -> None:
    unwanted = [replace(meeting(), adhoc=True), replace(meeting(), invite_status="declined")]
    for each in unwanted:
        known = {"e1": row_of(each)}
        assert ledger_changes(Snapshot({"e1": each}, WINDOW), known.items(), WINDOW, **WISHES) == []
    known = {"e1": row_of(meeting())}
    declined = Snapshot({"e1": unwanted[1]}, WINDOW)
    assert ledger_changes(declined, known.items(), WINDOW, **WISHES) == [Drop("e1", NOT_WANTED)]


def test_a_link_that_several_profiles_want_is_asked_of_all_their_accounts_once() -> None:
    wish = MissingLink(OPENTALK, "e1", "guest", ("a",), "d", NOW)
    other = replace(wish, accounts=("b", "a"))
    assert once_each([wish, other]) == [replace(wish, accounts=("a", "b"))]


def test_the_links_of_several_profiles_are_made_nearest_meeting_first() -> None:
    near = MissingLink(OPENTALK, "near", "guest", ("a",), "d", NOW + DAY)
    far = MissingLink(OPENTALK, "far", "guest", ("a",), "d", NOW + 9 * DAY)
    assert once_each([far, near]) == [near, far]


@pytest.mark.parametrize(("ahead", "asked"), [(timedelta(hours=1), True), (timedelta(0), False)])
def test_a_link_that_could_not_be_had_in_the_future_says_nothing(ahead: timedelta, asked: bool) -> None:
    origins = {"near": origin("near", 5)}
    wishes = missing_links(origins, {}, PROFILE, NOW)
    none = links_for(wishes, None, NOW + ahead)
    assert missing_links(origins, none, PROFILE, NOW) == (wishes if asked else [])


def test_overrides_outside_a_listed_window_stay_as_they_were_known() -> None:
    days = [When(NOW + timedelta(days=day), "Europe/Berlin") for day in (1, 8)]
    near, far = (Override(original=each, cancelled=True) for each in days)
    known = meeting(recurrence=("RRULE:FREQ=WEEKLY",), overrides=(near, far))
    window = Window(NOW, NOW + timedelta(days=2))
    hidden = replace(known, overrides=(near,))
    assert with_overrides_outside(hidden, known, window) == known
    assert with_overrides_outside(replace(known, overrides=(far,)), known, window).overrides == (far,)
    moved = replace(hidden, recurrence=("RRULE:FREQ=DAILY",))
    assert with_overrides_outside(moved, known, window) == moved
