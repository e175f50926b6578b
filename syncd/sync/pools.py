# SPDX-License-Identifier: Apache-2.0
"""Threads for jobs on many hosts: each host has its own, so that a slow one never holds the threads of another."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self, TypeVar

T = TypeVar("T")


class HostPools:
    """For every host a pool of at most ``threads``, made when it is first needed."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._lock = threading.Lock()
        self._closed = False
        self._pools: dict[str, ThreadPoolExecutor] = {}

    def submit(self, host: str, work: Callable[[], T]) -> "Future[T]":
        """Call ``work`` when a thread of this host is free; the future is cancelled if ``close()`` comes first."""
        with self._lock:
            if self._closed:
                cancelled: Future[T] = Future()
                cancelled.cancel()
                return cancelled
            if host not in self._pools:
                self._pools[host] = ThreadPoolExecutor(self._threads, thread_name_prefix=host)
            return self._pools[host].submit(work)

    def close(self) -> None:
        """Wait until all that runs has ended; what has not begun is cancelled."""
        with self._lock:
            self._closed = True
            pools = list(self._pools.values())
        for pool in pools:
            pool.shutdown(wait=False, cancel_futures=True)
        for pool in pools:
            pool.shutdown(wait=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
