# SPDX-License-Identifier: Apache-2.0
"""The README and the handbook agree with the code."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from syncd.cli.help import help as help_command
from syncd.cli.main import cli
from tests.__main__ import LINTS, announcement, checks

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "syncd" / "handbook").glob("*.md")}
TEXTS = {"README": README, **PAGES}
MADE_BY_THE_READER = re.compile(r"^(?:syncd|tests)/(?:jmap|knock)/")
"""What does not exist yet: the packages that a page of the handbook teaches to write."""

each_text = pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)


def commands(group: click.Group, prefix: str = "") -> dict[str, click.Command]:
    found: dict[str, click.Command] = {}
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        found |= commands(command, f"{prefix}{name} ") if isinstance(command, click.Group) else {prefix + name: command}
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
    assert re.search(r"ruff, mypy --strict, then \d{3,} test functions .* 3 minutes on 2 ", announcement([], 2))
    assert "about 1 minute on 64 idle cores" in announcement([], 64)


def test_every_command_is_in_the_readme() -> None:
    for command in commands(cli):
        assert f"`syncd {command}" in README or f"`{command} NAME`" in README or f"`{command}`" in README, command


@pytest.mark.parametrize(("name", "command"), commands(cli).items(), ids=commands(cli))
def test_a_command_has_the_arguments_and_options_of_its_row(name: str, command: click.Command) -> None:
    table = README.partition("### Commands")[2].partition("\n### ")[0]
    (usage,) = re.findall(rf"`syncd {name}((?: [^`]*)?)`", table.partition("\n\n`")[0])
    options = {option.opts[-1] for option in command.params if isinstance(option, click.Option)}
    assert set(re.findall(r"--[a-z-]+", usage)) == options
    arguments = [each for each in command.params if isinstance(each, click.Argument)]
    words = [each.human_readable_name if each.required else f"[{each.human_readable_name}]" for each in arguments]
    assert re.sub(r" \[--[^]]*\]", "", usage).split() == words


def test_every_link_of_the_readme_leads_somewhere() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


@each_text
def test_every_file_that_is_named_is_there(text: str) -> None:
    named = re.findall(r"`((?:[\w.-]+/)*[\w.-]+\.(?:py|md|toml)|(?:[\w.-]+/)+)`", text)
    assert named
    missing = [name for name in named if not ((ROOT / name).exists() or (ROOT / "syncd" / name).exists())]
    assert [name for name in missing if not MADE_BY_THE_READER.match(name)] == []


@each_text
def test_every_class_and_function_that_is_named_is_there(text: str) -> None:
    source = "\n".join(path.read_text(encoding="utf-8") for path in ROOT.glob("syncd/**/*.py"))
    for name in re.findall(r"`(?!None|True|False)([A-Z][a-z]+[A-Za-z]*)`", text):
        assert re.search(rf"^ *(?:class {name}\b|{name} = )", source, re.MULTILINE), name
    for name in re.findall(r"`(?:[a-z_]+\.)?([a-z_]+)\([^`]*\)`", text):
        assert re.search(rf"^ *def {name}\(", source, re.MULTILINE), name


def test_the_handbook_is_listed_and_each_page_printed_by_the_help() -> None:
    listed = CliRunner().invoke(help_command, [])
    assert listed.exit_code == 0
    titles = dict(line.split("  ", 1) for line in listed.output.splitlines())
    assert {topic: title.strip() for topic, title in titles.items()} == {
        topic: text.splitlines()[0].removeprefix("# ") for topic, text in PAGES.items()
    }
    assert list(titles) == sorted(PAGES)
    for topic, text in PAGES.items():
        printed = CliRunner().invoke(help_command, [topic])
        assert (printed.exit_code, printed.output) == (0, text)


def test_a_page_that_the_handbook_lacks_is_answered_with_those_it_has() -> None:
    asked = CliRunner().invoke(help_command, ["nothing"])
    assert asked.exit_code == 2
    assert "the handbook has no page nothing; it has " + ", ".join(sorted(PAGES)) in asked.output


def test_every_library_that_is_depended_on_is_in_the_readme_and_imported() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    libraries = [re.split(r"[<>=]", dependency)[0] for dependency in project["dependencies"]]
    table = README.partition("### Libraries")[2].partition("\n## ")[0]
    rows = {name for row in re.findall(r"^\| ([^|]+) \|", table, re.MULTILINE) for name in row.lower().split(", ")}
    assert rows - {"library", "---"} == set(libraries)
    source = "\n".join(path.read_text(encoding="utf-8") for path in ROOT.glob("syncd/**/*.py"))
    for library in libraries:
        module = library.removeprefix("python-").replace("-", "_")
        assert re.search(rf"^ *(?:from|import) {module}\b|files\(\"{module}\"\)", source, re.MULTILINE), library


def test_every_page_of_the_handbook_is_linked_from_the_readme() -> None:
    assert set(re.findall(r"\]\(syncd/handbook/([a-z-]+)\.md\)", README)) == set(PAGES)


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
