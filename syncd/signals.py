# SPDX-License-Identifier: Apache-2.0
"""SIGTERM and SIGINT as a wish to end, which work asks for between its steps."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from syncd.errors import Stopped


class Ending:
    """Whether syncd is to end; ``interrupted`` if a person pressed Ctrl-C."""

    def __init__(self) -> None:
        self._told = threading.Event()
        self.interrupted = False

    def tell(self, number: int = signal.SIGTERM) -> None:
        """End."""
        self.interrupted |= number == signal.SIGINT
        self._told.set()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for it, for some seconds at most; whether it has come."""
        return self._told.wait(seconds)

    def check(self) -> None:
        """Raise Stopped if syncd is to end."""
        if self._told.is_set():
            raise Stopped("syncd is ending")


@contextmanager
def signalled() -> Iterator[Ending]:
    """An ``Ending`` that SIGTERM and SIGINT tell, in place of what they usually do."""
    ending = Ending()

    def heard(number: int, _frame: FrameType | None) -> None:
        ending.tell(number)

    before = {number: signal.signal(number, heard) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield ending
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
