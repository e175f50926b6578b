# SPDX-License-Identifier: Apache-2.0
"""A ledger of an earlier version that is damaged, half brought up or from the future: a sentence, nothing is lost."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from sqlite_utils import Database

from syncd.errors import LedgerError
from syncd.ledger.database import FILE
from syncd.ledger.ledger import Ledger
from syncd.ledger.schema import migrations
from tests.support.old_ledger import OLD, old_rows, old_tables, rows_now
from tests.support.tables import rows

KILLED_AT = """
import os, signal, sqlite3, sys
from pathlib import Path
from syncd.ledger.database import Database

class Killed(Database):
    statements = 0
    def _connect(self):
        connection = super()._connect()
        connection.set_trace_callback(self._trace)
        return connection
    def _trace(self, sql):
        Killed.statements += 1
        if Killed.statements == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)

Killed(Path(sys.argv[1])).close()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    folder.mkdir()
    shutil.copy(OLD, folder / FILE)
    return folder


def test_whenever_it_is_killed_while_a_ledger_is_brought_up_nothing_is_lost(tmp_path: Path) -> None:
    before, codes = {table: old_rows(table) for table in old_tables()}, []
    assert before.keys() >= {"entry", "run", "decision", "secret"}
    for number in range(1, 400, 6):
        copy = tmp_path / str(number)
        copy.mkdir()
        shutil.copy(OLD, copy / FILE)
        codes.append(subprocess.run([sys.executable, "-c", KILLED_AT, copy, str(number)], check=False).returncode)
        with Ledger.open(copy) as ledger:
            assert ledger.database.rows("PRAGMA integrity_check")[0][0] == "ok"
        assert {table: rows_now(copy / FILE, table) for table in before} == before
        if codes[-1] == 0:
            break
    assert codes == [*[-signal.SIGKILL] * (len(codes) - 1), 0]
    assert len(codes) > 10, "it was killed at one statement after another"


@pytest.mark.parametrize("kept", [16, 100, 511, 512, 1000, 4096, 100_000])
def test_an_old_ledger_that_was_cut_is_named_and_stays(folder: Path, kept: int) -> None:
    os.truncate(folder / FILE, kept)
    before = (folder / FILE).read_bytes()
    with pytest.raises(LedgerError, match=r"^the ledger in .*: the file is damaged; restore a backup"):
        Ledger.open(folder)
    assert (folder / FILE).read_bytes() == before


@pytest.mark.parametrize("at", [0, 16, 100, 512, 1024])
def test_an_old_ledger_with_nonsense_in_it_is_named_and_stays(folder: Path, at: int) -> None:
    with (folder / FILE).open("r+b") as file:
        file.seek(at)
        file.write(b"\xa5" * 400)
    before = (folder / FILE).read_bytes()
    with pytest.raises(LedgerError, match=r"^the ledger in .*: the file is damaged; restore a backup"):
        Ledger.open(folder)
    assert (folder / FILE).read_bytes() == before


def test_a_ledger_from_the_future_is_named_and_stays(folder: Path) -> None:
    with closing(sqlite3.connect(folder / FILE)) as database, database:
        database.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('syncd', 'm999', '')"
        )
    before = (folder / FILE).read_bytes()
    for read_only in (False, True):
        with pytest.raises(LedgerError, match="made by a newer syncd; use that one"):
            Ledger.open(folder, read_only=read_only)
    assert (folder / FILE).read_bytes() == before


def test_a_ledger_that_an_earlier_version_left_half_brought_up_is_brought_up(folder: Path) -> None:
    """Versions before this one did each step in a transaction of its own."""
    (folder / FILE).unlink()
    with closing(sqlite3.connect(folder / FILE, isolation_level=None)) as database:
        migrations().apply(Database(database), stop_before="m003_audits")
        database.execute("INSERT INTO login VALUES ('alice', 'made-up-refresh-token')")
    with pytest.raises(LedgerError, match="an older syncd's"):
        Ledger.open(folder, read_only=True)
    with Ledger.open(folder) as ledger:
        assert ledger.accounts.refresh_token("alice") == "made-up-refresh-token"
        assert ledger.placements.of("team") == {}


@pytest.mark.parametrize("inputs", ["work", "work  - -", "a b c d e f", " "])
def test_inputs_that_no_version_wrote_are_brought_up_and_rendered_anew(folder: Path, inputs: str) -> None:
    with closing(sqlite3.connect(folder / FILE)) as database, database:
        database.execute("UPDATE entry SET inputs = ?", (inputs,))
        ((profile,), *_) = database.execute("SELECT profile FROM entry").fetchall()
    with Ledger.open(folder) as ledger:
        assert all(entry.inputs for entry in ledger.entries.of(profile).values())


def test_a_row_whose_json_is_damaged_is_named(folder: Path) -> None:
    with Ledger.open(folder) as ledger:
        ledger.database.write(lambda db: db.execute("UPDATE entry SET inputs = '{'"))
        ledger.database.write(lambda db: db.execute("UPDATE meeting SET content = x'7b'"))
        ((profile,), *_) = rows(ledger, "SELECT profile FROM entry")
        ((account, event), *_) = rows(ledger, "SELECT account, event FROM meeting")
        for reading in (lambda: ledger.entries.of(profile), lambda: ledger.meetings.get(account, event)):
            with pytest.raises(LedgerError, match="the file is damaged"):
                reading()
