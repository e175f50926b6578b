# SPDX-License-Identifier: Apache-2.0
"""The daemon's control socket, ``control.sock`` beside the ledger: how commands ask the daemon to do their work.

HTTP over a unix socket that only the daemon's own user (and root) can open; that is all the protection there is.
Nothing is decided here: what ``Commands`` returns or raises is sent to the client.
"""

import logging
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from syncd.daemon.wire import ENDING, FILE, TROUBLE, WireError, socket_address
from syncd.errors import LedgerError, Stopped, SyncdError
from syncd.model import Run
from syncd.web.server import RunningServer, unix_socket

log = logging.getLogger(__name__)

T = TypeVar("T")


class Commands(Protocol):
    """What the daemon does for commands. Called from several threads at once; may raise any SyncdError."""

    def sync(self) -> list[Run]:
        """Pull and push everything now; the runs that did it, when they have ended."""

    def pull(self, account: str) -> list[Run]:
        """Pull one account now and do what follows from it."""

    def confirm(self, name: str) -> tuple[int, list[Run]]:
        """Let a held deletion pass: how many entries (0 if none was held), and the runs that carried it out."""

    def unsaved_runs(self) -> list[Run]:
        """The runs that could not be saved in the ledger, and so are only in the daemon."""


class ControlServer:
    """The daemon's end: serves ``commands`` at the control socket of ``folder``, until ``close()``.

    Its maker holds the lock of the ledger there, so a socket that is found was left by a daemon that was killed.
    Raises LedgerError if the socket cannot be made.
    """

    def __init__(self, commands: Commands, folder: Path) -> None:
        self._commands = commands
        self._path = folder / FILE
        self._closing: Future[Response] = Future()
        routes = [
            Route("/", _here),
            Route("/sync", self._sync, methods=["POST"]),
            Route("/pull", self._pull, methods=["POST"]),
            Route("/confirm", self._confirm, methods=["POST"]),
            Route("/unsaved", self._unsaved, methods=["POST"]),
        ]
        try:
            with socket_address(folder) as address:
                listening = unix_socket(address, 0o600)
        except OSError as error:
            raise LedgerError(
                f"{self._path}: the control socket cannot be made: {error.strerror}; look at the folder's owner, "
                "rights and file system"
            ) from None
        self._server = RunningServer(Starlette(routes=routes), listening)

    def close(self) -> None:
        """Stop listening; clients that wait for an answer get one: the daemon is ending. Takes a second at most."""
        if not self._closing.done():
            self._path.unlink(missing_ok=True)
            self._closing.set_result(Response(status_code=ENDING))
        self._server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Synchronous functions: Starlette runs each in a thread of its pool, so that a long sync delays no other request.

    def _sync(self, _request: Request) -> Response:
        return self._answer(self._commands.sync)

    def _pull(self, request: Request) -> Response:
        return self._answer(lambda: self._commands.pull(_name(request)))

    def _confirm(self, request: Request) -> Response:
        return self._answer(lambda: self._commands.confirm(_name(request)))

    def _unsaved(self, _request: Request) -> Response:
        return self._answer(self._commands.unsaved_runs)

    def _answer(self, work: Callable[[], object]) -> Response:
        """Answer when the work is done, or when the daemon ends, whichever is first.

        The work has a daemon thread: Starlette's are joined at exit, and one that hangs would hold up the end.
        """
        answer: Future[Response] = Future()
        if not self._closing.done():
            threading.Thread(target=lambda: answer.set_result(_done(work)), daemon=True).start()
            wait((answer, self._closing), return_when=FIRST_COMPLETED)
        return (answer if answer.done() else self._closing).result()


async def _here(_request: Request) -> Response:
    """Needs no thread, so it is answered though all of them wait."""
    return Response()


def _name(request: Request) -> str:
    return request.query_params.get("name", "")


def _done(work: Callable[[], object]) -> Response:
    """Do the work; the answer is its result or its error."""
    try:
        return Response(msgspec.json.encode(work()))
    except Stopped:
        return Response(status_code=ENDING)
    except SyncdError as error:
        problem = WireError(str(error), error.state, error.code)
    except BaseException as error:  # noqa: BLE001 -- whatever it is, a client waits for an answer
        where = traceback.extract_tb(error.__traceback__)[-1]
        log.error("control: unforeseen %s at %s:%s", type(error).__name__, where.filename, where.lineno)
        problem = WireError(f"the daemon met an unforeseen {type(error).__name__}: look at its log", "needs_you", 1)
    return Response(msgspec.json.encode(problem), status_code=TROUBLE)
