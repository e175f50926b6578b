# SPDX-License-Identifier: Apache-2.0
"""A calendar server on this machine: Radicale in a process of its own, which ends when ours does.

Radicale is run, not imported: it has another licence and is optional.
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

# When our process ends, even by kill -9, the pipe that is the child's standard input is closed; then it ends itself.
_RUN = """
import os, runpy, sys, threading
threading.Thread(target=lambda: (sys.stdin.buffer.read(), os._exit(0)), daemon=True).start()
sys.argv.pop(0)
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
_TRIES = 5
_STEP = 0.02


class Child:
    """A Python module that runs as a server process on 127.0.0.1. Once constructed, it accepts connections.

    ``arguments`` returns its command line for a port. Raises NeedsYou if it does not start.
    """

    def __init__(self, module: str, arguments: Callable[[int], Sequence[str]], log: Path) -> None:
        for _ in range(_TRIES):  # another process may take the port before the server does
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
        """End the process at once."""
        assert self._process.stdin is not None  # noqa: S101 -- it is a pipe
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class CalendarServer:
    """Radicale for one user, with its calendars and its log in ``folder``.

    ``url`` is the server's address, ``home`` the user's, below which calendars can be made. Raises NeedsYou if
    Radicale is not installed.
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
            "config": "",  # this machine may have a configuration for another Radicale
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
        """End the server at once. Its folder stays."""
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
