# SPDX-License-Identifier: Apache-2.0
"""Reports the daemon's state to systemd, by the protocol of sd_notify(3).

It must never end the daemon: a systemd that does not listen is a line in the log. The status is shown by
``systemctl status`` and kept in the journal, so it holds no secret, link, title or name of a person.
"""

import logging
import socket
import time
from collections.abc import Callable, Mapping

log = logging.getLogger(__name__)

PATIENCE = 1.0
"""Seconds to wait for a systemd that does not empty its socket, which would otherwise delay the daemon."""


class Notifier:
    """Sends to the systemd that started ``process``; to nobody without a ``NOTIFY_SOCKET`` in ``environ``.

    ``interval`` is how many seconds to let pass between two ``alive``: half of what the unit's WatchdogSec= allows,
    as sd_watchdog_enabled(3) asks for; ``None`` if nobody watches this process. ``monotonic`` is CLOCK_MONOTONIC
    in nanoseconds.
    """

    def __init__(
        self, environ: Mapping[str, str], process: int, monotonic: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self._monotonic = monotonic
        self.interval = _interval(environ, process) if self._address else None

    def ready(self, status: str) -> None:
        """The daemon has started, or has read its configuration again."""
        self._send("READY=1", _status(status))

    def reloading(self) -> None:
        """The configuration is being read again; ``ready`` must follow, whatever comes of it."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={self._monotonic() // 1000}")

    def stopping(self, status: str) -> None:
        """The daemon is ending."""
        self._send("STOPPING=1", _status(status))

    def status(self, status: str) -> None:
        """What the daemon is doing, in one line for people."""
        self._send(_status(status))

    def alive(self) -> None:
        """Still at work: due every ``interval`` seconds, or systemd kills the daemon and starts it again."""
        self._send("WATCHDOG=1")

    def _send(self, *assignments: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.settimeout(PATIENCE)
                sender.sendto("\n".join(assignments).encode("utf-8", "replace"), self._address)
        except OSError as error:
            log.warning(
                "systemd could not be told %s: %s",
                assignments[0].partition("=")[0],
                error.strerror or type(error).__name__,
            )


def _address(name: str) -> str:
    """A path, or a name in the abstract namespace of Linux; systemd knows others (vsock), which no service gets."""
    return {"/": name, "@": f"\0{name[1:]}"}.get(name[:1], "")


def _interval(environ: Mapping[str, str], process: int) -> float | None:
    if environ.get("WATCHDOG_PID", str(process)) != str(process):  # inherited from a service that started us
        return None
    microseconds = environ.get("WATCHDOG_USEC", "")
    if not (microseconds.isascii() and microseconds.isdigit()):
        return None
    return int(microseconds) / 2e6 or None


def _status(text: str) -> str:
    """One line: what stands after a line break would be another assignment."""
    return "STATUS=" + " ".join(text.split())
