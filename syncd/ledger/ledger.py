# SPDX-License-Identifier: Apache-2.0
"""The ledger: its tables side by side, and the questions that concern several of them.

All SQL is in this package, and its methods are the only door: each is one transaction, none keeps state between
calls, and none is ever open while a socket is in use. Writers wait for each other; readers never wait (WAL).
"""

import sqlite3
import sys
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Self

from msgspec import Struct

from syncd.ledger.accounts import Accounts
from syncd.ledger.audits import Audits
from syncd.ledger.database import BUSY_SECONDS, Database, MemoryDatabase
from syncd.ledger.deletions import Deletions
from syncd.ledger.entries import Entries
from syncd.ledger.feeds import Feeds
from syncd.ledger.history import History, sweep_decisions, sweep_runs
from syncd.ledger.links import Links
from syncd.ledger.meetings import Meetings, sweep_gone
from syncd.ledger.placements import Placements
from syncd.ledger.secrets import Secrets

HISTORY = timedelta(days=30)
"""How long runs and decisions are kept."""

LAST = chr(sys.maxunicode)
"""Sorts behind every text."""


class Whereabouts(Struct, frozen=True):
    """Which accounts have an event (account -> whether listings lack it), which lost it, and where it was put."""

    accounts: Mapping[str, bool]
    gone: tuple[str, ...]
    calendars: tuple[str, ...]


class Ledger:
    """The tables of one database. Threads may share it. Every method of every table raises LedgerError."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.accounts = Accounts(database)
        self.meetings = Meetings(database)
        self.links = Links(database)
        self.entries = Entries(database)
        self.placements = Placements(database)
        self.audits = Audits(database)
        self.deletions = Deletions(database)
        self.feeds = Feeds(database)
        self.history = History(database)
        self.secrets = Secrets(database)

    @classmethod
    def open(cls, folder: Path, *, read_only: bool = False, patience: float = BUSY_SECONDS) -> Self:
        """The ledger in ``folder``, made or brought up to this version unless it is opened to read only."""
        return cls(Database(folder, read_only=read_only, patience=patience))

    @classmethod
    def in_memory(cls, original: "Ledger | None" = None, folder: Path = Path("memory")) -> Self:
        """A ledger that may be changed without a trace, by one thread at a time: a copy of ``original``, else empty."""
        return cls(MemoryDatabase(folder, original.database if original else None))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Finish what is being written, and close the database."""
        self.database.close()

    def sweep(self, now: datetime) -> None:
        """Forget old runs and decisions, and gone events of which nothing is left."""

        def work(db: sqlite3.Connection) -> None:
            sweep_runs(db, now - HISTORY)
            sweep_decisions(db, now - HISTORY)
            sweep_gone(db)

        self.database.write(work)
        self.database.tidy()

    def find_events(self, beginning: str) -> list[str]:
        """The ids that begin like this, of all events that the ledger still mentions."""
        span = (beginning, beginning + LAST)
        tables = ("gone", "link", "entry", "placement", "decision")
        rows = self.database.rows(
            "SELECT event FROM meeting WHERE account IN (SELECT name FROM account) AND event BETWEEN ? AND ? "
            + "".join(f"UNION SELECT event FROM {table} WHERE event BETWEEN ? AND ? " for table in tables)
            + "ORDER BY event",
            span * (len(tables) + 1),
        )
        return [row["event"] for row in rows]

    def whereabouts(self, event: str) -> Whereabouts:
        """Which accounts have an event, which lost it, and where it was put."""
        accounts = self.database.rows(
            "SELECT account, unlisted FROM meeting WHERE account IN (SELECT name FROM account) AND event = ?", (event,)
        )
        gone = self.database.rows("SELECT account FROM gone WHERE event = ?", (event,))
        calendars = self.database.rows("SELECT calendar FROM placement WHERE event = ?", (event,))
        return Whereabouts(
            {row["account"]: bool(row["unlisted"]) for row in accounts},
            tuple(row["account"] for row in gone),
            tuple(row["calendar"] for row in calendars),
        )
