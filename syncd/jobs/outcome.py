# SPDX-License-Identifier: Apache-2.0
"""What became of each run: recorded in the ledger, and one line in the log when trouble begins and when it ends.

``plan.timing`` says when it runs again. No job is run here and no server is asked.
"""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Protocol

from msgspec.structs import replace

from syncd.config import Config
from syncd.errors import NeedsYou, SyncdError, Unavailable
from syncd.model import Run, RunKey
from syncd.plan.links import OPENTALK
from syncd.plan.timing import HOUSEKEEPING_EVERY, Rhythm, next_run, pause_end, retry_at, retry_unforeseen
from syncd.sync.outages import Outages, host_of

log = logging.getLogger(__name__)

WELL = ("ok", "held")

WRITES = ("created", "updated", "deleted", "adopted", "left", "removed")

WAITING = {"pull": "accounts", "push": "calendars"}


class RunHistory(Protocol):
    """Where runs are recorded: ``ledger.history``."""

    def save(self, run: Run) -> None:
        """Record a run."""

    def failures(self, key: RunKey) -> int:
        """How many runs in a row have not gone well."""


class Outcome:
    """What became of the runs of one configuration. Safe to call from several threads.

    ``on_recovery`` is called with every job that failed on a host that has just answered another job.
    ``jitter`` gives a number in [0, 1).
    """

    def __init__(
        self,
        config: Config,
        history: RunHistory,
        clock: Callable[[], datetime],
        jitter: Callable[[], float],
        on_recovery: Callable[[RunKey], None],
    ) -> None:
        self.outages = Outages(hosts(config), clock)
        self._config = config
        self._history = history
        self._clock = clock
        self._jitter = jitter
        self._on_recovery = on_recovery
        self._unsaved_runs: dict[RunKey, Run] = {}
        self._troubles: dict[RunKey, datetime] = {}
        self._remarks: dict[RunKey, str | None] = {}

    @property
    def unsaved_runs(self) -> list[Run]:
        """The latest runs that could not be saved, because the ledger is locked or full; newer than what it has."""
        return list(self._unsaved_runs.values())

    def finish(self, run: Run, *, saved: bool = False) -> Run:
        """Record a run that came to its end, well or not; returns it with its ``next_try``.

        A ``saved`` run is in the ledger already, as ``with_next_try`` returned it.
        """
        if run.state in WELL:
            self._log_own(run)
        else:
            self._log_failure(run, outage=_is_outage(run))
        run = run if saved else self.with_next_try(run)
        if _has_answer(run):
            self._log_end_of_outage(run)
        if saved:
            self._unsaved_runs.pop(run.key, None)
        else:
            self._save(run)
        return run

    def fail(self, key: RunKey, error: SyncdError) -> Run:
        """Record that a job could not be done; returns its run."""
        run = Run(key, self._clock(), error.state, message=str(error))
        if isinstance(error, Unavailable):
            run = replace(run, retry_after=error.retry_after)
        self._log_failure(run, outage=isinstance(error, Unavailable))
        run = self.with_next_try(run)
        self._save(run)
        return run

    def fail_unforeseen(self, key: RunKey, error: str) -> Run:
        """Record that a job ended with an unforeseen exception of this name; returns its run."""
        now, message = self._clock(), f"an unforeseen {error}: look at the log, and tell the authors"
        run = Run(key, now, NeedsYou.state, message=message, next_try=retry_unforeseen(now))
        self._log_own(run)
        self._save(run)
        return run

    def wait(self, key: RunKey, until: datetime) -> Run:
        """Record that a job was not begun, because its host is paused until then; returns its run."""
        message = self.outages.pause_message(key)
        run = Run(key, self._clock(), Unavailable.state, message=message, next_try=until)
        self._log_outage(run)
        self._save(run)
        return run

    def with_next_try(self, run: Run) -> Run:
        """The run with its ``next_try``: when it is due again, or tried again if it did not go well."""
        rhythm = _rhythm(self._config, run.key)
        if run.state in WELL:
            return replace(run, next_try=next_run(run, rhythm))
        paused = self.outages.paused_until(run.key)
        again = retry_at(run, self._failures(run.key), paused, rhythm, self._clock(), self._jitter())
        return replace(run, next_try=again)

    def _failures(self, key: RunKey) -> int:
        """How often a job has failed in a row, this time included; during an outage, how often its host has."""
        if failures := self.outages.failures(key):
            return failures
        try:
            return self._history.failures(key) + 1
        except SyncdError:  # the ledger is what failed
            return 1

    def _log_failure(self, run: Run, *, outage: bool) -> None:
        if outage and run.retry_after:
            self.outages.pause(run.key, pause_end(run.retry_after, self._clock()))
        if not (outage and self._log_outage(run)):
            self._log_own(run)

    def _log_outage(self, run: Run) -> bool:
        """One line when an outage of the job's host begins. False if the job alone is in trouble."""
        trouble, host = self.outages.note_failure(run.key), self.outages.host(run.key)
        if trouble == "begins":
            jobs = self.outages.jobs(host)
            numbers = {word: len({job.name for job in jobs if job.kind == kind}) for kind, word in WAITING.items()}
            waiting = " and ".join(f"{number} {word}" for word, number in numbers.items() if number)
            log.warning("%s is in trouble; %s wait for it: %s", host, waiting or "links", run.message)
        elif trouble == "lasts":
            log.debug("%s: %s", run.key, run.message)
        return trouble != "alone"

    def _log_end_of_outage(self, run: Run) -> None:
        """One line when a host answers again; the jobs that failed meanwhile run again."""
        if outage := self.outages.note_answer(run.key):
            seconds = (self._clock() - outage.start).total_seconds()
            log.info("%s answers again after %d s", self.outages.host(run.key), seconds)
            for job in outage.waiting:
                self._on_recovery(job)

    def _log_own(self, run: Run) -> None:
        """One line when trouble begins that is the job's own, not its host's, and one when it ends."""
        if run.state == "ok":
            if since := self._troubles.pop(run.key, None):
                log.info("%s: well again after %d s", run.key, (run.ended - since).total_seconds())
            if run.message and run.message != self._remarks.get(run.key):
                log.warning("%s: %s", run.key, run.message)
            self._remarks[run.key] = run.message
        elif run.message:
            level = logging.DEBUG if run.key in self._troubles else logging.WARNING
            self._troubles.setdefault(run.key, run.ended)
            log.log(level, "%s: %s", run.key, run.message)

    def _save(self, run: Run) -> None:
        try:
            self._history.save(run)
        except SyncdError as error:  # the ledger itself: nothing can be recorded, so it is logged
            level = logging.DEBUG if run.key in self._unsaved_runs else logging.ERROR
            self._unsaved_runs[run.key] = run
            log.log(level, "%s could not be noted: %s", run.key, error)
        else:
            self._unsaved_runs.pop(run.key, None)


def hosts(config: Config) -> dict[RunKey, str]:
    """The host that each job asks."""
    accounts = [each for each in config.accounts.values() if each.enabled]
    found = {RunKey("pull", each.name): host_of(each.url) for each in accounts}
    found |= {RunKey("mint", each.name): host_of(each.url) for each in accounts}
    found |= {RunKey("push", each.name): host_of(each.url) for each in config.calendars.values() if each.enabled}
    return found | {RunKey("maker", name): host_of(maker.url) for name, maker in config.makers.items()}


def _rhythm(config: Config, key: RunKey) -> Rhythm:
    """How often something runs. What asks no account is tried again as often as the account that is asked most."""
    if key.kind == "pull":
        account = config.accounts[key.name]
        return Rhythm(account.every, account.soon_every, account.every)
    every = config.calendars[key.name].audit if key.kind == "push" else HOUSEKEEPING_EVERY
    retry = min((account.every for account in config.accounts.values()), default=timedelta(minutes=5))
    return Rhythm(every, every, retry)


def _is_outage(run: Run) -> bool:
    """Whether a run failed because its host does not answer, rather than because of single events."""
    if run.state != Unavailable.state or not run.message:
        return False
    match run.key.kind:
        case "mint" | "maker":
            return True
        case "push":
            return run.retry_after is not None or not any(run.counts.get(word) for word in WRITES)
    return False


def _has_answer(run: Run) -> bool:
    """Whether the host of a run was asked and answered. It is not asked where nothing is to be done in a calendar."""
    match run.key.kind:
        case "pull":
            return True
        case "push":
            return not _is_outage(run) and bool(run.scope or run.done)
        case "mint" if run.state == "ok":  # links that others made for it are counted as well
            return OPENTALK.links in run.counts or "none" in run.counts
        case "maker" if run.state == "ok":
            return bool(run.counts)
    return False
