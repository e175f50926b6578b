# SPDX-License-Identifier: Apache-2.0
"""The ledger's tables of accounts: the person behind each name, and the refresh tokens of sign-ins in a browser."""

import json
import sqlite3
from collections.abc import Collection
from pathlib import Path

from syncd.errors import NeedsYou
from syncd.ledger.database import FILE, Database
from syncd.model import Identity


class Accounts:
    """Accounts by the names that they have in the configuration."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def identity(self, name: str) -> Identity | None:
        """The person behind an account's name; ``None`` before its first login."""
        rows = self._database.rows(
            "SELECT issuer, subject, user_id, firstname, lastname FROM account WHERE name = ?", (name,)
        )
        return Identity(*rows[0]) if rows else None

    def identify(self, name: str, identity: Identity, names: Collection[str]) -> None:
        """Record the person behind an account's name; ``names`` are all of the configuration.

        If the person's former name is none of them any more, the account was renamed: all its rows get the new name.
        Raises NeedsYou if another person was behind the name before.
        """
        before = self.identity(name)
        if before == identity:
            return
        if before and (before.issuer, before.subject) != (identity.issuer, identity.subject):
            raise NeedsYou(
                f"opentalk.{name}: another person is behind this login than before; nothing is changed. Give the "
                "table a new name for a new person, or correct its username"
            )

        def work(db: sqlite3.Connection) -> None:
            person = (identity.issuer, identity.subject)
            for row in db.execute("SELECT name FROM account WHERE issuer = ? AND subject = ?", person).fetchall():
                if row["name"] != name and row["name"] not in names:
                    _rename(db, row["name"], name)
            db.execute(
                "INSERT INTO account (name, issuer, subject, user_id, firstname, lastname) VALUES (?, ?, ?, ?, ?, ?) "
                "ON CONFLICT (issuer, subject) DO UPDATE SET name = excluded.name, user_id = excluded.user_id, "
                "firstname = excluded.firstname, lastname = excluded.lastname",
                (name, *person, identity.user_id, identity.firstname, identity.lastname),
            )

        self._database.write(work)

    def refresh_token(self, account: str) -> str | None:
        """The refresh token of an account, if anybody is signed in."""
        rows = self._database.rows("SELECT refresh_token FROM login WHERE account = ?", (account,))
        return str(rows[0]["refresh_token"]) if rows else None

    def save_refresh_token(self, account: str, token: str | None) -> None:
        """Store the refresh token of an account; ``None`` deletes it."""

        def work(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM login WHERE account = ?", (account,))
            if token is not None:
                db.execute("INSERT INTO login (account, refresh_token) VALUES (?, ?)", (account, token))

        self._database.write(work)


def _rename(db: sqlite3.Connection, former: str, name: str) -> None:
    """Move all rows of an account to its new name; of two rows for one event the former name's stays."""
    for table in ("meeting", "gone", "unreadable"):
        db.execute(
            f"DELETE FROM {table} WHERE account = ? AND event IN (SELECT event FROM {table} WHERE account = ?)",
            (name, former),
        )
        db.execute(f"UPDATE {table} SET account = ? WHERE account = ?", (name, former))
    db.execute(
        "DELETE FROM link WHERE whose = ? AND (kind, event) IN (SELECT kind, event FROM link WHERE whose = ?)",
        (name, former),
    )
    db.execute("UPDATE link SET whose = ? WHERE whose = ?", (name, former))
    for row in db.execute("SELECT name, accounts FROM feed").fetchall():
        renamed = [name if account == former else account for account in json.loads(row["accounts"])]
        db.execute("UPDATE feed SET accounts = ? WHERE name = ?", (json.dumps(renamed), row["name"]))


class SignIns:
    """Refresh tokens for commands that need nothing else of the ledger in ``folder`` and must not make one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def refresh_token(self, account: str) -> str | None:
        """The refresh token of an account, if anybody is signed in."""
        if not (self._folder / FILE).exists():
            return None
        with Database(self._folder) as database:
            return Accounts(database).refresh_token(account)

    def save_refresh_token(self, account: str, token: str | None) -> None:
        """Store the refresh token of an account; ``None`` deletes it."""
        with Database(self._folder) as database:
            Accounts(database).save_refresh_token(account, token)
