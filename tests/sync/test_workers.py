# SPDX-License-Identifier: Apache-2.0
import threading
from contextlib import closing

import pytest

from syncd.sync.workers import in_parallel


@pytest.mark.parametrize("workers", [1, 4])
def test_all_is_done_once_and_every_result_is_given(workers: int) -> None:
    results = [each for some in in_parallel(range(100), lambda number: number * 2, workers) for each in some]
    assert sorted(results) == [number * 2 for number in range(100)]


def test_as_many_are_done_at_a_time_as_there_are_workers() -> None:
    together = threading.Barrier(4, timeout=30)
    results = [each for some in in_parallel(range(4), lambda _: together.wait(), 4) for each in some]
    assert sorted(results) == [0, 1, 2, 3]


def test_what_ended_while_the_caller_was_busy_is_given_together() -> None:
    ended = threading.Semaphore(0)
    going = in_parallel(range(8), lambda _: ended.release(), 2)
    counts: list[int] = []
    for some in going:
        if not counts:  # the caller is busy until all have ended
            for _ in range(8):
                assert ended.acquire(timeout=30)
        counts.append(len(some))
    assert sum(counts) == 8
    assert len(counts) <= 4


@pytest.mark.parametrize("workers", [1, 4])
def test_what_is_raised_reaches_the_caller(workers: int) -> None:
    with pytest.raises(ZeroDivisionError):
        list(in_parallel([1, 0], lambda number: 1 // number, workers))


def test_a_caller_that_goes_away_waits_for_what_has_begun_and_no_more() -> None:
    begun: list[int] = []
    with closing(in_parallel(range(1000), begun.append, 1)) as going:
        next(going)
    assert begun == [0]
    gate = threading.Event()
    with closing(in_parallel(range(1000), lambda number: number and gate.wait(30), 4)) as going:
        next(going)
        threading.Timer(0, gate.set).start()
    assert not [each for each in threading.enumerate() if each.name.startswith("push")]
