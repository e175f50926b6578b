# SPDX-License-Identifier: Apache-2.0
"""A progress bar on a terminal, for work of more than two seconds. Elsewhere it prints nothing."""

import sys
import threading
import time
from collections.abc import Callable
from typing import Self

import click

PATIENCE = 2.0
EVERY = 0.1
"""Seconds before the bar appears, and between two changes of it."""

WIDTH = 30


class TerminalProgress:
    """One line on stderr, removed at the end. Threads may share it.

    ``check`` is called at every step; it may raise Stopped.
    """

    def __init__(self, check: Callable[[], None] = lambda: None) -> None:
        self._check = check
        self._begun = self._drawn = time.monotonic()
        self._open = sys.stderr.isatty()
        self._lock = threading.Lock()

    def show(self, name: str, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` steps of the work ``name`` are done."""
        self._check()
        now = time.monotonic()
        if not self._open or not total or now - self._begun < PATIENCE or now - self._drawn < EVERY:
            return
        with self._lock:
            self._drawn = now
            bar = "#" * (WIDTH * done // total)
            click.echo(f"\r\033[K{name:12.12} [{bar:{WIDTH}}] {done}/{total}", nl=False, err=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._open and self._drawn > self._begun:
            click.echo("\r\033[K", nl=False, err=True)
