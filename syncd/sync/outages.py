# SPDX-License-Identifier: Apache-2.0
"""Which hosts do not answer, since when, and which jobs wait for them; and which want not to be asked for a while.

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


class Ended(Struct, frozen=True):
    """An outage that has ended: when it began, and which jobs failed meanwhile and are to run again."""

    begun: datetime
    waiting: tuple[RunKey, ...]


class _Outage(Struct):
    begun: datetime
    failures: Counter[RunKey]
    counted: dict[RunKey, datetime | None]


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

    def failed(self, job: RunKey) -> Literal["begins", "lasts", "alone"]:
        """Note that a job failed: an outage of its host begins or lasts, or the job alone is in trouble."""
        with self._lock:
            host = self._hosts.get(job)
            lasts = host in self._outages
            if host is None or (job in self._alone and not lasts and not self._paused_until(host)):
                return "alone"
            outage = self._outages.setdefault(host, _Outage(self._clock(), Counter(), {}))
            until = self._paused_until(host)
            if until is None or outage.counted.get(job) != until:  # during a pause nobody is asked: it is one failure
                outage.failures[job] += 1
                outage.counted[job] = until
            return "lasts" if lasts else "begins"

    def answered(self, job: RunKey) -> Ended | None:
        """Note that a job had an answer; returns the outage that ended with it, if there was one."""
        with self._lock:
            self._alone.discard(job)
            host = self._hosts.get(job)
            if host is None or host not in self._outages or self._paused_until(host):
                return None
            outage = self._outages.pop(host)
            waiting = tuple(each for each in outage.failures if each != job)
            self._alone.update(waiting)
            return Ended(outage.begun, waiting)

    def failures(self, job: RunKey) -> int:
        """How often the host of a job has failed in a row; 0 without an outage.

        All jobs of a host fail about once in each round, so this is the number of the one that failed most.
        """
        with self._lock:
            outage = self._outages.get(self._hosts.get(job, ""))
            return max(outage.failures.values(), default=0) if outage else 0

    def pause(self, job: RunKey, until: datetime) -> None:
        """Let no job ask the host of this one before a moment, as it wished by Retry-After (RFC 9110, 10.2.3)."""
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
        """Let every host be asked again, as a person wants it now."""
        with self._lock:
            self._pauses.clear()

    def _paused_until(self, host: str) -> datetime | None:
        until = self._pauses.get(host)
        return until if is_paused(until, self._clock()) else None
