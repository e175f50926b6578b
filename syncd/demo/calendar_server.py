# SPDX-License-Identifier: Apache-2.0
"""A calendar server on this machine: Radicale in a process of its own, which never outlives ours.

Radicale is run, not imported: it is a program under another licence, and an optional one.
"""

import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

from syncd.errors import NeedsYou

# Whatever ends us, kill -9 too, closes the pipe that is the child's standard input; then it ends itself.
_RUN = """
import os, runpy, sys, threading
threading.Thread(target=lambda: (sys.stdin.buffer.read(), os._exit(0)), daemon=True).start()
sys.argv.pop(0)
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
_TRIES = 5
_STEP = 0.02


class Child:
    """A Python module run as a server process of 127.0.0.1, which answers once this is constructed.

    ``arguments`` makes its command line from a free port. Raises NeedsYou if it does not start.
    """

    def __init__(self, module: str, arguments: Callable[[int], Sequence[str]], log: Path) -> None:
        for _ in range(_TRIES):  # somebody else may take the port before the server does
            self.port = _free_port()
            with log.open("wb") as output:
                self._process = subprocess.Popen(  # noqa: S603 -- our own interpreter
                    [sys.executable, "-P", "-c", _RUN, module, *arguments(self.port)],
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=output,
                )
            if self._answers():
                return
            self.close()
        raise NeedsYou(f"{module} does not start on this machine; it says why in {log}")

    def _answers(self) -> bool:
        while True:
            try:
                self._process.wait(_STEP)
            except subprocess.TimeoutExpired:
                try:
                    socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                except OSError:
                    continue
                return True
            return False

    def close(self) -> None:
        """End the process, now."""
        assert self._process.stdin is not None  # noqa: S101 -- it is a pipe
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class CalendarServer:
    """Radicale for one user, with its calendars and its log in ``folder``.

    Calendars live below ``url``; below ``home`` the user may make some. Raises NeedsYou if Radicale is not
    installed.
    """

    def __init__(self, folder: Path, *, username: str, password: str) -> None:
        if find_spec("radicale") is None:
            raise NeedsYou("the calendar server of the demo is missing: pip install 'syncd[demo]'")
        self.username = username
        self.password = password
        folder.mkdir(parents=True, exist_ok=True)
        self._users = folder / "users"
        self._users.touch(mode=0o600)
        self._users.write_text(f"{username}:{password}\n", encoding="utf-8")
        self._collections = folder / "collections"
        self._child = Child("radicale", self._arguments, folder / "radicale.log")
        self.url = f"http://127.0.0.1:{self._child.port}/"
        self.home = f"{self.url}{username}/"

    def _arguments(self, port: int) -> Sequence[str]:
        options = {
            "config": "",  # whatever this machine has configured for Radicale is none of our business
            "server-hosts": f"127.0.0.1:{port}",
            "storage-filesystem-folder": str(self._collections),
            "auth-type": "htpasswd",
            "auth-htpasswd-filename": str(self._users),
            "auth-htpasswd-encryption": "plain",
            "auth-delay": "0",
            "logging-level": "warning",
        }
        return [f"--{name}={value}" for name, value in options.items()]

    def close(self) -> None:
        """End the server, now; what lies in its folder stays."""
        self._child.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
