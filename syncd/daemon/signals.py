# SPDX-License-Identifier: Apache-2.0
"""SIGTERM and SIGINT ask syncd to stop, which work checks between its steps; SIGHUP asks it to reload."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Literal

from syncd.errors import Stopped


class StopRequest:
    """Whether syncd was asked to stop, or to read its configuration again; ``interrupted`` if by Ctrl-C."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._any = threading.Event()
        self._reload = False
        self.interrupted = False

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Ask syncd to stop, as the signal of this number does."""
        self.interrupted |= number == signal.SIGINT
        self._stop.set()
        self._any.set()

    def reload(self) -> None:
        """Ask for the configuration to be read again."""
        self._reload = True
        self._any.set()

    def wait_for_next(self, seconds: float) -> Literal["stop", "reload"] | None:
        """Wait for a request, for some seconds at most; ``None`` if none has come."""
        self._any.wait(seconds)
        if self._stop.is_set():
            return "stop"
        self._any.clear()
        reload, self._reload = self._reload, False
        return "reload" if reload else None

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for a request to stop, for some seconds at most; whether it has come."""
        return self._stop.wait(seconds)

    def check(self) -> None:
        """Raise Stopped if syncd was asked to stop."""
        if self._stop.is_set():
            raise Stopped("syncd is ending")


@contextmanager
def signalled(*, reloads: bool = False) -> Iterator[StopRequest]:
    """A StopRequest set by SIGTERM and SIGINT, with ``reloads`` also by SIGHUP, in place of their usual effect."""
    request = StopRequest()

    def handle(number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            request.reload()
        else:
            request.stop(number)

    handled = (signal.SIGTERM, signal.SIGINT, *([signal.SIGHUP] if reloads else []))
    before = {number: signal.signal(number, handle) for number in handled}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
