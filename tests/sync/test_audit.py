# SPDX-License-Identifier: Apache-2.0

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.errors import BadAnswer, Refused, Unavailable
from syncd.model import Placement, Seen
from syncd.plan import audit
from syncd.plan.calendar import Look
from tests.support import calendar_servers
from tests.support.calendar_servers import Server
from tests.support.meetings import DAY, HOUR, NOW, meeting
from tests.support.memory_servers import MemoryCalendar
from tests.support.pipeline import Pipeline

URL = "memory:/memory/"


def placement(event: str, etag: str | None = '"1"', state: str = "placed") -> Placement:
    return Placement("team", event, f"syncd-{event}.ics", etag, 0, "x", NOW, NOW + HOUR, state)  # type: ignore[arg-type]


def href(event: str) -> str:
    return f"syncd-{event}.ics"


@pytest.fixture
def pipeline() -> Pipeline:
    """Ten meetings, in the calendar, at rest."""
    pipeline = Pipeline(*(meeting(f"e{number}", number) for number in range(1, 11)))
    pipeline.sync()
    pipeline.writes.clear()
    pipeline.calendar.log.clear()
    return pipeline


def settled(pipeline: Pipeline) -> dict[str, int]:
    """One audit, which leaves nothing to do: the next one writes nothing. Returns its counts that are not zero."""
    pipeline.now += HOUR
    done = {word: count for word, count in pipeline.push().counts.items() if count and word != "noted"}
    pipeline.now += HOUR
    pipeline.calendar.log.clear()
    assert pipeline.push().done == {}
    assert {verb for verb, _ in pipeline.calendar.log} <= {"seen"}
    return done


def test_a_quiet_audit_is_one_question_an_hour(pipeline: Pipeline) -> None:
    pipeline.now += HOUR
    for _ in range(3):
        pipeline.push()
    assert pipeline.calendar.log == [("seen", "")]
    pipeline.now += HOUR
    pipeline.push()
    assert pipeline.calendar.log == [("seen", "")] * 2
    assert pipeline.writes == []


def test_a_run_says_when_the_calendar_was_last_looked_at(pipeline: Pipeline) -> None:
    pipeline.now += HOUR
    run = pipeline.push()
    assert (run.scope, run.last_look) == ("audit", pipeline.now)
    pipeline.now += HOUR / 2
    run = pipeline.push()
    assert (run.scope, run.last_look) == ("", pipeline.now - HOUR / 2)


@pytest.mark.parametrize("restore", [False, True])
def test_what_somebody_deleted_stays_so_until_the_meeting_changes_or_is_put_again(
    pipeline: Pipeline, restore: bool
) -> None:
    pipeline.restore = restore
    pipeline.calendar.user_deletes(href("e3"))
    assert settled(pipeline) == ({"created": 1, "entries": 10} if restore else {"removed": 1, "entries": 9})
    assert ("e3" in pipeline.entries()) is restore
    pipeline.change("e3", title="Another title")
    pipeline.pull()
    pipeline.push()
    assert b"Another title" in pipeline.entries()["e3"]


def test_what_somebody_deleted_is_forgotten_with_its_meeting(pipeline: Pipeline) -> None:
    pipeline.calendar.user_deletes(href("e3"))
    pipeline.now += HOUR
    pipeline.push()
    del pipeline.source.meetings["e3"]
    pipeline.sync()
    assert "e3" not in pipeline.ledger.placements.of("team")
    assert pipeline.ledger.deletions.guard("team", ("work",), NOW - DAY).lately == 0


def test_what_somebody_brought_back_from_the_trash_is_ours_again(pipeline: Pipeline) -> None:
    was = pipeline.calendar.objects[href("e3")].body
    pipeline.calendar.user_deletes(href("e3"))
    pipeline.now += HOUR
    pipeline.push()
    pipeline.calendar.user_puts(href("e3"), was)
    pipeline.now += HOUR
    pipeline.push()
    assert pipeline.ledger.placements.of("team")["e3"].state == "placed"
    settled(pipeline)


def test_a_calendar_that_was_emptied_gets_everything_back(pipeline: Pipeline) -> None:
    for event in list(pipeline.entries()):
        pipeline.calendar.user_deletes(href(event))
    assert settled(pipeline) == {"created": 10, "entries": 10}


@pytest.mark.parametrize("keep", [False, True])
def test_what_somebody_edited_is_made_ours_again_or_kept(pipeline: Pipeline, keep: bool) -> None:
    pipeline.keep = keep
    ours = pipeline.entries()["e3"]
    pipeline.calendar.user_puts(href("e3"), ours.replace(b"SUMMARY:Meeting e3", b"SUMMARY:My title"))
    assert settled(pipeline) == ({"entries": 10} if keep else {"updated": 1, "entries": 10})
    assert (b"SUMMARY:My title" in pipeline.entries()["e3"]) is keep
    pipeline.change("e3", description="Another agenda")
    pipeline.pull()
    pipeline.push()
    assert (b"SUMMARY:My title" in pipeline.entries()["e3"]) is keep
    assert b"Another agenda" in pipeline.entries()["e3"]
    settled(pipeline)


def test_an_alarm_and_a_colour_survive_audits_and_changes(pipeline: Pipeline) -> None:
    added = b"COLOR:red\r\nBEGIN:VALARM\r\nACTION:DISPLAY\r\nDESCRIPTION:x\r\nTRIGGER:-PT5M\r\nEND:VALARM\r\nEND:VEVENT"
    pipeline.calendar.user_puts(href("e3"), pipeline.entries()["e3"].replace(b"END:VEVENT", added))
    assert settled(pipeline) == {"entries": 10}
    for title in ("Once", "Twice"):
        pipeline.change("e3", title=title)
        pipeline.pull()
        assert pipeline.push().done == {"updated": 1}
        there = pipeline.entries()["e3"]
        assert b"COLOR:red" in there
        assert b"TRIGGER:-PT5M" in there
        assert title.encode() in there
    settled(pipeline)


def test_a_program_that_drops_our_marks_does_not_make_an_entry_somebody_elses(pipeline: Pipeline) -> None:
    lines = pipeline.entries()["e3"].split(b"\r\n")
    stripped = b"\r\n".join(line for line in lines if not line.startswith(b"X-SYNCD")).replace(b"Meeting e3", b"Mine")
    pipeline.calendar.user_puts(href("e3"), stripped)
    assert settled(pipeline) == {"updated": 1, "entries": 10}
    assert b"Meeting e3" in pipeline.entries()["e3"]


def test_an_entry_with_added_people_is_left_and_is_ours_again_without_them(pipeline: Pipeline) -> None:
    ours = pipeline.entries()["e3"]
    people = ours.replace(b"END:VEVENT", b"ATTENDEE:mailto:bob@example.org\r\nEND:VEVENT")
    pipeline.calendar.user_puts(href("e3"), people)
    assert settled(pipeline) == {"left": 1, "entries": 9}
    assert pipeline.entries()["e3"] == people
    pipeline.calendar.user_puts(href("e3"), ours.replace(b"Agenda", b"Else"))
    assert settled(pipeline) == {"updated": 1, "entries": 10}
    assert b"Agenda" in pipeline.entries()["e3"]


def test_a_mail_invitation_that_goes_makes_room_for_our_entry_within_a_day(pipeline: Pipeline) -> None:
    other = pipeline.entries()["e3"].replace(b"X-SYNCD", b"X-OTHER")
    pipeline.calendar.user_deletes(href("e3"))
    pipeline.calendar.user_puts("mail.ics", other)
    pipeline.restore = True
    assert settled(pipeline) == {"left": 1, "entries": 9}
    pipeline.calendar.user_deletes("mail.ics")
    pipeline.now += DAY
    assert settled(pipeline) == {"created": 1, "entries": 10}


def test_revisions_go_up_past_those_that_programs_gave(pipeline: Pipeline) -> None:
    ours = pipeline.entries()["e3"]
    pipeline.calendar.user_puts(href("e3"), ours.replace(b"SEQUENCE:0", b"SEQUENCE:41").replace(b"Agenda", b"Else"))
    pipeline.now += HOUR
    pipeline.push()
    assert b"SEQUENCE:42" in pipeline.entries()["e3"]
    pipeline.change("e3", title="Another title")
    pipeline.pull()
    pipeline.push()
    assert b"SEQUENCE:43" in pipeline.entries()["e3"]


def test_what_a_lost_ledger_left_is_reported_and_not_touched(pipeline: Pipeline) -> None:
    ours = pipeline.entries()["e3"]
    leftover = ours.replace(b"UID:e3", b"UID:old")
    pipeline.calendar.user_puts("syncd-old.ics", leftover)
    pipeline.calendar.user_puts(
        "syncd-else.ics", leftover.replace(b"UID:old", b"UID:else").replace(b"X-SYNCD", b"X-ELSE")
    )
    pipeline.calendar.user_puts("theirs.ics", leftover.replace(b"UID:old", b"UID:theirs"))
    pipeline.now += HOUR
    run = pipeline.push()
    assert (run.state, run.counts["leftovers"]) == ("ok", 1)
    assert "1 more" in str(run.message)
    assert pipeline.push().message == run.message, "it is said until the next audit, too"
    asked = pipeline.calendar.log.count(("fetch", "syncd-else.ics"))
    settled(pipeline)
    assert pipeline.calendar.log.count(("fetch", "syncd-else.ics")) == 0, "what is known is not looked at again"
    assert asked == 1
    pipeline.calendar.user_deletes("syncd-old.ics")
    pipeline.now += HOUR
    assert pipeline.push().message is None


def test_the_cursor_is_kept_only_when_all_that_was_seen_was_worked_off(pipeline: Pipeline) -> None:
    pipeline.now += HOUR
    pipeline.push()
    known = pipeline.ledger.audits.last("team")
    assert known
    assert known.cursor
    pipeline.calendar.user_puts(href("e3"), pipeline.entries()["e3"].replace(b"Agenda", b"Else"))
    pipeline.now += HOUR
    pipeline.calendar.fail(Unavailable("calendar memory is down"), verb="fetch")
    assert (pipeline.push().state, pipeline.ledger.audits.last("team")) == ("retrying", known)
    pipeline.calendar.fail(Refused("calendar memory refuses it"), verb="update")
    assert pipeline.push().state == "needs_you"
    after = pipeline.ledger.audits.last("team")
    assert after
    assert (after.at, after.cursor) == (pipeline.now, None)
    assert settled(pipeline) == {"updated": 1, "entries": 10}


def test_a_calendar_that_cannot_tell_what_is_there_is_still_written(pipeline: Pipeline) -> None:
    pipeline.now += HOUR
    pipeline.calendar.fail(BadAnswer("calendar memory answered nonsense"), verb="seen", times=2)
    pipeline.change("e3", title="Another title")
    pipeline.pull()
    run = pipeline.push()
    assert (run.state, run.done) == ("retrying", {"updated": 1})
    assert run.message == "calendar memory answered nonsense"
    assert pipeline.push().state == "retrying"
    assert pipeline.push().state == "ok"


def test_what_was_deleted_right_after_it_was_made_is_noticed_though_no_cursor_reports_it(pipeline: Pipeline) -> None:
    pipeline.now += HOUR
    pipeline.push()
    pipeline.source.meetings["e11"] = meeting("e11", 11)
    pipeline.sync()
    pipeline.calendar.user_deletes(href("e11"))
    assert settled(pipeline) == {"removed": 1, "entries": 10}


def test_a_cursor_that_is_not_taken_any_more_costs_nothing(pipeline: Pipeline) -> None:
    pipeline.push()
    pipeline.calendar.user_deletes(href("e3"))
    pipeline.calendar.expire_cursors()
    pipeline.now += HOUR
    assert settled(pipeline) == {"removed": 1, "entries": 9}


def test_another_calendar_under_the_same_name_is_looked_at_as_a_whole(pipeline: Pipeline) -> None:
    pipeline.push()
    pipeline.calendar = MemoryCalendar("moved")
    pipeline.now += HOUR
    assert settled(pipeline) == {"created": 10, "entries": 10}


@given(st.integers(0, 30), st.integers(0, 30))
def test_some_missing_are_deleted_most_missing_are_lost(missing: int, there: int) -> None:
    placed = {f"e{number}": placement(f"e{number}") for number in range(missing + there)}
    seen = Seen({href(f"e{number}"): '"1"' for number in range(missing, missing + there)}, None, complete=True)
    found = audit.looks(placed, seen, restore=False, daily=False)
    assert {look.event for look in found} == {f"e{number}" for number in range(missing)}
    most = missing > max(5, there) or (there == 0 and missing >= 3)
    assert {look.restore for look in found} <= {most}


@pytest.mark.parametrize(
    ("noted", "there", "looked"),
    [
        ('"1"', '"1"', False),
        ('"1"', 'W/"1"', False),
        ('"1"', "1", False),
        ('"1"', '"2"', True),
        (None, '"1"', True),
        ('"1"', "", True),
    ],
)
def test_etags_are_compared_as_servers_write_them(noted: str | None, there: str, looked: bool) -> None:
    placed = {"e1": placement("e1", noted)}
    for complete in (True, False):
        seen = Seen({href("e1"): there}, None, complete=complete)
        assert audit.looks(placed, seen, restore=False, daily=False) == ([Look("e1", False)] if looked else [])


def test_what_did_not_change_since_the_cursor_is_not_missing() -> None:
    placed = {"e1": placement("e1"), "e2": placement("e2")}
    seen = Seen({href("e2"): None}, None, complete=False)
    assert audit.looks(placed, seen, restore=False, daily=False) == [Look("e2", False)]


@pytest.mark.parametrize("server", [calendar_servers.radicale, calendar_servers.xandikos], ids=["radicale", "xandikos"])
def test_real_servers_tell_what_people_did_and_a_quiet_audit_writes_nothing(server: Callable[[], Server]) -> None:
    pipeline, running = Pipeline(*(meeting(f"e{number}", number) for number in range(1, 11))), server()
    url = running.fresh_calendar()
    calendar, somebody = running.calendar(url), running.calendar(url)
    pipeline.calendar = calendar  # type: ignore[assignment]
    try:
        pipeline.sync()
        mine = somebody.fetch(href("e1"))
        assert mine
        theirs = mine.body.replace(b"UID:e1", b"UID:theirs").replace(b"X-SYNCD", b"X-ELSE")
        somebody.create("theirs.ics", theirs)
        somebody.update(href("e1"), mine.body.replace(b"SUMMARY:Meeting e1", b"SUMMARY:Changed"), mine.etag)
        coloured = somebody.fetch(href("e2"))
        assert coloured
        somebody.update(href("e2"), coloured.body.replace(b"END:VEVENT", b"COLOR:red\r\nEND:VEVENT"), coloured.etag)
        gone = somebody.fetch(href("e3"))
        assert gone
        somebody.delete(href("e3"), gone.etag)
        pipeline.now += HOUR
        assert pipeline.push().done == {"updated": 1, "removed": 1}
        for _ in range(2):
            pipeline.now += HOUR
            assert pipeline.push().done == {}
        found = {name: somebody.fetch(name) for name in (href("e1"), href("e2"), href("e3"), "theirs.ics")}
    finally:
        calendar.close()
        somebody.close()
    assert [each is None for each in found.values()] == [False, False, True, False]
    bodies = [each.body for each in found.values() if each]
    assert b"Meeting e1" in bodies[0]
    assert b"COLOR:red" in bodies[1]
    assert b"UID:theirs" in bodies[2]
