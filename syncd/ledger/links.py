# SPDX-License-Identifier: Apache-2.0
"""The ledger's table of links: ways in, each made once and kept."""

import sqlite3
from collections.abc import Iterable, Sequence

from syncd.ledger.database import Database, marks, moment_of, text_of
from syncd.ledger.history import insert_decision
from syncd.model import Decision, Link, RunKey
from syncd.plan.links import LinkKey

PROBE = 16 << 10
"""Bytes that must find room before links are made."""


class Links:
    """Links by (kind, event, whose)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> dict[LinkKey, Link]:
        """All links."""
        return _by_key(self._database.stream("SELECT kind, event, whose, code, depends, made, at FROM link"))

    def of(self, accounts: Sequence[str]) -> dict[LinkKey, Link]:
        """The links of all meetings of these accounts."""
        rows = self._database.stream(
            "SELECT DISTINCT kind, link.event, whose, code, depends, made, at FROM meeting JOIN link "
            f"ON link.event = meeting.event WHERE account IN ({marks(accounts)})",
            accounts,
        )
        return _by_key(rows)

    def save(self, links: Iterable[tuple[Link, RunKey]]) -> None:
        """Record links in one transaction, each with the run that asked for it."""
        links = list(links)

        def work(db: sqlite3.Connection) -> None:
            for link, run in links:
                _save(db, link, run)

        if links:
            self._database.write(work)

    def probe(self) -> None:
        """Raise LedgerError if the ledger could not save a few links now: those made on other servers cannot be undone.

        It writes some pages and frees them again.
        """

        def work(db: sqlite3.Connection) -> None:
            db.execute("INSERT INTO secret (name, value) VALUES ('probe', ?)", ("-" * PROBE,))
            db.execute("DELETE FROM secret WHERE name = 'probe'")

        self._database.write(work)


def _save(db: sqlite3.Connection, link: Link, run: RunKey) -> None:
    db.execute(
        "INSERT INTO link (kind, event, whose, code, depends, made, at) VALUES (?, ?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (kind, event, whose) DO UPDATE SET code = excluded.code, depends = excluded.depends, "
        "made = excluded.made, at = excluded.at",
        (link.kind, link.event, link.whose, link.code, link.depends, int(link.made), text_of(link.at)),
    )
    word = "none" if link.code is None else link.kind
    why = "none to be had" if link.code is None else "made" if link.made else "found"
    insert_decision(db, Decision(link.event, link.at, run, word, why))


def _by_key(rows: Iterable[sqlite3.Row]) -> dict[LinkKey, Link]:
    return {
        (row["kind"], row["event"], row["whose"]): Link(
            kind=row["kind"],
            event=row["event"],
            whose=row["whose"],
            code=row["code"],
            depends=row["depends"],
            made=bool(row["made"]),
            at=moment_of(row["at"]),
        )
        for row in rows
    }
