# SPDX-License-Identifier: Apache-2.0
"""A scheduler in the test's own thread."""

from collections.abc import Callable
from concurrent.futures import Future
from datetime import datetime


class SingleThread:
    """Starts what was submitted when the test calls ``run()``; ``later`` says by name what is due when."""

    def __init__(self) -> None:
        self.later: dict[str, datetime] = {}
        self._due: list[Callable[[], object]] = []

    def submit(self, _host: str, _name: str, work: Callable[[], object]) -> "Future[object]":
        self._due.append(work)
        return Future()

    def submit_at(self, moment: datetime, _host: str, name: str, _work: Callable[[], object]) -> None:
        self.later[name] = moment

    def start(self) -> None:
        return

    def shutdown(self) -> None:
        return

    def run(self) -> None:
        while self._due:
            self._due.pop(0)()
