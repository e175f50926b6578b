# SPDX-License-Identifier: Apache-2.0
"""SIGTERM and SIGINT as a wish to end, which work asks for between its steps; SIGHUP as one to read anew."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Literal

from syncd.errors import Stopped


class StopRequest:
    """Whether syncd is to end; ``interrupted`` if a person pressed Ctrl-C."""

    def __init__(self) -> None:
        self._told = threading.Event()
        self._called = threading.Event()
        self._reload = False
        self.interrupted = False

    def tell(self, number: int = signal.SIGTERM) -> None:
        """End."""
        self.interrupted |= number == signal.SIGINT
        self._told.set()
        self._called.set()

    def reload(self) -> None:
        """Read the configuration again."""
        self._reload = True
        self._called.set()

    def wait_for_next(self, seconds: float) -> Literal["end", "reload"] | None:
        """Wait for a wish, for some seconds at most; ``None`` if none has come."""
        self._called.wait(seconds)
        if self._told.is_set():
            return "end"
        self._called.clear()
        reload, self._reload = self._reload, False
        return "reload" if reload else None

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for it, for some seconds at most; whether it has come."""
        return self._told.wait(seconds)

    def check(self) -> None:
        """Raise Stopped if syncd is to end."""
        if self._told.is_set():
            raise Stopped("syncd is ending")


@contextmanager
def signalled(*, reloads: bool = False) -> Iterator[StopRequest]:
    """A StopRequest set by SIGTERM and SIGINT, with ``reloads`` also by SIGHUP, in place of their usual effect."""
    ending = StopRequest()

    def heard(number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            ending.reload()
        else:
            ending.tell(number)

    wishes = (signal.SIGTERM, signal.SIGINT, *([signal.SIGHUP] if reloads else []))
    before = {number: signal.signal(number, heard) for number in wishes}
    try:
        yield ending
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
