# SPDX-License-Identifier: Apache-2.0
"""A ledger that an earlier version of syncd wrote, and its rows as they are after it was brought up.

What the migrations do to a value is done here once more by hand.
"""

import itertools
import json
import re
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

OLD = Path(__file__).parents[1] / "ledgers" / "before-tables-by-name.sqlite"


def read_rows(path: Path, sql: str) -> list[tuple[Any, ...]]:
    """The rows of a query, of a file that nothing writes meanwhile."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)) as database:
        return database.execute(sql).fetchall()


def old_columns(table: str) -> str:
    """The columns that a table of the old ledger has."""
    return ", ".join(f'"{name}"' for (name,) in read_rows(OLD, f"SELECT name FROM pragma_table_info('{table}')"))


def old_tables() -> list[str]:
    """The tables of the old ledger, but for those of SQLite and of the migrations."""
    sql = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT GLOB '[_s]*' OR name = 'secret'"
    return [name for (name,) in read_rows(OLD, sql)]


def old_rows(table: str) -> Counter[tuple[Any, ...]]:
    """The rows of a table of the old ledger, as they are now."""
    return Counter(map(renamed, read_rows(OLD, f"SELECT {old_columns(table)} FROM {table}")))


def rows_now(path: Path, table: str) -> Counter[tuple[Any, ...]]:
    """The rows of a table of a ledger that was brought up, in the columns of the old one."""
    return Counter(read_rows(path, f"SELECT {old_columns(table)} FROM {table}"))


def renamed(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """A row as it is now: what OpenMeetings made has a kind of its own, so that an account may have its name.

    What an entry was rendered from is JSON.
    """
    at = next((at for at, pair in enumerate(itertools.pairwise(row)) if pair == ("mint", "openmeetings")), None)
    row = row if at is None else (*row[:at], "maker", *row[at + 1 :])
    return tuple(
        as_json(value) if re.fullmatch("[a-z]+ [0-9a-f]{32} [^ ]+ [^ ]+", str(value)) else value for value in row
    )


def as_json(words: str) -> str:
    account, digest, invite, code = words.split(" ")
    codes = ({"opentalk": invite} if invite != "-" else {}) | ({"openmeetings": code} if code != "-" else {})
    return json.dumps({"account": account, "digest": digest, "codes": codes})
