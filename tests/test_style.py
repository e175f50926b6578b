# SPDX-License-Identifier: Apache-2.0
"""How much a reader must hold in mind at once: branches and lines of a function, lines of a module.

Ruff's complexity (C901) counts neither ternaries nor the operands of ``and`` and ``or``, which are branches as well.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = [path for folder in ("syncd", "tests") for path in sorted(ROOT.glob(f"{folder}/**/*.py"))]
COMPLEXITY, LINES, MODULE_LINES = 10, 40, 400


def pieces(node: ast.AST) -> Iterator[ast.AST]:
    """What a function consists of, without the functions and classes inside it."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield child
            yield from pieces(child)


def branches(node: ast.AST) -> int:
    """How many ways on there are besides the first. An assertion is none: it ends the way or changes nothing."""
    match node:
        case ast.If() | ast.IfExp() | ast.For() | ast.AsyncFor() | ast.While() | ast.ExceptHandler():
            return 1
        case ast.match_case(pattern=ast.MatchAs(pattern=None), guard=None):
            return 0
        case ast.match_case():
            return 1
        case ast.BoolOp(values=values):
            return len(values) - 1
        case ast.comprehension(ifs=conditions):
            return len(conditions)
    return 0


def excesses(tree: ast.AST) -> Iterator[str]:
    """The functions above a limit, each with what is too much."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            complexity, lines = 1 + sum(map(branches, pieces(node))), (node.end_lineno or 0) - node.lineno + 1
            if complexity > COMPLEXITY or lines > LINES:
                yield f"line {node.lineno}, {node.name}: complexity {complexity}, {lines} lines"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_function_can_be_read_at_once(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert list(excesses(ast.parse(source))) == []
    assert path.is_relative_to(ROOT / "tests") or len(source.splitlines()) <= MODULE_LINES


@pytest.mark.parametrize(
    ("body", "complexity"),
    [
        ("return a if b and c else d", 3),
        ("return [a for a in b if a if not c] or d", 4),
        ("for a in b:\n  while c:\n   try: d()\n   except E: pass", 4),
        ("match a:\n  case 1 | 2: b()\n  case c if c > 1: d()\n  case _: e()", 3),
        ("def g():\n  return a or b\n assert c", 1),
    ],
)
def test_every_way_on_is_counted(body: str, complexity: int) -> None:
    (function, *_) = ast.parse(f"def f():\n {body}").body
    assert 1 + sum(map(branches, pieces(function))) == complexity
