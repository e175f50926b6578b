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
from tests.support.pipeline import House

URL = "memory:/memory/"


def placement(event: str, etag: str | None = '"1"', state: str = "placed") -> Placement:
    return Placement("team", event, f"syncd-{event}.ics", etag, 0, "x", NOW, NOW + HOUR, state)  # type: ignore[arg-type]


def href(event: str) -> str:
    return f"syncd-{event}.ics"


@pytest.fixture
def house() -> House:
    """Ten meetings, in the calendar, at rest."""
    house = House(*(meeting(f"e{number}", number) for number in range(1, 11)))
    house.sync()
    house.writes.clear()
    house.calendar.log.clear()
    return house


def settled(house: House) -> dict[str, int]:
    """One audit, which leaves nothing to do: the next one writes nothing. Returns its counts that are not zero."""
    house.now += HOUR
    done = {word: count for word, count in house.push().counts.items() if count and word != "noted"}
    house.now += HOUR
    house.calendar.log.clear()
    assert house.push().done == {}
    assert {verb for verb, _ in house.calendar.log} <= {"seen"}
    return done


def test_a_quiet_audit_is_one_question_an_hour(house: House) -> None:
    house.now += HOUR
    for _ in range(3):
        house.push()
    assert house.calendar.log == [("seen", "")]
    house.now += HOUR
    house.push()
    assert house.calendar.log == [("seen", "")] * 2
    assert house.writes == []


def test_a_run_says_when_the_calendar_was_last_looked_at(house: House) -> None:
    house.now += HOUR
    run = house.push()
    assert (run.scope, run.last_look) == ("audit", house.now)
    house.now += HOUR / 2
    run = house.push()
    assert (run.scope, run.last_look) == ("", house.now - HOUR / 2)


@pytest.mark.parametrize("restore", [False, True])
def test_what_somebody_deleted_stays_so_until_the_meeting_changes_or_is_put_again(house: House, restore: bool) -> None:
    house.restore = restore
    house.calendar.user_deletes(href("e3"))
    assert settled(house) == ({"created": 1, "entries": 10} if restore else {"removed": 1, "entries": 9})
    assert ("e3" in house.shown()) is restore
    house.change("e3", title="Another title")
    house.pull()
    house.push()
    assert b"Another title" in house.shown()["e3"]


def test_what_somebody_deleted_is_forgotten_with_its_meeting(house: House) -> None:
    house.calendar.user_deletes(href("e3"))
    house.now += HOUR
    house.push()
    del house.source.meetings["e3"]
    house.sync()
    assert "e3" not in house.ledger.placements.of("team")
    assert house.ledger.deletions.guard("team", ("work",), NOW - DAY).lately == 0


def test_what_somebody_brought_back_from_the_trash_is_ours_again(house: House) -> None:
    was = house.calendar.objects[href("e3")].body
    house.calendar.user_deletes(href("e3"))
    house.now += HOUR
    house.push()
    house.calendar.user_puts(href("e3"), was)
    house.now += HOUR
    house.push()
    assert house.ledger.placements.of("team")["e3"].state == "placed"
    settled(house)


def test_a_calendar_that_was_emptied_gets_everything_back(house: House) -> None:
    for event in list(house.shown()):
        house.calendar.user_deletes(href(event))
    assert settled(house) == {"created": 10, "entries": 10}


@pytest.mark.parametrize("keep", [False, True])
def test_what_somebody_edited_is_made_ours_again_or_kept(house: House, keep: bool) -> None:
    house.keep = keep
    ours = house.shown()["e3"]
    house.calendar.user_puts(href("e3"), ours.replace(b"SUMMARY:Meeting e3", b"SUMMARY:My title"))
    assert settled(house) == ({"entries": 10} if keep else {"updated": 1, "entries": 10})
    assert (b"SUMMARY:My title" in house.shown()["e3"]) is keep
    house.change("e3", description="Another agenda")
    house.pull()
    house.push()
    assert (b"SUMMARY:My title" in house.shown()["e3"]) is keep
    assert b"Another agenda" in house.shown()["e3"]
    settled(house)


def test_an_alarm_and_a_colour_survive_audits_and_changes(house: House) -> None:
    added = b"COLOR:red\r\nBEGIN:VALARM\r\nACTION:DISPLAY\r\nDESCRIPTION:x\r\nTRIGGER:-PT5M\r\nEND:VALARM\r\nEND:VEVENT"
    house.calendar.user_puts(href("e3"), house.shown()["e3"].replace(b"END:VEVENT", added))
    assert settled(house) == {"entries": 10}
    for title in ("Once", "Twice"):
        house.change("e3", title=title)
        house.pull()
        assert house.push().done == {"updated": 1}
        there = house.shown()["e3"]
        assert b"COLOR:red" in there
        assert b"TRIGGER:-PT5M" in there
        assert title.encode() in there
    settled(house)


def test_a_program_that_drops_our_marks_does_not_make_an_entry_somebody_elses(house: House) -> None:
    lines = house.shown()["e3"].split(b"\r\n")
    stripped = b"\r\n".join(line for line in lines if not line.startswith(b"X-SYNCD")).replace(b"Meeting e3", b"Mine")
    house.calendar.user_puts(href("e3"), stripped)
    assert settled(house) == {"updated": 1, "entries": 10}
    assert b"Meeting e3" in house.shown()["e3"]


def test_an_entry_with_added_people_is_left_and_is_ours_again_without_them(house: House) -> None:
    ours = house.shown()["e3"]
    people = ours.replace(b"END:VEVENT", b"ATTENDEE:mailto:bob@example.org\r\nEND:VEVENT")
    house.calendar.user_puts(href("e3"), people)
    assert settled(house) == {"left": 1, "entries": 9}
    assert house.shown()["e3"] == people
    house.calendar.user_puts(href("e3"), ours.replace(b"Agenda", b"Else"))
    assert settled(house) == {"updated": 1, "entries": 10}
    assert b"Agenda" in house.shown()["e3"]


def test_a_mail_invitation_that_goes_makes_room_for_our_entry_within_a_day(house: House) -> None:
    other = house.shown()["e3"].replace(b"X-SYNCD", b"X-OTHER")
    house.calendar.user_deletes(href("e3"))
    house.calendar.user_puts("mail.ics", other)
    house.restore = True
    assert settled(house) == {"left": 1, "entries": 9}
    house.calendar.user_deletes("mail.ics")
    house.now += DAY
    assert settled(house) == {"created": 1, "entries": 10}


def test_revisions_go_up_past_those_that_programs_gave(house: House) -> None:
    ours = house.shown()["e3"]
    house.calendar.user_puts(href("e3"), ours.replace(b"SEQUENCE:0", b"SEQUENCE:41").replace(b"Agenda", b"Else"))
    house.now += HOUR
    house.push()
    assert b"SEQUENCE:42" in house.shown()["e3"]
    house.change("e3", title="Another title")
    house.pull()
    house.push()
    assert b"SEQUENCE:43" in house.shown()["e3"]


def test_what_a_lost_ledger_left_is_told_and_not_touched(house: House) -> None:
    ours = house.shown()["e3"]
    leftover = ours.replace(b"UID:e3", b"UID:old")
    house.calendar.user_puts("syncd-old.ics", leftover)
    house.calendar.user_puts("syncd-else.ics", leftover.replace(b"UID:old", b"UID:else").replace(b"X-SYNCD", b"X-ELSE"))
    house.calendar.user_puts("theirs.ics", leftover.replace(b"UID:old", b"UID:theirs"))
    house.now += HOUR
    run = house.push()
    assert (run.state, run.counts["leftovers"]) == ("ok", 1)
    assert "1 more" in str(run.message)
    assert house.push().message == run.message, "it is told until the next audit, too"
    asked = house.calendar.log.count(("fetch", "syncd-else.ics"))
    settled(house)
    assert house.calendar.log.count(("fetch", "syncd-else.ics")) == 0, "what is known is not looked at again"
    assert asked == 1
    house.calendar.user_deletes("syncd-old.ics")
    house.now += HOUR
    assert house.push().message is None


def test_the_cursor_is_kept_only_when_all_that_was_seen_was_worked_off(house: House) -> None:
    house.now += HOUR
    house.push()
    known = house.ledger.audits.last("team")
    assert known
    assert known.cursor
    house.calendar.user_puts(href("e3"), house.shown()["e3"].replace(b"Agenda", b"Else"))
    house.now += HOUR
    house.calendar.fail(Unavailable("calendar memory is down"), verb="fetch")
    assert (house.push().state, house.ledger.audits.last("team")) == ("retrying", known)
    house.calendar.fail(Refused("calendar memory refuses it"), verb="update")
    assert house.push().state == "needs_you"
    after = house.ledger.audits.last("team")
    assert after
    assert (after.at, after.cursor) == (house.now, None)
    assert settled(house) == {"updated": 1, "entries": 10}


def test_a_calendar_that_cannot_tell_what_is_there_is_still_written(house: House) -> None:
    house.now += HOUR
    house.calendar.fail(BadAnswer("calendar memory answered nonsense"), verb="seen", times=2)
    house.change("e3", title="Another title")
    house.pull()
    run = house.push()
    assert (run.state, run.done) == ("retrying", {"updated": 1})
    assert run.message == "calendar memory answered nonsense"
    assert house.push().state == "retrying"
    assert house.push().state == "ok"


def test_what_was_deleted_right_after_it_was_made_is_noticed_though_no_cursor_tells(house: House) -> None:
    house.now += HOUR
    house.push()
    house.source.meetings["e11"] = meeting("e11", 11)
    house.sync()
    house.calendar.user_deletes(href("e11"))
    assert settled(house) == {"removed": 1, "entries": 10}


def test_a_cursor_that_is_not_taken_any_more_costs_nothing(house: House) -> None:
    house.push()
    house.calendar.user_deletes(href("e3"))
    house.calendar.expire_cursors()
    house.now += HOUR
    assert settled(house) == {"removed": 1, "entries": 9}


def test_another_calendar_under_the_same_name_is_looked_at_as_a_whole(house: House) -> None:
    house.push()
    house.calendar = MemoryCalendar("moved")
    house.now += HOUR
    assert settled(house) == {"created": 10, "entries": 10}


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
    house, running = House(*(meeting(f"e{number}", number) for number in range(1, 11))), server()
    url = running.fresh_calendar()
    calendar, somebody = running.calendar(url), running.calendar(url)
    house.calendar = calendar  # type: ignore[assignment]
    try:
        house.sync()
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
        house.now += HOUR
        assert house.push().done == {"updated": 1, "removed": 1}
        for _ in range(2):
            house.now += HOUR
            assert house.push().done == {}
        found = {name: somebody.fetch(name) for name in (href("e1"), href("e2"), href("e3"), "theirs.ics")}
    finally:
        calendar.close()
        somebody.close()
    assert [each is None for each in found.values()] == [False, False, True, False]
    bodies = [each.body for each in found.values() if each]
    assert b"Meeting e1" in bodies[0]
    assert b"COLOR:red" in bodies[1]
    assert b"UID:theirs" in bodies[2]
