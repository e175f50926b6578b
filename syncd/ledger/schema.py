# SPDX-License-Identifier: Apache-2.0
"""The ledger's tables, step by step as they came to be; a step that was released never changes."""

from sqlite_utils import Database, Migrations

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
