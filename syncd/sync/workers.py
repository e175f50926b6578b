# SPDX-License-Identifier: Apache-2.0
"""Calls a function for many items in several threads, and gives the results to the caller's one thread."""

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


class _Ended:
    """Put among the results by each worker when it ends."""


def in_parallel(work: Sequence[T], do: Callable[[T], R], workers: int) -> Generator[list[R], None, None]:
    """Call ``do`` for every item; yields the results in lists: each has those that came while the caller was busy.

    A single worker is the caller's own thread. What ``do`` raises is raised here in the end, after the others' work.
    A caller that ends the iteration waits for what has begun; the rest is not done.
    """
    if workers == 1:
        yield from ([do(item)] for item in work)
        return
    waiting, done = SimpleQueue[T](), SimpleQueue[R | _Ended]()
    for item in work:
        waiting.put(item)

    def run() -> None:
        try:
            while not waiting.empty():
                with suppress(Empty):  # another worker was faster
                    item = waiting.get_nowait()
                    done.put(do(item))
        finally:
            done.put(_Ended())

    with ThreadPoolExecutor(workers, thread_name_prefix="push") as pool:
        running = [pool.submit(run) for _ in range(workers)]
        try:
            yield from _as_they_come(done, workers)
        finally:
            with suppress(Empty):
                while True:
                    waiting.get_nowait()
        for each in running:
            each.result()


def _as_they_come(done: "SimpleQueue[R | _Ended]", workers: int) -> Iterator[list[R]]:
    while workers:
        found = [done.get()]
        while not done.empty():
            found.append(done.get())
        results = [each for each in found if not isinstance(each, _Ended)]
        workers -= len(found) - len(results)
        if results:
            yield results
