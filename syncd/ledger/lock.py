# SPDX-License-Identifier: Apache-2.0
"""Which process may sync on a ledger: one at a time, by a lock on a file beside it."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import msgspec
from msgspec import Struct

from syncd.decoding import decode
from syncd.errors import LedgerBusy, LedgerError

LOCK = "lock"


class Syncing(Struct, frozen=True):
    """Which process has the right to sync, since when, and whether it is a daemon."""

    process: int
    since: datetime
    daemon: bool


@contextmanager
def sync_lock(folder: Path, now: datetime, *, daemon: bool = False) -> Iterator[None]:
    """Hold the right to sync on this ledger; at most one process has it. Raises LedgerBusy and LedgerError."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(folder / LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise LedgerError(f"the ledger in {folder}: {error.strerror}; look at the folder's owner and rights") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            other = syncing(folder)
            who = f"the daemon (process {other.process})" if other and other.daemon else "another process"
            raise LedgerBusy(f"{who} is syncing on {folder}: wait for it, or stop it") from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, msgspec.json.encode(Syncing(os.getpid(), now, daemon)), 0)
        yield
    finally:
        os.close(descriptor)


def syncing(folder: Path) -> Syncing | None:
    """The process that has the right to sync on this ledger, if any has."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _holder(descriptor)
    finally:
        os.close(descriptor)
    return None


def _holder(descriptor: int) -> Syncing | None:
    try:
        return decode(os.pread(descriptor, 200, 0), Syncing)
    except msgspec.MsgspecError:  # it has the lock and is about to say who it is
        return None
