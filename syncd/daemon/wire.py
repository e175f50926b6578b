# SPDX-License-Identifier: Apache-2.0
"""What crosses the daemon's control socket, for both of its ends: its place, its statuses, its errors.

Commands import this and no server: a command should not start later because a daemon is running.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct

FILE = "control.sock"

DONE, TROUBLE, ENDING = 200, 409, 503
"""The status with a result, with a WireError, and of a daemon that is ending."""


class WireError(Struct, frozen=True):
    """A SyncdError as it is sent to the client."""

    message: str
    state: str
    code: int


@contextmanager
def socket_address(folder: Path) -> Iterator[Path]:
    """A path of the socket that fits into a socket's address, 107 bytes (unix(7)), however long the folder's is."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield Path(f"/proc/self/fd/{descriptor}/{FILE}")
    finally:
        os.close(descriptor)
