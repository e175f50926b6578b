# SPDX-License-Identifier: Apache-2.0
"""Who may know whom: the walls of the house."""

import ast
from pathlib import Path

import pytest

HOUSE = Path(__file__).parent.parent / "syncd"
NOUNS = {"model", "errors", "ical"}
PURE = {"model", "errors", "recurrence", "plan", "writes", "audit", "guard", "links", "ical"}
LEDGER = {"store", "history", "placements", "subscriptions", "schema"}
EDGES = {"opentalk", "openmeetings", "dav"}
IMPURE = {"socket", "httpx", "sqlite3", "time", "os", "random", "secrets", "threading", "urllib", "pathlib"}


def room(path: Path) -> str:
    return path.relative_to(HOUSE).with_suffix("").parts[0]


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def neighbours(path: Path) -> set[str]:
    return {name.split(".")[1] for name in imports(path) if name.startswith("syncd.")} - {room(path), "__version__"}


@pytest.mark.parametrize("path", sorted(HOUSE.rglob("*.py")), ids=lambda path: str(path.relative_to(HOUSE)))
def test_every_room_knows_only_its_neighbours(path: Path) -> None:
    here, known = room(path), neighbours(path)
    if here in PURE:
        assert known <= PURE
        assert not {name.split(".")[0] for name in imports(path)} & IMPURE
        assert "datetime.now" not in path.read_text(encoding="utf-8")
    if here in EDGES:
        assert known <= NOUNS | {"transport"}
    if here == "transport":
        assert known <= NOUNS
    if here in {"sync", "push", "copies", "feeds"}:
        assert known <= PURE | {"sync", "copies"}
    if here in LEDGER:
        assert known <= NOUNS | {"plan", "guard"} | LEDGER
    if here == "web" and path.stem != "published":
        assert known <= NOUNS
    if here != "demo":
        assert "demo" not in known or here == "cli"


def test_only_the_transport_and_the_token_flows_know_httpx() -> None:
    knowing = {str(path.relative_to(HOUSE)) for path in HOUSE.rglob("*.py") if "httpx" in imports(path)}
    assert knowing == {"transport.py", "opentalk/oidc.py"}


def test_only_the_command_line_reads_the_clock() -> None:
    files = (path for path in HOUSE.rglob("*.py") if "datetime.now(" in path.read_text(encoding="utf-8"))
    assert {str(path.relative_to(HOUSE)) for path in files} <= {"cli/context.py", "transport.py"}
