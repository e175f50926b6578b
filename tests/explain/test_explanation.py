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
from tests.support.pipeline import Pipeline, silent
from tests.support.tables import rows

CONFIG = configuration_text(calendars={"team": 'accounts = ["work"]'}, feeds=False)


class ExplainedPipeline(Pipeline):
    """A pipeline with a configuration that fits it, in which people ask for explanations."""

    def __init__(self, folder: Path, *meetings: str) -> None:
        super().__init__(*(meeting(event, number) for number, event in enumerate(meetings, 1)), folder=folder)
        self.folder = folder
        self.configure()
        self.profile = calendar_profile(self.config, self.ledger.secrets.get("installation"), "team")

    def configure(self, *changes: tuple[str, str]) -> Config:
        text = CONFIG
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        self.config = read_configuration(self.folder, text)
        return self.config

    def explain(self, event: str) -> Explanation:
        with Ledger.open(self.folder, read_only=True) as ledger:
            return explanation(self.config, ledger, event, self.now)

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
        return build_feed(self.ledger.feeds.all()["phone"], self.profile_of_feed(), self.ledger, self.now, silent)

    def fail_push(self) -> None:
        for verb in ("create", "update", "delete"):
            self.calendar.fail(Unavailable("down"), verb=verb, times=99)
        self.push()
        self.calendar._faults.clear()

    def close(self) -> None:
        self.ledger.close()


@pytest.fixture
def pipeline(tmp_path: Path) -> Iterator[ExplainedPipeline]:
    pipeline = ExplainedPipeline(tmp_path, "e1", "e2", "e3")
    yield pipeline
    pipeline.close()


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


def take(pipeline: ExplainedPipeline, step: str, number: int) -> None:
    event, meetings = f"e{number}", pipeline.source.meetings
    match step:
        case "title" if event in meetings:
            pipeline.change(event, title=meetings[event].title + "!")
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
            work(pipeline, step, f"syncd-{event}.ics")


def work(pipeline: ExplainedPipeline, step: str, href: str) -> None:
    match step:
        case "pull" | "mint" | "render" | "push":
            getattr(pipeline, step)()
        case "fail":
            pipeline.fail_push()
        case "build":
            pipeline.build_feed()
        case "confirm":
            pipeline.ledger.deletions.confirm("team")
            pipeline.ledger.deletions.confirm("feed/phone")
        case "later":
            pipeline.now += 8 * HOUR
        case "edit" if found := pipeline.calendar.objects.get(href):
            pipeline.calendar.user_puts(href, found.body.replace(b"SUMMARY:", b"COMMENT:Mine\r\nSUMMARY:", 1))
        case "delete" if href in pipeline.calendar.objects:
            pipeline.calendar.user_deletes(href)


@settings(max_examples=40, deadline=None)
@given(steps_of(*SOURCE, *CALENDAR), steps_of(*SOURCE), st.integers(0, 9))
def test_what_is_said_to_come_next_is_what_the_next_run_does(
    before: list[tuple[str, int]], then: list[tuple[str, int]], crowd: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        pipeline = ExplainedPipeline(Path(folder), *(f"e{number}" for number in range(1, crowd + 1)))
        pipeline.add_feed()
        pipeline.sync()
        for step, number in before:
            take(pipeline, step, number)
        pipeline.now += 2 * HOUR
        pipeline.push()  # which looks at what people did
        for step, number in then:
            take(pipeline, step, number)
        check_foresight(pipeline)
        pipeline.close()


def check_foresight(pipeline: ExplainedPipeline) -> None:
    stands = {
        event: {each.kind: each for each in pipeline.explain(event).destinations}
        for event in pipeline.ledger.find_events("")
    }
    foreseen = {event: each["push"].next.action for event, each in stands.items() if each}
    pipeline.writes.clear()
    run = pipeline.push()
    done = {event: word for word, event in pipeline.writes}
    assert done.keys() == {event for event, action in foreseen.items() if action and not isinstance(action, Hold)}
    assert run.counts["held"] == sum(isinstance(action, Hold) for action in foreseen.values())
    for event, word in done.items():
        assert (word in ("deleted", "left")) >= isinstance(foreseen[event], Delete)
        assert (word == "forgotten") == isinstance(foreseen[event], Forget)
    feeds = {event: each["feed"] for event, each in stands.items() if each}
    built = pipeline.build_feed()
    assert built
    shown = pipeline.ledger.feeds.content(pipeline.ledger.feeds.all()["phone"])
    for event, stand in feeds.items():
        after = stand.next.after
        stays = stand.shown or bool(after and after.digest)
        assert (event in shown) == (stays and not isinstance(stand.next.action, Delete)), (event, stand)
    assert built.counts["held"] == sum(isinstance(stand.next.action, Hold) for stand in feeds.values())


@pytest.mark.parametrize("lost", [0, 1, 8])
def test_what_is_said_to_come_next_is_done_when_entries_look_different_too(tmp_path: Path, lost: int) -> None:
    pipeline = ExplainedPipeline(tmp_path, *(f"e{number}" for number in range(1, 11)))
    pipeline.add_feed()
    pipeline.sync()
    pipeline.build_feed()
    for number in range(1, lost + 1):
        pipeline.source.meetings.pop(f"e{number}")
    pipeline.source.meetings["e11"] = meeting("e11", 11)
    pipeline.pull()
    pipeline.configure(("[openmeetings]", '[syncd]\nlanguage = "de"\n[openmeetings]'))
    pipeline.profile = calendar_profile(pipeline.config, pipeline.ledger.secrets.get("installation"), "team")
    check_foresight(pipeline)
    pipeline.close()


def test_an_explanation_says_in_full_why_an_entry_looks_as_it_does(pipeline: ExplainedPipeline) -> None:
    pipeline.add_feed()
    pipeline.sync()
    pipeline.build_feed()
    assert lines(pipeline.explain("e1")) == [
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


def test_a_pull_notes_which_fields_changed_and_never_what_they_say(pipeline: ExplainedPipeline) -> None:
    pipeline.pull()
    pipeline.change("e1", title="A secret title", password="s3cret")
    pipeline.now += DAY
    pipeline.pull()
    new, changed = pipeline.ledger.history.decisions("e1")
    assert new == Decision("e1", NOW, RunKey("pull", "work"), "new")
    assert changed == Decision("e1", NOW + DAY, RunKey("pull", "work"), "changed", "title, password")
    assert len(pipeline.ledger.history.decisions("e2")) == 1


def test_a_pull_notes_what_is_gone_and_what_came_back(pipeline: ExplainedPipeline) -> None:
    pipeline.pull()
    away = pipeline.source.meetings.pop("e1")
    pipeline.pull()
    pipeline.source.meetings["e1"] = away
    pipeline.pull()
    assert [each.word for each in pipeline.ledger.history.decisions("e1")] == ["new", "gone", "new"]


def test_a_link_notes_who_was_asked_and_what_came_of_it(pipeline: ExplainedPipeline) -> None:
    pipeline.source.invites["e2"] = "c0de"
    pipeline.change("e3", own=False)
    pipeline.pull()
    pipeline.mint()
    states = {
        event: {
            (each.run.name, each.word, each.why)
            for each in pipeline.ledger.history.decisions(event)
            if each.run.kind in ("mint", "maker")
        }
        for event in ("e1", "e2", "e3")
    }
    hashed = ("openmeetings", "hash", "made")
    assert states == {
        "e1": {("work", "invite", "made"), hashed},
        "e2": {("work", "invite", "found"), hashed},
        "e3": {("work", "none", "none to be had"), hashed},
    }


def test_housekeeping_forgets_old_decisions_but_the_latest_of_what_is_still_there(pipeline: ExplainedPipeline) -> None:
    pipeline.sync()
    for day in range(1, 4):
        pipeline.now = NOW + day * DAY
        pipeline.change("e1", title=f"Title {day}")
        pipeline.pull()
    pipeline.source.meetings.pop("e3")
    pipeline.pull()
    for table in ("link", "entry", "placement"):
        pipeline.ledger.database.write(lambda db, table=table: db.execute(f"DELETE FROM {table} WHERE event = 'e3'"))  # type: ignore[misc]
    assert len(pipeline.ledger.history.decisions("e3")) == 5
    pipeline.now = NOW + 33 * DAY - HOUR
    pipeline.ledger.sweep(pipeline.now)
    kept = [(each.run.kind, each.word, each.at) for each in pipeline.ledger.history.decisions("e1")]
    assert kept == [
        ("mint", "invite", NOW),
        ("maker", "hash", NOW),
        ("push", "created", NOW),
        ("pull", "changed", NOW + 3 * DAY),
    ]
    assert [each.word for each in pipeline.ledger.history.decisions("e2")] == ["new", "invite", "hash", "created"]
    assert [each.word for each in pipeline.ledger.history.decisions("e3")] == ["gone"]
    pipeline.now = NOW + 34 * DAY + HOUR
    pipeline.ledger.sweep(pipeline.now)
    assert pipeline.ledger.history.decisions("e3") == []


def test_an_entry_that_waits_to_be_written_says_what_changed_since(pipeline: ExplainedPipeline) -> None:
    pipeline.sync()
    pipeline.change("e1", title="Other", description="Other")
    pipeline.pull()
    assert "next it is written anew because title, description changed" in pipeline.lines("e1")
    pipeline.fail_push()
    output = pipeline.lines("e1")
    assert "next it is written anew because title, description changed" in output
    assert any(line.startswith("trouble retrying: ") for line in output)
    pipeline.push()
    assert "next nothing" in pipeline.lines("e1")


def test_entries_that_look_different_since_an_update_say_so(pipeline: ExplainedPipeline) -> None:
    pipeline.sync()
    pipeline.configure(("[openmeetings]", '[syncd]\nlanguage = "de"\n[openmeetings]'))
    output = "next it is written anew because syncd or its configuration changed"
    assert output in pipeline.lines("e1")


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
def test_what_is_not_there_says_why(pipeline: ExplainedPipeline, fields: dict[str, object], why: str) -> None:
    pipeline.change("e1", **fields)
    pipeline.pull()
    pipeline.now -= DAY  # the window has not reached what is that far away
    assert f"calendar team entry not there: {why}" in pipeline.lines("e1")


def test_a_held_deletion_says_what_it_waits_for_until_it_is_confirmed(tmp_path: Path) -> None:
    pipeline = ExplainedPipeline(tmp_path, *(f"e{number}" for number in range(1, 11)))
    pipeline.add_feed()
    pipeline.sync()
    pipeline.build_feed()
    pipeline.source.meetings.clear()
    pipeline.pull()
    foreseen = pipeline.lines("e1")
    pipeline.push()
    pipeline.build_feed()
    output = pipeline.lines("e1")
    for waits in ("team", "phone"):
        assert f"next its deletion is held, one of 10: waits for `syncd confirm {waits}`" in foreseen
        assert f"next its deletion is held, one of 10: waits for `syncd confirm {waits}`" in output
    assert "An event that no account has any more" in output
    pipeline.ledger.deletions.confirm("team")
    pipeline.ledger.deletions.confirm("feed/phone")
    assert pipeline.lines("e1").count("next it is deleted: the meeting is gone") == 2
    pipeline.push()
    pipeline.build_feed()
    assert pipeline.lines("e1").count("next nothing") == 2
    pipeline.close()


def test_a_deletion_says_why_there_is_nothing_to_show(pipeline: ExplainedPipeline) -> None:
    start = When(NOW + DAY, "Europe/Berlin")
    pipeline.change("e1", recurrence=("RRULE:FREQ=DAILY;COUNT=1",))
    pipeline.sync()
    pipeline.change("e1", overrides=(Override(start, cancelled=True),))
    pipeline.source.meetings.pop("e2")
    pipeline.pull()
    assert "next it is deleted: every occurrence is cancelled" in pipeline.lines("e1")
    assert "next it is deleted: the meeting is gone" in pipeline.lines("e2")


def test_a_feed_says_what_its_next_building_changes(pipeline: ExplainedPipeline) -> None:
    pipeline.add_feed()
    pipeline.pull()
    pipeline.build_feed()
    pipeline.change("e1", title="Other")
    pipeline.source.meetings["e4"] = meeting("e4", 4)
    pipeline.pull()
    assert "it is written anew because title changed" in " ".join(pipeline.lines("e1"))
    assert any(line.endswith("it is taken up") for line in pipeline.lines("e4"))
    pipeline.build_feed()
    assert "written anew" not in " ".join(pipeline.lines("e1"))
    assert "feed phone entry revision 0, shown" in pipeline.lines("e4")


def test_a_disabled_or_retired_thing_is_shown_with_what_it_keeps(pipeline: ExplainedPipeline) -> None:
    pipeline.add_feed()
    pipeline.sync()
    pipeline.build_feed()
    pipeline.configure(("[caldav.team]", "[caldav.other]"))
    output = pipeline.lines("e1")
    assert "calendar team entry revision 0, placed as syncd-e1.ics" in output
    assert "next nothing: it is not in the configuration any more, and what is there stays" in output
    assert "calendar other entry not there" in output
    pipeline.configure(("[caldav.team]", "[caldav.team]\nenabled = false"))
    assert "next nothing: it is disabled" in pipeline.lines("e1")
    pipeline.configure(("[opentalk.work]", "[opentalk.work]\nenabled = false"))
    assert "note the account is disabled; what it had stays" in pipeline.lines("e1")
    pipeline.configure(("opentalk.work", "opentalk.home"), ('["work"]', '["home"]'))
    output = pipeline.lines("e1")
    assert "note the account is not in the configuration any more; what it had stays" in output
    assert "feed phone entry revision 1, shown" in output
    assert any(line.startswith("next nothing: one of its accounts is not in the configuration") for line in output)


def test_an_event_that_listings_lack_or_that_cannot_be_read_says_so(pipeline: ExplainedPipeline) -> None:
    pipeline.pull()
    pipeline.change("e1", start=When(NOW - 60 * DAY, "UTC"), end=When(NOW - 60 * DAY + HOUR, "UTC"))
    pipeline.source.unreadable |= {"e2": "its rule is none", "e3": "its zone is unknown"}
    pipeline.now += HOUR
    pipeline.pull()
    assert "note listings by time lack it; its server says that it is there" in pipeline.lines("e1")
    assert "note left as it was: its rule is none" in pipeline.lines("e2")
    assert "note left as it was: its zone is unknown" in pipeline.lines("e3")


def test_a_link_for_another_room_is_explained_as_outdated(pipeline: ExplainedPipeline) -> None:
    pipeline.sync()
    pipeline.change("e1", room="another")
    pipeline.pull()
    output = pipeline.lines("e1")
    assert any("guest link made" in line and "another is asked for" in line for line in output)
    assert "next the guest link for guests is asked for" in output
    assert not any("OpenMeetings link made" in line and "another is asked for" in line for line in output)


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
    output = [" ".join(line.split()) for line in lines(Explanation("e1", WAYS, (), (), (stand,), ()))]
    assert f"calendar team entry {words}" in output
    assert ("note somebody edited it there; what they added stays" in output) == (state == "placed")


def test_no_line_is_longer_than_a_terminal(pipeline: ExplainedPipeline) -> None:
    pipeline.sync()
    message = "the server answers what nobody understands, " * 6
    stand = Destination(kind="push", name="team", trouble=message, next=Pending(problem=message))
    for shown in (
        pipeline.explain("e1"),
        Explanation("e1", WAYS, (SeenBy("work", meeting=meeting()),), (), (stand,), ()),
    ):
        assert max(len(line) for line in lines(shown)) <= 100


def test_no_code_of_any_link_is_ever_printed(pipeline: ExplainedPipeline) -> None:
    pipeline.add_feed()
    pipeline.change("e1", password="s3cret")
    pipeline.sync()
    pipeline.build_feed()
    pipeline.change("e1", room="another", password="s3cret2")
    pipeline.pull()
    output = "\n".join(lines(pipeline.explain("e1")))
    codes = [link.code for link in pipeline.ledger.links.all().values() if link.code]
    assert len(codes) == 6
    assert not [secret for secret in [*codes, "s3cret", "https://", "0" * 64] if secret in output]


def test_events_are_found_by_any_table_that_mentions_them(pipeline: ExplainedPipeline) -> None:
    pipeline.sync()
    assert pipeline.ledger.find_events("") == ["e1", "e2", "e3"]
    assert pipeline.ledger.find_events("e2") == ["e2"]
    assert pipeline.ledger.find_events("%") == pipeline.ledger.find_events("E") == []
    for event in ("e1", "e2"):
        pipeline.source.meetings.pop(event)
    pipeline.pull()
    assert pipeline.ledger.find_events("e1") == ["e1"]
    output = choice_lines(choices(pipeline.ledger, pipeline.ledger.find_events("e")))
    assert [" ".join(line.split()) for line in output] == ["e1 gone", "e2 gone", "e3 2026-11-26 12:00Z Meeting e3"]


def test_a_ledger_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="there is no ledger"):
        Ledger.open(tmp_path / "state", read_only=True)
    assert not (tmp_path / "state").exists()


def test_explaining_writes_nothing(pipeline: ExplainedPipeline) -> None:
    pipeline.sync()
    pipeline.change("e1", title="Other")
    pipeline.pull()
    before = [rows(pipeline.ledger, f"SELECT * FROM {table}") for table in ("entry", "placement", "decision", "run")]
    pipeline.explain("e1")
    assert before == [
        rows(pipeline.ledger, f"SELECT * FROM {table}") for table in ("entry", "placement", "decision", "run")
    ]
    assert timedelta(0) == pipeline.now - NOW
