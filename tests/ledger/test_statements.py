# SPDX-License-Identifier: Apache-2.0
"""The ledger speaks the SQL that SQLite and PostgreSQL both understand, but for its file and its schema."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent.parent / "syncd" / "ledger"
SQLITE_ALONE = {"database.py", "schema.py", "writer.py"}
SAID_BY_SQLITE_ALONE = re.compile(
    r"\bOR (REPLACE|IGNORE)\b|\bjson_each\b|\browid\b|\bPRAGMA\b|\?[0-9]|\bx''|\bLIMIT -|\b(IS|NOT)NULL\b|\bGLOB\b"
    r"|\bLIKE\b|\bdatetime\(|\bstrftime\(|\bifnull\(|\btotal\("
)
STATEMENT = re.compile(r"\b(SELECT|INSERT|UPDATE|DELETE|FROM|WHERE)\b")


def statements(path: Path) -> Iterator[str]:
    """The strings of a module that look like SQL, without those that are docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    texts = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in texts and STATEMENT.search(str(node.value)):
            yield str(node.value)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.name)
def test_no_statement_is_one_that_sqlite_alone_understands(path: Path) -> None:
    if path.name not in SQLITE_ALONE:
        assert [sql for sql in statements(path) if SAID_BY_SQLITE_ALONE.search(sql)] == []


def test_statements_are_found() -> None:
    assert sum(len(list(statements(path))) for path in FOLDER.glob("*.py")) > 60
    assert SAID_BY_SQLITE_ALONE.search("INSERT OR REPLACE INTO link VALUES (?1)")


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.name)
def test_what_is_inserted_from_a_query_and_may_be_there_has_a_where(path: Path) -> None:
    """SQLite takes the ON of ON CONFLICT for that of a join otherwise (sqlite.org/lang_upsert.html)."""
    for sql in statements(path):
        if re.search(r"INSERT.*SELECT.*ON CONFLICT", sql, re.DOTALL):
            assert " WHERE " in sql
