# SPDX-License-Identifier: Apache-2.0
"""What a command imports, by the names of modules: what it does not need would only make it start later."""

import subprocess
import sys
from pathlib import Path

import click
import pytest

from syncd.cli.main import COMMANDS, cli
from syncd.ledger.ledger import Ledger

STARTED = """
import sys
from syncd.cli.main import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
finally:
    print(*sys.modules, file=sys.stderr)
"""

SERVERS = {"caldav", "httpx", "lxml", "niquests"}
DAEMON = {"apscheduler", "starlette", "uvicorn", "asyncio"}
ENTRIES = {"icalendar", "recurring_ical_events"}
EVERYTHING = SERVERS | DAEMON | ENTRIES | {"dateutil", "msgspec", "sqlite3", "sqlite_utils", "logging"}

CONFIG = """
[syncd]
state = "{folder}/state"
[opentalk.work]
url = "https://meet.example.org"
username = "alice"
password = {{ file = "password" }}
[caldav.team]
url = "https://dav.example.org/alice/opentalk/"
username = "alice"
password = {{ file = "password" }}
[feeds]
listen = "127.0.0.1:0"
public_url = "https://syncd.example.org"
"""


def imported(*words: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", STARTED, *words], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split())


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "password").write_text("alice-pw", encoding="utf-8")
    file = tmp_path / "config.toml"
    file.write_text(CONFIG.format(folder=tmp_path), encoding="utf-8")
    return file


@pytest.mark.parametrize("words", [("--version",), ("--help",), ("-h",)])
def test_what_needs_no_configuration_imports_click_and_no_command(words: tuple[str, ...]) -> None:
    modules = imported(*words)
    assert "click" in modules
    assert not modules & EVERYTHING
    assert {name for name in modules if name.startswith("syncd.")} == {
        "syncd.cli",
        "syncd.cli.context",
        "syncd.cli.main",
        "syncd.errors",
    }


@pytest.mark.parametrize(
    "words",
    [("status",), ("status", "--json"), ("feed", "add", "phone"), ("feed", "list"), ("check",)],
    ids=" ".join,
)
def test_what_only_needs_the_ledger_imports_no_server_and_no_daemon(config: Path, words: tuple[str, ...]) -> None:
    with Ledger.open(config.parent / "state"):
        pass
    assert not imported("--config", str(config), *words) & (SERVERS | DAEMON | ENTRIES | {"sqlite_utils"})


def imported_with(module: str) -> set[str]:
    command = [sys.executable, "-c", f"import sys, {module}; print(*sys.modules)"]
    return set(subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.split())


def test_what_asks_a_daemon_imports_none() -> None:
    assert not imported_with("syncd.daemon.client") & (DAEMON | {"sqlite_utils", "caldav"})


def test_a_sync_imports_what_it_needs_with_nothing_to_do() -> None:
    modules = imported_with("syncd.cli.sync")
    assert "httpx" in modules
    assert not modules & (DAEMON | ENTRIES | {"sqlite_utils", "caldav", "niquests", "importlib.metadata"})


def test_a_check_imports_no_ledger(config: Path) -> None:
    assert not imported("--config", str(config), "check") & {"sqlite3", "sqlite_utils", "dateutil"}


COLLECTED = """
import gc, sys
from syncd.cli.main import main
frozen = []
gc.callbacks.append(lambda phase, _: phase == "start" and frozen.append(gc.get_freeze_count()))
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
assert gc.isenabled()
gc.collect()
assert frozen and min(frozen) > 10_000, frozen
"""


def test_garbage_is_collected_from_when_the_command_is_imported_and_nothing_that_was_imported_is_looked_at(
    config: Path,
) -> None:
    command = [sys.executable, "-c", COLLECTED, "--config", str(config), "check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_the_help_says_of_each_command_what_the_command_says_first_of_itself() -> None:
    context = click.Context(cli)
    for name, listed in COMMANDS.items():
        command = cli.get_command(context, name)
        assert command is not None
        assert command.help is not None
        assert command.get_short_help_str(limit=1000) == listed.summary
