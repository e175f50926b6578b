# SPDX-License-Identifier: Apache-2.0
"""The work of one configuration: pull an account, make links, push a calendar, build the feeds.

Each job ends in a run that is recorded (``jobs.outcome``), well or not, and never raises for a foreseeable problem; so
one failing account or calendar never stops another. The command line and the daemon run the same jobs; a dry run
runs them on the servers of ``jobs.dryrun``.
"""

import random
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial

from syncd import config as configuration
from syncd.config.profiles import calendar_profile, calendar_window, feed_profile
from syncd.errors import Stopped, SyncdError
from syncd.jobs.outcome import Outcome
from syncd.jobs.servers import Servers
from syncd.ledger.ledger import Ledger
from syncd.model import Feed, Profile, Run, RunKey
from syncd.sync.feed import build_feed
from syncd.sync.mint import SIDE_BY_SIDE as MINTS_SIDE_BY_SIDE
from syncd.sync.mint import mint
from syncd.sync.pools import HostPools
from syncd.sync.ports import Progress
from syncd.sync.pull import ListingSettings, pull
from syncd.sync.push import IN_FLIGHT, push
from syncd.sync.tally import OnWrite
from syncd.sync.write import Target

Clock = Callable[[], datetime]

SIDE_BY_SIDE = 8
"""How many jobs of one host run side by side."""

LINKS = RunKey("links", "all")
FEEDS = RunKey("feeds", "all")
HOUSEKEEPING = RunKey("housekeeping", "ledger")
"""The jobs that belong to no single table of the configuration."""


class Jobs:
    """The jobs of one configuration on one ledger. Safe to run from several threads.

    ``on_write`` is called with the calendar, the word and the event of every entry that a push has dealt with,
    ``on_recovery`` with every job that failed on a host that has just answered another job.
    """

    def __init__(
        self,
        config: configuration.Config,
        ledger: Ledger,
        servers: Servers,
        clock: Clock,
        progress: Progress = lambda _name, _done, _total: None,
        on_write: Callable[[str, str, str], None] = lambda _calendar, _word, _event: None,
        workers: int = IN_FLIGHT,
        jitter: Callable[[], float] = random.random,
        *,
        on_recovery: Callable[[RunKey], None] = lambda _key: None,
    ) -> None:
        self.config = config
        self._ledger = ledger
        self._servers = servers
        self._clock = clock
        self._progress = progress
        self._on_write = on_write
        self._workers = workers
        self._outcome = Outcome(config, ledger.history, clock, jitter, on_recovery)
        self._installation = ledger.secrets.get("installation")
        self.profiles = {name: calendar_profile(config, self._installation, name) for name in config.calendars}

    @property
    def unsaved_runs(self) -> list[Run]:
        """The latest runs that could not be saved in the ledger."""
        return self._outcome.unsaved_runs

    def host(self, key: RunKey) -> str | None:
        """The host that a job asks, ``None`` for one that asks none or several."""
        return self._outcome.outages.host(key)

    def run_all(self) -> list[Run]:
        """Every job once, servers side by side: accounts, links, calendars, feeds."""
        self.ask_anyway()
        runs = self._side_by_side(self.pull, [RunKey("pull", name) for name in self._servers.sources])
        runs += self.mint()
        runs += self._side_by_side(self.push, [RunKey("push", name) for name in self._servers.calendars])
        return [*runs, *self.build_feeds()]

    def _side_by_side(self, job: Callable[[str], Run], keys: Sequence[RunKey]) -> list[Run]:
        with HostPools(SIDE_BY_SIDE) as pools:
            running = [pools.submit(self.host(key) or "", partial(job, key.name)) for key in keys]
            return [each.result() for each in running]

    def ask_anyway(self) -> None:
        """End all pauses of hosts, because a person wants the jobs to run now."""
        self._outcome.outages.end_pauses()

    def pull(self, account: str, *, soon: bool = False) -> Run:
        """List an account and save what changed.

        With ``soon`` only the next days, unless the window or the daily full listing is due.
        """
        settings = self.config.accounts[account]
        names = tuple(self.config.accounts)
        listing = ListingSettings(
            settings.past,
            settings.ahead,
            settings.adhoc,
            settings.declined,
            names,
            settings.every,
        )
        source = self._servers.sources[account]
        return self._run(
            RunKey("pull", account),
            lambda: pull(account, source, self._ledger, listing, self._clock(), self._outcome.with_next_try, soon=soon),
            saved=True,
        )

    def mint(self) -> list[Run]:
        """Make the links that the meetings of all calendars and feeds lack."""
        sources, makers, outages = self._servers.sources, self._servers.makers, self._outcome.outages
        paused = outages.pauses()
        workers = MINTS_SIDE_BY_SIDE if self._workers > 1 else 1
        try:
            profiles = self._profiles(only_enabled=True)
            runs = mint(profiles, sources, makers, self._ledger, self._clock, self._progress, outages, workers=workers)
            runs += self._recoveries(runs)
        except Stopped:
            return []
        except SyncdError as error:  # the ledger's: a server's failure is in its run
            return [self._outcome.fail(LINKS, error)]
        return [self._link_run(run, paused.get(run.key)) for run in runs]

    def _link_run(self, run: Run, paused_before: datetime | None) -> Run:
        """Record the run of one server; as a wait, if its host was paused from before the run until now."""
        paused = self._outcome.outages.paused_until(run.key)
        if paused and paused == paused_before and run.state != "ok":
            return self._outcome.wait(run.key, paused)
        return self._outcome.finish(run)

    def _recoveries(self, runs: list[Run]) -> list[Run]:
        """Good runs for servers that failed before and are not needed now: no meeting lacks a link of theirs."""
        already = {run.key for run in runs}
        keys = [key for key in sorted(self._failing_keys() - already) if key.kind in ("mint", "maker", "links")]
        return [Run(key, self._clock()) for key in keys]

    def _failing_keys(self) -> set[RunKey]:
        """The jobs whose last run did not go well, or could not be recorded."""
        standings = self._ledger.history.standings().values()
        return {each.latest.key for each in standings if each.latest.state != "ok"} | {
            run.key for run in self.unsaved_runs
        }

    def push(self, calendar: str) -> Run:
        """Make one calendar agree with its entries."""
        settings, profile, now = self.config.calendars[calendar], self.profiles[calendar], self._clock()
        target = Target(
            calendar,
            self._servers.calendars[calendar],
            profile,
            self._ledger,
            now,
            keep=settings.on_edit == "keep",
            restore=settings.on_delete == "restore",
        )
        on_write: OnWrite = partial(self._on_write, calendar)
        window, workers, every = calendar_window(self.config, calendar, now), self._workers, settings.audit
        return self._run(
            RunKey("push", calendar),
            lambda: push(target, window, self._progress, on_write, workers=workers, audit_every=every),
        )

    def build_feeds(self) -> list[Run]:
        """Bring the feeds up to date; returns a run for each that changed, is new, failed or recovered.

        Deletes entries that no calendar and no feed has any more.
        """
        try:
            runs = [run for feed in self._ledger.feeds.all().values() if (run := self._build(feed))]
            self._ledger.entries.sweep(profile.key for profile in self._profiles(only_enabled=False))
            if FEEDS in self._failing_keys():
                self._outcome.finish(Run(FEEDS, self._clock()))
        except SyncdError as error:
            return [] if isinstance(error, Stopped) else [self._outcome.fail(FEEDS, error)]
        return runs

    def _build(self, feed: Feed) -> Run | None:
        profile = feed_profile(self.config, self._installation, feed)
        run = build_feed(feed, profile, self._ledger, self._clock(), self._progress) if profile else None
        if run is None:
            return None
        before = self._ledger.history.standings().get(RunKey("feed", feed.name))
        quiet = run.state == "ok" and not run.counts["changed"] and before and before.latest.state == "ok"
        return None if quiet else self._outcome.finish(run)

    def housekeeping(self) -> Run:
        """Delete from the ledger what nobody needs any more."""

        def work() -> Run:
            now = self._clock()
            self._ledger.sweep(now)
            return Run(HOUSEKEEPING, now)

        return self._run(HOUSEKEEPING, work)

    def fail_unforeseen(self, key: RunKey, error: str) -> Run:
        """Record that a job ended with an unforeseen exception of this name."""
        return self._outcome.fail_unforeseen(key, error)

    def _profiles(self, *, only_enabled: bool) -> list[Profile]:
        calendars = [
            profile
            for name, profile in self.profiles.items()
            if self.config.calendars[name].enabled or not only_enabled
        ]
        feeds = (feed_profile(self.config, self._installation, feed) for feed in self._ledger.feeds.all().values())
        return list({profile.key: profile for profile in (*calendars, *filter(None, feeds))}.values())

    def _run(self, key: RunKey, work: Callable[[], Run], *, saved: bool = False) -> Run:
        """Do some work and record its run, unless the work has ``saved`` it; while its host is paused, wait instead."""
        if until := self._outcome.outages.paused_until(key):
            return self._outcome.wait(key, until)
        try:
            run = work()
        except Stopped as end:
            return Run(key, self._clock(), end.state)
        except SyncdError as error:
            return self._outcome.fail(key, error)
        return self._outcome.finish(run, saved=saved)
