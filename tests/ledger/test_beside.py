# SPDX-License-Identifier: Apache-2.0
"""Processes that share a ledger: whoever comes and goes, nobody's files are deleted and no row is lost."""

import io
import itertools
import multiprocessing
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, redirect_stderr, redirect_stdout
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from uuid import uuid4

import pytest

from syncd.cli.main import main
from syncd.ledger.accounts import SignIns
from syncd.ledger.database import FILE
from syncd.ledger.ledger import Ledger
from syncd.model import Link, RunKey

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
PATIENCE = 60
NOBODY = "http://127.0.0.1:1"
CONFIG = f"""
[syncd]
state = "state"
[opentalk.alice]
url = "{NOBODY}"
controller = "{NOBODY}"
issuer = "{NOBODY}"
client_id = "Frontend"
[opentalk.bob]
url = "{NOBODY}"
username = "bob"
password = {{ env = "SYNCD_TEST_PASSWORD" }}
[caldav.team]
url = "{NOBODY}/team/"
username = "alice"
password = {{ env = "SYNCD_TEST_PASSWORD" }}
accounts = ["alice", "bob"]
[feeds]
listen = "127.0.0.1:0"
public_url = "http://localhost"
"""


class Sharer:
    """What a process does with a ledger when it is asked to; each ``thread`` of it has a connection of its own."""

    def __init__(self) -> None:
        self._ledger: Ledger | None = None
        self._threads = [ThreadPoolExecutor(1), ThreadPoolExecutor(1)]

    def write(self, folder: Path, thread: int, event: str) -> None:
        """Write one row, with the ledger open from then on."""
        self._ledger = ledger = self._ledger or Ledger.open(folder)
        link = Link("hash", event, "guest", "code", "depends", made=True, at=NOW)
        self._threads[thread].submit(ledger.links.save, [(link, RunKey("maker", "somebody"))]).result(PATIENCE)

    def close(self) -> None:
        """Leave the ledger, and go on living."""
        if self._ledger:
            self._ledger.close()
        self._ledger = None
        self._threads = [ThreadPoolExecutor(1), ThreadPoolExecutor(1)]

    def sign_in(self, folder: Path, account: str, token: str) -> None:
        """What ``syncd login``, and a daemon whose refresh token was exchanged, write."""
        SignIns(folder).save_refresh_token(account, token)

    def command(self, *words: str) -> tuple[int, str]:
        """A command of ``syncd``, to its end: its exit code and what it printed."""
        sys.argv = ["syncd", *words]
        output = io.StringIO()
        with redirect_stdout(output), redirect_stderr(output):
            try:
                main()
            except SystemExit as end:
                return int(end.code or 0), output.getvalue()
        return 0, output.getvalue()


def serve(line: Connection) -> None:
    """Do what comes over the line until ``None`` does."""
    sharer = Sharer()
    os.environ["SYNCD_TEST_PASSWORD"] = "pw"
    while asked := line.recv():
        what, *arguments = asked
        try:
            line.send(getattr(sharer, what)(*arguments))
        except Exception as error:  # noqa: BLE001 -- it is the other process that fails the test
            line.send(error)


class Process:
    """A process of its own that shares ledgers."""

    def __init__(self) -> None:
        self._line, theirs = multiprocessing.Pipe()
        self._process = multiprocessing.get_context("forkserver").Process(target=serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        assert self._process.pid
        return self._process.pid

    def ask(self, what: str, *arguments: object) -> object:
        self._line.send((what, *arguments))
        assert self._line.poll(PATIENCE), f"{what} takes too long"
        answer = self._line.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def command(self, config: Path, *words: str) -> tuple[int, str]:
        """A command of ``syncd`` in that process: its exit code and what it printed."""
        answer = self.ask("command", "--config", str(config), *words)
        assert isinstance(answer, tuple)
        return answer

    def end(self) -> None:
        self._line.send(None)
        self._process.join(PATIENCE)
        self._process.kill()
        self._process.join()
        self._line.close()


@pytest.fixture(scope="module")
def alive() -> Iterator[list[Process]]:
    three = [Process() for _ in range(3)]
    yield three
    for each in three:
        each.end()


@pytest.fixture
def processes(alive: list[Process]) -> Iterator[list[Process]]:
    """Three processes that have no ledger open."""
    yield alive
    for each in alive:
        each.ask("close")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(CONFIG, encoding="utf-8")
    monkeypatch.setenv("SYNCD_TEST_PASSWORD", "pw")
    return path


def deleted(pid: int) -> list[str]:
    """The files that a process has open and that are in no folder any more: what it writes there is lost."""
    there = []
    for each in Path(f"/proc/{pid}/fd").iterdir():
        try:
            there.append(str(each.readlink()))
        except FileNotFoundError:  # closed since it was listed
            continue
    return [target for target in there if FILE in target and target.endswith("(deleted)")]


def events(folder: Path) -> set[str]:
    """The events of all links as the ledger has them on disk, which must be sound."""
    with closing(sqlite3.connect(folder / FILE)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return {event for (event,) in database.execute("SELECT event FROM link")}


ORDERS = sorted(set(itertools.permutations([0, 0, 1, 1])))
"""Which of two processes writes; the second time it does so in another thread, over another connection."""


@pytest.mark.parametrize("order", ORDERS, ids=str)
def test_two_processes_with_two_connections_each_lose_nothing_in_any_order(
    processes: list[Process], tmp_path: Path, order: tuple[int, ...]
) -> None:
    pair, written = processes[:2], set[str]()

    def write(process: int, thread: int) -> None:
        event = f"e{len(written)}"
        pair[process].ask("write", tmp_path, thread, event)
        written.add(event)
        assert not any(deleted(each.pid) for each in pair), f"after {event}"

    for turn, process in enumerate(order):
        write(process, order[:turn].count(process))
    for leaving, staying in ((1, 0), (0, 1)):  # the one that left comes again while the other stays
        pair[leaving].ask("close")
        for thread in (0, 1):
            write(staying, thread)
        write(leaving, 0)
    assert events(tmp_path) == written
    for each in pair:
        each.ask("close")
    assert events(tmp_path) == written


COMMANDS = {
    ("feed", "add", "tablet", "--account", "alice"): 0,
    ("feed", "revoke", "phone"): 0,
    RunKey("feed", "list"): 0,
    ("status",): 0,
    ("status", "--json"): 0,
    ("explain", "e0"): 0,
    ("confirm", "team"): 1,
    ("logout", "alice"): 69,
    ("login", "alice"): 69,
    ("sync",): 69,
    ("sync", "--dry-run"): 69,
    ("events", "alice"): 69,
    ("check", "--online"): 69,
}
"""Commands and how they end where no server answers."""


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_no_command_deletes_what_another_process_has_open(
    processes: list[Process], config: Path, words: tuple[str, ...]
) -> None:
    daemon, other, _ = processes
    folder = config.parent / "state"
    phone = ("feed", "add", "phone", "--account", "alice")
    assert other.command(config, *phone)[0] == 0
    daemon.ask("sign_in", folder, "alice", "made-up-token")
    for thread in (0, 1):
        daemon.ask("write", folder, thread, f"e{thread}")
    code, output = other.command(config, *words)
    assert code == COMMANDS[words], output
    assert deleted(daemon.pid) == []
    for thread in (0, 1):
        daemon.ask("write", folder, thread, f"e{2 + thread}")
    other.ask("sign_in", folder, "bob", "another-made-up-token")
    assert deleted(daemon.pid) == []
    daemon.ask("write", folder, 0, "e4")
    daemon.ask("close")
    assert events(folder) == {"e0", "e1", "e2", "e3", "e4"}
    assert SignIns(folder).refresh_token("bob") == "another-made-up-token"


@pytest.mark.parametrize("time", range(6))
def test_processes_that_make_a_ledger_at_once_make_one(processes: list[Process], tmp_path: Path, time: int) -> None:
    folder = tmp_path / f"state{time}"
    with ThreadPoolExecutor(len(processes)) as pool:
        asked = [pool.submit(each.ask, "write", folder, 0, f"e{which}") for which, each in enumerate(processes)]
    for each in asked:
        each.result()
    assert not any(deleted(process.pid) for process in processes)
    for process in processes:
        process.ask("close")
    assert events(folder) == {"e0", "e1", "e2"}
    assert (folder / FILE).stat().st_mode & 0o777 == 0o600


def test_a_daemon_keeps_its_files_whatever_is_done_beside_it(processes: list[Process], config: Path) -> None:
    other, folder = processes[0], config.parent / "state"
    name = f"syncd-{uuid4()}"
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as systemd:
        systemd.settimeout(PATIENCE)
        systemd.bind(f"\0{name}")
        words = [sys.executable, "-m", "syncd", "--config", str(config), "run"]
        environ = {**os.environ, "NOTIFY_SOCKET": f"@{name}"}
        daemon = subprocess.Popen(words, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            assert systemd.recv(4096).startswith(b"READY=1")
            for beside in (["feed", "add", "phone", "--account", "alice"], ["sync"], ["feed", "revoke", "phone"]):
                other.command(config, *beside)
                other.ask("write", folder, 0, "e0")
                other.ask("close")
                assert deleted(daemon.pid) == []
            daemon.send_signal(signal.SIGTERM)
            assert daemon.wait(PATIENCE) == 0
        finally:
            daemon.kill()
            daemon.wait()
    assert events(folder) == {"e0"}
    with Ledger.open(folder, read_only=True) as ledger:
        assert RunKey("pull", "alice") in ledger.history.standings()
