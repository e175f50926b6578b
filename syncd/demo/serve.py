# SPDX-License-Identifier: Apache-2.0
"""Records the requests to an embedded server and makes answers fail: ``Traffic`` wraps its application.

``RunningServer`` is the one of ``web``: it serves an application on a real socket of this machine.
"""

import threading
from collections.abc import Mapping
from urllib.parse import parse_qsl

from msgspec import Struct
from msgspec.structs import replace
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from syncd.web.server import RunningServer

__all__ = ["Request", "RunningServer", "Traffic"]


class Request(Struct, frozen=True):
    """A request as it arrived. ``path`` is without the query; of a repeated name the last value is in ``query``."""

    method: str
    path: str
    query: Mapping[str, str]


class _Fault(Struct, frozen=True):
    prefix: str
    method: str | None
    after: int
    times: int
    answer: Response | None
    mend: bool = False

    def concerns(self, request: Request) -> bool:
        return request.path.startswith(self.prefix) and self.method in (None, request.method)


class Traffic:
    """Wraps an application; ``log`` are the requests in the order of their arrival.

    ``fail`` and ``cut`` spoil future answers. Both let ``after`` matching requests pass and then spoil ``times`` of
    them. A request matches by the beginning of its path and, if given, by its ``method``.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._lock = threading.Lock()
        self._faults: list[_Fault] = []
        self.log: list[Request] = []

    def fail(
        self,
        path_prefix: str,
        *,
        status: int = 503,
        body: bytes | str = b"",
        content_type: str = "text/plain; charset=utf-8",
        headers: Mapping[str, str] | None = None,
        method: str | None = None,
        times: int = 1,
        after: int = 0,
    ) -> None:
        """Send this answer instead of calling the application."""
        answer = Response(body, status, {"content-type": content_type, **(headers or {})})
        with self._lock:
            self._faults.append(_Fault(path_prefix, method, after, times, answer))

    def cut(
        self,
        path_prefix: str,
        *,
        mend: bool = False,
        method: str | None = None,
        times: int = 1,
        after: int = 0,
    ) -> None:
        """Send half of the application's answer, then break the connection.

        With ``mend`` Content-Length is that of the half, so that only the content is cut and HTTP sees a whole answer.
        """
        with self._lock:
            self._faults.append(_Fault(path_prefix, method, after, times, None, mend))

    def clear(self) -> None:
        """Forget the requests so far and the faults that have not happened."""
        with self._lock:
            self._faults.clear()
            self.log.clear()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
        request = Request(scope["method"], scope["path"], query)
        with self._lock:
            self.log.append(request)
            fault = self._next_fault(request)
        if fault is None:
            await self._app(scope, receive, send)
        elif fault.answer is None:
            await self._app(scope, receive, _Half(send, fault.mend))
        else:
            while (await receive()).get("more_body"):
                pass  # an unread body would keep the connection from being used again
            await fault.answer(scope, receive, send)

    def _next_fault(self, request: Request) -> _Fault | None:
        for place, fault in enumerate(self._faults):
            if not fault.concerns(request):
                continue
            if fault.after:
                self._faults[place] = replace(fault, after=fault.after - 1)
                continue
            self._faults[place] = replace(fault, times=fault.times - 1)
            if fault.times <= 1:
                del self._faults[place]
            return fault
        return None


class _Half:
    """Sends the first half of an answer; without ``mend``, uvicorn then breaks the connection."""

    def __init__(self, send: Send, mend: bool) -> None:
        self._send = send
        self._mend = mend
        self._start: Message = {}
        self._body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            return
        self._body += message.get("body", b"")
        if message.get("more_body"):
            return
        half = self._body[: len(self._body) // 2]
        length = len(half) if self._mend else len(self._body)
        headers = [(name, value) for name, value in self._start["headers"] if name != b"content-length"]
        headers.append((b"content-length", str(length).encode()))
        await self._send({**self._start, "headers": headers})
        await self._send({"type": "http.response.body", "body": half, "more_body": not self._mend})
