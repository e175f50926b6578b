# SPDX-License-Identifier: Apache-2.0
"""The ledger's tables, and how ledgers of earlier versions get them.

Append a migration, never change one: ledgers of all earlier versions are brought up step by step, in one transaction:
a ledger is of the old version or of the new one, whenever the process is killed.
"""

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from syncd.errors import LedgerError
from syncd.ledger.writer import transaction

if TYPE_CHECKING:
    from sqlite_utils import Database, Migrations

SET = "syncd"
"""The name of our steps in the table that sqlite-utils keeps of the applied ones."""


def m001_first(db: "Database") -> None:
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


def m002_unattended(db: "Database") -> None:
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


def m003_audits(db: "Database") -> None:
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


def m004_run_kinds(db: "Database") -> None:
    """Kinds for the runs of syncd itself, which the name of an account or feed cannot meet; links by event."""
    for statement in RUN_KINDS:
        db.execute(statement)


RUN_KINDS = (
    "CREATE INDEX link_event ON link (event)",
    "UPDATE run SET kind = 'maker' WHERE kind = 'mint' AND name = 'openmeetings' "
    "AND name NOT IN (SELECT name FROM account)",
    "UPDATE decision SET kind = 'maker' WHERE kind = 'mint' AND name = 'openmeetings' "
    "AND name NOT IN (SELECT name FROM account)",
    "UPDATE run SET kind = 'links', name = 'all' WHERE kind = 'mint' AND name = 'links' "
    "AND name NOT IN (SELECT name FROM account)",
    "UPDATE run SET kind = 'feeds' WHERE kind = 'feed' AND name = 'all' AND name NOT IN (SELECT name FROM feed)",
)


def m005_entry_inputs(db: "Database") -> None:
    """What an entry was rendered from as JSON, no longer words with blanks between; empty where its meeting is gone."""
    for profile, event, inputs in db.execute("SELECT profile, event, inputs FROM entry WHERE inputs != ''").fetchall():
        account, _, rest = inputs.partition(" ")
        digest, *codes = rest.split(" ")
        found = {way: code for way, code in zip(("opentalk", "openmeetings"), codes, strict=False) if code != "-"}
        text = json.dumps({"account": account, "digest": digest, "codes": found})
        db.execute("UPDATE entry SET inputs = ? WHERE profile = ? AND event = ?", (text, profile, event))


def m006_unreadable(db: "Database") -> None:
    """The events of accounts that cannot be read."""
    db.execute(UNREADABLE)


UNREADABLE = """
    CREATE TABLE unreadable (
        account TEXT NOT NULL, event TEXT NOT NULL, reason TEXT NOT NULL, PRIMARY KEY (account, event)
    ) STRICT, WITHOUT ROWID
"""


STEPS: tuple[Callable[["Database"], None], ...] = (
    m001_first,
    m002_unattended,
    m003_audits,
    m004_run_kinds,
    m005_entry_inputs,
    m006_unreadable,
)
"""All steps in their order; each is recorded under the name of its function."""


def migrations() -> "Migrations":
    """The steps as sqlite-utils applies them. It is imported only where one is lacking, because that takes 60 ms."""
    from sqlite_utils import Migrations  # noqa: PLC0415

    found = Migrations(SET)
    for step in STEPS:
        found()(step)
    return found


def migrate(connection: sqlite3.Connection, folder: Path) -> None:
    """Bring the ledger's tables up to this version. Raises LedgerError for one made by a newer syncd."""
    if is_outdated(connection, folder):
        from sqlite_utils import Database  # noqa: PLC0415

        # what another process did while this one waited for it is not done again
        transaction(connection, lambda db: migrations().apply(Database(db)))


def is_outdated(connection: sqlite3.Connection, folder: Path) -> bool:
    """Whether the ledger lacks a step. Raises LedgerError for one made by a newer syncd."""
    steps, applied = {step.__name__ for step in STEPS}, _applied(connection)
    if applied - steps:
        raise LedgerError(f"the ledger in {folder} was made by a newer syncd; use that one")
    return bool(steps - applied)


def _applied(connection: sqlite3.Connection) -> set[str]:
    """The names of the steps that sqlite-utils has recorded; none in a new file, which lacks its table."""
    table = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = '_sqlite_migrations'"
    if connection.execute(table).fetchone() is None:
        return set()
    rows = connection.execute("SELECT name FROM _sqlite_migrations WHERE migration_set = ?", (SET,))
    return {name for (name,) in rows}
