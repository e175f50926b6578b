# SPDX-License-Identifier: Apache-2.0
"""The thread that writes to the ledger: writes that meet are committed together, with one fsync for all.

One writer at a time is SQLite's rule. Threads that wait for each other's transactions through SQLite's busy handler
sleep most of the time: 220 writes a second by four threads, 10,000 when one thread commits what has queued up.
"""

import sqlite3
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Lock, Thread, current_thread
from typing import Any, TypeVar

from msgspec import Struct

from syncd.errors import LedgerError

T = TypeVar("T")

GROUP = 256
"""Writes that are committed together at the most."""


class _Write(Struct):
    """A write in the queue: what it does, and the future of its result."""

    work: Callable[[sqlite3.Connection], Any]
    future: Future[Any]


class _Result(Struct):
    """What a write returned or raised; valid once the group is committed."""

    value: Any = None
    error: Exception | None = None


class Writer:
    """Does writes in a thread of its own, which begins with the first one; ``connect`` opens its connection there."""

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connect = connect
        self._queue: SimpleQueue[_Write | None] = SimpleQueue()
        self._thread: Thread | None = None
        self._closed = False
        self._lock = Lock()

    def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do ``work`` all or nothing; its result when it is committed. Raises what it raises, or why it is not."""
        if current_thread() is self._thread:
            raise RuntimeError("a write inside a write would wait for itself")
        future: Future[T] = Future()
        with self._lock:
            if self._closed:
                raise LedgerError("the ledger is closed")
            if self._thread is None:
                self._thread = Thread(target=self._loop, name="ledger", daemon=True)
                self._thread.start()
            self._queue.put(_Write(work, future))
        return future.result()

    def close(self) -> None:
        """Finish the writes in the queue, and end the thread."""
        with self._lock:
            self._closed = True
            thread, self._thread = self._thread, None
            self._queue.put(None)
        if thread is not None:
            thread.join()

    def _loop(self) -> None:
        connection: sqlite3.Connection | None = None
        while group := self._next_group():
            try:
                connection = connection or self._connect()
                _commit(connection, group)
            except BaseException as error:  # noqa: BLE001 -- it belongs to those who wait; the thread goes on
                for write in group:
                    write.future.set_exception(error)
        if connection is not None:
            connection.close()

    def _next_group(self) -> list[_Write]:
        """Wait for a write; return it and those queued behind it. Empty at the end."""
        group: list[_Write] = []
        while not group or (len(group) < GROUP and not self._queue.empty()):
            write = self._queue.get()
            if write is None:
                self._queue.put(None)  # for the next look, when this group is done
                break
            group.append(write)
        return group


def _commit(connection: sqlite3.Connection, group: list[_Write]) -> None:
    """Commit a group. Raises what keeps all of it from the disk; nobody has a result before."""
    if len(group) == 1:
        group[0].future.set_result(transaction(connection, group[0].work))
        return
    results = transaction(connection, lambda _: [_attempt(connection, write) for write in group])
    for write, result in zip(group, results, strict=True):
        if result.error is None:
            write.future.set_result(result.value)
        else:
            write.future.set_exception(result.error)


def transaction(connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], T]) -> T:
    """Do ``work`` all or nothing. BEGIN IMMEDIATE: a deferred one fails at once when another process commits."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        value = work(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return value


def _attempt(connection: sqlite3.Connection, write: _Write) -> _Result:
    """One write of a group, undone alone if it fails. Raises if SQLite has given up the whole transaction."""
    connection.execute("SAVEPOINT one")
    try:
        result = _Result(value=write.work(connection))
    except Exception as error:
        if not connection.in_transaction:
            raise
        connection.execute("ROLLBACK TO one")
        result = _Result(error=error)
    connection.execute("RELEASE one")
    return result
