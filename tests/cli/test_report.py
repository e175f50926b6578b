# SPDX-License-Identifier: Apache-2.0
import csv
import io
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from syncd.cli import report
from syncd.cli.events import event_json, event_lines, events_csv, parse_date
from syncd.jobs.jobs import FEEDS, HOUSEKEEPING, LINKS
from syncd.ledger.lock import Syncing
from syncd.model import CallIn, Override, Run, RunKey, RunKind, Standing, When
from tests.support.configuration import configure
from tests.support.meetings import DAY, NOW, meeting


def run(kind: RunKind, name: str, state: str = "ok", **counts: int) -> Run:
    return Run(RunKey(kind, name), NOW, state, counts=counts)


@pytest.mark.parametrize(
    ("runs", "code"),
    [
        ([run("pull", "work", changed=1), run("push", "team", created=1)], 0),
        ([run("pull", "work"), run("push", "team", "held", held=9)], 4),
        ([run("pull", "work"), run("push", "team", "retrying", failed=3)], 1),
        ([run("pull", "work"), run("maker", "openmeetings", "needs_login"), run("push", "team", created=1)], 1),
        ([run("pull", "work", "needs_login"), run("push", "team")], 77),
        ([run("pull", "work", "retrying"), run("push", "team")], 69),
        ([run("pull", "work", "retrying"), run("pull", "home", "needs_login"), run("push", "team", "retrying")], 77),
        ([run("pull", "work", "retrying"), run("push", "team", "held", held=9)], 69),
        ([run("pull", "work"), run("pull", "home", "retrying"), run("push", "team", "held", held=9)], 4),
        ([run("pull", "work", "needs_you"), run("push", "team")], 1),
    ],
)
def test_the_exit_code_says_what_a_sync_could_do(runs: list[Run], code: int) -> None:
    assert report.exit_code(runs) == code


STATUS = {
    "ok": False,
    "daemon": {"running": True, "since": "2026-11-22T12:00:00Z"},
    "accounts": {
        "work": {
            "state": "ok",
            "meetings": 42,
            "last_success": "2026-11-23T12:00:00Z",
            "next_try": "2026-11-23T12:05:00Z",
            "message": None,
        },
        "gone": {
            "state": "retired",
            "meetings": 3,
            "last_success": None,
            "next_try": None,
            "message": "not in the configuration any more; its entries stay",
        },
    },
    "openmeetings": None,
    "calendars": {
        "team": {
            "state": "held",
            "entries": 40,
            "last_success": "2026-11-22T12:00:00Z",
            "next_try": None,
            "message": "would delete 30 of 40: syncd confirm team",
        }
    },
    "feeds": {"phone": {"state": "ok", "entries": 40, "last_built": None, "message": None}},
}


def test_status_has_the_agreed_shape_and_hides_nothing_that_needs_a_person(tmp_path: Path) -> None:
    config = configure(tmp_path, openmeetings=False)
    held = Run(RunKey("push", "team"), NOW, "held", message="would delete 30 of 40: syncd confirm team")
    pulled = Run(RunKey("pull", "work"), NOW, counts={"meetings": 42}, next_try=NOW + timedelta(minutes=5))
    status = report.status_json(
        config,
        {RunKey("push", "team"): Standing(held, NOW - DAY), RunKey("pull", "work"): Standing(pulled, NOW)},
        {"work": 42, "gone": 3},
        {"team": 40},
        {"phone": ("work",)},
        {"phone": 40},
        Syncing(1, NOW - DAY, daemon=True),
    )
    assert status == STATUS
    lines = report.status_lines(status, report.maker_labels(config), NOW + timedelta(minutes=3))
    assert lines[0] == "Something needs a look: The daemon is running."
    assert "calendar team  held" in lines[3]
    assert "would delete 30 of 40: syncd confirm team" in lines[3]


@pytest.mark.parametrize("kind", ["links", "feeds", "housekeeping"])
def test_what_syncd_runs_of_its_own_is_shown_only_when_it_is_not_well(tmp_path: Path, kind: RunKind) -> None:
    config, key, hour = configure(tmp_path, openmeetings=False), RunKey(kind, "all"), timedelta(hours=1)

    def status(latest: Run) -> report.Json:
        daemon = Syncing(1, NOW - DAY, daemon=True)
        return report.status_json(config, {key: Standing(latest, NOW - DAY)}, {}, {}, {}, {}, daemon)

    assert "syncd" not in status(Run(key, NOW, next_try=NOW + hour))
    assert status(Run(key, NOW))["ok"] is True
    failed = status(Run(key, NOW, "needs_you", message="an unforeseen KeyError", next_try=NOW + hour))
    assert failed["ok"] is False
    assert failed["syncd"] == {
        kind: {
            "state": "needs_you",
            "last_success": "2026-11-22T12:00:00Z",
            "next_try": "2026-11-23T13:00:00Z",
            "message": "an unforeseen KeyError",
        }
    }
    lines = report.status_lines(failed, report.maker_labels(config), NOW)
    assert lines[0].startswith("Something needs a look:")
    assert [line.split() for line in lines if line.startswith("syncd ")] == [
        ["syncd", kind, "needs_you", "24", "h", "ago", "an", "unforeseen", "KeyError"]
    ]


def test_names_of_accounts_calendars_and_feeds_share_nothing_with_what_syncd_runs_of_its_own(tmp_path: Path) -> None:
    names = ("openmeetings", "all", "links", "feeds", "ledger", "housekeeping")
    accounts, calendars = dict.fromkeys(names, ""), dict.fromkeys(names, 'accounts = ["all"]')
    config = configure(tmp_path, accounts=accounts, calendars=calendars)
    mine = {RunKey(kind, name): "ok" for kind in ("pull", "mint", "push", "feed") for name in names}
    own = [RunKey("maker", "openmeetings"), LINKS, FEEDS, HOUSEKEEPING]

    def states(failing: Collection[RunKey]) -> dict[str, set[str]]:
        runs = [Run(key, NOW, "needs_you" if key in failing else "ok") for key in (*mine, *own)]
        standings = {run.key: Standing(run, NOW) for run in runs}
        shown = report.status_json(config, standings, {}, {}, dict.fromkeys(names, names), {}, None)
        things = {kind: shown.get(kind, {}) for kind in ("accounts", "calendars", "feeds", "syncd")}
        things["makers"] = {"openmeetings": shown["openmeetings"]}
        assert shown["ok"] == (not failing)
        return {
            kind: {name for name, thing in named.items() if thing["state"] != "ok"}
            for kind, named in things.items()
            if isinstance(named, dict)
        }

    none: dict[str, set[str]] = {kind: set() for kind in ("accounts", "calendars", "feeds", "syncd", "makers")}
    assert states([]) == none
    assert states(own) == none | {"syncd": {"links", "feeds", "housekeeping"}, "makers": {"openmeetings"}}
    assert states(mine) == none | {kind: set(names) for kind in ("accounts", "calendars", "feeds")}


def test_a_meeting_is_listed_with_everything_a_script_may_want() -> None:
    original = When(NOW + DAY, "Europe/Berlin")
    each = meeting(
        "e1",
        title='Quote " and, comma\nline',
        recurrence=("RRULE:FREQ=WEEKLY",),
        overrides=(Override(original, cancelled=True),),
        password="s3cret",
        call_in=CallIn("+49 30 5557890", "0123456789", "9876543210"),
    )
    event = event_json("work", "https://meet.example.org", each, "c0de")
    assert event["start"] == "2026-11-24T13:00:00+01:00"
    assert event["exceptions"] == [
        {"occurrence": "2026-11-24T13:00:00+01:00", "cancelled": True, "start": None, "end": None, "title": None}
    ]
    assert event["guest"] == "https://meet.example.org/room/room-e1?invite=c0de"
    assert event["call_in"] == {"tel": "+49 30 5557890", "id": "0123456789", "pin": "9876543210"}
    (row,) = csv.DictReader(io.StringIO(events_csv([event])))
    assert row["title"] == each.title
    assert row["sip"] == "+49 30 5557890,,0123456789,,9876543210"
    assert row["recurrence"] == "RRULE:FREQ=WEEKLY"
    assert list(row)[:8] == ["number", "title", "room_link", "start", "end", "sip", "password", "guest_link"]


def test_a_time_independent_meeting_is_listed_without_times() -> None:
    event = event_json("work", "https://meet.example.org", meeting("e1", start=None, end=None), None)
    assert (event["start"], event["end"], event["timezone"], event["guest"]) == (None, None, None, None)
    assert event_lines([event])[0].startswith("any time")


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-22", datetime(2026, 11, 22, tzinfo=UTC)),
        ("2026-11-22T09:00:00+01:00", datetime(2026, 11, 22, 8, tzinfo=UTC)),
        ("+7d", NOW + 7 * DAY),
    ],
)
def test_dates_are_read_in_three_forms(text: str, moment: datetime) -> None:
    assert parse_date(text, NOW) == moment
