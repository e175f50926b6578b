# SPDX-License-Identifier: Apache-2.0
"""What the README says is what is so."""

import os
import re
import subprocess
import sys
from pathlib import Path

import click

from syncd.cli.main import cli
from tests.__main__ import LINTS, announcement, checks

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands(group: click.Group, prefix: str = "") -> list[str]:
    found, context = [], click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        found += commands(command, f"{prefix}{name} ") if isinstance(command, click.Group) else [prefix + name]
    return found


def test_ci_runs_the_two_commands_of_the_readme() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    lines = re.findall(r"^    (python3 -m venv \.venv .*)$", README, re.MULTILINE)
    assert len(lines) == 2
    demo, tests = lines
    assert demo.replace(".venv", ".venv-demo") + " --once" in script
    assert tests in script


def test_a_commit_is_checked_with_what_ci_checks_before_its_tests() -> None:
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    entries = re.findall(r"^ +entry: \.venv/bin/python -m (.+)$", hooks, re.MULTILINE)
    assert [tuple(entry.split()) for entry in entries] == list(LINTS)
    assert set(re.findall(r"^ +(?:- )?(repo|language): (.+)$", hooks, re.MULTILINE)) == {
        ("repo", "local"),
        ("language", "system"),
    }


def test_what_is_given_to_the_tests_goes_to_pytest_after_the_linters() -> None:
    given = ["tests/ical", "-k", "a series"]
    *linters, pytest = checks(given)
    assert linters == list(LINTS)
    assert pytest[0] == "pytest"
    assert list(pytest[-3:]) == given
    assert "pytest tests/ical -k 'a series'" in announcement(given, 2)


def test_what_will_be_run_and_for_how_long_is_said_of_the_cores_there_are() -> None:
    assert re.search(r"ruff, mypy --strict, then \d{3,} test functions .* 2 minutes on 2 ", announcement([], 2))
    assert "about 1 minute on 64 idle cores" in announcement([], 64)


def test_every_command_is_in_the_readme() -> None:
    for command in commands(cli):
        assert f"`syncd {command}" in README or f"`{command} NAME`" in README or f"`{command}`" in README, command


def test_every_link_of_the_readme_leads_somewhere() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_every_room_of_the_house_is_in_the_readme() -> None:
    known = set(re.findall(r"`([a-z_]+)(?:\.py|/)`", README))
    rooms = {
        path.stem for path in (ROOT / "syncd").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert rooms - {"__init__", "__main__", "events", "progress"} <= known


def test_the_demo_makes_one_pass_and_leaves_nothing_behind(tmp_path: Path) -> None:
    environ = {**os.environ, "TMPDIR": str(tmp_path), "LANG": "de_DE.UTF-8"}
    command = [sys.executable, "-m", "syncd", "demo", "--once"]
    done = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Haushalt 2027" in done.stdout
    assert "calendar team: 6 created" in done.stdout
    assert "asked again: 304" in done.stdout
    assert list(tmp_path.iterdir()) == []
