# SPDX-License-Identifier: Apache-2.0
"""Decodes JSON into typed values, from any thread.

msgspec analyses a Struct when it is first decoded, without a lock: two threads that decode one for the first time crash
the process (0.22.0, SIGSEGV). So the decoder of each type is made once, under a lock, and then shared.
"""

from functools import cache
from threading import Lock
from typing import Any, TypeVar, cast

from msgspec.json import Decoder

T = TypeVar("T")

_MAKING = Lock()


def decode(body: bytes | str, kind: type[T]) -> T:
    """Decode a JSON text as a value of this type. Raises msgspec.MsgspecError."""
    value: T = _decoder(cast("Any", kind)).decode(body)
    return value


@cache
def _decoder(kind: Any) -> Decoder[Any]:
    with _MAKING:
        return Decoder(kind)
