# SPDX-License-Identifier: Apache-2.0
"""The ledger's file: its tables, how it is opened, and who may sync on it.

Append a migration, never change one: ledgers of all earlier versions are brought up step by step.
"""

import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import msgspec
from msgspec import Struct
from sqlite_utils import Database, Migrations

from syncd.errors import LedgerBusy, LedgerError

FILE = "ledger.sqlite"
LOCK = "lock"
BUSY_SECONDS = 10.0

migrations = Migrations("syncd")


@migrations()
def m001_first(db: Database) -> None:
    """The first ledger."""
    for statement in FIRST:
        db.execute(statement)


FIRST = (
    """
    CREATE TABLE account (
        name TEXT NOT NULL UNIQUE, issuer TEXT NOT NULL, subject TEXT NOT NULL, user_id TEXT NOT NULL,
        firstname TEXT NOT NULL, lastname TEXT NOT NULL, PRIMARY KEY (issuer, subject)
    ) STRICT
    """,
    """
    CREATE TABLE meeting (
        account TEXT NOT NULL, event TEXT NOT NULL, digest TEXT NOT NULL, starts TEXT, ends TEXT,
        room TEXT NOT NULL, own INTEGER NOT NULL, unlisted INTEGER NOT NULL, content BLOB NOT NULL,
        PRIMARY KEY (account, event)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE gone (
        account TEXT NOT NULL, event TEXT NOT NULL, PRIMARY KEY (account, event)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE link (
        kind TEXT NOT NULL, event TEXT NOT NULL, whose TEXT NOT NULL, code TEXT, depends TEXT NOT NULL,
        made INTEGER NOT NULL, at TEXT NOT NULL, PRIMARY KEY (kind, event, whose)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE entry (
        profile TEXT NOT NULL, event TEXT NOT NULL, inputs TEXT NOT NULL, digest TEXT NOT NULL,
        revision INTEGER NOT NULL, starts TEXT NOT NULL, ends TEXT, changed TEXT NOT NULL, body BLOB NOT NULL,
        PRIMARY KEY (profile, event)
    ) STRICT
    """,
    "CREATE INDEX entry_event ON entry (event, revision, digest)",
    """
    CREATE TABLE placement (
        calendar TEXT NOT NULL, event TEXT NOT NULL, href TEXT NOT NULL, etag TEXT, revision INTEGER NOT NULL,
        digest TEXT NOT NULL, starts TEXT NOT NULL, ends TEXT, state TEXT NOT NULL, body BLOB NOT NULL,
        PRIMARY KEY (calendar, event)
    ) STRICT
    """,
    "CREATE INDEX placement_event ON placement (event, revision, digest)",
    """
    CREATE TABLE feed (
        name TEXT PRIMARY KEY, token_sha256 TEXT NOT NULL UNIQUE, accounts TEXT NOT NULL, audience TEXT NOT NULL,
        passwords INTEGER NOT NULL, label TEXT NOT NULL, made TEXT NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE run (
        id INTEGER PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL, ended TEXT NOT NULL, state TEXT NOT NULL,
        complete INTEGER NOT NULL, counts TEXT NOT NULL, message TEXT, next_try TEXT
    ) STRICT
    """,
    "CREATE INDEX run_latest ON run (kind, name, id)",
    """
    CREATE TABLE hold (
        name TEXT PRIMARY KEY, events TEXT NOT NULL, coming INTEGER NOT NULL, confirmed INTEGER NOT NULL
    ) STRICT
    """,
    "CREATE TABLE secret (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT",
)


@migrations()
def m002_unattended(db: Database) -> None:
    """Scopes of runs, of which only the last quiet one is kept, and sign-ins."""
    for statement in UNATTENDED:
        db.execute(statement)


UNATTENDED = (
    "ALTER TABLE run ADD COLUMN scope TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE run ADD COLUMN quiet INTEGER NOT NULL DEFAULT 0",
    "UPDATE run SET scope = CASE WHEN complete THEN 'everything' ELSE 'window' END WHERE kind = 'pull'",
    "ALTER TABLE run DROP COLUMN complete",
    "CREATE TABLE login (account TEXT PRIMARY KEY, refresh_token TEXT NOT NULL) STRICT",
)


@migrations()
def m003_audits(db: Database) -> None:
    """Audits of calendars, feeds that are held, and the decisions of late."""
    for statement in AUDITS:
        db.execute(statement)


AUDITS = (
    "CREATE INDEX meeting_untimed ON meeting (account, event) WHERE starts IS NULL",
    "ALTER TABLE placement ADD COLUMN edited INTEGER NOT NULL DEFAULT 0",
    """
    CREATE TABLE audit (
        calendar TEXT PRIMARY KEY, at TEXT NOT NULL, whole TEXT NOT NULL, url TEXT NOT NULL, cursor TEXT
    ) STRICT
    """,
    """
    CREATE TABLE leftover (
        calendar TEXT NOT NULL, href TEXT NOT NULL, ours INTEGER NOT NULL, PRIMARY KEY (calendar, href)
    ) STRICT, WITHOUT ROWID
    """,
    "ALTER TABLE entry ADD COLUMN erased INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE feed ADD COLUMN built TEXT",
    """
    CREATE TABLE released (
        feed TEXT NOT NULL, event TEXT NOT NULL, PRIMARY KEY (feed, event)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE TABLE lost (name TEXT NOT NULL, event TEXT NOT NULL, at TEXT NOT NULL) STRICT",
    "CREATE INDEX lost_lately ON lost (name, at)",
    """
    CREATE TABLE decision (
        id INTEGER PRIMARY KEY, event TEXT NOT NULL, at TEXT NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL,
        word TEXT NOT NULL, why TEXT NOT NULL
    ) STRICT
    """,
    "CREATE INDEX decision_of ON decision (event, kind, name, id)",
)


STEPS = (m001_first, m002_unattended, m003_audits)


def open_writer(folder: Path, patience: float = BUSY_SECONDS) -> Database:
    """Open the ledger in ``folder``, making or bringing it up as needed; the file is its owner's alone.

    ``synchronous=FULL``: a link that was made must not be forgotten by a power cut.
    """
    with ledger_errors(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / FILE
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        db = _connect(str(path), patience)
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        return db


def migrate(db: Database, folder: Path) -> None:
    """Bring the ledger's tables up to this version. Raises LedgerError for one made by a newer syncd."""
    if _missing_steps(db, folder):
        with ledger_errors(folder):
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
        """Write or nothing. BEGIN IMMEDIATE: a deferred one fails at once when another process commits."""
        self._check_place()
        db = self._db()
        with self._writing, ledger_errors(self.folder):
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                if db.conn.in_transaction:
                    db.execute("ROLLBACK")
                raise


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


class Syncing(Struct, frozen=True):
    """Which process has the right to sync, since when, and whether it is a daemon."""

    process: int
    since: datetime
    daemon: bool


@contextmanager
def sync_lock(folder: Path, now: datetime, *, daemon: bool = False) -> Iterator[None]:
    """Hold the right to sync on this ledger; at most one process has it. Raises LedgerBusy."""
    with ledger_errors(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(folder / LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            other = syncing(folder)
            who = f"the daemon (process {other.process})" if other and other.daemon else "another process"
            raise LedgerBusy(f"{who} is syncing on {folder}: wait for it, or stop it") from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, msgspec.json.encode(Syncing(os.getpid(), now, daemon)), 0)
        yield
    finally:
        os.close(descriptor)


def syncing(folder: Path) -> Syncing | None:
    """The process that has the right to sync on this ledger, if any has."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _holder(descriptor)
    finally:
        os.close(descriptor)
    return None


def _holder(descriptor: int) -> Syncing | None:
    try:
        return msgspec.json.decode(os.pread(descriptor, 200, 0), type=Syncing)
    except msgspec.MsgspecError:  # it has the lock and is about to say who it is
        return None
