# SPDX-License-Identifier: Apache-2.0
"""Which hosts do not answer, since when, and which jobs wait for them; and which are not to be asked for a while.

An outage of a host is one outage, however many accounts and calendars are there. No host is asked here and nothing is
logged; threads may share it.
"""

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Literal
from urllib.parse import urlsplit

from msgspec import Struct

from syncd.model import RunKey
from syncd.plan.timing import is_paused

PORTS = {"http": 80, "https": 443}


def host_of(url: str) -> str:
    """The host of an address: scheme, name and, where it is not the usual one, port."""
    parts = urlsplit(url)
    name = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    usual = parts.port in (None, PORTS.get(parts.scheme))
    return f"{parts.scheme}://{name}" + ("" if usual else f":{parts.port}")


class EndedOutage(Struct, frozen=True):
    """An outage that is over: its start, and the jobs that failed meanwhile and are to run again."""

    start: datetime
    waiting: tuple[RunKey, ...]


class _Outage(Struct):
    """``failures`` by job; ``pauses`` are the ends of the pauses during which a job's latest failure was counted."""

    start: datetime
    failures: Counter[RunKey]
    pauses: dict[RunKey, datetime | None]


class Outages:
    """The outages of ``hosts``, which names the host of every job that has one.

    If one job reaches the host while another still fails, the host is up: the failing job's trouble is its own until
    it succeeds once.
    """

    def __init__(self, hosts: Mapping[RunKey, str], clock: Callable[[], datetime]) -> None:
        self._hosts = hosts
        self._clock = clock
        self._lock = threading.Lock()
        self._outages: dict[str, _Outage] = {}
        self._pauses: dict[str, datetime] = {}
        self._alone: set[RunKey] = set()

    def host(self, job: RunKey) -> str | None:
        """The host of a job, ``None`` for one that needs none."""
        return self._hosts.get(job)

    def jobs(self, host: str | None) -> list[RunKey]:
        """All jobs on a host."""
        return [job for job, its in self._hosts.items() if its == host]

    def note_failure(self, job: RunKey) -> Literal["begins", "lasts", "alone"]:
        """Note that a job failed: an outage of its host begins or lasts, or the job alone is in trouble."""
        with self._lock:
            host = self._hosts.get(job)
            lasts = host in self._outages
            if host is None or (job in self._alone and not lasts and not self._paused_until(host)):
                return "alone"
            outage = self._outages.setdefault(host, _Outage(self._clock(), Counter(), {}))
            until = self._paused_until(host)
            if until is None or outage.pauses.get(job) != until:  # a pause counts once: nothing is asked meanwhile
                outage.failures[job] += 1
                outage.pauses[job] = until
            return "lasts" if lasts else "begins"

    def note_answer(self, job: RunKey) -> EndedOutage | None:
        """Note that a job's host answered; returns the outage that is over now, if there was one."""
        with self._lock:
            self._alone.discard(job)
            host = self._hosts.get(job)
            if host is None or host not in self._outages or self._paused_until(host):
                return None
            outage = self._outages.pop(host)
            waiting = tuple(each for each in outage.failures if each != job)
            self._alone.update(waiting)
            return EndedOutage(outage.start, waiting)

    def failures(self, job: RunKey) -> int:
        """How often the host of a job has failed in a row; 0 without an outage.

        All jobs of a host fail about once in each round, so this is the number of the one that failed most.
        """
        with self._lock:
            outage = self._outages.get(self._hosts.get(job, ""))
            return max(outage.failures.values(), default=0) if outage else 0

    def pause(self, job: RunKey, until: datetime) -> None:
        """Let no job ask the host of this one before a moment, as its Retry-After says (RFC 9110, 10.2.3)."""
        with self._lock:
            host = self._hosts.get(job)
            if host is not None:
                self._pauses[host] = max(until, self._paused_until(host) or until)

    def paused_until(self, job: RunKey) -> datetime | None:
        """The moment before which the host of a job is not to be asked; ``None`` if it may be asked."""
        with self._lock:
            host = self._hosts.get(job)
            return self._paused_until(host) if host is not None else None

    def pauses(self) -> dict[RunKey, datetime]:
        """All jobs whose host is paused, and until when."""
        with self._lock:
            return {job: until for job, host in self._hosts.items() if (until := self._paused_until(host))}

    def pause_message(self, job: RunKey) -> str:
        """Why nothing is asked of the host of a job, in a sentence."""
        return f"{self.host(job)} wants to be left alone for a while; nothing was asked"

    def end_pauses(self) -> None:
        """Let every host be asked again, because a person wants it now."""
        with self._lock:
            self._pauses.clear()

    def _paused_until(self, host: str) -> datetime | None:
        until = self._pauses.get(host)
        return until if is_paused(until, self._clock()) else None
