# SPDX-License-Identifier: Apache-2.0
"""What has become of the actions of one push so far, and whether the rest is to be done."""

import logging
from collections import Counter
from collections.abc import Callable
from threading import Lock

from syncd.errors import Changed, LoginRefused, NeedsYou, Refused, Stopped, SyncdError, Unavailable
from syncd.sync.ports import Progress

log = logging.getLogger(__name__)

TROUBLES = 3
"""A server that failed so often is not asked again in this run."""

REFUSALS = 20
"""A server that refused so many objects, one after another, is not asked again in this run either."""

WORDS = ("created", "updated", "deleted", "adopted", "left", "failed")
"""The words that every run counts, if only as 0."""

OnWrite = Callable[[str, str], None]
"""Called after each action that was carried out: with its word in ``syncd sync``, and the event."""


class Tally:
    """Counts what was done and what failed. Threads may share it.

    ``state`` is other than "ok" when the rest is not to be done: the server was given up, the ledger takes nothing, or
    syncd ends. ``problems`` are sentences, ``troubles`` counts failures of the server, ``retry_after`` is in seconds.
    ``needs_you`` is true if something failed that no retry heals, ``unrecorded`` if the ledger did not take what was
    done.
    """

    def __init__(self, name: str, total: int, progress: Progress, on_write: OnWrite) -> None:
        self.counts: Counter[str] = Counter(dict.fromkeys(WORDS, 0))
        self.problems: list[str] = []
        self.state = "ok"
        self.troubles = 0
        self.needs_you = False
        self.retry_after: float | None = None
        self.unrecorded = False
        self._name = name
        self._total = total
        self._done = self._refused = 0
        self._progress = progress
        self._on_write = on_write
        self._lock = Lock()

    def goes_on(self) -> bool:
        """Whether the next action is to be begun: not when the server was given up, or syncd ends."""
        with self._lock:
            if self.state == "ok":
                try:
                    self._progress(self._name, self._done, self._total)
                except Stopped as end:
                    self.state = end.state
            return self.state == "ok"

    def succeed(self, event: str, word: str) -> None:
        """Count an action that was carried out; as failed where the ledger did not take that."""
        with self._lock:
            self.counts["failed" if self.unrecorded else word] += 1
            self._done += 1
            self._refused = 0
            if not self.unrecorded:
                self._on_write(word, event)

    def fail(self, event: str, error: SyncdError) -> None:
        """Count an action that failed, and give up the server if it is one failure too many.

        Called by the thread that met the failure, so that no other begins an action when the server is given up.
        """
        with self._lock:
            self.counts["failed"] += 1
            self._refused += isinstance(error, Refused)
            if isinstance(error, Unavailable):
                self.troubles += 1
                self.retry_after = max(self.retry_after or 0.0, error.retry_after or 0.0) or None
            self.needs_you |= not isinstance(error, Unavailable | Changed)
            if isinstance(error, LoginRefused | NeedsYou) or self._is_too_much():
                self._end(error)
            else:
                self.problems.append(f"event {event}: {error}")
        log.debug("caldav.%s: event %s: %s", self._name, event, error)  # the run says it, once

    def end_unrecorded(self, error: SyncdError) -> None:
        """The ledger does not take what was done: begin nothing more. The next push finds what was put."""
        with self._lock:
            self.unrecorded = True
            self._end(error)

    def _end(self, error: SyncdError) -> None:
        self.state = error.state
        self.problems.insert(0, str(error))

    def _is_too_much(self) -> bool:
        return self.troubles >= TROUBLES or self.retry_after is not None or self._refused >= REFUSALS
