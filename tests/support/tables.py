# SPDX-License-Identifier: Apache-2.0
"""The ledger's tables as SQLite has them, and a disk that is full."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from syncd.ledger.database import Database
from syncd.ledger.ledger import Ledger


def rows(ledger: Ledger, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
    """The rows of a query, as plain tuples."""
    return [tuple(row) for row in ledger.database.rows(sql, parameters)]


class HastyDatabase(Database):
    """A database that does not wait for the disk: no test cuts the power."""

    def _connect(self) -> sqlite3.Connection:
        connection = super()._connect()
        connection.execute("PRAGMA synchronous=OFF")
        return connection


@contextmanager
def full_disk(ledger: Ledger) -> Iterator[None]:
    """The ledger cannot grow."""
    pages = rows(ledger, "PRAGMA page_count")[0][0]
    ledger.database.write(lambda db: db.execute(f"PRAGMA max_page_count={pages}").fetchall())
    try:
        yield
    finally:
        ledger.database.write(lambda db: db.execute("PRAGMA max_page_count=4294967294").fetchall())
