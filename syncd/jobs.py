# SPDX-License-Identifier: Apache-2.0
"""The work of one configuration: pull an account, make links, push a calendar, build the feeds.

Each job ends in a run that is noted in the ledger, well or not, and never raises for a foreseeable
problem; so one failing account or calendar never stops another. The command line and the daemon ring the
same jobs; a dry run rings them on a rehearsal.
"""

import logging
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import partial

from msgspec.structs import replace

from syncd import config as configuration
from syncd import plan, sync
from syncd.copies import Target
from syncd.errors import Stopped, SyncdError, Unavailable
from syncd.feeds import build_feed
from syncd.model import Feed, Profile, Run
from syncd.profiles import calendar_profile, feed_profile
from syncd.push import IN_FLIGHT, Told, push
from syncd.remotes import Remotes
from syncd.store import Ledger

log = logging.getLogger(__name__)

Clock = Callable[[], datetime]

SIDE_BY_SIDE = 8


class Jobs:
    """The jobs of one configuration on one ledger. Safe to ring from several threads."""

    def __init__(
        self,
        config: configuration.Config,
        ledger: Ledger,
        remotes: Remotes,
        clock: Clock,
        progress: sync.Progress = lambda _name, _done, _total: None,
        told: Callable[[str, str, str], None] = lambda _calendar, _word, _event: None,
        workers: int = IN_FLIGHT,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.config = config
        self._ledger = ledger
        self._remotes = remotes
        self._clock = clock
        self._progress = progress
        self._told = told
        self._workers = workers
        self._jitter = jitter
        self._unnoted: dict[tuple[str, str], Run] = {}
        self._troubles: dict[tuple[str, str], datetime] = {}
        self._installation = ledger.secret("installation")
        self.profiles = {name: calendar_profile(config, self._installation, name) for name in config.calendars}

    @property
    def unnoted(self) -> list[Run]:
        """The latest runs that the ledger could not take: while it is locked or full, they are the truth."""
        return list(self._unnoted.values())

    def ring_all(self) -> list[Run]:
        """Every job once, servers side by side: accounts, links, calendars, feeds."""
        with ThreadPoolExecutor(SIDE_BY_SIDE, thread_name_prefix="sync") as pool:
            runs = list(pool.map(self.pull, self._remotes.sources))
            runs += self.mint()
            runs += pool.map(self.push, self._remotes.calendars)
        return [*runs, *self.build_feeds()]

    def pull(self, account: str, *, soon: bool = False) -> Run:
        """Bring one account's meetings up to date; with ``soon`` only the next days while no more is due."""
        settings = self.config.accounts[account]
        names = tuple(self.config.accounts)
        listing = sync.Listing(
            settings.past,
            settings.ahead,
            settings.adhoc,
            settings.declined,
            names,
            settings.every,
            settings.soon_every,
        )
        source = self._remotes.sources[account]
        return self._noted(
            "pull",
            account,
            lambda: sync.pull(account, source, self._ledger, listing, self._clock(), soon=soon),
            save=False,
        )

    def mint(self) -> list[Run]:
        """Make the links that the meetings of all calendars and feeds lack."""
        profiles = self._profiles(only_enabled=True)
        servers = (self._remotes.sources, self._remotes.minter)
        try:
            runs = sync.mint(profiles, *servers, self._ledger, self._clock, self._progress)
        except Stopped:
            return []
        except SyncdError as error:  # the ledger's: a server's failure is in its run
            return [self._failure("mint", "links", error)]
        return [self._kept(run) for run in (*runs, *self._settled(runs))]

    def _settled(self, runs: list[Run]) -> list[Run]:
        """Servers that failed before and were not asked now: no meeting lacks a link of theirs any more."""
        asked = {run.name for run in runs}
        return [
            Run("mint", name, self._clock())
            for (kind, name), standing in self._ledger.standings().items()
            if kind == "mint" and standing.latest.state != "ok" and name not in asked
        ]

    def push(self, calendar: str) -> Run:
        """Make one calendar agree with its entries."""
        settings, profile, now = self.config.calendars[calendar], self.profiles[calendar], self._clock()
        accounts = [self.config.accounts[account] for account in profile.accounts]
        widest = sync.Listing(max(each.past for each in accounts), max(each.ahead for each in accounts))
        target = Target(
            calendar,
            self._remotes.calendars[calendar],
            profile,
            self._ledger,
            now,
            keep=settings.on_edit == "keep",
            restore=settings.on_delete == "restore",
        )
        told: Told = partial(self._told, calendar)
        window, workers, every = widest.window(now), self._workers, settings.audit
        return self._noted(
            "push",
            calendar,
            lambda: push(target, window, self._progress, told, workers=workers, audit_every=every),
        )

    def build_feeds(self) -> list[Run]:
        """Bring the feeds up to date; a run for each that changed, was built for the first time or is in trouble.

        Entries that no calendar and no feed has any more are swept away.
        """
        try:
            runs = [run for feed in self._ledger.feeds().values() if (run := self._build(feed))]
            self._ledger.sweep_entries(profile.key for profile in self._profiles(only_enabled=False))
        except SyncdError as error:
            return [] if isinstance(error, Stopped) else [self._failure("feed", "all", error)]
        return runs

    def _build(self, feed: Feed) -> Run | None:
        profile = feed_profile(self.config, self._installation, feed)
        run = build_feed(feed, profile, self._ledger, self._clock(), self._progress) if profile else None
        if run is None:
            return None
        before = self._ledger.standings().get(("feed", feed.name))
        quiet = run.state == "ok" and not run.counts["changed"] and before and before.latest.state == "ok"
        return None if quiet else self._kept(run)

    def _profiles(self, *, only_enabled: bool) -> list[Profile]:
        calendars = [
            profile
            for name, profile in self.profiles.items()
            if self.config.calendars[name].enabled or not only_enabled
        ]
        feeds = (feed_profile(self.config, self._installation, feed) for feed in self._ledger.feeds().values())
        return list({profile.key: profile for profile in (*calendars, *filter(None, feeds))}.values())

    def _noted(self, kind: str, name: str, work: Callable[[], Run], *, save: bool = True) -> Run:
        """The run of some work, well or not."""
        try:
            run = work()
        except Stopped as end:
            return Run(kind, name, self._clock(), end.state)
        except SyncdError as error:
            return self._failure(kind, name, error)
        return self._kept(run, save=save)

    def _kept(self, run: Run, *, save: bool = True) -> Run:
        """The run, which is in the ledger then, and tells when to try again if it went wrong."""
        self._say_trouble(run)
        if run.state not in ("ok", "held"):
            again = self._next_try(run.kind, run.name, None)
            run = replace(run, next_try=max(again, run.next_try or again))
        if save:
            self._save(run)
        else:
            self._unnoted.pop((run.kind, run.name), None)
        return run

    def _failure(self, kind: str, name: str, error: SyncdError) -> Run:
        """Say and note that a job could not be done, and when it is tried again."""
        retry_after = error.retry_after if isinstance(error, Unavailable) else None
        again = self._next_try(kind, name, retry_after)
        run = Run(kind, name, self._clock(), error.state, message=str(error), next_try=again)
        self._say_trouble(run)
        self._save(run)
        return run

    def _say_trouble(self, run: Run) -> None:
        """One line when trouble begins, and one when it ends."""
        key = (run.kind, run.name)
        if run.state == "ok":
            since = self._troubles.pop(key, None)
            if since:
                log.info("%s %s: well again after %d s", run.kind, run.name, (run.ended - since).total_seconds())
        elif run.message:
            known = key in self._troubles
            self._troubles.setdefault(key, run.ended)
            log.log(logging.DEBUG if known else logging.WARNING, "%s %s: %s", run.kind, run.name, run.message)

    def _next_try(self, kind: str, name: str, retry_after: float | None) -> datetime:
        interval = self.config.accounts[name].every if kind == "pull" else soonest(self.config)
        try:
            failures = self._ledger.failures(kind, name) + 1
        except SyncdError:  # the ledger is what failed
            failures = 1
        return self._clock() + plan.next_try(failures, retry_after, interval, self._jitter())

    def _save(self, run: Run) -> None:
        try:
            self._ledger.save_run(run)
        except SyncdError as error:  # the ledger itself: nothing can be noted, so it is said
            level = logging.DEBUG if (run.kind, run.name) in self._unnoted else logging.ERROR
            self._unnoted[run.kind, run.name] = run
            log.log(level, "%s %s could not be noted: %s", run.kind, run.name, error)
        else:
            self._unnoted.pop((run.kind, run.name), None)


def soonest(config: configuration.Config) -> timedelta:
    """The shortest interval at which an account is asked."""
    return min((account.every for account in config.accounts.values()), default=timedelta(minutes=5))
