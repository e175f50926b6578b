# SPDX-License-Identifier: Apache-2.0
"""The ledger's table of keys that are made once and kept."""

import secrets
import sqlite3

from syncd.ledger.database import Database


class Secrets:
    """Keys by name."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, name: str) -> str:
        """The key of this name, made if there is none: 128 bits, hexadecimal."""
        rows = self._database.rows("SELECT value FROM secret WHERE name = ?", (name,))
        return str(rows[0]["value"]) if rows else self._database.write(lambda db: _make(db, name))


def _make(db: sqlite3.Connection, name: str) -> str:
    db.execute("INSERT INTO secret (name, value) VALUES (?, ?) ON CONFLICT DO NOTHING", (name, secrets.token_hex(16)))
    return str(db.execute("SELECT value FROM secret WHERE name = ?", (name,)).fetchone()["value"])
