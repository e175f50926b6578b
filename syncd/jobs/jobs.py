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
from syncd.config.profiles import calendar_profile, feed_profile
from syncd.errors import Stopped, SyncdError, Unavailable
from syncd.jobs.outcome import WAITING, has_answer, is_outage, soonest
from syncd.jobs.servers import Servers
from syncd.ledger.ledger import Ledger
from syncd.model import Feed, Profile, Run, RunKey
from syncd.plan.timing import HOUSEKEEPING, next_try
from syncd.sync.feed import build_feed
from syncd.sync.mint import SIDE_BY_SIDE as MINTS_SIDE_BY_SIDE
from syncd.sync.mint import mint
from syncd.sync.outages import Outages, host_of
from syncd.sync.ports import Progress
from syncd.sync.pull import ListingSettings, pull
from syncd.sync.push import IN_FLIGHT, OnWrite, push
from syncd.sync.write import Target

log = logging.getLogger(__name__)

Clock = Callable[[], datetime]

SIDE_BY_SIDE = 8

LINKS = RunKey("links", "all")
FEEDS = RunKey("feeds", "all")
HOUSEKEEPING_RUN = RunKey("housekeeping", "ledger")
"""What syncd itself runs."""


class Jobs:
    """The jobs of one configuration on one ledger. Safe to ring from several threads.

    ``recovered`` hears, by kind and name, of every job that waits for a host which has just answered another.
    """

    def __init__(
        self,
        config: configuration.Config,
        ledger: Ledger,
        remotes: Servers,
        clock: Clock,
        progress: Progress = lambda _name, _done, _total: None,
        told: Callable[[str, str, str], None] = lambda _calendar, _word, _event: None,
        workers: int = IN_FLIGHT,
        jitter: Callable[[], float] = random.random,
        *,
        recovered: Callable[[str, str], None] = lambda _kind, _name: None,
    ) -> None:
        self.config = config
        self._ledger = ledger
        self._remotes = remotes
        self._clock = clock
        self._progress = progress
        self._told = told
        self._workers = workers
        self._jitter = jitter
        self._recovered = recovered
        self._outages = Outages(_hosts(config), clock)
        self._unnoted: dict[RunKey, Run] = {}
        self._troubles: dict[RunKey, datetime] = {}
        self._remarks: dict[RunKey, str | None] = {}
        self._installation = ledger.secrets.get("installation")
        self.profiles = {name: calendar_profile(config, self._installation, name) for name in config.calendars}

    @property
    def unnoted(self) -> list[Run]:
        """The latest runs that the ledger could not take: while it is locked or full, they are the truth."""
        return list(self._unnoted.values())

    def host(self, key: RunKey) -> str | None:
        """The host that a job asks, ``None`` for one that asks none or several."""
        return self._outages.host(key)

    def run_all(self) -> list[Run]:
        """Every job once, servers side by side: accounts, links, calendars, feeds."""
        self.ask_anyway()
        with ThreadPoolExecutor(SIDE_BY_SIDE, thread_name_prefix="sync") as pool:
            runs = list(pool.map(self.pull, self._remotes.sources))
            runs += self.mint()
            runs += pool.map(self.push, self._remotes.calendars)
        return [*runs, *self.build_feeds()]

    def ask_anyway(self) -> None:
        """A person wants it now: hosts that wanted to be left alone are asked once more."""
        self._outages.ask_anyway()

    def pull(self, account: str, *, soon: bool = False) -> Run:
        """Bring one account's meetings up to date; with ``soon`` only the next days while no more is due."""
        settings = self.config.accounts[account]
        names = tuple(self.config.accounts)
        listing = ListingSettings(
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
            RunKey("pull", account),
            lambda: pull(account, source, self._ledger, listing, self._clock(), soon=soon),
            save=False,
        )

    def mint(self) -> list[Run]:
        """Make the links that the meetings of all calendars and feeds lack."""
        servers = (self._remotes.sources, self._remotes.minter)
        held = {job: self._outages.held(job) for job in _hosts(self.config)}
        workers = MINTS_SIDE_BY_SIDE if self._workers > 1 else 1
        try:
            profiles = self._profiles(only_enabled=True)
            runs = mint(profiles, *servers, self._ledger, self._clock, self._progress, self._outages, workers=workers)
            runs += self._settled(runs)
        except Stopped:
            return []
        except SyncdError as error:  # the ledger's: a server's failure is in its run
            return [self._failure(LINKS, error)]
        return [
            self._waiting(run.key, until) if (until := held.get(run.key)) and run.next_try == until else self._kept(run)
            for run in runs
        ]

    def _settled(self, runs: list[Run]) -> list[Run]:
        """Servers that failed before and were not asked now: no meeting lacks a link of theirs any more."""
        failed = {job for job, standing in self._ledger.history.standings().items() if standing.latest.state != "ok"}
        failed |= self._unnoted.keys()
        asked = {run.key for run in runs}
        settled = [key for key in sorted(failed - asked) if key.kind in ("mint", "maker", "links")]
        return [Run(key, self._clock()) for key in settled]

    def push(self, calendar: str) -> Run:
        """Make one calendar agree with its entries."""
        settings, profile, now = self.config.calendars[calendar], self.profiles[calendar], self._clock()
        accounts = [self.config.accounts[account] for account in profile.accounts]
        widest = ListingSettings(max(each.past for each in accounts), max(each.ahead for each in accounts))
        target = Target(
            calendar,
            self._remotes.calendars[calendar],
            profile,
            self._ledger,
            now,
            keep=settings.on_edit == "keep",
            restore=settings.on_delete == "restore",
        )
        told: OnWrite = partial(self._told, calendar)
        window, workers, every = widest.window(now), self._workers, settings.audit
        return self._noted(
            RunKey("push", calendar),
            lambda: push(target, window, self._progress, told, workers=workers, audit_every=every),
        )

    def build_feeds(self) -> list[Run]:
        """Bring the feeds up to date; a run for each that changed, was built for the first time or is in trouble.

        Entries that no calendar and no feed has any more are swept away.
        """
        try:
            runs = [run for feed in self._ledger.feeds.all().values() if (run := self._build(feed))]
            self._ledger.entries.sweep(profile.key for profile in self._profiles(only_enabled=False))
        except SyncdError as error:
            return [] if isinstance(error, Stopped) else [self._failure(FEEDS, error)]
        if FEEDS in {*self._troubles, *self._unnoted}:
            self._kept(Run(FEEDS, self._clock()))
        return runs

    def _build(self, feed: Feed) -> Run | None:
        profile = feed_profile(self.config, self._installation, feed)
        run = build_feed(feed, profile, self._ledger, self._clock(), self._progress) if profile else None
        if run is None:
            return None
        before = self._ledger.history.standings().get(RunKey("feed", feed.name))
        quiet = run.state == "ok" and not run.counts["changed"] and before and before.latest.state == "ok"
        return None if quiet else self._kept(run)

    def keep_house(self) -> Run:
        """Let the ledger forget what nobody needs any more, once a day."""

        def work() -> Run:
            now = self._clock()
            self._ledger.sweep(now)
            return Run(HOUSEKEEPING_RUN, now, next_try=now + HOUSEKEEPING)

        return self._noted(HOUSEKEEPING_RUN, work)

    def _profiles(self, *, only_enabled: bool) -> list[Profile]:
        calendars = [
            profile
            for name, profile in self.profiles.items()
            if self.config.calendars[name].enabled or not only_enabled
        ]
        feeds = (feed_profile(self.config, self._installation, feed) for feed in self._ledger.feeds.all().values())
        return list({profile.key: profile for profile in (*calendars, *filter(None, feeds))}.values())

    def _noted(self, key: RunKey, work: Callable[[], Run], *, save: bool = True) -> Run:
        """The run of some work, well or not; nothing is done while its host wants to be left alone."""
        if until := self._outages.held(key):
            return self._waiting(key, until)
        try:
            run = work()
        except Stopped as end:
            return Run(key, self._clock(), end.state)
        except SyncdError as error:
            return self._failure(key, error)
        return self._kept(run, save=save)

    def _waiting(self, key: RunKey, until: datetime) -> Run:
        """The run of a job that is not begun, because its host wants to be left alone until then."""
        told = self._outages.told(key)
        run = Run(key, self._clock(), Unavailable.state, message=told, next_try=until)
        self._say_outage(run)
        self._save(run)
        return run

    def _kept(self, run: Run, *, save: bool = True) -> Run:
        """The run, which is in the ledger then, and tells when to try again if it went wrong."""
        if run.state in ("ok", "held"):
            self._say_trouble(run)
        else:
            run = self._troubled(run, hosts=is_outage(run))
        if has_answer(run):
            self._say_end(run)
        if save:
            self._save(run)
        else:
            self._unnoted.pop(run.key, None)
        return run

    def _failure(self, key: RunKey, error: SyncdError) -> Run:
        """Say and note that a job could not be done, and when it is tried again."""
        now, wait = self._clock(), error.retry_after if isinstance(error, Unavailable) else None
        until = now + timedelta(seconds=wait) if wait else None
        run = Run(key, now, error.state, message=str(error), next_try=until)
        run = self._troubled(run, hosts=isinstance(error, Unavailable))
        self._save(run)
        return run

    def _troubled(self, run: Run, *, hosts: bool) -> Run:
        """Say what is wrong, and when it is tried again; ``hosts`` if it is the trouble of the whole host."""
        job = run.key
        if hosts and run.next_try:
            self._outages.hold(job, run.next_try)
        if not (hosts and self._say_outage(run)):
            self._say_trouble(run)
        again = self._next_try(job)
        return replace(run, next_try=max(again, run.next_try or again))

    def _say_outage(self, run: Run) -> bool:
        """One line when the host of a job stops answering; whether the trouble is the host's at all."""
        job = run.key
        trouble = self._outages.failed(job)
        if trouble == "begins":
            beside = self._outages.beside(job)
            waiting = {word: len({name for kind, name in beside if kind == of}) for of, word in WAITING.items()}
            told = " and ".join(f"{count} {word}" for word, count in waiting.items() if count)
            log.warning("%s is in trouble; %s wait for it: %s", self._outages.host(job), told or "links", run.message)
        elif trouble == "lasts":
            log.debug("%s: %s", run.key, run.message)
        return trouble != "alone"

    def _say_end(self, run: Run) -> None:
        """One line when a host answers again, for which others are told to wait no longer."""
        job = run.key
        if ended := self._outages.answered(job):
            seconds = (self._clock() - ended.begun).total_seconds()
            log.info("%s answers again after %d s", self._outages.host(job), seconds)
            for kind, name in ended.waiting:
                self._recovered(kind, name)

    def _say_trouble(self, run: Run) -> None:
        """One line when trouble begins that is not a whole host's, and one when it ends."""
        key = run.key
        if run.state == "ok":
            since = self._troubles.pop(key, None)
            if since:
                log.info("%s: well again after %d s", run.key, (run.ended - since).total_seconds())
            if run.message and run.message != self._remarks.get(key):
                log.warning("%s: %s", run.key, run.message)
            self._remarks[key] = run.message
        elif run.message:
            known = key in self._troubles
            self._troubles.setdefault(key, run.ended)
            log.log(logging.DEBUG if known else logging.WARNING, "%s: %s", run.key, run.message)

    def _next_try(self, key: RunKey) -> datetime:
        interval = self.config.accounts[key.name].every if key.kind == "pull" else soonest(self.config)
        failures = self._outages.rounds(key)
        if not failures:
            try:
                failures = self._ledger.history.failures(key) + 1
            except SyncdError:  # the ledger is what failed
                failures = 1
        return self._clock() + next_try(failures, None, interval, self._jitter())

    def _save(self, run: Run) -> None:
        try:
            self._ledger.history.save(run)
        except SyncdError as error:  # the ledger itself: nothing can be noted, so it is said
            level = logging.DEBUG if run.key in self._unnoted else logging.ERROR
            self._unnoted[run.key] = run
            log.log(level, "%s could not be noted: %s", run.key, error)
        else:
            self._unnoted.pop(run.key, None)


def _hosts(config: configuration.Config) -> dict[RunKey, str]:
    """Where each job has to ask."""
    accounts = [each for each in config.accounts.values() if each.enabled]
    hosts = {RunKey("pull", each.name): host_of(each.url) for each in accounts}
    hosts |= {RunKey("mint", each.name): host_of(each.url) for each in accounts}
    hosts |= {RunKey("push", each.name): host_of(each.url) for each in config.calendars.values() if each.enabled}
    return hosts | {RunKey("maker", name): host_of(maker.url) for name, maker in config.makers.items()}
