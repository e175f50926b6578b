# SPDX-License-Identifier: Apache-2.0
"""A command's end of the control socket: asks the daemon to do its work."""

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from syncd.daemon.wire import DONE, ENDING, FILE, TROUBLE, WireError, socket_address
from syncd.errors import BadAnswer, DaemonError, LedgerBusy, NeedsYou, Unavailable
from syncd.model import Run
from syncd.transport import Answer, HttpClient, decode

T = TypeVar("T")

ORIGIN = "http://control.sock"

PROMPT = 5.0
"""Seconds within which a healthy daemon answers that it is there, whatever it is doing."""

PATIENCE = 600.0
"""Seconds that an answer may take: a first sync of many meetings."""


class ControlClient:
    """A command's end: the ``Commands`` of the daemon that syncs on the ledger in ``folder``.

    Every method raises what the daemon raised, with its message, state and code; LedgerBusy if no daemon answers
    within ``prompt`` seconds, or it is ending, or takes longer than ``patience`` seconds; NeedsYou if it is of
    another version.
    """

    def __init__(self, folder: Path, *, prompt: float = PROMPT, patience: float = PATIENCE) -> None:
        self._folder = folder
        self._prompt = prompt
        self._patience = patience

    def sync(self) -> list[Run]:
        """Pull and push everything now, and wait for it."""
        return self._ask("/sync", list[Run])

    def pull(self, account: str) -> list[Run]:
        """Pull one account now, with what follows from it."""
        return self._ask("/pull", list[Run], account)

    def confirm(self, name: str) -> tuple[int, list[Run]]:
        """Let a held deletion pass."""
        return self._ask("/confirm", tuple[int, list[Run]], name)

    def unsaved_runs(self) -> list[Run]:
        """The runs that the daemon could not save in the ledger."""
        return self._ask("/unsaved", list[Run])

    def _ask(self, path: str, kind: type[T], name: str | None = None) -> T:
        """Ask first whether it is there: the kernel accepts connections for a daemon that hangs."""
        try:
            with socket_address(self._folder) as address:
                self._send(address, self._prompt, "GET", "/")
                answer = self._send(address, self._patience, "POST", path, {"name": name} if name else None)
        except OSError as error:
            raise self._busy(f"{self._folder / FILE}: {error.strerror}") from None
        try:
            return decode(answer, kind, "the daemon")
        except BadAnswer:
            raise self._other_version() from None

    def _send(
        self, address: Path, seconds: float, method: str, path: str, params: Mapping[str, str] | None = None
    ) -> Answer:
        client = HttpClient("the daemon", unix=address, deadline=seconds, patience=seconds)
        try:
            answer = client.send(method, ORIGIN + path, params=params)
            if answer.status == TROUBLE:
                error = decode(answer, WireError, "the daemon")
                raise DaemonError(error.message, error.state, error.code)
        except Unavailable as problem:
            raise self._busy(str(problem)) from None
        finally:
            client.close()
        if answer.status == ENDING:
            raise self._busy("the daemon is ending")
        if answer.status != DONE:
            raise self._other_version()
        return answer

    def _busy(self, reason: str) -> LedgerBusy:
        return LedgerBusy(
            f"the daemon on {self._folder} cannot be asked ({reason}): wait a moment and try again, as its user; "
            "if that does not help, restart it"
        )

    def _other_version(self) -> NeedsYou:
        return NeedsYou(f"the daemon on {self._folder} is of another version of syncd: restart it")
