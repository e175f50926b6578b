# SPDX-License-Identifier: Apache-2.0
import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from stat import S_IMODE, S_ISSOCK
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from syncd.daemon.client import ControlClient
from syncd.daemon.control import ControlServer
from syncd.daemon.wire import FILE
from syncd.errors import (
    BadEvent,
    ConfigError,
    LedgerBusy,
    LedgerError,
    LoginRefused,
    NeedsYou,
    Stopped,
    SyncdError,
    Unavailable,
)
from syncd.model import Run, RunKey, RunKind
from syncd.web.server import RunningServer, unix_socket

NOW = datetime(2026, 11, 22, 8, tzinfo=UTC)
PULL = Run(RunKey("pull", "work"), NOW, counts={"changed": 3})
PUSH = Run(RunKey("push", "team"), NOW, state="held", message="would delete 30 of 40", next_try=NOW)
SECRET = "s3cret-token"
PATIENCE = 60
PROBLEMS = [
    NeedsYou("team: there is no such calendar"),
    LoginRefused("work: the password was refused"),
    Unavailable("work is in trouble (503)", 60),
    LedgerError("the ledger in /x: the disk is full"),
    LedgerBusy("another program holds it locked"),
    ConfigError(["c.toml: caldav.team: one", "c.toml: opentalk.work: two"]),
    BadEvent("b6c1e9d0", "has no end"),
]
RUNS = st.builds(
    Run,
    st.builds(RunKey, st.sampled_from(get_args(RunKind)), st.text()),
    st.datetimes(timezones=st.just(UTC)),
    state=st.text(),
    counts=st.dictionaries(st.text(), st.integers(0, 2**53)),
    message=st.none() | st.text(),
    next_try=st.none() | st.datetimes(timezones=st.just(UTC)),
)


class MemoryCommands:
    """Answers the commands; a sync begins, and ends when it may, with a fault if there is one."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.runs = [PULL, PUSH]
        self.fault: BaseException | None = None
        self.begun, self.may_end = threading.Event(), threading.Event()
        self.may_end.set()

    def sync(self) -> list[Run]:
        self.requests.append("sync")
        self.begun.set()
        self.may_end.wait()
        if self.fault:
            raise self.fault
        return self.runs

    def pull(self, account: str) -> list[Run]:
        self.requests.append(f"pull {account}")
        return [PULL]

    def confirm(self, name: str) -> tuple[int, list[Run]]:
        self.requests.append(f"confirm {name}")
        return 30, [PUSH]

    def unsaved_runs(self) -> list[Run]:
        return [PULL]


@pytest.fixture
def commands() -> Iterator[MemoryCommands]:
    commands = MemoryCommands()
    yield commands
    commands.may_end.set()


@contextmanager
def asking(question: Callable[[], list[Run]]) -> Iterator[Future[list[Run]]]:
    with ThreadPoolExecutor() as pool:
        yield pool.submit(question)


@contextmanager
def stranger(folder: Path, answer: Response) -> Iterator[ControlClient]:
    """A daemon of another version: it is there, and answers every question the same."""

    def here(_request: Request) -> Response:
        return Response()

    def asked(_request: Request) -> Response:
        return answer

    app = Starlette(routes=[Route("/", here), Route("/sync", asked, methods=["POST"])])
    with RunningServer(app, unix_socket(folder / FILE, 0o600)):
        yield ControlClient(folder)


def busy(line: ControlClient) -> str:
    with pytest.raises(LedgerBusy) as caught:
        line.sync()
    return str(caught.value)


def test_every_question_reaches_the_daemon_and_its_answer_who_asked(tmp_path: Path, commands: MemoryCommands) -> None:
    line = ControlClient(tmp_path)
    with ControlServer(commands, tmp_path):
        assert line.sync() == [PULL, PUSH]
        assert line.pull("work") == [PULL]
        assert line.confirm("team") == (30, [PUSH])
        assert line.unsaved_runs() == [PULL]
    assert commands.requests == ["sync", "pull work", "confirm team"]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[MemoryCommands, ControlClient]]:
    commands, folder = MemoryCommands(), tmp_path_factory.mktemp("control")
    with ControlServer(commands, folder):
        yield commands, ControlClient(folder)


@given(st.lists(RUNS, max_size=3), st.text(st.characters(exclude_categories=["Cs"])))
def test_whatever_runs_and_names_there_are_they_arrive_as_they_were(
    shared: tuple[MemoryCommands, ControlClient], runs: list[Run], name: str
) -> None:
    commands, line = shared
    commands.runs = runs
    assert line.sync() == runs
    line.pull(name)
    assert commands.requests[-1] == f"pull {name}"


def test_what_a_newer_daemon_says_besides_does_not_matter(tmp_path: Path) -> None:
    run = b'{"key":["pull","work"],"ended":"2026-11-22T08:00:00Z","counts":{"changed":3},"new":[1]}'
    with stranger(tmp_path, Response(b"[" + run + b"]")) as line:
        assert line.sync() == [PULL]


@pytest.mark.parametrize(
    "answer", [Response(status_code=404), Response(b"<html>"), Response(b'[{"kind":1}]'), Response(status_code=500)]
)
def test_a_daemon_that_cannot_be_understood_is_of_another_version(tmp_path: Path, answer: Response) -> None:
    with stranger(tmp_path, answer) as line, pytest.raises(NeedsYou, match="another version"):
        line.sync()


def test_nobody_else_can_open_the_socket_even_without_a_umask(tmp_path: Path, commands: MemoryCommands) -> None:
    before = os.umask(0)
    try:
        with ControlServer(commands, tmp_path):
            mode = (tmp_path / FILE).stat().st_mode
    finally:
        os.umask(before)
    assert S_ISSOCK(mode)
    assert S_IMODE(mode) == 0o600


def test_a_folder_with_a_name_too_long_for_a_socket_will_do(tmp_path: Path, commands: MemoryCommands) -> None:
    folder = tmp_path / ("a" * 120) / ("b" * 120)
    folder.mkdir(parents=True)
    with ControlServer(commands, folder):
        assert S_ISSOCK((folder / FILE).stat().st_mode)
        assert ControlClient(folder).sync() == [PULL, PUSH]
    assert list(folder.iterdir()) == []


def test_the_socket_of_a_daemon_that_was_killed_is_replaced(tmp_path: Path, commands: MemoryCommands) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / FILE))
    assert "refused" in busy(ControlClient(tmp_path))
    with ControlServer(commands, tmp_path):
        assert ControlClient(tmp_path).sync() == [PULL, PUSH]


def test_a_socket_that_cannot_be_made_is_reported_with_its_folder(tmp_path: Path, commands: MemoryCommands) -> None:
    with pytest.raises(LedgerError, match=r"none/control\.sock: .* No such file"):
        ControlServer(commands, tmp_path / "none")
    (tmp_path / FILE).mkdir()
    with pytest.raises(LedgerError, match=r"control\.sock: .* in use"):
        ControlServer(commands, tmp_path)


def test_nothing_is_left_after_the_end_and_ending_twice_is_no_harm(tmp_path: Path, commands: MemoryCommands) -> None:
    control = ControlServer(commands, tmp_path)
    control.close()
    assert list(tmp_path.iterdir()) == []
    control.close()


def test_without_a_daemon_the_error_says_what_to_do(tmp_path: Path) -> None:
    assert LedgerBusy.code == 75
    for folder in (tmp_path, tmp_path / "none"):
        text = busy(ControlClient(folder))
        assert str(folder) in text
        assert "No such file" in text
        assert "try again" in text


def test_a_daemon_that_hangs_itself_is_noticed_before_the_long_wait_begins(tmp_path: Path) -> None:
    with unix_socket(tmp_path / FILE, 0o600):  # the kernel takes the connection, nobody answers
        assert "in time" in busy(ControlClient(tmp_path, prompt=0.1))


def test_an_answer_that_takes_too_long_is_given_up(tmp_path: Path, commands: MemoryCommands) -> None:
    commands.may_end.clear()
    with ControlServer(commands, tmp_path):
        assert "in time" in busy(ControlClient(tmp_path, patience=0.1))
        assert commands.begun.wait(PATIENCE)
    assert commands.requests == ["sync"]


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: type(problem).__name__)
def test_a_problem_of_the_daemon_arrives_with_its_words_state_and_code(
    tmp_path: Path, commands: MemoryCommands, problem: SyncdError
) -> None:
    commands.fault = problem
    with ControlServer(commands, tmp_path), pytest.raises(SyncdError) as caught:
        ControlClient(tmp_path).sync()
    assert (str(caught.value), caught.value.state, caught.value.code) == (str(problem), problem.state, problem.code)


def test_a_stop_reaches_the_client_as_a_daemon_that_ends(tmp_path: Path, commands: MemoryCommands) -> None:
    commands.fault = Stopped("syncd is ending")
    with ControlServer(commands, tmp_path):
        assert "ending" in busy(ControlClient(tmp_path))


@pytest.mark.parametrize("fault", [ValueError(SECRET), SystemExit(SECRET)], ids=["error", "exit"])
def test_an_unforeseen_exception_is_logged_by_type_and_place_without_its_text(
    tmp_path: Path, commands: MemoryCommands, fault: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    commands.fault = fault
    with ControlServer(commands, tmp_path), caplog.at_level(logging.DEBUG):
        with pytest.raises(SyncdError, match=type(fault).__name__) as caught:
            ControlClient(tmp_path).sync()
        commands.fault = None
        assert ControlClient(tmp_path).sync() == [PULL, PUSH]
    (line,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert f"unforeseen {type(fault).__name__} at {__file__}:" in line
    assert (caught.value.state, caught.value.code) == ("needs_you", 1)
    assert SECRET not in f"{caught.value!r}{caplog.text}"


def test_a_long_sync_holds_up_no_other_question(tmp_path: Path, commands: MemoryCommands) -> None:
    commands.may_end.clear()
    line = ControlClient(tmp_path)
    with ControlServer(commands, tmp_path), asking(line.sync) as syncing:
        assert commands.begun.wait(PATIENCE)
        assert line.confirm("team") == (30, [PUSH])
        assert not syncing.done()
        commands.may_end.set()
        assert syncing.result(PATIENCE) == [PULL, PUSH]


def test_many_may_ask_at_once_and_each_is_answered(tmp_path: Path, commands: MemoryCommands) -> None:
    line = ControlClient(tmp_path)
    with ControlServer(commands, tmp_path), ThreadPoolExecutor(16) as pool:
        names = [f"a{number}" for number in range(32)]
        assert list(pool.map(line.pull, names)) == [[PULL]] * 32
    assert sorted(commands.requests) == sorted(f"pull {name}" for name in names)


def test_an_ending_daemon_answers_clients_that_wait_for_a_command_that_hangs(
    tmp_path: Path, commands: MemoryCommands
) -> None:
    commands.may_end.clear()
    control = ControlServer(commands, tmp_path)
    with asking(ControlClient(tmp_path).sync) as syncing:
        assert commands.begun.wait(PATIENCE)
        control.close()  # while the commands hangs: this test would never end otherwise
        with pytest.raises(LedgerBusy, match="ending"):
            syncing.result(PATIENCE)
    assert not (tmp_path / FILE).exists()


def test_a_connection_without_a_request_does_not_keep_the_daemon_from_ending(
    tmp_path: Path, commands: MemoryCommands
) -> None:
    with socket.socket(socket.AF_UNIX) as silent, socket.socket(socket.AF_UNIX) as half:
        with ControlServer(commands, tmp_path):
            for client in (silent, half):
                client.connect(str(tmp_path / FILE))
                client.settimeout(PATIENCE)
            half.sendall(b"POST /sync HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab")
            assert ControlClient(tmp_path).unsaved_runs() == [PULL]
        assert silent.recv(1) == b""
        while half.recv(1000):
            pass


DAEMON = """
import sys, threading
from pathlib import Path
from syncd.daemon.control import ControlServer

class Hanging:
    def sync(self):
        print("begun", flush=True)
        threading.Event().wait()

with ControlServer(Hanging(), Path(sys.argv[1])):
    print("ready", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def daemon(folder: Path) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(
        [sys.executable, "-c", DAEMON, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def said(process: "subprocess.Popen[str]") -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def test_a_daemon_that_is_killed_in_the_middle_leaves_nobody_waiting(tmp_path: Path, commands: MemoryCommands) -> None:
    with daemon(tmp_path) as process:
        assert said(process) == "ready"
        with asking(ControlClient(tmp_path).sync) as syncing:
            assert said(process) == "begun"
            process.kill()
            with pytest.raises(LedgerBusy, match="try again"):
                syncing.result(PATIENCE)
    with ControlServer(commands, tmp_path):
        assert ControlClient(tmp_path).sync() == [PULL, PUSH]


def test_a_command_that_hangs_does_not_keep_the_process_from_ending(tmp_path: Path) -> None:
    with daemon(tmp_path) as process:
        assert said(process) == "ready"
        with asking(ControlClient(tmp_path).sync) as syncing:
            assert said(process) == "begun"
            process.communicate("end\n", timeout=PATIENCE)
            assert process.returncode == 0
            assert isinstance(syncing.exception(PATIENCE), LedgerBusy)
