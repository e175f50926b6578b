# SPDX-License-Identifier: Apache-2.0
"""Runs uvicorn in a thread of its own. Signals stay with the main thread."""

import asyncio
import os
import socket
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import uvicorn
from starlette.types import ASGIApp

from syncd.errors import NeedsYou

BACKLOG = 128
LAST_ANSWERS = 1.0
"""Seconds that answers which have begun get to finish when the server is closed."""


class RunningServer:
    """An application that is served from construction until ``close()``.

    ``listen`` is ``HOST:PORT`` (port 0 is any free one), ``unix:PATH``, or a socket that listens already. ``url`` is
    the origin, without a slash at the end; empty for a unix socket. ``X-Forwarded-*`` headers are believed if they come
    from ``trusted_proxies``. Raises NeedsYou if the address is taken or does not belong to this machine.
    """

    def __init__(
        self, app: ASGIApp, listen: str | socket.socket = "127.0.0.1:0", trusted_proxies: Sequence[str] = ()
    ) -> None:
        self._socket, self.url = (listen, "") if isinstance(listen, socket.socket) else _listen(listen)
        self._server = _Server(
            uvicorn.Config(
                app,
                http="h11",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=bool(trusted_proxies),
                forwarded_allow_ips=list(trusted_proxies),
            )
        )
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), daemon=True)
        self._thread.start()
        self._server.ready.wait()

    def close(self) -> None:
        """Stop serving and close every connection; answers that have begun get a second to finish."""
        self._server.stop()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def unix_socket(path: Path, mode: int) -> socket.socket:
    """A socket that listens at ``path``; one that a killed process has left there is replaced. Raises OSError.

    It gets its ``mode`` before it listens, so that nobody can connect to it earlier.
    """
    if path.is_socket():
        path.unlink()
    server = socket.socket(socket.AF_UNIX)
    try:
        os.fchmod(server.fileno(), mode)  # Linux creates the file with these rights, less the umask
        server.bind(str(path))
        path.chmod(mode)
        server.listen(BACKLOG)
    except OSError:
        server.close()
        raise
    return server


def _listen(address: str) -> tuple[socket.socket, str]:
    try:
        if address.startswith("unix:"):
            return unix_socket(Path(address.removeprefix("unix:")), 0o660), ""
        host, _, port = address.rpartition(":")
        host = host.strip("[]")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        server = socket.create_server((host, int(port)), family=family, backlog=BACKLOG)
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # asyncio does not for a socket it is given
    except OSError as error:
        raise NeedsYou(f"feeds.listen: cannot listen on {address}: {error.strerror}; choose another address") from None
    name = f"[{host}]" if family == socket.AF_INET6 else host
    return server, f"http://{name}:{server.getsockname()[1]}"


class _Server(uvicorn.Server):
    """A server that signals when it has started and stops at once; uvicorn polls every tenth of a second for both."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop
        self._ended: asyncio.Event

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        await super().startup(sockets)
        self.ready.set()

    async def main_loop(self) -> None:
        await self._ended.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, without its pauses of a tenth of a second."""
        for server in self.servers:
            server.close()
        for each in sockets or []:
            each.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        end = self._loop.time() + LAST_ANSWERS
        while self.server_state.connections and self._loop.time() < end:
            await asyncio.sleep(0.001)

    def stop(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._ended.set)
