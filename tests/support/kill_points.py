# SPDX-License-Identifier: Apache-2.0
"""Processes that die at a chosen step: ``Killer`` starts and kills them, a ``KillPoint`` stands before each server.

The kill is SIGKILL from outside; nothing in the process is prepared for it.
"""

import asyncio
import ctypes
import multiprocessing
import os
import re
import signal
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any, Literal, Self

from msgspec import Struct
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from syncd.daemon.client import ControlClient
from syncd.errors import LedgerBusy
from syncd.model import Run
from syncd.transport import HttpClient
from tests.support.calendar_servers import Server
from tests.support.forked_cli import run_syncd

HOP = {"connection", "transfer-encoding", "content-length", "date", "server", "host"}
PATIENCE = 120
LEDGER = "ledger"
LATE = ["encodings.idna", "uvicorn.lifespan.off", "uvicorn.loops.auto", "uvicorn.protocols.http.h11_impl"]
"""What is imported when it is first needed; the forking process imports it once for all."""

STILL = 0.15
"""Seconds without a request after which a daemon is asked whether it has nothing more to do."""

Moment = Literal["before", "after", "later"]
ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22,}|test-\d+|(?<=instances/)\w+")


class Death(Struct, frozen=True):
    """Where a process is killed: at the ``number``-th request that begins with ``place``, such as ``calendar PUT``,
    or, if that is ``ledger``, at that write to the ledger's files.

    ``moment`` is ``before`` the server has done anything, ``after`` it has but before its answer, or ``delay`` seconds
    ``later``. At the request of number ``change`` the meetings change; 0 for none.
    """

    place: str
    number: int
    moment: Moment = "after"
    delay: float = 0.0
    change: int = 0


class ProcessEnd(Struct, frozen=True):
    """How a process ended: its exit code (-9 if it was killed), what it printed, and where it died."""

    code: int
    output: str
    died: str


@cache
def _forks() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.support.forked_cli", *LATE])
    return context


class Killer:
    """Starts one process at a time and kills it where its ``Death`` says.

    ``change`` is called at the request of that number, ``last_look`` before a daemon is killed. ``deaths`` counts the
    places at which processes were killed. The end of the ``with`` block kills what still runs.
    """

    def __init__(self, folder: Path, change: Callable[[], object], last_look: Callable[[], None]) -> None:
        self.deaths: Counter[str] = Counter()
        self._output = folder / "output"
        self._state = folder / "state"
        self._state.mkdir(mode=0o700)
        self._change = change
        self._last_look = last_look
        self._lock = threading.Condition()
        self._killing = threading.Lock()
        self._process: ForkServerProcess | None = None
        self._death: Death | None = None
        self._died = ""
        self._daemon = False
        self._alive = False
        self._inside = 0
        self._requests = self._reached = self._writes = 0
        self._latest = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process:
            self._process.kill()
            self._process.join(PATIENCE)
            self._process.close()

    def run(
        self,
        words: Sequence[str],
        death: Death | None = None,
        *,
        environ: Mapping[str, str] = {},
        wrong: Callable[[], Sequence[str]] | None = None,
    ) -> ProcessEnd:
        """Run ``syncd`` until it ends or is killed.

        A daemon that has nothing more to do before its death is killed then. One without a death gets SIGTERM
        when ``wrong`` finds nothing and a whole round has ended: the calendar may be right before the daemon has
        recorded it, or from the beginning.
        """
        with _writes(self._state) as writes:
            process = self._start(words, death, environ)
            self._await(process, writes, wrong)
        return self._ended(process)

    def _start(self, words: Sequence[str], death: Death | None, environ: Mapping[str, str]) -> ForkServerProcess:
        arguments = (list(words), str(self._output), dict(environ))
        with self._lock:
            self._requests = self._reached = self._writes = 0
            self._death, self._died, self._daemon, self._latest = death, "", "run" in words, 0.0
            self._process = process = _forks().Process(target=run_syncd, args=arguments, daemon=True)
            process.start()
            self._alive = True
        return process

    def _ended(self, process: ForkServerProcess) -> ProcessEnd:
        with self._lock:
            self._alive = False
            assert self._lock.wait_for(lambda: not self._inside, PATIENCE), "a request is still being handled"
            self._process = None
        process.join(PATIENCE)
        code = process.exitcode
        process.close()
        output = self._output.read_text(encoding="utf-8", errors="replace")
        assert "Traceback" not in output, output
        assert "unforeseen" not in output, output
        assert code is not None
        if code == -signal.SIGKILL:
            self.deaths[self._died] += 1
        return ProcessEnd(code, output, self._died)

    def _await(self, process: ForkServerProcess, writes: "_Writes", wrong: Callable[[], Sequence[str]] | None) -> None:
        end, wrongs, is_ended = time.monotonic() + PATIENCE, list[str](), False
        watched: list[Any] = [process.sentinel, *([writes] if self._death and self._death.place == LEDGER else [])]
        with _Round(self._state) as rounds:
            while process.sentinel not in (ready := wait(watched, 0.05)):
                assert time.monotonic() < end, f"it goes on: {wrongs} {self._output.read_text()}"
                if self._death:
                    self._approach(self._death, writes if ready else None, rounds)
                elif wrong and not is_ended:
                    wrongs = list(wrong())
                    is_ended = not wrongs and rounds.is_done()
                    if is_ended:
                        process.terminate()

    def _approach(self, death: Death, writes: "_Writes | None", rounds: "_Round") -> None:
        """Kill the process if it has written to the ledger that often, or has nothing more to do before its death."""
        self._writes += writes.count() if writes else 0
        if writes and self._writes >= death.number:
            time.sleep(death.delay)
            self.kill(LEDGER)
        elif self._daemon and self._is_still() and rounds.is_done():
            self.kill("idle")

    def _is_still(self) -> bool:
        with self._lock:
            return bool(self._latest and not self._inside and time.monotonic() - self._latest > STILL)

    def kill(self, where: str) -> None:
        """Kill the process, and return when it has ended."""
        with self._killing:
            process = self._process
            if process is None or self._died:
                return
            if self._daemon:
                self._last_look()
            self._died = where
            process.kill()
            assert wait([process.sentinel], PATIENCE)

    @contextmanager
    def passing(self, request: str) -> Iterator[tuple[bool, Death | None]]:
        """Handle a request: whether its process still runs, and the death that is due at this request."""
        with self._lock:
            self._inside += 1
            self._latest = time.monotonic()
            self._requests += 1
            lives = self._alive and not self._died
            death = self._death if lives else None
            changes = death is not None and death.change == self._requests
            if death and request.startswith(death.place):
                self._reached += 1
            if death and not (request.startswith(death.place) and self._reached == death.number):
                death = None
        try:
            if changes:
                self._change()
            yield lives, death
        finally:
            with self._lock:
                self._inside -= 1
                self._latest = time.monotonic()
                self._lock.notify_all()


class _Round:
    """Asks the daemon for a whole round, as ``syncd sync`` beside it does. Its ledger lies in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._line = ControlClient(folder, patience=PATIENCE)
        self._pool = ThreadPoolExecutor(1)
        self._asked: Future[list[Run]] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def is_done(self) -> bool:
        """Whether a round has ended that began after the first call of this."""
        if self._asked is None:
            self._asked = self._pool.submit(self._line.sync)
        if not self._asked.done():
            return False
        if isinstance(self._asked.exception(), LedgerBusy):  # it does not listen yet, or is dying
            self._asked = None
            return False
        return bool(self._asked.result())


class KillPoint:
    """Stands before a server's application: kills the process at its death, and refuses requests of a killed one."""

    def __init__(self, name: str, app: ASGIApp, killer: Killer) -> None:
        self._name = name
        self._app = app
        self._killer = killer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        where = f"{self._name} {request.method} {ID.sub('*', request.url.path)}"
        body = await request.body()
        answer: list[Message] = []

        async def again() -> Message:
            return {"type": "http.request", "body": body}

        async def keep(message: Message) -> None:
            answer.append(message)

        with self._killer.passing(where) as (lives, death):
            moment = death and death.moment
            if lives and moment == "before":
                await self._kill(f"{where} before")
            if not lives or moment == "before":
                await Response(status_code=503)(scope, again, send)
                return
            await self._app(scope, again, keep)
            if moment == "after":
                await self._kill(f"{where} after")
            for message in answer:
                await send(message)
            if death and moment == "later":
                await asyncio.sleep(death.delay)
                await self._kill(f"{where} later")

    async def _kill(self, where: str) -> None:
        await run_in_threadpool(self._killer.kill, where)


class CalendarProxy:
    """Passes requests on to a calendar server. ``writes`` counts those that change something, ``faults`` says what was
    wrong with them: each must have a condition, and SEQUENCE never goes down.
    """

    def __init__(self, server: Server) -> None:
        self.writes = 0
        self.faults: list[str] = []
        self._sequences: Counter[str] = Counter()
        self._server = server
        self._remote = HttpClient("behind")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        answer = await run_in_threadpool(self._pass_on, request, await request.body())
        await answer(scope, receive, send)

    def _pass_on(self, request: Request, body: bytes) -> Response:
        headers = {name: value for name, value in request.headers.items() if name not in HOP}
        url = self._server.url.rstrip("/") + request.url.path
        answer = self._remote.send(request.method, url, headers=headers, content=body)
        if request.method in ("PUT", "DELETE"):
            self.writes += 1
            if not {"if-match", "if-none-match"} & set(headers):
                self.faults.append(f"{request.method} without a condition")
            if answer.status < 300:
                self._note(request.url.path, re.findall(rb"^SEQUENCE:(\d+)", body, re.MULTILINE))
        kept = {name: value for name, value in answer.headers.items() if name not in HOP}
        return Response(answer.body, answer.status, kept)

    def _note(self, path: str, sequences: list[bytes]) -> None:
        highest = max(map(int, sequences), default=self._sequences[path])
        if highest < self._sequences[path]:
            self.faults.append(f"SEQUENCE went down from {self._sequences[path]} to {highest}")
        self._sequences[path] = highest

    def close(self) -> None:
        self._remote.close()


class _Writes:
    """Counts the writes to the ledger's files, as the kernel reports them (inotify(7))."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def fileno(self) -> int:
        return self._descriptor

    def count(self) -> int:
        """How many there were since the last call."""
        events, place, found = os.read(self._descriptor, 1 << 16), 0, 0
        while place < len(events):
            _, _, _, length = struct.unpack_from("iIII", events, place)
            found += events[place + 16 : place + 16 + length].startswith(b"ledger")
            place += 16 + length
        return found


IN_MODIFY, IN_CREATE = 0x2, 0x100


@contextmanager
def _writes(folder: Path) -> Iterator[_Writes]:
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(os.O_CLOEXEC)
    try:
        assert libc.inotify_add_watch(descriptor, os.fsencode(folder), IN_MODIFY | IN_CREATE) >= 0
        yield _Writes(descriptor)
    finally:
        os.close(descriptor)
