# SPDX-License-Identifier: Apache-2.0
"""Which hosts do not answer, since when, and what waits for them.

The trouble of a host is one trouble, however many accounts and calendars are there. Nothing is asked here and
nothing is logged; threads may share it.
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
    """An outage that has ended: since when it lasted, and what waits to be done again."""

    begun: datetime
    waiting: tuple[RunKey, ...]


class _Outage(Struct):
    begun: datetime
    failures: Counter[RunKey]
    counted: dict[RunKey, datetime | None]


class Outages:
    """The outages of ``hosts``, which are those of all jobs that have one.

    A job that still fails when another has had an answer from its host is alone with that: its trouble is its own
    and no outage, until it has had an answer itself.
    """

    def __init__(self, hosts: Mapping[RunKey, str], clock: Callable[[], datetime]) -> None:
        self._hosts = hosts
        self._clock = clock
        self._lock = threading.Lock()
        self._outages: dict[str, _Outage] = {}
        self._until: dict[str, datetime] = {}
        self._alone: set[RunKey] = set()

    def host(self, job: RunKey) -> str | None:
        """The host of a job, ``None`` for one that needs none."""
        return self._hosts.get(job)

    def beside(self, job: RunKey) -> list[RunKey]:
        """All jobs on the host of this one."""
        host = self._hosts[job]
        return [each for each, its in self._hosts.items() if its == host]

    def failed(self, job: RunKey) -> Literal["begins", "lasts", "alone"]:
        """A job had no answer: whether its host's outage begins with that or lasts, or the job is alone with it."""
        with self._lock:
            host = self._hosts.get(job)
            known = host in self._outages
            if host is None or (job in self._alone and not known and not self._held(host)):
                return "alone"
            outage = self._outages.setdefault(host, _Outage(self._clock(), Counter(), {}))
            until = self._held(host)
            if until is None or outage.counted.get(job) != until:  # who was not asked has not failed once more
                outage.failures[job] += 1
                outage.counted[job] = until
            return "lasts" if known else "begins"

    def answered(self, job: RunKey) -> Ended | None:
        """A job had an answer: the outage that has ended with it, if there was one."""
        with self._lock:
            self._alone.discard(job)
            host = self._hosts.get(job)
            if host is None or host not in self._outages or self._held(host):
                return None
            outage = self._outages.pop(host)
            waiting = tuple(each for each in outage.failures if each != job)
            self._alone.update(waiting)
            return Ended(outage.begun, waiting)

    def rounds(self, job: RunKey) -> int:
        """How often the host of a job has been tried in vain; 0 without an outage.

        A round is what all the jobs of a host do once, so it is as many as the most patient of them has tried.
        """
        with self._lock:
            outage = self._outages.get(self._hosts.get(job, ""))
            return max(outage.failures.values(), default=0) if outage else 0

    def hold(self, job: RunKey, until: datetime) -> None:
        """The host of a job wants not to be asked before a moment (RFC 9110, 10.2.3)."""
        with self._lock:
            host = self._hosts.get(job)
            if host is not None:
                self._until[host] = max(until, self._held(host) or until)

    def held(self, job: RunKey) -> datetime | None:
        """The moment before which the host of a job is not to be asked, if that is still to come."""
        with self._lock:
            host = self._hosts.get(job)
            return self._held(host) if host is not None else None

    def told(self, job: RunKey) -> str:
        """What keeps the host of a job from being asked, in a sentence."""
        return f"{self.host(job)} wants to be left alone for a while; nothing was asked"

    def ask_anyway(self) -> None:
        """A person wants to know: hosts are asked once more, whatever they said."""
        with self._lock:
            self._until.clear()

    def _held(self, host: str) -> datetime | None:
        until = self._until.get(host)
        return until if is_paused(until, self._clock()) else None
