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
from tests.support.occurrences import occurrences, occurrences_in, touches
from tests.support.pipeline import LISTING, Pipeline


@pytest.fixture
def five_meetings() -> Pipeline:
    return Pipeline(*(meeting(f"e{number}", number) for number in range(1, 6)))


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
    pipeline = Pipeline(meeting())
    run = pipeline.sync()
    assert (run.state, run.counts["created"]) == ("ok", 1)
    body = pipeline.entries()["e1"].replace(b"\r\n ", b"")
    assert b"LOCATION:https://meet.example.org/room/room-e1\r\n" in body
    assert b"https://meet.example.org/room/room-e1?invite=code-e1" in body
    assert b"https://om.example.org/openmeetings/hash?secure=hash-1&language=1" in body
    ((event, visitor),) = pipeline.link_maker.made
    assert (event, visitor.external_id, visitor.firstname, visitor.moderator) == ("e1", "u1", "Alice", True)


@settings(deadline=None, max_examples=50)
@given(events, events, st.integers(0, 3))
def test_after_any_change_one_sync_makes_the_calendar_agree_and_the_next_does_nothing(
    before: list[Meeting], after: list[Meeting], days: int
) -> None:
    pipeline = Pipeline(*before)
    pipeline.sync()
    pipeline.source.meetings = {each.id: each for each in after}
    pipeline.now += days * DAY
    if pipeline.sync().counts["held"]:
        pipeline.ledger.deletions.confirm("team")
        pipeline.sync()
    first = pipeline.entries()
    entries = pipeline.ledger.entries.of(pipeline.profile.key)
    assert pipeline.ledger.entries.bodies(pipeline.profile.key, list(first)) == first
    window = LISTING.window(pipeline.now)
    wanted = [each for each in pipeline.source.meetings.values() if each.invite_status != "declined"]
    assert {each.id for each in wanted if touches(each, window)} <= set(first) <= entries.keys()
    for each in wanted:
        if each.id in first:
            assert occurrences_in(first[each.id], *SPAN) == occurrences(each, *SPAN) != set()
    pipeline.writes.clear()
    pipeline.calendar.log.clear()
    minted = list(pipeline.link_maker.made)
    pipeline.sync()
    assert (pipeline.writes, pipeline.calendar.log, pipeline.link_maker.made) == ([], [], minted)
    assert pipeline.entries() == first
    assert set(first) <= {each.id for each in wanted} | {each.id for each in before}


def test_a_quiet_poll_costs_one_listing_and_one_row() -> None:
    pipeline = Pipeline(*(meeting(f"e{number}", number) for number in range(1, 30)))
    pipeline.sync()
    pipeline.source.requests.clear()
    pipeline.calendar.log.clear()
    before = pipeline.ledger.database._reader().total_changes
    run = pipeline.pull()
    assert run.counts == {"meetings": 29, "changed": 0, "gone": 0, "asked": 0, "unreadable": 0}
    assert pipeline.source.requests == {"snapshot": 1}
    assert pipeline.ledger.database._reader().total_changes - before == 1
    assert pipeline.mint() == []
    assert pipeline.render().changed == 0
    assert pipeline.ledger.database._reader().total_changes - before == 1
    assert pipeline.calendar.log == []


def test_three_changed_events_cost_three_puts_and_no_more() -> None:
    pipeline = Pipeline(*(meeting(f"e{number}", number) for number in range(1, 30)))
    pipeline.sync()
    pipeline.calendar.log.clear()
    for event in ("e3", "e5", "e7"):
        pipeline.change(event, title="Another title")
    pipeline.sync()
    puts = [call for call in pipeline.calendar.log if call[0] != "check"]
    assert sorted(puts) == [("update", f"syncd-{event}.ics") for event in ("e3", "e5", "e7")]


def test_the_first_listing_and_one_a_day_are_without_time_filters() -> None:
    pipeline = Pipeline(meeting())
    for _ in range(3):
        pipeline.pull()
        pipeline.now += HOUR
    pipeline.now += DAY
    pipeline.pull()
    assert pipeline.source.requests == {"full snapshot": 2, "snapshot": 2}


def test_a_failing_listing_changes_nothing_and_the_calendar_is_still_repaired() -> None:
    pipeline = Pipeline(meeting("e1"), meeting("e2", 2))
    pipeline.pull()
    pipeline.source.broken["snapshot"] = pipeline.source.broken["full snapshot"] = Unavailable("down")
    with pytest.raises(Unavailable):
        pipeline.pull()
    assert pipeline.push().counts["created"] == 2


def test_an_unreadable_event_stays_as_it_was_and_is_named_without_its_title() -> None:
    pipeline = Pipeline(meeting("e1"), meeting("e2", 2))
    pipeline.sync()
    pipeline.source.unreadable = {"e1": "the zone Mars/Olympus is unknown"}
    run = pipeline.pull()
    assert (run.counts["unreadable"], run.counts["gone"]) == (1, 0)
    assert run.message == "event e1 is left as it was: the zone Mars/Olympus is unknown"
    assert pipeline.push().counts["entries"] == 2


def test_a_server_that_cannot_say_whether_an_event_is_gone_leaves_it_and_the_listing_unfinished() -> None:
    pipeline = Pipeline(meeting("e1"), meeting("e2", 2))
    pipeline.sync()
    del pipeline.source.meetings["e1"]
    pipeline.source.broken["event"] = Unavailable("in trouble (500)")
    run = pipeline.pull()
    assert (run.state, run.counts["gone"]) == ("retrying", 0)
    pipeline.source.broken.clear()
    pipeline.sync()
    assert pipeline.entries().keys() == {"e2"}


def test_a_dead_openmeetings_delays_no_meeting_and_the_link_follows() -> None:
    pipeline = Pipeline(meeting("e1"), meeting("e2", 2))
    pipeline.link_maker.broken = Unavailable("OpenMeetings cannot be reached")
    pipeline.pull()
    runs = {run.key.name: run for run in pipeline.mint()}
    assert (runs["openmeetings"].state, runs["work"].state) == ("retrying", "ok")
    assert pipeline.push().counts["created"] == 2
    pipeline.link_maker.broken = None
    run = pipeline.sync()
    assert run.counts["updated"] == 2
    assert all(b"SEQUENCE:1\r\n" in body for body in pipeline.entries().values())


def test_a_refused_openmeetings_login_is_tried_once_a_run() -> None:
    pipeline = Pipeline(*(meeting(f"e{number}", number) for number in range(1, 9)))
    pipeline.link_maker.broken = LoginRefused("OpenMeetings: the password is wrong")
    pipeline.pull()
    runs = {run.key.name: run for run in pipeline.mint()}
    assert runs["openmeetings"].state == "needs_login"
    assert pipeline.source.requests["invite"] == 8


def test_a_link_that_was_made_is_never_made_again_whatever_happens_to_the_entry() -> None:
    pipeline = Pipeline(meeting())
    pipeline.sync()
    for title in ("b", "c", "d"):
        pipeline.change("e1", title=title)
        pipeline.now += DAY
        pipeline.sync()
    assert len(pipeline.link_maker.made) == 1
    assert pipeline.source.requests["invite"] == 1


def test_a_lost_answer_to_a_put_costs_one_look_and_the_object_is_adopted() -> None:
    pipeline = Pipeline(meeting())
    pipeline.calendar.lose_answer(verb="create")
    assert pipeline.sync().counts["failed"] == 1
    pipeline.calendar.log.clear()
    run = pipeline.sync()
    assert (run.counts["adopted"], run.counts["created"]) == (1, 0)
    assert pipeline.calendar.log == [("seen", ""), ("check", ""), ("create", "syncd-e1.ics"), ("fetch", "syncd-e1.ics")]
    assert pipeline.sync().counts["adopted"] == 0


def test_after_a_lost_ledger_everything_is_adopted_and_revisions_go_on_upwards() -> None:
    pipeline = Pipeline(meeting("e1"), meeting("e2", 2))
    pipeline.sync()
    for title in ("b", "c"):
        pipeline.change("e1", title=title)
        pipeline.sync()
    assert b"SEQUENCE:2\r\n" in pipeline.entries()["e1"]
    new = Pipeline(*pipeline.source.meetings.values())
    new.calendar, new.source.invites = pipeline.calendar, pipeline.source.invites
    new.link_maker.made = [("e9", replace(pipeline.link_maker.made[0][1]))]  # other hashes than before
    new.sync()
    assert len(new.entries()) == 2
    assert revision_of(new.entries()["e1"]) == 3
    new.calendar.log.clear()
    new.sync()
    assert new.calendar.log == []


def test_somebody_elses_event_with_our_uid_is_left_alone() -> None:
    pipeline = Pipeline(meeting("e1"))
    mail = b"BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nUID:e1\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
    pipeline.calendar.user_puts("from-the-mail.ics", mail)
    assert pipeline.sync().counts["left"] == 1
    pipeline.calendar.log.clear()
    pipeline.sync()
    assert pipeline.calendar.log == []
    del pipeline.source.meetings["e1"]
    pipeline.sync()
    assert pipeline.calendar.objects["from-the-mail.ics"].body == mail


def test_our_entry_that_somebody_edited_gets_the_next_change_and_the_last_word() -> None:
    pipeline = Pipeline(meeting("e1"))
    pipeline.sync()
    edited = pipeline.entries()["e1"].replace(b"SUMMARY:Meeting e1", b"SUMMARY:Mine")
    pipeline.calendar.user_puts("syncd-e1.ics", edited)
    pipeline.change("e1", title="Ours")
    assert pipeline.sync().counts["updated"] == 1
    assert b"SUMMARY:Ours" in pipeline.entries()["e1"]


def test_our_entry_to_which_somebody_added_people_is_neither_rewritten_nor_deleted() -> None:
    pipeline = Pipeline(meeting("e1"), meeting("e2", 2))
    pipeline.sync()
    for event in ("e1", "e2"):
        theirs = pipeline.entries()[event].replace(b"SUMMARY:", b"ATTENDEE:mailto:guest@else.example\r\nSUMMARY:")
        pipeline.calendar.user_puts(f"syncd-{event}.ics", theirs)
    before = pipeline.entries()
    pipeline.change("e1", title="Another")
    del pipeline.source.meetings["e2"]
    run = pipeline.sync()
    assert pipeline.entries() == before
    assert (run.counts["updated"], run.counts["deleted"]) == (0, 0)


def test_an_entry_that_somebody_deleted_comes_back_when_the_meeting_changes() -> None:
    pipeline = Pipeline(meeting("e1"))
    pipeline.sync()
    pipeline.calendar.user_deletes("syncd-e1.ics")
    pipeline.sync()
    assert pipeline.entries() == {}
    pipeline.change("e1", title="Moved to another room")
    assert pipeline.sync().counts["created"] == 1


def test_a_meeting_that_is_gone_leaves_the_calendar_and_one_that_is_over_stays() -> None:
    pipeline = Pipeline(meeting("over", 1), meeting("gone", 50))
    pipeline.sync()
    pipeline.now += 40 * DAY
    pipeline.source.meetings.clear()  # OpenTalk sweeps what is over
    pipeline.sync()
    assert pipeline.entries().keys() == {"over"}


def test_too_many_deletions_are_held_until_a_person_confirms_them() -> None:
    pipeline = Pipeline(*(meeting(f"e{number}", number) for number in range(1, 21)))
    pipeline.sync()
    pipeline.source.meetings.clear()
    run = pipeline.sync()
    assert (run.state, run.counts["held"], run.counts["deleted"]) == ("held", 20, 0)
    assert run.message == "would delete 20 of 20: syncd confirm team"
    assert len(pipeline.entries()) == 20
    pipeline.ledger.deletions.confirm("team")
    run = pipeline.sync()
    assert (run.state, run.counts["deleted"], pipeline.entries()) == ("ok", 20, {})


def test_deletions_in_small_portions_are_held_too() -> None:
    pipeline = Pipeline(*(meeting(f"e{number}", number) for number in range(1, 21)))
    pipeline.sync()
    states = []
    for number in range(1, 13, 3):
        for event in (f"e{number}", f"e{number + 1}", f"e{number + 2}"):
            del pipeline.source.meetings[event]
        pipeline.now += HOUR
        states.append(pipeline.sync().state)
    assert states == ["ok", "held", "held", "held"]
    assert len(pipeline.entries()) == 17


def test_one_refused_object_does_not_stop_the_others_and_is_tried_once_a_run(five_meetings: Pipeline) -> None:
    pipeline = five_meetings
    pipeline.calendar.fail(Refused("too large"), verb="create", href="syncd-e3.ics", times=2)
    run = pipeline.sync()
    assert (run.counts["created"], run.counts["failed"], run.state) == (4, 1, "needs_you")
    assert run.message == "event e3: too large"
    pipeline.calendar.log.clear()
    assert pipeline.sync().state == "needs_you"
    assert pipeline.calendar.log == [("check", ""), ("create", "syncd-e3.ics")]
    assert pipeline.sync().counts["created"] == 1


def test_a_server_that_refuses_everything_is_left_alone_after_twenty() -> None:
    pipeline = Pipeline(*(meeting(f"e{number}", number) for number in range(1, 60)))
    pipeline.calendar.fail(Refused("forbidden (403)"), verb="create", times=100)
    assert pipeline.sync().counts["failed"] == 20


def test_a_confirmation_stands_until_it_is_carried_out() -> None:
    pipeline = Pipeline(*(meeting(f"e{number}", number) for number in range(1, 21)))
    pipeline.sync()
    pipeline.source.meetings.clear()
    pipeline.sync()
    pipeline.ledger.deletions.confirm("team")
    pipeline.calendar.fail(Unavailable("down"), verb="delete", times=3)
    assert (pipeline.push().state, len(pipeline.entries())) == ("retrying", 20)
    assert pipeline.push().counts["deleted"] == 20
    guard = pipeline.ledger.deletions.guard("team", ("work",), pipeline.now - DAY)
    assert guard.lately == 0


def test_an_unconfirmed_hold_stays_until_somebody_says_so() -> None:
    pipeline = Pipeline(*(meeting(f"e{number}", number) for number in range(1, 21)))
    pipeline.sync()
    pipeline.source.meetings.clear()
    for _ in range(4):
        assert pipeline.sync().state == "held"
        pipeline.now += 10 * DAY
    assert len(pipeline.entries()) == 20


def test_what_a_stopped_push_deleted_counts_for_the_day() -> None:
    pipeline = Pipeline(*(meeting(f"e{number}", number) for number in range(1, 41)))
    pipeline.sync()
    for number in range(1, 9):
        del pipeline.source.meetings[f"e{number}"]
    pipeline.pull()

    def stop_after_four(_name: str, done: int, _total: int) -> None:
        if done == 4:
            raise Stopped("syncd is ending")

    pipeline.progress = stop_after_four
    run = pipeline.push()
    assert (run.state, run.counts["deleted"]) == ("retrying", 4)
    assert pipeline.ledger.deletions.guard("team", ("work",), pipeline.now - DAY).lately == 4


def test_an_edit_of_the_configuration_deletes_nothing() -> None:
    pipeline = Pipeline(*(meeting(f"e{number}", number) for number in range(1, 6)))
    pipeline.sync()
    pipeline.profile = replace(pipeline.profile, accounts=("renamed",))
    assert (pipeline.push().counts["deleted"], len(pipeline.entries())) == (0, 5)


def test_sequence_never_goes_down_in_any_calendar() -> None:
    pipeline, second = Pipeline(meeting("e1", title="A")), MemoryCalendar("second")
    pipeline.sync()
    pipeline.push(calendar=second)
    revisions = []
    for title in ("B", "A", "B"):
        pipeline.change("e1", title=title)
        pipeline.sync()
        revisions.append(revision_of(pipeline.entries()["e1"]))
    assert revisions == sorted(set(revisions))


def test_an_account_that_cannot_be_asked_does_not_keep_the_next_one_from_giving_its_link() -> None:
    pipeline = Pipeline(meeting("e1"))
    pull("other", pipeline.source, pipeline.ledger, LISTING, pipeline.now)
    pipeline.profile = replace(pipeline.profile, accounts=("other", "work"), urls=("https://a.example.org",) * 2)
    pipeline.sync()
    assert pipeline.source.requests["invite"] == 1
    assert b"invite=code-e1" in pipeline.entries()["e1"].replace(b"\r\n ", b"")


def test_a_server_that_fails_three_times_is_left_alone_for_this_run() -> None:
    pipeline = Pipeline(*(meeting(f"e{number}", number) for number in range(1, 30)))
    pipeline.calendar.fail(Unavailable("in trouble (503)"), verb="create", times=100)
    run = pipeline.sync()
    assert (run.state, run.counts["failed"]) == ("retrying", 3)
    assert len([call for call in pipeline.calendar.log if call[0] == "create"]) == 3


def test_a_calendar_that_is_gone_is_named_and_nothing_is_forgotten() -> None:
    pipeline = Pipeline(meeting("e1"), meeting("e2", 2))
    pipeline.sync()
    pipeline.calendar.gone = True
    pipeline.change("e1", title="Another")
    with pytest.raises(NeedsYou):
        pipeline.sync()
    pipeline.calendar.gone = False
    assert pipeline.sync().counts["updated"] == 1


def test_a_new_profile_with_the_same_content_costs_no_put() -> None:
    pipeline = Pipeline(meeting("e1"))
    pipeline.sync()
    pipeline.profile = replace(pipeline.profile, versions=("2",))
    pipeline.calendar.log.clear()
    pipeline.sync()
    assert pipeline.calendar.log == []
    pipeline.profile = replace(pipeline.profile, passwords=False, language="de")
    assert pipeline.sync().counts["updated"] == 1


def test_a_series_without_any_occurrence_left_leaves_the_calendar_and_can_come_back() -> None:
    series = meeting("e1", recurrence=("RRULE:FREQ=DAILY;COUNT=2",))
    pipeline = Pipeline(series)
    pipeline.sync()
    assert series.start is not None
    days = [When(series.start.utc + timedelta(days=day), series.start.zone) for day in range(2)]
    pipeline.change("e1", overrides=tuple(Override(day, cancelled=True) for day in days))
    assert pipeline.sync().counts["deleted"] == 1
    pipeline.change("e1", overrides=())
    assert pipeline.sync().counts["created"] == 1
    assert uid_of(pipeline.entries()["e1"]) == "e1"


def test_a_server_that_lost_everything_is_asked_for_everything_before_the_next_meetings_are_let_go() -> None:
    pipeline = Pipeline(*(meeting(f"e{number}", number / 2) for number in range(1, 11)))
    pipeline.sync()
    pipeline.source.meetings.clear()
    pipeline.source.requests.clear()
    pipeline.now += timedelta(minutes=1)
    run = pull("work", pipeline.source, pipeline.ledger, LISTING, pipeline.now, soon=True)
    assert (run.scope, run.counts["gone"]) == ("everything", 10)
    assert (pipeline.source.requests["snapshot"], pipeline.source.requests["full snapshot"]) == (1, 1)
    assert pipeline.push().counts["held"] == 10


def test_what_cannot_be_read_further_away_is_reported_by_the_listings_of_the_next_days_too() -> None:
    pipeline = Pipeline(meeting("e1", 1), meeting("e2", 30))
    pipeline.source.unreadable["e2"] = "its rule is none"
    pipeline.sync()
    before = pipeline.ledger.history.standings()[RunKey("pull", "work")].latest
    pipeline.now += timedelta(minutes=1)
    pipeline.source.unreadable.clear()  # it is not listed
    run = pull("work", pipeline.source, pipeline.ledger, LISTING, pipeline.now, soon=True)
    assert (run.scope, run.message, run.counts["unreadable"]) == ("soon", before.message, 1)
    assert run.message
    pipeline.source.unreadable["e1"] = "its zone is unknown"
    for wrong in (["e1", "e2"], ["e2"]):
        pipeline.now += timedelta(minutes=1)
        assert pull("work", pipeline.source, pipeline.ledger, LISTING, pipeline.now, soon=True).scope == "soon"
        assert [each.event for each in pipeline.ledger.meetings.unreadable("work")] == wrong
        pipeline.source.unreadable.clear()
    pipeline.now += timedelta(minutes=5)
    assert pull("work", pipeline.source, pipeline.ledger, LISTING, pipeline.now, soon=True).scope == "window"
    assert pipeline.ledger.meetings.unreadable("work") == []
