# SPDX-License-Identifier: Apache-2.0
"""Ledgers that earlier versions of syncd wrote are opened and lose nothing.

``ledgers/before-tables-by-name.sqlite`` was written by real runs against the embedded servers: two accounts, two
calendars, two feeds of the same profile. It is read here with sqlite3 alone.
"""

import shutil
from collections import Counter
from pathlib import Path

import pytest

from syncd.ledger.database import FILE
from syncd.ledger.ledger import Ledger
from syncd.model import EntryInputs, Profile
from syncd.plan.entries import entry_changes
from syncd.plan.links import WAYS
from tests.support.old_ledger import OLD, old_rows, old_tables, read_rows, rows_now

COUNTS = {
    "account": 2,
    "audit": 2,
    "decision": 137,
    "entry": 29,
    "feed": 2,
    "gone": 6,
    "hold": 3,
    "leftover": 2,
    "link": 44,
    "login": 1,
    "lost": 4,
    "meeting": 11,
    "placement": 28,
    "released": 6,
    "run": 35,
    "secret": 1,
}

LINKS = [
    ("hash", "alice", 0, 1, 14),
    ("hash", "guest", 0, 1, 15),
    ("invite", "guest", 0, 0, 2),
    ("invite", "guest", 0, 1, 12),
    ("invite", "guest", 1, 0, 1),
]
"""Kind, whose, whether there is none to be had, whether syncd made it, how many."""

AUDITS = [("own", "https://dav.example.org/own/", "own/21"), ("team", "https://dav.example.org/team/", None)]


@pytest.fixture
def opened(tmp_path: Path) -> Path:
    """A copy of the old ledger that this version of syncd has opened."""
    path = tmp_path / FILE
    shutil.copy(OLD, path)
    with Ledger.open(tmp_path):
        pass
    return path


def test_the_old_ledger_is_sound_and_holds_what_it_should() -> None:
    assert read_rows(OLD, "PRAGMA integrity_check") == [("ok",)]
    assert sorted(old_tables()) == sorted(COUNTS)
    for table, count in COUNTS.items():
        assert read_rows(OLD, f"SELECT count(*) FROM {table}") == [(count,)], table


@pytest.mark.parametrize("table", COUNTS)
def test_opening_an_old_ledger_loses_no_row_and_no_value(opened: Path, table: str) -> None:
    assert rows_now(opened, table) == old_rows(table)


INPUTS = {
    "0b30b2da": (
        "5551dfc5af03de5eae7114a8c04daed8",
        {"opentalk": "55731732-db7d-4695-988c-674692102fcc", "openmeetings": "d96f4d9d-5ba1-48b0-85e4-652aeddbe26e"},
    ),
    "89c7229e": ("a495d849106ffba604d39ae11c39e330", {"openmeetings": "e794333d-19f0-4c0a-ba16-572ec35802a4"}),
    "3a4e71f4": ("4a8bec2e7330094f0499cdeb69d31b43", {}),
}
"""Of some entries of Alice's meetings what they were rendered from, read by hand in the old ledger."""


@pytest.mark.parametrize("beginning", INPUTS)
def test_what_an_entry_was_rendered_from_is_read_from_an_old_ledger(opened: Path, beginning: str) -> None:
    with Ledger.open(opened.parent, read_only=True) as ledger:
        entries = ledger.entries.of("6ce5a39855edbdfffdf6489aff666fa9")
    (inputs,) = (entry.inputs for event, entry in entries.items() if event.startswith(beginning))
    assert inputs == EntryInputs("alice", *INPUTS[beginning])


def test_what_was_erased_from_an_old_ledger_has_no_inputs(opened: Path) -> None:
    with Ledger.open(opened.parent, read_only=True) as ledger:
        entries = ledger.entries.of("ba9973eb45dda0f4eb9ed2c4a32373ba")
    assert Counter(entry.inputs is None for entry in entries.values()) == {True: 6, False: 7}


CALENDARS = {
    "65dfc1cdf3c02677c9ac96513a8208f9": ("alice",),
    "6ce5a39855edbdfffdf6489aff666fa9": ("alice", "bob"),
}
"""The profiles of the calendars in the old ledger, and their accounts."""


@pytest.mark.parametrize("key", CALENDARS)
def test_what_entries_of_an_old_ledger_were_rendered_from_is_what_is_computed_now(opened: Path, key: str) -> None:
    """Under the keys that their profiles had then: today's are others, for which all entries are rendered anew."""
    with Ledger.open(opened.parent, read_only=True) as ledger:
        accounts = CALENDARS[key]
        profile = Profile(
            accounts=accounts,
            urls=("https://meet.example.org",) * len(accounts),
            makers={"openmeetings": "https://om.example.org/openmeetings"},
            audience="owner" if len(accounts) == 1 else "guests",
            passwords=True,
            ways_in=WAYS,
            language="en",
            installation="0123",
            versions=("1",),
        )
        origins, links = ledger.meetings.origins(accounts), ledger.links.of(accounts)
        entries = ledger.entries.of(key)
        changes = entry_changes(origins, links, entries, profile)
    assert len(entries) >= 7
    assert [change for change in changes if change.event in entries] == []


def test_an_old_ledger_is_sound_after_it_was_opened(opened: Path) -> None:
    assert read_rows(opened, "PRAGMA integrity_check") == [("ok",)]


def test_of_every_kind_of_row_each_state_is_there(opened: Path) -> None:
    """Read by hand once: a row of a kind that nothing else here has must not vanish unnoticed."""
    assert read_rows(opened, "SELECT calendar, state, edited, count(*) FROM placement GROUP BY 1, 2, 3") == [
        ("own", "left", 0, 1),
        ("own", "placed", 0, 10),
        ("own", "placed", 1, 1),
        ("own", "removed", 0, 1),
        ("team", "placed", 0, 14),
        ("team", "placing", 0, 1),
    ]
    assert read_rows(opened, "SELECT kind, whose, code ISNULL, made, count(*) FROM link GROUP BY 1, 2, 3, 4") == LINKS
    assert read_rows(opened, "SELECT erased, count(DISTINCT profile), count(*) FROM entry GROUP BY 1") == [
        (0, 3, 23),
        (1, 1, 6),
    ]
    assert read_rows(opened, "SELECT name, coming, confirmed FROM hold ORDER BY 1") == [
        ("feed/tablet", 13, 0),
        ("own", 11, 1),
        ("team", 14, 0),
    ]
    assert read_rows(opened, "SELECT account, refresh_token FROM login") == [("bob", "made-up-refresh-token")]
    assert read_rows(opened, "SELECT calendar, url, cursor FROM audit ORDER BY 1") == AUDITS
    assert read_rows(opened, "SELECT feed, count(*) FROM released GROUP BY 1") == [("phone", 6)]
    assert read_rows(opened, "SELECT DISTINCT state FROM run ORDER BY 1") == [
        ("held",),
        ("needs_you",),
        ("ok",),
        ("retrying",),
    ]
    assert read_rows(opened, "SELECT DISTINCT kind FROM run ORDER BY 1") == [
        ("feed",),
        ("housekeeping",),
        ("maker",),
        ("mint",),
        ("pull",),
        ("push",),
    ]
