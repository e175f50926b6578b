# SPDX-License-Identifier: Apache-2.0
import json
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace
from sqlite_utils import Database, Migrations

from syncd.errors import LedgerBusy, LedgerError, NeedsYou
from syncd.ledger import schema
from syncd.ledger.accounts import SignIns
from syncd.ledger.database import FILE
from syncd.ledger.ledger import Ledger
from syncd.ledger.lock import sync_lock, syncing
from syncd.ledger.schema import STEPS, m001_first
from syncd.model import Entry, EntryInputs, Feed, Identity, Link, Meeting, Placement, Run, RunKey, Unreadable
from syncd.plan.deletions import Hold
from syncd.plan.pull import Drop, Keep, row_of
from syncd.plan.records import Place, Unplace
from syncd.plan.timing import LastListings
from tests.support.meetings import NOW, meeting
from tests.support.tables import full_disk, rows

ALICE = Identity("https://id.example.org", "s1", "u1", "Alice", "Adams")


def keep(each: Meeting) -> Keep:
    return Keep(each, row_of(each))


def run(kind: str = "pull", name: str = "work", **fields: object) -> Run:
    return Run(RunKey(kind, name), **({"ended": NOW} | fields))  # type: ignore[arg-type]


def test_what_is_saved_is_read_back_by_another_process(tmp_path: Path) -> None:
    each, link = meeting(), Link("invite", "e1", "guest", "code", "d", True, NOW)
    entry = Entry("e1", EntryInputs("work", "m", {"opentalk": "code"}), "digest", 3, NOW, None)
    placed = Placement("team", "e1", "syncd-e1.ics", '"1"', 3, "digest", NOW, None)
    feed = Feed("phone", "0" * 64, ("work",), "owner", False, "my phone", NOW)
    with Ledger.open(tmp_path) as ledger:
        ledger.accounts.identify("work", ALICE, ("work",))
        ledger.meetings.save_pull("work", [keep(each)], run())
        ledger.links.save([(link, RunKey("mint", "work"))])
        ledger.entries.save("p", [(entry, b"BEGIN")], [], NOW)
        ledger.placements.record("team", [Place(placed, b"BEGIN")])
        assert ledger.feeds.add(feed)
        ledger.feeds.build(feed, "p", [])
    feed = replace(feed, built="p")
    with Ledger.open(tmp_path, read_only=True) as ledger:
        assert ledger.accounts.identity("work") == ALICE
        assert ledger.meetings.get("work", "e1") == each
        assert dict(ledger.meetings.of("work")) == {"e1": row_of(each)}
        assert ledger.links.all() == {("invite", "e1", "guest"): link}
        assert ledger.entries.of("p") == {"e1": entry}
        assert ledger.entries.bodies("p", ["e1", "e2"]) == {"e1": b"BEGIN"}
        assert ledger.feeds.edition(feed) == [("digest", 3)]
        assert ledger.feeds.edition_bodies(feed) == [("digest", 3, b"BEGIN")]
        assert ledger.placements.of("team") == {"e1": placed}
        assert ledger.feeds.all() == {"phone": feed}
        assert ledger.entries.versions("e1") == [(3, "digest")]
        assert ledger.meetings.counts() == {"work": 1}
        assert ledger.placements.counts() == {"team": 1}


def test_the_ledger_is_its_owners_alone_and_survives_a_power_cut(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    with Ledger.open(folder) as ledger:
        ledger.history.save(run())
        assert rows(ledger, "PRAGMA synchronous") == [(2,)]
        assert rows(ledger, "PRAGMA journal_mode") == [("wal",)]
        for path in folder.iterdir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_pull_is_saved_whole_or_not_at_all(tmp_path: Path) -> None:
    with Ledger.open(tmp_path) as ledger:
        ledger.meetings.save_pull("work", [keep(meeting("e1"))], run())
        broken = Keep(meeting("e2"), None)  # type: ignore[arg-type]
        with pytest.raises(AttributeError):
            ledger.meetings.save_pull("work", [Drop("e1"), broken], run())
        assert dict(ledger.meetings.of("work")).keys() == {"e1"}
        assert rows(ledger, "SELECT count(*) FROM run") == [(1,)]


def test_another_person_behind_a_known_name_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with Ledger.open(tmp_path) as ledger:
        ledger.accounts.identify("work", ALICE, ("work",))
        with pytest.raises(NeedsYou, match=r"opentalk\.work: another person"):
            ledger.accounts.identify("work", Identity("https://id.example.org", "s2", "u2", "Bob", "Burton"), ("work",))
        assert ledger.accounts.identity("work") == ALICE


def test_reading_never_creates_a_ledger(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="there is no ledger"):
        Ledger.open(tmp_path / "none", read_only=True)
    assert not (tmp_path / "none").exists()


def test_a_reader_cannot_write(tmp_path: Path) -> None:
    Ledger.open(tmp_path).close()
    with Ledger.open(tmp_path, read_only=True) as ledger, pytest.raises(LedgerError, match="cannot be written"):
        ledger.history.save(run())


def test_a_rehearsal_leaves_no_trace(tmp_path: Path) -> None:
    with Ledger.open(tmp_path) as ledger:
        ledger.meetings.save_pull("work", [keep(meeting("e1"))], run())
        with Ledger.in_memory(ledger) as copy:
            assert dict(copy.meetings.of("work")).keys() == {"e1"}
            copy.meetings.save_pull("work", [Drop("e1")], run())
            assert dict(copy.meetings.of("work")) == {}
        assert dict(ledger.meetings.of("work")).keys() == {"e1"}


def test_only_one_process_syncs_and_the_other_learns_which(tmp_path: Path) -> None:
    with sync_lock(tmp_path, NOW, daemon=True):
        holder = syncing(tmp_path)
        assert holder is not None
        assert (holder.process, holder.since, holder.daemon) == (os.getpid(), NOW, True)
        with pytest.raises(LedgerBusy, match=f"the daemon \\(process {os.getpid()}\\)"), sync_lock(tmp_path, NOW):
            pass
    assert syncing(tmp_path) is None


def test_a_damaged_ledger_and_one_of_a_newer_syncd_are_named(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"this is not a database, however long it is" * 100)
    with pytest.raises(LedgerError, match="damaged"):
        Ledger.open(tmp_path)
    (tmp_path / FILE).unlink()
    with Ledger.open(tmp_path) as ledger:
        ledger.database._reader().execute(
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('syncd', 'm999', 'later')"
        )
    with pytest.raises(LedgerError, match="newer syncd"):
        Ledger.open(tmp_path)


def test_a_full_disk_is_named_and_what_was_there_stays(tmp_path: Path) -> None:
    with Ledger.open(tmp_path) as ledger:
        ledger.meetings.save_pull("work", [keep(meeting("e1"))], run())
        many = [keep(meeting(f"e{n}", title="x" * 200)) for n in range(500)]
        with full_disk(ledger), pytest.raises(LedgerError, match="disk is full"):
            ledger.meetings.save_pull("work", many, run())
        assert dict(ledger.meetings.of("work")).keys() == {"e1"}


def test_a_hold_is_confirmed_for_exactly_what_was_shown(tmp_path: Path) -> None:
    with Ledger.open(tmp_path) as ledger:
        ledger.deletions.save_hold("team", Hold(("e1", "e2"), 6), NOW)
        guard = ledger.deletions.guard("team", ("work",), NOW)
        assert sorted(guard.held) == ["e1", "e2"]
        assert not guard.confirmed
        assert ledger.deletions.confirm("team") == 2
        guard = ledger.deletions.guard("team", ("work",), NOW)
        assert sorted(guard.confirmed) == ["e1", "e2"]
        assert not guard.held
        ledger.deletions.save_hold("team", Hold(("e3",), 6), NOW)
        assert ledger.deletions.guard("team", ("work",), NOW).confirmed == frozenset()
        ledger.deletions.save_hold("team", None, NOW)
        assert ledger.deletions.confirm("team") == 0


def test_standings_tell_the_latest_run_and_the_last_good_one(tmp_path: Path) -> None:
    later = NOW + timedelta(hours=1)
    with Ledger.open(tmp_path) as ledger:
        ledger.history.save(run(counts={"meetings": 4}))
        ledger.history.save(run(ended=later, state="retrying", message="down"))
        ledger.history.save(run(ended=later, state="retrying", message="still down"))
        standing = ledger.history.standings()[RunKey("pull", "work")]
        assert standing.latest.message == "still down"
        assert standing.last_success == NOW
        assert ledger.history.failures(RunKey("pull", "work")) == 2


def test_a_push_whose_deletions_wait_for_a_person_has_not_failed(tmp_path: Path) -> None:
    with Ledger.open(tmp_path) as ledger:
        for state in ("ok", "retrying", "held", "held"):
            ledger.history.save(run("push", "team", state=state))
        assert ledger.history.failures(RunKey("push", "team")) == 0
        ledger.history.save(run("push", "team", state="retrying"))
        assert ledger.history.failures(RunKey("push", "team")) == 1


def test_housekeeping_forgets_old_runs_but_the_last_good_ones_and_what_is_gone_without_a_trace(tmp_path: Path) -> None:
    with Ledger.open(tmp_path) as ledger:
        for days in (41, 40):
            ledger.history.save(run("push", "team", ended=NOW - timedelta(days=days), counts={"created": 1}))
        ledger.meetings.save_pull("work", [], run(ended=NOW - timedelta(days=40), scope="everything"))
        ledger.meetings.save_pull("work", [keep(meeting("e1")), keep(meeting("e2"))], run())
        ledger.placements.record("team", [Place(Placement("team", "e1", "syncd-e1.ics", None, 0, "x", NOW, None))])
        ledger.meetings.save_pull("work", [Drop("e1"), Drop("e2")], run())
        ledger.sweep(NOW)
        assert len(rows(ledger, "SELECT id FROM run WHERE kind = 'push'")) == 1, "the last good one is kept"
        assert ledger.history.last_listings("work").everything == NOW - timedelta(days=40)
        assert ledger.deletions.guard("team", ("work",), NOW).gone == {"e1"}


def test_deletions_of_a_day_that_nobody_asked_for_are_counted(tmp_path: Path) -> None:
    with Ledger.open(tmp_path) as ledger:
        for event, days in (("e1", 0), ("e2", 0), ("e3", 2)):
            ledger.placements.record("team", [Unplace(event, lost_at=NOW - timedelta(days=days))])
        ledger.placements.record("team", [Unplace("e4")])
        ledger.placements.record("other", [Unplace("e5", lost_at=NOW)])
        assert ledger.deletions.guard("team", ("work",), NOW - timedelta(days=1)).lately == 2


def test_what_a_pull_dropped_is_gone_until_it_comes_back(tmp_path: Path) -> None:
    with Ledger.open(tmp_path) as ledger:
        ledger.meetings.save_pull("work", [keep(meeting("e1")), keep(meeting("e2"))], run())
        ledger.meetings.save_pull("work", [Drop("e1")], run())
        guard = ledger.deletions.guard("team", ("work",), NOW)
        assert sorted(guard.gone) == ["e1"]
        assert not guard.emptied
        assert ledger.deletions.guard("team", ("other",), NOW).gone == frozenset()
        ledger.meetings.save_pull("work", [Drop("e2")], run())
        assert ledger.deletions.guard("team", ("work",), NOW).emptied == {"e1", "e2"}
        ledger.meetings.save_pull("work", [keep(meeting("e1"))], run())
        assert ledger.deletions.guard("team", ("work",), NOW).gone == {"e2"}


def test_a_renamed_account_takes_everything_along(tmp_path: Path) -> None:
    with Ledger.open(tmp_path) as ledger:
        ledger.accounts.identify("work", ALICE, ("work",))
        ledger.meetings.save_pull("work", [keep(meeting("e1")), keep(meeting("e2"))], run())
        ledger.meetings.save_pull("work", [Drop("e2")], run())
        ledger.links.save([(Link("hash", "e1", "work", "code", "d", True, NOW), RunKey("maker", "openmeetings"))])
        ledger.accounts.identify("job", ALICE, ("job",))
        assert dict(ledger.meetings.of("job")).keys() == {"e1"}
        assert ledger.deletions.guard("team", ("job",), NOW).gone == {"e2"}
        assert ("hash", "e1", "job") in ledger.links.all()
        assert ledger.accounts.identity("work") is None


def test_the_connections_of_threads_that_ended_are_closed(tmp_path: Path) -> None:
    with Ledger.open(tmp_path) as ledger:
        for _ in range(20):
            thread = threading.Thread(target=ledger.meetings.counts)
            thread.start()
            thread.join()
        assert len(ledger.database._connections) <= 3


def test_an_error_of_sqlite_while_reading_is_a_ledger_error(tmp_path: Path) -> None:
    with Ledger.open(tmp_path) as ledger:
        (tmp_path / FILE).write_bytes(b"\xa5" * 8192)
        with pytest.raises(LedgerError, match="damaged"):
            ledger.feeds.all()
        with pytest.raises(LedgerError, match="damaged"):
            list(ledger.meetings.of("work"))


def test_several_accounts_are_one_source_and_the_first_provides_it(tmp_path: Path) -> None:
    with Ledger.open(tmp_path) as ledger:
        ledger.meetings.save_pull("a", [keep(meeting("e1", title="as a sees it"))], run())
        ledger.meetings.save_pull("b", [keep(meeting("e1", title="as b sees it")), keep(meeting("e2"))], run())
        origins = ledger.meetings.origins(("b", "a"))
        assert {event: origin.accounts for event, origin in origins.items()} == {"e1": ("b", "a"), "e2": ("b",)}


def test_the_tables_can_be_read_with_ordinary_tools(tmp_path: Path) -> None:
    with Ledger.open(tmp_path) as ledger:
        ledger.meetings.save_pull("work", [keep(meeting("e1", title="Jour fixe"))], run())
    connection = sqlite3.connect(tmp_path / FILE)
    content = connection.execute("SELECT content FROM meeting").fetchone()[0]
    connection.close()
    assert json.loads(content)["title"] == "Jour fixe"


def test_a_ledger_of_the_first_version_is_brought_up_and_keeps_its_runs(tmp_path: Path) -> None:
    old = Database(sqlite3.connect(tmp_path / FILE))
    first = Migrations("syncd")
    first()(m001_first)
    first.apply(old)
    old.execute("INSERT INTO run VALUES (1, 'pull', 'work', ?, 'ok', 1, '{}', NULL, NULL)", (NOW.isoformat(),))
    old.conn.commit()
    old.close()
    with pytest.raises(LedgerError, match="older syncd's"):
        Ledger.open(tmp_path, read_only=True)
    with Ledger.open(tmp_path) as ledger:
        assert ledger.history.last_listings("work") == LastListings(NOW, NOW)
        assert ledger.history.standings()[RunKey("pull", "work")].latest.scope == "everything"


OPENED = """
import sys
from pathlib import Path
from syncd.ledger.ledger import Ledger
for read_only in (False, True):
    with Ledger.open(Path(sys.argv[1]), read_only=read_only):
        print("sqlite_utils" in sys.modules)
"""


def test_sqlite_utils_is_imported_only_to_bring_a_ledger_up(tmp_path: Path) -> None:
    def imported() -> list[str]:
        command = [sys.executable, "-c", OPENED, str(tmp_path)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.split()

    assert imported() == ["True", "True"], "a new one is made by all steps"
    assert imported() == ["False", "False"]


def test_every_step_of_the_schema_is_in_its_table_in_the_order_of_their_numbers() -> None:
    steps = [value for name, value in vars(schema).items() if name.startswith("m0")]
    assert [step.__name__ for step in STEPS] == sorted(step.__name__ for step in steps)


def test_what_cannot_be_read_is_replaced_by_every_pull_of_its_account_and_moves_with_a_new_name(tmp_path: Path) -> None:
    wrong = [Unreadable("e1", "its zone is unknown"), Unreadable("e2", "its rule is none")]
    with Ledger.open(tmp_path) as ledger:
        ledger.accounts.identify("work", ALICE, ["work"])
        ledger.meetings.save_pull("home", [], run(), wrong)
        ledger.meetings.save_pull("work", [], run(), wrong)
        ledger.meetings.save_pull("work", [], run(), wrong[1:])
        assert ledger.meetings.unreadable("work") == wrong[1:]
        ledger.accounts.identify("office", ALICE, ["office"])
        assert (ledger.meetings.unreadable("office"), ledger.meetings.unreadable("work")) == (wrong[1:], [])
        ledger.meetings.save_pull("office", [], run())
        assert ledger.meetings.unreadable("office") == []
        assert ledger.meetings.unreadable("home") == wrong


def test_of_quiet_runs_only_the_latest_is_kept(tmp_path: Path) -> None:
    with Ledger.open(tmp_path) as ledger:
        for minute in range(10):
            moment = NOW + timedelta(minutes=minute)
            ledger.history.save(Run(RunKey("pull", "work"), moment, scope="soon", counts={"meetings": 7}))
        ledger.history.save(Run(RunKey("pull", "work"), moment, scope="window", counts={"changed": 1}))
        ledger.history.save(Run(RunKey("pull", "work"), moment, "retrying", message="down"))
        assert rows(ledger, "SELECT count(*) FROM run") == [(3,)]
        assert ledger.history.standings()[RunKey("pull", "work")].last_success == moment


def test_nothing_is_written_into_a_ledger_that_was_moved_away(tmp_path: Path) -> None:
    with Ledger.open(tmp_path) as ledger:
        ledger.history.save(run())
        (tmp_path / FILE).rename(tmp_path / "elsewhere")
        with pytest.raises(LedgerError, match="moved"):
            ledger.history.save(run())


def test_sign_ins_are_saved_and_forgotten_and_looking_for_one_makes_no_ledger(tmp_path: Path) -> None:
    sign_ins = SignIns(tmp_path / "state")
    assert sign_ins.refresh_token("work") is None
    assert not (tmp_path / "state").exists()
    sign_ins.save_refresh_token("work", "first")
    sign_ins.save_refresh_token("work", "second")
    assert sign_ins.refresh_token("work") == "second"
    sign_ins.save_refresh_token("work", None)
    assert sign_ins.refresh_token("work") is None


def test_runs_of_a_clock_that_was_wrong_count_until_the_next(tmp_path: Path) -> None:
    later = NOW + timedelta(days=400)
    with Ledger.open(tmp_path) as ledger:
        ledger.meetings.save_pull("work", [], run(ended=later, scope="everything"))
        ledger.meetings.save_pull("work", [], run(scope="everything", counts={"changed": 1}))
        assert ledger.history.last_listings("work") == LastListings(NOW, NOW)
        assert ledger.history.standings()[RunKey("pull", "work")].last_success == NOW
