# SPDX-License-Identifier: Apache-2.0
"""The ledger's file: how it is opened, its transactions, and what its errors mean."""

import os
import sqlite3
import stat
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from sqlite_utils import Database

from syncd.errors import LedgerBusy, LedgerError
from syncd.ledger.schema import STEPS, migrations

FILE = "ledger.sqlite"

BUSY_SECONDS = 10.0


def open_writer(folder: Path, patience: float = BUSY_SECONDS) -> Database:
    """Open the ledger in ``folder``, making or bringing it up as needed; the file is its owner's alone.

    ``synchronous=FULL``: a link that was made must not be forgotten by a power cut.
    """
    with ledger_errors(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / FILE
        _make(path)
        db = _connect(str(path), patience)
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        return db


def _make(path: Path) -> None:
    """Make the ledger's file where there is none, its owner's alone; SQLite gives its -wal and -shm the same rights.

    Nothing here may open a database's file: closing any descriptor of it drops the locks of all this process's
    connections (fcntl(2); sqlite.org, "How To Corrupt An SQLite Database File", 2.2), and the next process that
    closes the ledger takes itself for its last user and deletes the WAL. mknod makes a file without opening it.
    """
    with suppress(FileExistsError):
        os.mknod(path.resolve(), 0o600 | stat.S_IFREG)


def migrate(db: Database, folder: Path) -> None:
    """Bring the ledger's tables up to this version. Raises LedgerError for one made by a newer syncd.

    All steps are one transaction: a second process that opens the ledger meanwhile waits, and finds nothing to do.
    """
    if _missing_steps(db, folder):
        with ledger_errors(folder), _immediate(db):
            migrations.apply(db)


def _missing_steps(db: Database, folder: Path) -> set[str]:
    steps = {step.__name__ for step in STEPS}
    with ledger_errors(folder):
        applied = {done.name for done in migrations.applied(db)}
    if applied - steps:
        raise LedgerError(f"the ledger in {folder} was made by a newer syncd; use that one")
    return steps - applied


def open_reader(folder: Path, patience: float = BUSY_SECONDS) -> Database:
    """Open the ledger to read only; it is never created. Raises LedgerError if there is none."""
    path = folder / FILE
    if not path.exists():
        raise LedgerError(f"there is no ledger in {folder} yet: run `syncd sync` or `syncd run` first")
    with ledger_errors(folder):
        return _connect(f"{path.resolve().as_uri()}?mode=ro", patience, uri=True)


def _connect(target: str, patience: float, *, uri: bool = False) -> Database:
    connection = sqlite3.connect(target, timeout=patience, check_same_thread=False, isolation_level=None, uri=uri)
    connection.execute("PRAGMA cache_size = -512")  # kB, for each thread of a daemon: SQLite would take 2 MB
    return Database(connection)


@contextmanager
def ledger_errors(folder: Path) -> Iterator[None]:
    """Turn what SQLite and the disk say into a LedgerError that names the folder and what to do."""
    try:
        yield
    except sqlite3.Error as error:
        text = str(error)
        if "full" in text:
            advice = "the disk is full; nothing is lost: free some space"
        elif "locked" in text:
            raise LedgerBusy(f"the ledger in {folder}: another program holds it locked; it is tried again") from error
        elif "readonly" in text or "unable to open" in text:
            advice = "it cannot be written; look at owner and rights of the folder and its files"
        elif "malformed" in text or "not a database" in text:
            advice = "the file is damaged; restore a backup, or move it away: entries in calendars are then adopted"
        else:
            advice = text
        raise LedgerError(f"the ledger in {folder}: {advice}") from error
    except OSError as error:
        raise LedgerError(f"the ledger in {folder}: {error.strerror}; look at the folder's owner and rights") from error


@contextmanager
def _immediate(db: Database) -> Iterator[None]:
    """A transaction, carried out whole or not at all. A deferred one would fail at once when another commits."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.conn.in_transaction:
            db.execute("ROLLBACK")
        raise


class LedgerFile:
    """The ledger's file in ``folder``: a connection for each thread, and transactions. Raises LedgerError.

    For ``patience`` seconds it waits for another program that holds the file locked.
    """

    def __init__(self, folder: Path, *, read_only: bool = False, patience: float = BUSY_SECONDS) -> None:
        self.folder = folder
        self._patience = patience
        self._read_only = read_only
        self._local = threading.local()
        self._opened: list[tuple[threading.Thread, Database]] = []
        self._opening = threading.Lock()
        self._writing = threading.Lock()
        self._inode: int | None = None
        if not read_only:
            migrate(self._db(), folder)
        elif _missing_steps(self._db(), folder):
            raise LedgerError(f"the ledger in {folder} is an older syncd's: `syncd sync` or `syncd run` brings it up")
        self._inode = _inode(folder / FILE)

    def close(self) -> None:
        """Close the connections of all threads."""
        for _, db in self._opened:
            db.close()
        self._opened.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _db(self) -> Database:
        db: Database | None = getattr(self._local, "db", None)
        if db is None:
            db = self._open()
            self._local.db = db
            with self._opening:
                self._close_orphans()
                self._opened.append((threading.current_thread(), db))
        return db

    def _close_orphans(self) -> None:
        """Close the connections of threads that have ended: each push and each feed request may bring new ones."""
        for thread, db in self._opened:
            if not thread.is_alive():
                db.close()
        self._opened = [(thread, db) for thread, db in self._opened if thread.is_alive()]

    def _open(self) -> Database:
        return (open_reader if self._read_only else open_writer)(self.folder, self._patience)

    def _check_place(self) -> None:
        """Whoever moves the ledger away under a process that writes it would lose all that comes after."""
        if self._inode is not None and _inode(self.folder / FILE) != self._inode:
            raise LedgerError(f"the ledger in {self.folder} was moved, removed or replaced: start syncd again")

    def _rows(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with ledger_errors(self.folder):
            return self._db().execute(sql, parameters).fetchall()

    def _stream(self, sql: str, parameters: Sequence[object] = ()) -> Iterator[tuple[Any, ...]]:
        """Row by row, for what is long: nobody holds all of it."""
        with ledger_errors(self.folder):
            yield from self._db().execute(sql, parameters)

    @contextmanager
    def _transaction(self) -> Iterator[Database]:
        """Write or nothing."""
        self._check_place()
        db = self._db()
        with self._writing, ledger_errors(self.folder), _immediate(db):
            yield db


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


def text_of(moment: datetime | None) -> str | None:
    """A moment as the ledger writes it."""
    return None if moment is None else moment.isoformat(timespec="seconds")


def moment_of(text: str) -> datetime:
    """A moment as the ledger wrote it."""
    return datetime.fromisoformat(text)


def time_of(text: str | None) -> datetime | None:
    """The same where there may be none."""
    return None if text is None else datetime.fromisoformat(text)
