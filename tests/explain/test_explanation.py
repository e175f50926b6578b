# SPDX-License-Identifier: Apache-2.0
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from syncd.cli.explain import choice_lines, lines
from syncd.config import Config
from syncd.config.profiles import calendar_profile, feed_profile
from syncd.errors import LedgerError, Unavailable
from syncd.explain.explanation import choices, explanation
from syncd.explain.facts import Destination, Explanation, Pending, SeenBy
from syncd.ledger.ledger import Ledger
from syncd.model import Decision, Feed, Override, Placement, Profile, Run, RunKey, When
from syncd.plan.deletions import Delete, Forget, Hold
from syncd.plan.links import WAYS
from syncd.sync.feed import build_feed
from tests.support.configuration import configuration_text, read_configuration
from tests.support.meetings import DAY, HOUR, NOW, meeting
from tests.support.pipeline import House, silent
from tests.support.tables import rows

CONFIG = configuration_text(calendars={"team": 'accounts = ["work"]'}, feeds=False)


class Desk:
    """A house with a configuration that fits it, in which people ask for explanations."""

    def __init__(self, folder: Path, *meetings: str) -> None:
        self.folder = folder
        self.house = House(*(meeting(event, number) for number, event in enumerate(meetings, 1)), folder=folder)
        self.ledger = self.house.ledger
        self.configure()
        self.house.profile = calendar_profile(self.config, self.ledger.secrets.get("installation"), "team")

    def configure(self, *changes: tuple[str, str]) -> Config:
        text = CONFIG
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        self.config = read_configuration(self.folder, text)
        return self.config

    def explain(self, event: str) -> Explanation:
        with Ledger.open(self.folder, read_only=True) as ledger:
            return explanation(self.config, ledger, event, self.house.now)

    def lines(self, event: str) -> list[str]:
        return [" ".join(line.split()) for line in lines(self.explain(event))]

    def add_feed(self) -> Profile:
        self.ledger.feeds.add(Feed("phone", "0" * 64, ("work",), "owner", False, "", NOW))
        return self.profile_of_feed()

    def profile_of_feed(self) -> Profile:
        profile = feed_profile(self.config, self.ledger.secrets.get("installation"), self.ledger.feeds.all()["phone"])
        assert profile
        return profile

    def build_feed(self) -> Run | None:
        return build_feed(self.ledger.feeds.all()["phone"], self.profile_of_feed(), self.ledger, self.house.now, silent)

    def fail_push(self) -> None:
        for verb in ("create", "update", "delete"):
            self.house.calendar.fail(Unavailable("down"), verb=verb, times=99)
        self.house.push()
        self.house.calendar._faults.clear()

    def close(self) -> None:
        self.ledger.close()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path, "e1", "e2", "e3")
    yield desk
    desk.close()


def steps_of(*words: str) -> st.SearchStrategy[list[tuple[str, int]]]:
    return st.lists(st.tuples(st.sampled_from(words), st.integers(1, 9)), max_size=15)


SOURCE = (
    "title",
    "title",
    "lose",
    "lose",
    "add",
    "far",
    "empty",
    "untimed",
    "pull",
    "pull",
    "mint",
    "render",
    "confirm",
)
CALENDAR = ("push", "build", "fail", "later", "edit", "delete")


def take(desk: Desk, step: str, number: int) -> None:
    event, meetings = f"e{number}", desk.house.source.meetings
    match step:
        case "title" if event in meetings:
            desk.house.change(event, title=meetings[event].title + "!")
        case "lose":
            meetings.pop(event, None)
        case "add":
            meetings[event] = meeting(event, number)
        case "far":
            meetings[event] = meeting(event, 400)
        case "untimed":
            meetings[event] = meeting(event, start=None, end=None)
        case "empty":
            start = When(NOW + number * DAY, "Europe/Berlin")
            rule = ("RRULE:FREQ=DAILY;COUNT=1",)
            meetings[event] = meeting(event, number, recurrence=rule, overrides=(Override(start, cancelled=True),))
        case _:
            work(desk, step, f"syncd-{event}.ics")


def work(desk: Desk, step: str, href: str) -> None:
    house = desk.house
    match step:
        case "pull" | "mint" | "render" | "push":
            getattr(house, step)()
        case "fail":
            desk.fail_push()
        case "build":
            desk.build_feed()
        case "confirm":
            desk.ledger.deletions.confirm("team")
            desk.ledger.deletions.confirm("feed/phone")
        case "later":
            house.now += 8 * HOUR
        case "edit" if found := house.calendar.objects.get(href):
            house.calendar.user_puts(href, found.body.replace(b"SUMMARY:", b"COMMENT:Mine\r\nSUMMARY:", 1))
        case "delete" if href in house.calendar.objects:
            house.calendar.user_deletes(href)


@settings(max_examples=40, deadline=None)
@given(steps_of(*SOURCE, *CALENDAR), steps_of(*SOURCE), st.integers(0, 9))
def test_what_is_said_to_come_next_is_what_the_next_run_does(
    before: list[tuple[str, int]], then: list[tuple[str, int]], crowd: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        desk = Desk(Path(folder), *(f"e{number}" for number in range(1, crowd + 1)))
        desk.add_feed()
        desk.house.sync()
        for step, number in before:
            take(desk, step, number)
        desk.house.now += 2 * HOUR
        desk.house.push()  # which looks at what people did
        for step, number in then:
            take(desk, step, number)
        check_foresight(desk)
        desk.close()


def check_foresight(desk: Desk) -> None:
    stands = {
        event: {each.kind: each for each in desk.explain(event).destinations} for event in desk.ledger.find_events("")
    }
    foreseen = {event: each["push"].next.action for event, each in stands.items() if each}
    desk.house.writes.clear()
    run = desk.house.push()
    done = {event: word for word, event in desk.house.writes}
    assert done.keys() == {event for event, action in foreseen.items() if action and not isinstance(action, Hold)}
    assert run.counts["held"] == sum(isinstance(action, Hold) for action in foreseen.values())
    for event, word in done.items():
        assert (word in ("deleted", "left")) >= isinstance(foreseen[event], Delete)
        assert (word == "forgotten") == isinstance(foreseen[event], Forget)
    feeds = {event: each["feed"] for event, each in stands.items() if each}
    built = desk.build_feed()
    assert built
    shown = desk.ledger.feeds.content(desk.ledger.feeds.all()["phone"])
    for event, stand in feeds.items():
        after = stand.next.after
        stays = stand.shown or bool(after and after.digest)
        assert (event in shown) == (stays and not isinstance(stand.next.action, Delete)), (event, stand)
    assert built.counts["held"] == sum(isinstance(stand.next.action, Hold) for stand in feeds.values())


@pytest.mark.parametrize("lost", [0, 1, 8])
def test_what_is_said_to_come_next_is_done_when_entries_look_different_too(tmp_path: Path, lost: int) -> None:
    desk = Desk(tmp_path, *(f"e{number}" for number in range(1, 11)))
    desk.add_feed()
    desk.house.sync()
    desk.build_feed()
    for number in range(1, lost + 1):
        desk.house.source.meetings.pop(f"e{number}")
    desk.house.source.meetings["e11"] = meeting("e11", 11)
    desk.house.pull()
    desk.configure(("[openmeetings]", '[syncd]\nlanguage = "de"\n[openmeetings]'))
    desk.house.profile = calendar_profile(desk.config, desk.ledger.secrets.get("installation"), "team")
    check_foresight(desk)
    desk.close()


def test_an_explanation_tells_whole_why_an_entry_looks_as_it_does(desk: Desk) -> None:
    desk.add_feed()
    desk.house.sync()
    desk.build_feed()
    assert lines(desk.explain("e1")) == [
        "Meeting e1",
        "event e1",
        "",
        "account work      sees     its own meeting",
        "                  when     Tue 2026-11-24 13:00 to 14:00 Europe/Berlin",
        "                  last     2026-11-23 12:00Z new",
        "",
        "links             guests   guest link made 2026-11-23 12:00Z",
        "                  work     OpenMeetings link made 2026-11-23 12:00Z",
        "",
        "calendar team     entry    revision 0, placed as syncd-e1.ics",
        "                  text     from work",
        "                  last     2026-11-23 12:00Z created: it was not there",
        "                  next     nothing",
        "",
        "feed phone        entry    revision 1, shown",
        "                  text     from work",
        "                  next     the OpenMeetings link for guests is asked for",
        "",
        "2026-11-23 12:00Z account work           new",
        "2026-11-23 12:00Z links of work          guest link made",
        "2026-11-23 12:00Z links of openmeetings  OpenMeetings link made",
        "2026-11-23 12:00Z calendar team          created: it was not there",
    ]


def test_a_pull_notes_which_fields_changed_and_never_what_they_say(desk: Desk) -> None:
    desk.house.pull()
    desk.house.change("e1", title="A secret title", password="s3cret")
    desk.house.now += DAY
    desk.house.pull()
    new, changed = desk.ledger.history.decisions("e1")
    assert new == Decision("e1", NOW, RunKey("pull", "work"), "new")
    assert changed == Decision("e1", NOW + DAY, RunKey("pull", "work"), "changed", "title, password")
    assert len(desk.ledger.history.decisions("e2")) == 1


def test_a_pull_notes_what_is_gone_and_what_came_back(desk: Desk) -> None:
    desk.house.pull()
    away = desk.house.source.meetings.pop("e1")
    desk.house.pull()
    desk.house.source.meetings["e1"] = away
    desk.house.pull()
    assert [each.word for each in desk.ledger.history.decisions("e1")] == ["new", "gone", "new"]


def test_a_link_notes_who_was_asked_and_what_came_of_it(desk: Desk) -> None:
    desk.house.source.invites["e2"] = "c0de"
    desk.house.change("e3", own=False)
    desk.house.pull()
    desk.house.mint()
    told = {
        event: {
            (each.run.name, each.word, each.why)
            for each in desk.ledger.history.decisions(event)
            if each.run.kind in ("mint", "maker")
        }
        for event in ("e1", "e2", "e3")
    }
    hashed = ("openmeetings", "hash", "made")
    assert told == {
        "e1": {("work", "invite", "made"), hashed},
        "e2": {("work", "invite", "found"), hashed},
        "e3": {("work", "none", "none to be had"), hashed},
    }


def test_housekeeping_forgets_old_decisions_but_the_latest_of_what_is_still_there(desk: Desk) -> None:
    desk.house.sync()
    for day in range(1, 4):
        desk.house.now = NOW + day * DAY
        desk.house.change("e1", title=f"Title {day}")
        desk.house.pull()
    desk.house.source.meetings.pop("e3")
    desk.house.pull()
    for table in ("link", "entry", "placement"):
        desk.ledger.database.write(lambda db, table=table: db.execute(f"DELETE FROM {table} WHERE event = 'e3'"))  # type: ignore[misc]
    assert len(desk.ledger.history.decisions("e3")) == 5
    desk.house.now = NOW + 33 * DAY - HOUR
    desk.ledger.sweep(desk.house.now)
    kept = [(each.run.kind, each.word, each.at) for each in desk.ledger.history.decisions("e1")]
    assert kept == [
        ("mint", "invite", NOW),
        ("maker", "hash", NOW),
        ("push", "created", NOW),
        ("pull", "changed", NOW + 3 * DAY),
    ]
    assert [each.word for each in desk.ledger.history.decisions("e2")] == ["new", "invite", "hash", "created"]
    assert [each.word for each in desk.ledger.history.decisions("e3")] == ["gone"]
    desk.house.now = NOW + 34 * DAY + HOUR
    desk.ledger.sweep(desk.house.now)
    assert desk.ledger.history.decisions("e3") == []


def test_an_entry_that_waits_to_be_written_says_what_changed_since(desk: Desk) -> None:
    desk.house.sync()
    desk.house.change("e1", title="Other", description="Other")
    desk.house.pull()
    assert "next it is written anew because title, description changed" in desk.lines("e1")
    desk.fail_push()
    said = desk.lines("e1")
    assert "next it is written anew because title, description changed" in said
    assert any(line.startswith("trouble retrying: ") for line in said)
    desk.house.push()
    assert "next nothing" in desk.lines("e1")


def test_entries_that_look_different_since_an_update_say_so(desk: Desk) -> None:
    desk.house.sync()
    desk.configure(("[openmeetings]", '[syncd]\nlanguage = "de"\n[openmeetings]'))
    said = "next it is written anew because syncd or its configuration changed"
    assert said in desk.lines("e1")


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"start": None, "end": None}, "it is at no fixed time"),
        (
            {"start": When(NOW + 365 * DAY - HOUR, "UTC"), "end": When(NOW + 365 * DAY, "UTC")},
            "outside the window, 2026-10-23 to 2027-11-22",
        ),
        (
            {
                "recurrence": ("RRULE:FREQ=DAILY;COUNT=1",),
                "overrides": (Override(When(NOW + DAY, "Europe/Berlin"), cancelled=True),),
            },
            "every occurrence is cancelled",
        ),
    ],
    ids=["untimed", "outside", "cancelled"],
)
def test_what_is_not_there_says_why(desk: Desk, fields: dict[str, object], why: str) -> None:
    desk.house.change("e1", **fields)
    desk.house.pull()
    desk.house.now -= DAY  # the window has not reached what is that far away
    assert f"calendar team entry not there: {why}" in desk.lines("e1")


def test_a_held_deletion_says_what_it_waits_for_until_it_is_confirmed(tmp_path: Path) -> None:
    desk = Desk(tmp_path, *(f"e{number}" for number in range(1, 11)))
    desk.add_feed()
    desk.house.sync()
    desk.build_feed()
    desk.house.source.meetings.clear()
    desk.house.pull()
    foreseen = desk.lines("e1")
    desk.house.push()
    desk.build_feed()
    said = desk.lines("e1")
    for waits in ("team", "phone"):
        assert f"next its deletion is held, one of 10: waits for `syncd confirm {waits}`" in foreseen
        assert f"next its deletion is held, one of 10: waits for `syncd confirm {waits}`" in said
    assert "An event that no account has any more" in said
    desk.ledger.deletions.confirm("team")
    desk.ledger.deletions.confirm("feed/phone")
    assert desk.lines("e1").count("next it is deleted: the meeting is gone") == 2
    desk.house.push()
    desk.build_feed()
    assert desk.lines("e1").count("next nothing") == 2
    desk.close()


def test_a_deletion_says_why_there_is_nothing_to_show(desk: Desk) -> None:
    start = When(NOW + DAY, "Europe/Berlin")
    desk.house.change("e1", recurrence=("RRULE:FREQ=DAILY;COUNT=1",))
    desk.house.sync()
    desk.house.change("e1", overrides=(Override(start, cancelled=True),))
    desk.house.source.meetings.pop("e2")
    desk.house.pull()
    assert "next it is deleted: every occurrence is cancelled" in desk.lines("e1")
    assert "next it is deleted: the meeting is gone" in desk.lines("e2")


def test_a_feed_says_what_its_next_building_changes(desk: Desk) -> None:
    desk.add_feed()
    desk.house.pull()
    desk.build_feed()
    desk.house.change("e1", title="Other")
    desk.house.source.meetings["e4"] = meeting("e4", 4)
    desk.house.pull()
    assert "it is written anew because title changed" in " ".join(desk.lines("e1"))
    assert any(line.endswith("it is taken up") for line in desk.lines("e4"))
    desk.build_feed()
    assert "written anew" not in " ".join(desk.lines("e1"))
    assert "feed phone entry revision 0, shown" in desk.lines("e4")


def test_a_disabled_or_retired_thing_is_shown_with_what_it_keeps(desk: Desk) -> None:
    desk.add_feed()
    desk.house.sync()
    desk.build_feed()
    desk.configure(("[caldav.team]", "[caldav.other]"))
    said = desk.lines("e1")
    assert "calendar team entry revision 0, placed as syncd-e1.ics" in said
    assert "next nothing: it is not in the configuration any more, and what is there stays" in said
    assert "calendar other entry not there" in said
    desk.configure(("[caldav.team]", "[caldav.team]\nenabled = false"))
    assert "next nothing: it is disabled" in desk.lines("e1")
    desk.configure(("[opentalk.work]", "[opentalk.work]\nenabled = false"))
    assert "note the account is disabled; what it had stays" in desk.lines("e1")
    desk.configure(("opentalk.work", "opentalk.home"), ('["work"]', '["home"]'))
    said = desk.lines("e1")
    assert "note the account is not in the configuration any more; what it had stays" in said
    assert "feed phone entry revision 1, shown" in said
    assert any(line.startswith("next nothing: one of its accounts is not in the configuration") for line in said)


def test_an_event_that_listings_lack_or_that_cannot_be_read_says_so(desk: Desk) -> None:
    desk.house.pull()
    desk.house.change("e1", start=When(NOW - 60 * DAY, "UTC"), end=When(NOW - 60 * DAY + HOUR, "UTC"))
    desk.house.source.unreadable |= {"e2": "its rule is none", "e3": "its zone is unknown"}
    desk.house.now += HOUR
    desk.house.pull()
    assert "note listings by time lack it; its server says that it is there" in desk.lines("e1")
    assert "note left as it was: its rule is none" in desk.lines("e2")
    assert "note left as it was: its zone is unknown" in desk.lines("e3")


def test_a_link_for_another_room_is_told_to_be_outdated(desk: Desk) -> None:
    desk.house.sync()
    desk.house.change("e1", room="another")
    desk.house.pull()
    said = desk.lines("e1")
    assert any("guest link made" in line and "another is asked for" in line for line in said)
    assert "next the guest link for guests is asked for" in said
    assert not any("OpenMeetings link made" in line and "another is asked for" in line for line in said)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("placed", "revision 3, placed as syncd-e1.ics"),
        ("left", "left alone: what lies at syncd-e1.ics is not ours"),
        ("placing", "on its way to syncd-e1.ics, and nobody has heard yet whether it arrived"),
        ("removed", "removed by somebody; it comes back when the meeting changes"),
    ],
)
def test_every_state_of_a_placement_has_its_words(state: str, words: str) -> None:
    place = Placement("team", "e1", "syncd-e1.ics", None, 3, "d", NOW, None, state)  # type: ignore[arg-type]
    stand = Destination(kind="push", name="team", accounts=("work",), place=replace(place, edited=True))
    said = [" ".join(line.split()) for line in lines(Explanation("e1", WAYS, (), (), (stand,), ()))]
    assert f"calendar team entry {words}" in said
    assert ("note somebody edited it there; what they added stays" in said) == (state == "placed")


def test_no_line_is_longer_than_a_terminal(desk: Desk) -> None:
    desk.house.sync()
    message = "the server answers what nobody understands, " * 6
    stand = Destination(kind="push", name="team", trouble=message, next=Pending(problem=message))
    for shown in (desk.explain("e1"), Explanation("e1", WAYS, (SeenBy("work", meeting=meeting()),), (), (stand,), ())):
        assert max(len(line) for line in lines(shown)) <= 100


def test_no_code_of_any_link_is_ever_printed(desk: Desk) -> None:
    desk.add_feed()
    desk.house.change("e1", password="s3cret")
    desk.house.sync()
    desk.build_feed()
    desk.house.change("e1", room="another", password="s3cret2")
    desk.house.pull()
    said = "\n".join(lines(desk.explain("e1")))
    codes = [link.code for link in desk.ledger.links.all().values() if link.code]
    assert len(codes) == 6
    assert not [secret for secret in [*codes, "s3cret", "https://", "0" * 64] if secret in said]


def test_events_are_found_by_any_table_that_mentions_them(desk: Desk) -> None:
    desk.house.sync()
    assert desk.ledger.find_events("") == ["e1", "e2", "e3"]
    assert desk.ledger.find_events("e2") == ["e2"]
    assert desk.ledger.find_events("%") == desk.ledger.find_events("E") == []
    for event in ("e1", "e2"):
        desk.house.source.meetings.pop(event)
    desk.house.pull()
    assert desk.ledger.find_events("e1") == ["e1"]
    said = choice_lines(choices(desk.ledger, desk.ledger.find_events("e")))
    assert [" ".join(line.split()) for line in said] == ["e1 gone", "e2 gone", "e3 2026-11-26 12:00Z Meeting e3"]


def test_a_ledger_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="there is no ledger"):
        Ledger.open(tmp_path / "state", read_only=True)
    assert not (tmp_path / "state").exists()


def test_explaining_writes_nothing(desk: Desk) -> None:
    desk.house.sync()
    desk.house.change("e1", title="Other")
    desk.house.pull()
    before = [rows(desk.ledger, f"SELECT * FROM {table}") for table in ("entry", "placement", "decision", "run")]
    desk.explain("e1")
    assert before == [
        rows(desk.ledger, f"SELECT * FROM {table}") for table in ("entry", "placement", "decision", "run")
    ]
    assert timedelta(0) == desk.house.now - NOW
