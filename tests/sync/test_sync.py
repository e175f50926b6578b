# SPDX-License-Identifier: Apache-2.0
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from syncd.errors import LoginRefused, NeedsYou, Refused, Stopped, Unavailable
from syncd.model import Meeting, Override, RunKey, When
from syncd.sync.pull import pull
from tests.support.calendar_objects import revision_of, uid_of
from tests.support.meetings import DAY, HOUR, NOW, meeting
from tests.support.memory_servers import MemoryCalendar
from tests.support.occurrences import occurrences, shown_by, touches
from tests.support.pipeline import LISTING, House


@pytest.fixture
def house_of_five() -> House:
    return House(*(meeting(f"e{number}", number) for number in range(1, 6)))


SPAN = (NOW - 60 * DAY, NOW + 460 * DAY)
events = st.lists(
    st.builds(
        meeting,
        event=st.sampled_from([f"e{number}" for number in range(6)]),
        day=st.integers(-40 * 96, 400 * 96).map(
            lambda quarters: quarters / 96
        ),  # as calendars have no fractions of seconds
        title=st.sampled_from(["one", "two"]),
        own=st.booleans(),
        recurrence=st.sampled_from([(), ("RRULE:FREQ=WEEKLY",)]),
        invite_status=st.sampled_from(["accepted", "pending", "declined"]),
    ),
    max_size=6,
)


def test_a_meeting_goes_from_the_account_to_the_calendar_with_its_ways_in() -> None:
    house = House(meeting())
    run = house.sync()
    assert (run.state, run.counts["created"]) == ("ok", 1)
    body = house.shown()["e1"].replace(b"\r\n ", b"")
    assert b"LOCATION:https://meet.example.org/room/room-e1\r\n" in body
    assert b"https://meet.example.org/room/room-e1?invite=code-e1" in body
    assert b"https://om.example.org/openmeetings/hash?secure=hash-1&language=1" in body
    ((event, visitor),) = house.minter.made
    assert (event, visitor.external_id, visitor.firstname, visitor.moderator) == ("e1", "u1", "Alice", True)


@settings(deadline=None, max_examples=50)
@given(events, events, st.integers(0, 3))
def test_after_any_change_one_sync_makes_the_calendar_agree_and_the_next_does_nothing(
    before: list[Meeting], after: list[Meeting], days: int
) -> None:
    house = House(*before)
    house.sync()
    house.source.meetings = {each.id: each for each in after}
    house.now += days * DAY
    if house.sync().counts["held"]:
        house.ledger.deletions.confirm("team")
        house.sync()
    first = house.shown()
    entries = house.ledger.entries.of(house.profile.key)
    assert house.ledger.entries.bodies(house.profile.key, list(first)) == first
    window = LISTING.window(house.now)
    wanted = [each for each in house.source.meetings.values() if each.invite_status != "declined"]
    assert {each.id for each in wanted if touches(each, window)} <= set(first) <= entries.keys()
    for each in wanted:
        if each.id in first:
            assert shown_by(first[each.id], *SPAN) == occurrences(each, *SPAN) != set()
    house.writes.clear()
    house.calendar.log.clear()
    minted = list(house.minter.made)
    house.sync()
    assert (house.writes, house.calendar.log, house.minter.made) == ([], [], minted)
    assert house.shown() == first
    assert set(first) <= {each.id for each in wanted} | {each.id for each in before}


def test_a_quiet_poll_costs_one_listing_and_one_row() -> None:
    house = House(*(meeting(f"e{number}", number) for number in range(1, 30)))
    house.sync()
    house.source.asked.clear()
    house.calendar.log.clear()
    before = house.ledger.database._reader().total_changes
    run = house.pull()
    assert run.counts == {"meetings": 29, "changed": 0, "gone": 0, "asked": 0, "unreadable": 0}
    assert house.source.asked == {"snapshot": 1}
    assert house.ledger.database._reader().total_changes - before == 1
    assert house.mint() == []
    assert house.render().changed == 0
    assert house.ledger.database._reader().total_changes - before == 1
    assert house.calendar.log == []


def test_three_changed_events_cost_three_puts_and_no_more() -> None:
    house = House(*(meeting(f"e{number}", number) for number in range(1, 30)))
    house.sync()
    house.calendar.log.clear()
    for event in ("e3", "e5", "e7"):
        house.change(event, title="Another title")
    house.sync()
    puts = [call for call in house.calendar.log if call[0] != "check"]
    assert sorted(puts) == [("update", f"syncd-{event}.ics") for event in ("e3", "e5", "e7")]


def test_the_first_listing_and_one_a_day_are_without_time_filters() -> None:
    house = House(meeting())
    for _ in range(3):
        house.pull()
        house.now += HOUR
    house.now += DAY
    house.pull()
    assert house.source.asked == {"full snapshot": 2, "snapshot": 2}


def test_a_failing_listing_changes_nothing_and_the_calendar_is_still_repaired() -> None:
    house = House(meeting("e1"), meeting("e2", 2))
    house.pull()
    house.source.broken["snapshot"] = house.source.broken["full snapshot"] = Unavailable("down")
    with pytest.raises(Unavailable):
        house.pull()
    assert house.push().counts["created"] == 2


def test_an_unreadable_event_stays_as_it_was_and_is_named_without_its_title() -> None:
    house = House(meeting("e1"), meeting("e2", 2))
    house.sync()
    house.source.unreadable = {"e1": "the zone Mars/Olympus is unknown"}
    run = house.pull()
    assert (run.counts["unreadable"], run.counts["gone"]) == (1, 0)
    assert run.message == "event e1 is left as it was: the zone Mars/Olympus is unknown"
    assert house.push().counts["entries"] == 2


def test_a_server_that_cannot_say_whether_an_event_is_gone_leaves_it_and_the_listing_unfinished() -> None:
    house = House(meeting("e1"), meeting("e2", 2))
    house.sync()
    del house.source.meetings["e1"]
    house.source.broken["event"] = Unavailable("in trouble (500)")
    run = house.pull()
    assert (run.state, run.counts["gone"]) == ("retrying", 0)
    house.source.broken.clear()
    house.sync()
    assert house.shown().keys() == {"e2"}


def test_a_dead_openmeetings_delays_no_meeting_and_the_link_follows() -> None:
    house = House(meeting("e1"), meeting("e2", 2))
    house.minter.broken = Unavailable("OpenMeetings cannot be reached")
    house.pull()
    runs = {run.key.name: run for run in house.mint()}
    assert (runs["openmeetings"].state, runs["work"].state) == ("retrying", "ok")
    assert house.push().counts["created"] == 2
    house.minter.broken = None
    run = house.sync()
    assert run.counts["updated"] == 2
    assert all(b"SEQUENCE:1\r\n" in body for body in house.shown().values())


def test_a_refused_openmeetings_login_is_tried_once_a_run() -> None:
    house = House(*(meeting(f"e{number}", number) for number in range(1, 9)))
    house.minter.broken = LoginRefused("OpenMeetings: the password is wrong")
    house.pull()
    runs = {run.key.name: run for run in house.mint()}
    assert runs["openmeetings"].state == "needs_login"
    assert house.source.asked["invite"] == 8


def test_a_link_that_was_made_is_never_made_again_whatever_happens_to_the_entry() -> None:
    house = House(meeting())
    house.sync()
    for title in ("b", "c", "d"):
        house.change("e1", title=title)
        house.now += DAY
        house.sync()
    assert len(house.minter.made) == 1
    assert house.source.asked["invite"] == 1


def test_a_lost_answer_to_a_put_costs_one_look_and_the_object_is_adopted() -> None:
    house = House(meeting())
    house.calendar.lose_answer(verb="create")
    assert house.sync().counts["failed"] == 1
    house.calendar.log.clear()
    run = house.sync()
    assert (run.counts["adopted"], run.counts["created"]) == (1, 0)
    assert house.calendar.log == [("seen", ""), ("check", ""), ("create", "syncd-e1.ics"), ("fetch", "syncd-e1.ics")]
    assert house.sync().counts["adopted"] == 0


def test_after_a_lost_ledger_everything_is_adopted_and_revisions_go_on_upwards() -> None:
    house = House(meeting("e1"), meeting("e2", 2))
    house.sync()
    for title in ("b", "c"):
        house.change("e1", title=title)
        house.sync()
    assert b"SEQUENCE:2\r\n" in house.shown()["e1"]
    new = House(*house.source.meetings.values())
    new.calendar, new.source.invites = house.calendar, house.source.invites
    new.minter.made = [("e9", replace(house.minter.made[0][1]))]  # other hashes than before
    new.sync()
    assert len(new.shown()) == 2
    assert revision_of(new.shown()["e1"]) == 3
    new.calendar.log.clear()
    new.sync()
    assert new.calendar.log == []


def test_somebody_elses_event_with_our_uid_is_left_alone() -> None:
    house = House(meeting("e1"))
    mail = b"BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nUID:e1\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
    house.calendar.user_puts("from-the-mail.ics", mail)
    assert house.sync().counts["left"] == 1
    house.calendar.log.clear()
    house.sync()
    assert house.calendar.log == []
    del house.source.meetings["e1"]
    house.sync()
    assert house.calendar.objects["from-the-mail.ics"].body == mail


def test_our_entry_that_somebody_edited_gets_the_next_change_and_the_last_word() -> None:
    house = House(meeting("e1"))
    house.sync()
    edited = house.shown()["e1"].replace(b"SUMMARY:Meeting e1", b"SUMMARY:Mine")
    house.calendar.user_puts("syncd-e1.ics", edited)
    house.change("e1", title="Ours")
    assert house.sync().counts["updated"] == 1
    assert b"SUMMARY:Ours" in house.shown()["e1"]


def test_our_entry_to_which_somebody_added_people_is_neither_rewritten_nor_deleted() -> None:
    house = House(meeting("e1"), meeting("e2", 2))
    house.sync()
    for event in ("e1", "e2"):
        theirs = house.shown()[event].replace(b"SUMMARY:", b"ATTENDEE:mailto:guest@else.example\r\nSUMMARY:")
        house.calendar.user_puts(f"syncd-{event}.ics", theirs)
    before = house.shown()
    house.change("e1", title="Another")
    del house.source.meetings["e2"]
    run = house.sync()
    assert house.shown() == before
    assert (run.counts["updated"], run.counts["deleted"]) == (0, 0)


def test_an_entry_that_somebody_deleted_comes_back_when_the_meeting_changes() -> None:
    house = House(meeting("e1"))
    house.sync()
    house.calendar.user_deletes("syncd-e1.ics")
    house.sync()
    assert house.shown() == {}
    house.change("e1", title="Moved to another room")
    assert house.sync().counts["created"] == 1


def test_a_meeting_that_is_gone_leaves_the_calendar_and_one_that_is_over_stays() -> None:
    house = House(meeting("over", 1), meeting("gone", 50))
    house.sync()
    house.now += 40 * DAY
    house.source.meetings.clear()  # OpenTalk sweeps what is over
    house.sync()
    assert house.shown().keys() == {"over"}


def test_too_many_deletions_are_held_until_a_person_confirms_them() -> None:
    house = House(*(meeting(f"e{number}", number) for number in range(1, 21)))
    house.sync()
    house.source.meetings.clear()
    run = house.sync()
    assert (run.state, run.counts["held"], run.counts["deleted"]) == ("held", 20, 0)
    assert run.message == "would delete 20 of 20: syncd confirm team"
    assert len(house.shown()) == 20
    house.ledger.deletions.confirm("team")
    run = house.sync()
    assert (run.state, run.counts["deleted"], house.shown()) == ("ok", 20, {})


def test_deletions_in_small_portions_are_held_too() -> None:
    house = House(*(meeting(f"e{number}", number) for number in range(1, 21)))
    house.sync()
    states = []
    for number in range(1, 13, 3):
        for event in (f"e{number}", f"e{number + 1}", f"e{number + 2}"):
            del house.source.meetings[event]
        house.now += HOUR
        states.append(house.sync().state)
    assert states == ["ok", "held", "held", "held"]
    assert len(house.shown()) == 17


def test_one_refused_object_does_not_stop_the_others_and_is_tried_once_a_run(house_of_five: House) -> None:
    house = house_of_five
    house.calendar.fail(Refused("too large"), verb="create", href="syncd-e3.ics", times=2)
    run = house.sync()
    assert (run.counts["created"], run.counts["failed"], run.state) == (4, 1, "needs_you")
    assert run.message == "event e3: too large"
    house.calendar.log.clear()
    assert house.sync().state == "needs_you"
    assert house.calendar.log == [("check", ""), ("create", "syncd-e3.ics")]
    assert house.sync().counts["created"] == 1


def test_a_server_that_refuses_everything_is_left_alone_after_twenty() -> None:
    house = House(*(meeting(f"e{number}", number) for number in range(1, 60)))
    house.calendar.fail(Refused("forbidden (403)"), verb="create", times=100)
    assert house.sync().counts["failed"] == 20


def test_a_confirmation_stands_until_it_is_carried_out() -> None:
    house = House(*(meeting(f"e{number}", number) for number in range(1, 21)))
    house.sync()
    house.source.meetings.clear()
    house.sync()
    house.ledger.deletions.confirm("team")
    house.calendar.fail(Unavailable("down"), verb="delete", times=3)
    assert (house.push().state, len(house.shown())) == ("retrying", 20)
    assert house.push().counts["deleted"] == 20
    guard = house.ledger.deletions.guard("team", ("work",), house.now - DAY)
    assert guard.lately == 0


def test_an_unconfirmed_hold_stays_until_somebody_says_so() -> None:
    house = House(*(meeting(f"e{number}", number) for number in range(1, 21)))
    house.sync()
    house.source.meetings.clear()
    for _ in range(4):
        assert house.sync().state == "held"
        house.now += 10 * DAY
    assert len(house.shown()) == 20


def test_what_a_stopped_push_deleted_counts_for_the_day() -> None:
    house = House(*(meeting(f"e{number}", number) for number in range(1, 41)))
    house.sync()
    for number in range(1, 9):
        del house.source.meetings[f"e{number}"]
    house.pull()

    def stop_after_four(_name: str, done: int, _total: int) -> None:
        if done == 4:
            raise Stopped("syncd is ending")

    house.progress = stop_after_four
    run = house.push()
    assert (run.state, run.counts["deleted"]) == ("retrying", 4)
    assert house.ledger.deletions.guard("team", ("work",), house.now - DAY).lately == 4


def test_an_edit_of_the_configuration_deletes_nothing() -> None:
    house = House(*(meeting(f"e{number}", number) for number in range(1, 6)))
    house.sync()
    house.profile = replace(house.profile, accounts=("renamed",))
    assert (house.push().counts["deleted"], len(house.shown())) == (0, 5)


def test_sequence_never_goes_down_in_any_calendar() -> None:
    house, second = House(meeting("e1", title="A")), MemoryCalendar("second")
    house.sync()
    house.push(calendar=second)
    revisions = []
    for title in ("B", "A", "B"):
        house.change("e1", title=title)
        house.sync()
        revisions.append(revision_of(house.shown()["e1"]))
    assert revisions == sorted(set(revisions))


def test_an_account_that_cannot_be_asked_does_not_keep_the_next_one_from_giving_its_link() -> None:
    house = House(meeting("e1"))
    pull("other", house.source, house.ledger, LISTING, house.now)
    house.profile = replace(house.profile, accounts=("other", "work"), urls=("https://a.example.org",) * 2)
    house.sync()
    assert house.source.asked["invite"] == 1
    assert b"invite=code-e1" in house.shown()["e1"].replace(b"\r\n ", b"")


def test_a_server_that_fails_three_times_is_left_alone_for_this_run() -> None:
    house = House(*(meeting(f"e{number}", number) for number in range(1, 30)))
    house.calendar.fail(Unavailable("in trouble (503)"), verb="create", times=100)
    run = house.sync()
    assert (run.state, run.counts["failed"]) == ("retrying", 3)
    assert len([call for call in house.calendar.log if call[0] == "create"]) == 3


def test_a_calendar_that_is_gone_is_named_and_nothing_is_forgotten() -> None:
    house = House(meeting("e1"), meeting("e2", 2))
    house.sync()
    house.calendar.gone = True
    house.change("e1", title="Another")
    with pytest.raises(NeedsYou):
        house.sync()
    house.calendar.gone = False
    assert house.sync().counts["updated"] == 1


def test_a_new_profile_with_the_same_content_costs_no_put() -> None:
    house = House(meeting("e1"))
    house.sync()
    house.profile = replace(house.profile, versions=("2",))
    house.calendar.log.clear()
    house.sync()
    assert house.calendar.log == []
    house.profile = replace(house.profile, passwords=False, language="de")
    assert house.sync().counts["updated"] == 1


def test_a_series_without_any_occurrence_left_leaves_the_calendar_and_can_come_back() -> None:
    series = meeting("e1", recurrence=("RRULE:FREQ=DAILY;COUNT=2",))
    house = House(series)
    house.sync()
    assert series.start is not None
    days = [When(series.start.utc + timedelta(days=day), series.start.zone) for day in range(2)]
    house.change("e1", overrides=tuple(Override(day, cancelled=True) for day in days))
    assert house.sync().counts["deleted"] == 1
    house.change("e1", overrides=())
    assert house.sync().counts["created"] == 1
    assert uid_of(house.shown()["e1"]) == "e1"


def test_a_server_that_lost_everything_is_asked_for_everything_before_the_next_meetings_are_let_go() -> None:
    house = House(*(meeting(f"e{number}", number / 2) for number in range(1, 11)))
    house.sync()
    house.source.meetings.clear()
    house.source.asked.clear()
    house.now += timedelta(minutes=1)
    run = pull("work", house.source, house.ledger, LISTING, house.now, soon=True)
    assert (run.scope, run.counts["gone"]) == ("everything", 10)
    assert (house.source.asked["snapshot"], house.source.asked["full snapshot"]) == (1, 1)
    assert house.push().counts["held"] == 10


def test_what_cannot_be_read_further_away_is_told_by_the_listings_of_the_next_days_too() -> None:
    house = House(meeting("e1", 1), meeting("e2", 30))
    house.source.unreadable["e2"] = "its rule is none"
    house.sync()
    told = house.ledger.history.standings()[RunKey("pull", "work")].latest
    house.now += timedelta(minutes=1)
    house.source.unreadable.clear()  # it is not listed
    run = pull("work", house.source, house.ledger, LISTING, house.now, soon=True)
    assert (run.scope, run.message, run.counts["unreadable"]) == ("soon", told.message, 1)
    assert run.message
    house.source.unreadable["e1"] = "its zone is unknown"
    for wrong in (["e1", "e2"], ["e2"]):
        house.now += timedelta(minutes=1)
        assert pull("work", house.source, house.ledger, LISTING, house.now, soon=True).scope == "soon"
        assert [each.event for each in house.ledger.meetings.unreadable("work")] == wrong
        house.source.unreadable.clear()
    house.now += timedelta(minutes=5)
    assert pull("work", house.source, house.ledger, LISTING, house.now, soon=True).scope == "window"
    assert house.ledger.meetings.unreadable("work") == []
