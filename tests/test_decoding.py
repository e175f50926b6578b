# SPDX-License-Identifier: Apache-2.0
import subprocess
import sys

import msgspec
import pytest

from syncd.decoding import decode
from syncd.model import RunKey

MANY_THREADS = """
import sys, threading, msgspec
from syncd.decoding import decode
sys.setswitchinterval(1e-6)
for number in range(100):
    inner = msgspec.defstruct(f"Inner{number}", [("a", str), ("b", int | None)])
    outer = msgspec.defstruct(f"Outer{number}", [*((f"f{n}", inner | None) for n in range(10)), ("all", list[inner])])
    body = msgspec.json.encode({f"f{n}": None for n in range(10)} | {"all": [{"a": "a", "b": None}]})
    barrier = threading.Barrier(4)
    threads = [threading.Thread(target=lambda: (barrier.wait(), decode(body, outer))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
print("alive")
"""


def test_many_threads_may_decode_a_type_for_the_first_time() -> None:
    """With ``msgspec.json.decode(body, type=outer)`` this process dies of SIGSEGV."""
    ran = subprocess.run([sys.executable, "-c", MANY_THREADS], capture_output=True, text=True, check=False, timeout=100)
    assert (ran.returncode, ran.stdout) == (0, "alive\n")


def test_what_is_not_of_the_type_is_msgspecs_error() -> None:
    assert decode(b'["pull", "work"]', RunKey) == RunKey("pull", "work")
    for text in (b'["other", "work"]', b"{}", b"["):
        with pytest.raises(msgspec.MsgspecError):
            decode(text, RunKey)
