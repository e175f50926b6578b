# SPDX-License-Identifier: Apache-2.0
import sqlite3
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import pytest

from syncd.errors import LedgerError, NeedsYou
from syncd.ledger.writer import GROUP, Writer

PATIENCE = 60


class Notebook:
    """A database with one table, and the statements that its writer sent."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.statements: list[str] = []
        self.writer = Writer(self._connect)
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE line (number INTEGER PRIMARY KEY)")

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, isolation_level=None)
        connection.set_trace_callback(self.statements.append)
        return connection

    @property
    def commits(self) -> int:
        return self.statements.count("COMMIT")

    @property
    def lines(self) -> list[int]:
        with sqlite3.connect(self.path) as connection:
            return [number for (number,) in connection.execute("SELECT number FROM line ORDER BY number")]

    @contextmanager
    def queued(self, *numbers: int) -> Iterator[list["Future[int]"]]:
        """Writes of these numbers, which wait behind another until the block ends."""
        busy, free = Event(), Event()

        def hold(_db: sqlite3.Connection) -> None:
            busy.set()
            assert free.wait(PATIENCE)

        with ThreadPoolExecutor(len(numbers) + 1) as pool:
            first = pool.submit(self.writer.run, hold)
            assert busy.wait(PATIENCE)
            results = [pool.submit(self.writer.run, insertion(number)) for number in numbers]
            while self.writer._queue.qsize() < len(numbers):
                pass
            yield results
            free.set()
            first.result(PATIENCE)


class insertion:  # noqa: N801 -- a function with a name
    """Write one number, and return it."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __call__(self, db: sqlite3.Connection) -> int:
        db.execute("INSERT INTO line (number) VALUES (?)", (self._number,))
        return self._number


@pytest.fixture
def notebook(tmp_path: Path) -> Iterator[Notebook]:
    notebook = Notebook(tmp_path / "notebook.sqlite")
    yield notebook
    notebook.writer.close()


def test_what_queues_up_while_another_write_is_under_way_is_committed_once(notebook: Notebook) -> None:
    with notebook.queued(*range(30)) as results:
        before = notebook.commits
    assert [result.result() for result in results] == [*range(30)]
    assert notebook.commits - before == 2, "the write that was under way, and all others together"
    assert notebook.lines == [*range(30)]


def test_a_group_has_a_limit(notebook: Notebook) -> None:
    with notebook.queued(*range(GROUP + 1)):
        before = notebook.commits
    assert notebook.commits - before == 3
    assert len(notebook.lines) == GROUP + 1


def test_a_write_that_fails_is_undone_alone(notebook: Notebook) -> None:
    notebook.writer.run(insertion(3))
    with notebook.queued(*range(6)) as results:
        pass
    assert [type(result.exception()) for result in results] == [
        *[type(None)] * 3,
        sqlite3.IntegrityError,
        *[type(None)] * 2,
    ]
    assert notebook.lines == [*range(6)]


def test_what_a_write_raises_reaches_who_asked_and_nothing_of_it_stays(notebook: Notebook) -> None:
    def work(db: sqlite3.Connection) -> None:
        insertion(1)(db)
        raise NeedsYou("look at it")

    with pytest.raises(NeedsYou, match="look at it"):
        notebook.writer.run(work)
    assert notebook.lines == []
    assert notebook.writer.run(insertion(2)) == 2


def test_when_sqlite_gives_a_whole_transaction_up_nobody_of_the_group_has_a_result(notebook: Notebook) -> None:
    """SQLite rolls back by itself when the disk is full or fails (sqlite.org/lang_transaction.html)."""

    def give_up(db: sqlite3.Connection) -> None:
        db.execute("ROLLBACK")
        raise sqlite3.OperationalError("database or disk is full")

    with ThreadPoolExecutor(1) as pool, notebook.queued(1, 2) as results:
        lost = pool.submit(notebook.writer.run, give_up)
        while notebook.writer._queue.qsize() < 3:
            pass
        results += [lost]  # type: ignore[list-item]
    assert {type(result.exception(PATIENCE)) for result in results} == {sqlite3.OperationalError}
    assert notebook.lines == []
    assert notebook.writer.run(insertion(3)) == 3


def test_what_was_asked_for_before_the_end_is_written_and_nothing_after_it(notebook: Notebook) -> None:
    with ThreadPoolExecutor(1) as pool, notebook.queued(1, 2) as results:
        closing = pool.submit(notebook.writer.close)
        while notebook.writer._queue.qsize() < 3:
            pass
    closing.result(PATIENCE)
    assert [result.result() for result in results] == [1, 2]
    with pytest.raises(LedgerError, match="closed"):
        notebook.writer.run(insertion(3))
    assert notebook.lines == [1, 2]


def test_a_ledger_that_cannot_be_opened_fails_who_asks_and_is_tried_again(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    writer = Writer(lambda: sqlite3.connect(folder / "ledger", isolation_level=None))
    with pytest.raises(sqlite3.OperationalError):
        writer.run(lambda _db: None)
    folder.mkdir()
    writer.run(lambda db: db.execute("CREATE TABLE line (number INTEGER)"))
    writer.close()


def test_a_write_inside_a_write_is_refused_instead_of_waiting_for_itself(notebook: Notebook) -> None:
    with pytest.raises(RuntimeError, match="inside a write"):
        notebook.writer.run(lambda _db: notebook.writer.run(insertion(1)))
    assert notebook.lines == []
