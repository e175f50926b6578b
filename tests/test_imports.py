# SPDX-License-Identifier: Apache-2.0
"""Which room may import which: the floors of the house."""

import ast
from collections.abc import Iterable
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from syncd.plan.links import WAYS

TESTS = Path(__file__).parent
HOUSE = TESTS.parent / "syncd"
FLOORS = (  # from the ground up
    {"__init__"},
    {"model", "errors", "decoding"},
    {"ical", "config", "transport"},
    {"plan", "opentalk", "openmeetings", "dav"},
    {"ledger", "sync"},
    {"jobs", "explain", "web"},
    {"daemon"},
    {"demo"},
    {"cli"},
    {"__main__"},
)
PURE = {"model", "errors", "plan", "ical"}
GIVEN = {"sync", "web"}
"""Rooms that name no server and no ledger: they are given what they need as Protocols."""

IMPURE = {"socket", "httpx", "sqlite3", "time", "os", "random", "secrets", "threading", "urllib", "pathlib"}
ALLOWED: dict[str, tuple[str, str]] = {
    "web/published.py": ("ledger", "it reads for all of web what is shown"),
}
"""What a file may know besides, and why."""

FILES = sorted(HOUSE.rglob("*.py"))
MODULES = {
    ".".join(path.relative_to(HOUSE.parent).with_suffix("").parts).removesuffix(".__init__"): path for path in FILES
}
each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(HOUSE)))


def imports(nodes: Iterable[ast.AST]) -> set[str]:
    """The modules that are imported; of ``from a import b`` that is ``a.b`` where b is a module of ours."""
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else str(node.module) for name in names}
    return found


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


@each_file
def test_a_room_knows_only_floors_below_its_own(path: Path) -> None:
    here = path.relative_to(HOUSE).with_suffix("").parts[0]
    below = set().union(*FLOORS[: next(number for number, rooms in enumerate(FLOORS) if here in rooms)])
    if here in GIVEN:
        below -= {"opentalk", "openmeetings", "dav", "ledger"}
    known = {room(name) for name in imports(ast.walk(parsed(path))) if name.split(".")[0] == "syncd"}
    assert known <= below | {here, ALLOWED.get(str(path.relative_to(HOUSE)), ("", ""))[0]}


def test_nothing_goes_in_a_circle() -> None:
    TopologicalSorter({name: imports(parsed(path).body) & MODULES.keys() for name, path in MODULES.items()}).prepare()


@each_file
def test_what_is_pure_does_nothing_and_reads_no_clock(path: Path) -> None:
    if path.relative_to(HOUSE).with_suffix("").parts[0] in PURE:
        assert not {name.split(".")[0] for name in imports(ast.walk(parsed(path)))} & IMPURE
        assert "datetime.now" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("maker", [way.maker for way in WAYS if way.maker])
def test_a_link_maker_is_named_only_where_it_is_made(maker: str) -> None:
    naming = {path.relative_to(HOUSE) for path in FILES if maker in path.read_text(encoding="utf-8").lower()}
    rooms = {maker, "config", "demo"}
    files = {"plan/links.py", "jobs/servers.py", "ledger/schema.py"}  # the last brings up ledgers that name it
    assert {str(path) for path in naming if path.parts[0] not in rooms} <= files


def test_only_the_transport_and_the_token_flows_know_httpx() -> None:
    knowing = {str(path.relative_to(HOUSE)) for path in FILES if "httpx" in imports(ast.walk(parsed(path)))}
    assert knowing == {"transport.py", "opentalk/oidc.py"}


def test_only_the_command_line_reads_the_clock() -> None:
    files = (path for path in FILES if "datetime.now(" in path.read_text(encoding="utf-8"))
    assert {str(path.relative_to(HOUSE)) for path in files} <= {"cli/context.py", "transport.py"}


@pytest.mark.parametrize("path", sorted(TESTS.rglob("*.py")), ids=lambda path: str(path.relative_to(TESTS)))
def test_a_test_imports_of_the_tests_only_what_several_need(path: Path) -> None:
    folder = path.relative_to(TESTS).parts[0]
    ours = {name for name in imports(ast.walk(parsed(path))) if name.split(".")[0] == "tests"}
    shared = ("tests.support.", "tests.bench.") if folder == "bench" else ("tests.support.", "tests.__main__")
    assert [name for name in ours if not name.startswith(shared) and name != "tests.support"] == []


@pytest.mark.parametrize("name", ["occurrences", "calendar_objects", "icalendar_text"])
def test_what_entries_are_compared_with_is_not_computed_by_syncd(name: str) -> None:
    nodes = ast.walk(parsed(TESTS / "support" / f"{name}.py"))
    ours = {module for module in imports(nodes) if module.split(".")[0] == "syncd"}
    assert ours <= {"syncd.model"}
