# SPDX-License-Identifier: Apache-2.0
"""The ledger's file: a connection for each thread that reads, one for the thread that writes.

What only SQLite has is here and in ``schema``: files, PRAGMA, codes of errors. The rest of the ledger
is statements that SQLite and PostgreSQL both take.
"""

import os
import sqlite3
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Self, TypeVar

import msgspec

from syncd.decoding import decode
from syncd.errors import LedgerBusy, LedgerError
from syncd.ledger import schema
from syncd.ledger.writer import Writer, transaction

T = TypeVar("T")

FILE = "ledger.sqlite"
BUSY_SECONDS = 10.0
WAL_TRIES = 20

DAMAGED = "the file is damaged; restore a backup, or move it away: entries in calendars are then adopted"
UNWRITABLE = "it cannot be written; look at owner and rights of the folder and its files"
ADVICE = {
    "SQLITE_FULL": "the disk is full; nothing is lost: free some space",
    "SQLITE_READONLY": UNWRITABLE,
    "SQLITE_CANTOPEN": UNWRITABLE,
    "SQLITE_PERM": UNWRITABLE,
    "SQLITE_IOERR": "the disk or its file system fails; look at the machine's log, then start syncd again",
    "SQLITE_CORRUPT": DAMAGED,
    "SQLITE_NOTADB": DAMAGED,
}
"""What to do about an error of SQLite, by its primary code (sqlite.org/rescode.html)."""

LOCKED = {"SQLITE_BUSY", "SQLITE_LOCKED"}


class Database:
    """The ledger in ``folder``, made or brought up to this version unless it is opened to read only.

    Threads may share it. For ``patience`` seconds it waits for another program that holds the file locked. Every
    method raises LedgerError, or LedgerBusy where another program still holds the file then.
    """

    def __init__(self, folder: Path, *, read_only: bool = False, patience: float = BUSY_SECONDS) -> None:
        self.folder = folder
        self._patience = patience
        self._read_only = read_only
        self._local = threading.local()
        self._connections: list[tuple[threading.Thread, sqlite3.Connection]] = []
        self._connections_lock = threading.Lock()
        with ledger_errors(folder):
            if read_only:
                self._check_readable()
            else:
                self._bring_up()
        self._inode = _inode(folder / FILE)
        self._writer = Writer(self._connect)

    def rows(self, sql: str, parameters: Sequence[object] = ()) -> list[sqlite3.Row]:
        """All rows of a query, by column name."""
        with ledger_errors(self.folder):
            return self._reader().execute(sql, parameters).fetchall()

    def stream(self, sql: str, parameters: Sequence[object] = ()) -> Iterator[sqlite3.Row]:
        """The rows of a query one by one: a long result is never in memory as a whole."""
        with ledger_errors(self.folder):
            yield from self._reader().execute(sql, parameters)

    def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do ``work`` in a transaction of its own, all or nothing; its result, once that is on the disk.

        ``work`` runs in the thread that writes. Writes of other threads meanwhile are committed with it.
        """
        with ledger_errors(self.folder):
            if self._read_only:
                raise LedgerError(f"the ledger in {self.folder} cannot be written: it was opened to be read")
            self._check_place()
            return self._writer.run(work)

    def value(self, text: str | bytes, kind: type[T]) -> T:
        """A value that the ledger wrote as JSON."""
        with ledger_errors(self.folder):
            return decode(text, kind)

    def tidy(self) -> None:
        """Let SQLite renew its statistics and empty its write-ahead log."""
        with ledger_errors(self.folder):
            self._reader().execute("PRAGMA optimize")
            self._reader().execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def copy_to(self, target: sqlite3.Connection) -> None:
        """Copy all of it into another database."""
        with ledger_errors(self.folder):
            self._reader().backup(target)

    def close(self) -> None:
        """End the thread that writes when its work is done, and close the connections of all threads."""
        self._writer.close()
        with self._connections_lock:
            for _, connection in self._connections:
                connection.close()
            self._connections.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _bring_up(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _create(self.folder / FILE)
        with closing(self._connect()) as connection:
            if schema.is_outdated(connection, self.folder):
                self._check_soundness(connection)
                schema.migrate(connection, self.folder)
            _use_wal(connection)

    def _check_soundness(self, connection: sqlite3.Connection) -> None:
        """A damaged file is not written, so that all of it that can be rescued stays."""
        if connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise LedgerError(f"the ledger in {self.folder}: {DAMAGED}")

    def _check_readable(self) -> None:
        if not (self.folder / FILE).exists():
            raise LedgerError(f"there is no ledger in {self.folder} yet: run `syncd sync` or `syncd run` first")
        with closing(self._connect()) as connection:
            if schema.is_outdated(connection, self.folder):
                raise LedgerError(
                    f"the ledger in {self.folder} is an older syncd's: `syncd sync` or `syncd run` brings it up"
                )

    def _connect(self) -> sqlite3.Connection:
        """A new connection. ``synchronous=FULL``: a link that was made must not be forgotten by a power cut."""
        path = (self.folder / FILE).resolve()
        mode = "ro" if self._read_only else "rw"
        connection = sqlite3.connect(
            f"{path.as_uri()}?mode={mode}",
            timeout=self._patience,
            check_same_thread=False,
            isolation_level=None,
            uri=True,
        )
        connection.row_factory = sqlite3.Row
        try:
            connection.execute("PRAGMA cache_size = -512")  # kB, for each thread of a daemon: SQLite would take 2 MB
            connection.execute("PRAGMA synchronous=FULL")
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _reader(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._connect()
            with self._connections_lock:
                self._close_orphans()
                self._connections.append((threading.current_thread(), connection))
        return connection

    def _close_orphans(self) -> None:
        """Close the connections of threads that have ended: each push and each feed request may bring new ones."""
        for thread, connection in self._connections:
            if not thread.is_alive():
                connection.close()
        self._connections = [(thread, connection) for thread, connection in self._connections if thread.is_alive()]

    def _check_place(self) -> None:
        """Whoever moves the ledger away under a process that writes it would lose all that comes after."""
        if _inode(self.folder / FILE) != self._inode:
            raise LedgerError(f"the ledger in {self.folder} was moved, removed or replaced: start syncd again")


class MemoryDatabase(Database):
    """A ledger in memory, for one thread at a time: what a dry run writes to. A copy of ``original``, else empty."""

    def __init__(self, folder: Path, original: Database | None = None) -> None:
        self.folder = folder
        self._connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        self._connection.row_factory = sqlite3.Row
        if original is not None:
            original.copy_to(self._connection)
        schema.migrate(self._connection, folder)

    def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do ``work`` in a transaction of its own, all or nothing."""
        with ledger_errors(self.folder):
            return transaction(self._connection, work)

    def close(self) -> None:
        """Forget it."""
        self._connection.close()

    def _reader(self) -> sqlite3.Connection:
        return self._connection


def _create(path: Path) -> None:
    """Make the ledger's file where there is none, its owner's alone; SQLite gives its -wal and -shm the same rights.

    Nothing here may open a database's file: closing any descriptor of it drops the locks of all this process's
    connections (fcntl(2); sqlite.org, "How To Corrupt An SQLite Database File", 2.2), and the next process that
    closes the ledger takes itself for its last user and deletes the WAL. mknod makes a file without opening it.
    """
    with suppress(FileExistsError):
        os.mknod(path.resolve(), 0o600 | stat.S_IFREG)


def _use_wal(connection: sqlite3.Connection) -> None:
    """Let readers and the writer not wait for each other.

    Of two processes that do this at once SQLite refuses one without waiting, because each holds what the other waits
    for: that one waits for the end of the other's transaction, and asks again.
    """
    for _ in range(WAL_TRIES - 1):
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if _primary_code(error) not in LOCKED:
                raise
            transaction(connection, lambda _: None)
        else:
            return
    connection.execute("PRAGMA journal_mode=WAL")


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


@contextmanager
def ledger_errors(folder: Path) -> Iterator[None]:
    """Turn what SQLite and the disk say into a LedgerError that names the folder and what to do."""
    try:
        yield
    except sqlite3.Error as error:
        code = _primary_code(error)
        if code in LOCKED:
            raise LedgerBusy(f"the ledger in {folder}: another program holds it locked; it is tried again") from error
        raise LedgerError(f"the ledger in {folder}: {ADVICE.get(code, str(error))}") from error
    except msgspec.MsgspecError as error:
        raise LedgerError(f"the ledger in {folder}: {DAMAGED}") from error
    except OSError as error:
        raise LedgerError(f"the ledger in {folder}: {error.strerror}; look at the folder's owner and rights") from error


def _primary_code(error: sqlite3.Error) -> str:
    """The name of SQLite's error without its extension: SQLITE_BUSY for SQLITE_BUSY_SNAPSHOT; empty if it has none."""
    name: str = getattr(error, "sqlite_errorname", "")
    return "_".join(name.split("_")[:2])


def text_of(moment: datetime | None) -> str | None:
    """A moment as the ledger writes it."""
    return None if moment is None else moment.isoformat(timespec="seconds")


def moment_of(text: str) -> datetime:
    """A moment as the ledger wrote it."""
    return datetime.fromisoformat(text)


def time_of(text: str | None) -> datetime | None:
    """A moment as the ledger wrote it, if there is one."""
    return None if text is None else datetime.fromisoformat(text)


def marks(values: Sequence[object]) -> str:
    """As many placeholders as there are values: ``IN (?, ?)``; at least one is needed."""
    return ", ".join("?" * len(values))
