# SPDX-License-Identifier: Apache-2.0
"""A profile of another shape has another key: all entries are rendered anew, and nobody notices."""

import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from syncd.config.profiles import calendar_profile, calendar_window
from syncd.ledger.database import FILE
from syncd.ledger.ledger import Ledger
from syncd.model import Feed
from syncd.sync.feed import build_feed
from syncd.sync.push import push
from syncd.sync.render import render_entries
from syncd.sync.write import Target
from tests.support.configuration import PASSWORD, read_configuration
from tests.support.meetings import NOW, meeting
from tests.support.memory_servers import MemoryCalendar
from tests.support.old_ledger import OLD
from tests.support.pipeline import Pipeline, silent

KEYS = {"own": "65dfc1cdf3c02677c9ac96513a8208f9", "team": "6ce5a39855edbdfffdf6489aff666fa9"}
"""Under which keys the old ledger has the entries of its calendars, read in it by hand."""

CONFIGURATION = f"""
[opentalk.alice]
url = "http://127.0.0.1:41117"
username = "alice"
{PASSWORD}
[opentalk.bob]
url = "http://127.0.0.1:41117"
username = "bob"
{PASSWORD}
[openmeetings]
url = "http://127.0.0.1:40583/openmeetings"
username = "syncd"
{PASSWORD}
[caldav.own]
url = "https://dav.example.org/own/"
username = "alice"
accounts = ["alice"]
{PASSWORD}
[caldav.team]
url = "https://dav.example.org/team/"
username = "alice"
accounts = ["alice", "bob"]
{PASSWORD}
"""
"""Of the syncd that wrote the old ledger."""


def test_nothing_is_written_and_feeds_show_the_same_under_a_new_key(tmp_path: Path) -> None:
    pipeline = Pipeline(*(meeting(f"e{number}", number) for number in range(1, 6)), folder=tmp_path)
    pipeline.ledger.feeds.add(Feed("phone", "0" * 64, ("work",), "owner", True, "", NOW))
    pipeline.sync()
    build_feed(pipeline.ledger.feeds.all()["phone"], pipeline.profile, pipeline.ledger, NOW, silent)
    before, objects = edition(pipeline), dict(pipeline.calendar.objects)
    with closing(sqlite3.connect(tmp_path / FILE)) as database, database:
        database.execute("UPDATE entry SET profile = 'former', inputs = 'work digest code hash'")
        database.execute("UPDATE feed SET built = 'former'")
    assert edition(pipeline) == before
    pipeline.calendar.log.clear()
    run = pipeline.push()
    assert (run.state, run.done, pipeline.calendar.objects) == ("ok", {}, objects)
    assert edition(pipeline) == before
    built = build_feed(pipeline.ledger.feeds.all()["phone"], pipeline.profile, pipeline.ledger, NOW, silent)
    assert built
    assert (built.state, edition(pipeline)) == ("ok", before)
    pipeline.ledger.close()


def edition(pipeline: Pipeline) -> list[tuple[str, int, bytes]]:
    """What the feed shows."""
    found = pipeline.ledger.feeds.edition_bodies(pipeline.ledger.feeds.all()["phone"])
    assert len(found) == 5
    return found


@pytest.mark.parametrize("calendar", KEYS)
def test_entries_of_an_old_ledger_say_the_same_to_the_byte(tmp_path: Path, calendar: str) -> None:
    shutil.copy(OLD, tmp_path / FILE)
    config = read_configuration(tmp_path, CONFIGURATION)
    with Ledger.open(tmp_path) as ledger:
        profile = calendar_profile(config, ledger.secrets.get("installation"), calendar)
        assert profile.key not in KEYS.values()
        assert render_entries(ledger, profile, NOW, silent).problems == ()
        old, new = contents(ledger, KEYS[calendar]), contents(ledger, profile.key)
    assert len(old) >= 7
    assert {event: new[event] for event in old} == old


WRITES = {
    "own": [
        *(("delete", event) for event in ("124bc5f6", "1f29dc0d", "5078c422", "6e1dc059", "9de13df3", "dc78bd78")),
        ("create", "3a4e71f4"),
    ],
    "team": [("create", "3a4e71f4")],
}
"""What the old ledger still had to do in its calendars, read in it by hand: one event was new, and six were gone, which
was confirmed for one of the calendars."""


@pytest.mark.parametrize("calendar", KEYS)
def test_no_entry_of_an_old_ledger_is_written_anew_to_its_calendar(tmp_path: Path, calendar: str) -> None:
    shutil.copy(OLD, tmp_path / FILE)
    config = read_configuration(tmp_path, CONFIGURATION)
    with Ledger.open(tmp_path) as ledger:
        profile = calendar_profile(config, ledger.secrets.get("installation"), calendar)
        audited = ledger.audits.last(calendar)
        assert audited
        remote, now = MemoryCalendar(calendar), audited.at
        target = Target(calendar, remote, profile, ledger, now, keep=False, restore=False)
        push(target, calendar_window(config, calendar, now), silent, lambda _what, _event: None, workers=1)
        assert ledger.entries.of(profile.key).keys() >= ledger.entries.of(KEYS[calendar]).keys()
    writes = [(verb, href[len("syncd-") :][:8]) for verb, href in remote.log if verb != "check"]
    assert sorted(writes) == sorted(WRITES[calendar])


def contents(ledger: Ledger, profile: str) -> dict[str, tuple[str, bytes]]:
    """Digest and bytes of the entries of a profile by event, without the revision."""
    entries = ledger.entries.of(profile)
    return {
        event: (entries[event].digest, re.sub(rb"SEQUENCE:[0-9]+", b"SEQUENCE:", body))
        for event, body in ledger.entries.bodies(profile, list(entries)).items()
    }
