# SPDX-License-Identifier: Apache-2.0
"""Makes the links that meetings lack: each server by itself, nearest meeting first, each link saved at once.

What is made here is made outside, where nobody takes it back: nothing is made twice, nothing for a person other
than the one whose meetings the ledger has, and nothing that the ledger could not note.
"""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from datetime import datetime, timedelta
from heapq import heappop, heappush
from typing import TypeVar

from msgspec import Struct

from syncd.errors import NeedsYou, Refused, SyncdError, Unavailable
from syncd.model import GUEST, Identity, Invite, Link, Profile, Run, RunKey, Visitor
from syncd.plan.links import MissingLink, missing_links, once_each
from syncd.plan.timing import pause_end
from syncd.sync.outages import Outages
from syncd.sync.pools import HostPools
from syncd.sync.ports import LinkMaker, MintLedger, Progress, Source

T = TypeVar("T")

log = logging.getLogger(__name__)

SIDE_BY_SIDE = 8
"""How many accounts of one host are asked for links side by side."""

BUDGET = timedelta(seconds=30)
"""How long a server makes links in one run, before what is there goes out."""


def mint(
    profiles: Iterable[Profile],
    sources: Mapping[str, Source],
    makers: Mapping[str, LinkMaker],
    ledger: MintLedger,
    clock: Callable[[], datetime],
    progress: Progress,
    outages: Outages | None = None,
    *,
    workers: int = 1,
) -> list[Run]:
    """Make the links that coming meetings lack; one run for every server that was needed.

    Servers work side by side, each for ``BUDGET``; the rest waits for the next run, which is wanted at once. One
    that fails is left alone for the rest of this run; the others go on. Counts: of each way in the ``links`` that
    were made, ``none`` that could not be had. Raises what the ledger does and Stopped.
    """
    begun, links = clock(), ledger.links.all()
    wanted = once_each(
        wish
        for profile in profiles
        for wish in missing_links(ledger.meetings.origins(profile.accounts), links, profile, begun)
    )
    minting = _LinkRun(sources, makers, ledger, clock, progress, outages or Outages({}, clock))
    minting.make(wanted, workers)
    return minting.runs()


class _LinkRequest(Struct, order=True):
    """A request for one link, passed from account to account until one can create it.

    It waits in one queue at a time, so that no link is created twice.
    """

    later: bool
    turn: int
    wanted: MissingLink
    stop: int = 0
    unasked: bool = False

    @property
    def account(self) -> str:
        """The account that is asked next."""
        return self.wanted.accounts[self.stop]


class _ServerQueue:
    """What one server, an account's or a link maker's, is wanted for; one thread at a time works it off."""

    def __init__(self, key: RunKey) -> None:
        self.key = key
        self.account = key.name if key.kind == "mint" else None
        self.ways: list[_LinkRequest] = []
        self.busy = False
        self.begun: datetime | None = None
        self.cut = False
        self.known: bool | None = None
        self.stranger = False
        self.counts: Counter[str] = Counter()
        self.failed: SyncdError | None = None


class _LinkRun:
    """The links of one run."""

    def __init__(
        self,
        sources: Mapping[str, Source],
        makers: Mapping[str, LinkMaker],
        ledger: MintLedger,
        clock: Callable[[], datetime],
        progress: Progress,
        outages: Outages,
    ) -> None:
        self._sources = sources
        self._makers = makers
        self._ledger = ledger
        self._clock = clock
        self._progress = progress
        self._outages = outages
        self._lines: dict[RunKey, _ServerQueue] = {}
        self._lock = threading.RLock()
        self._start: Callable[[RunKey, Callable[[], None]], object] = lambda _server, _work: None
        self._ended = False
        self._done = self._total = 0

    def make(self, wanted: Sequence[MissingLink], workers: int) -> None:
        """Work all lines off, side by side or, with one worker, one after the other in this thread."""
        self._total = len(wanted)
        if any(self._may_be_made(wish) for wish in wanted):
            self._ledger.links.probe()  # what it could not note, every run would make again
        if workers == 1:
            works: list[Callable[[], None]] = []
            self._start = lambda _server, work: works.append(work)
            self._begin(wanted)
            for work in works:
                work()
            return
        with HostPools(workers) as pools:
            running: list[Future[None]] = []
            self._start = lambda server, work: running.append(pools.submit(self._outages.host(server) or "", work))
            self._begin(wanted)
            for each in running:  # it grows meanwhile
                each.exception()
        for each in running:
            each.result()

    def _may_be_made(self, wish: MissingLink) -> bool:
        return wish.way.maker in self._makers if wish.way.maker else bool(self._sources.keys() & {*wish.accounts})

    def _begin(self, wanted: Sequence[MissingLink]) -> None:
        ways = [_LinkRequest(wish.way.maker is None, turn, wish) for turn, wish in enumerate(wanted)]
        none: list[MissingLink] = []
        for way in sorted(ways):  # link makers' first: personal ones wait only to hear who the account is
            if way.wanted.way.maker is None:
                none += [] if self._can_be_had(way) else [way.wanted]
            elif way.wanted.whose != GUEST and way.account in self._sources:
                self._put(_account_key(way.account), way)
            else:
                self._put(_maker_key(way.wanted), way)
        self._save(map(_none, none), self._clock())

    def _put(self, key: RunKey, way: _LinkRequest) -> None:
        with self._lock:
            line = self._line(key)
            heappush(line.ways, way)
            if not line.busy:
                line.busy = True
                self._start(line.key, lambda: self._work(line))

    def _line(self, key: RunKey) -> _ServerQueue:
        return self._lines.setdefault(key, _ServerQueue(key))

    def _work(self, line: _ServerQueue) -> None:
        try:
            while (way := self._next(line)) is not None:
                self._progress("links", self._done, self._total)
                self._step(line, way, self._clock())
        except BaseException:
            self._ended = True  # what ends one line, the ledger or a stop, ends all
            raise

    def _next(self, line: _ServerQueue) -> _LinkRequest | None:
        with self._lock:
            line.busy = bool(line.ways) and not self._ended
            return heappop(line.ways) if line.busy else None

    def _step(self, line: _ServerQueue, way: _LinkRequest, now: datetime) -> None:
        line.begun = line.begun or now
        if line.account and way.wanted.way.maker:
            if self._is_known(line, line.account) or not line.stranger:  # an outage is no word about a person
                self._put(_maker_key(way.wanted), way)
        elif now - line.begun > BUDGET:
            line.cut = True
        elif line.account:
            self._invite(line, line.account, way, now)
        else:
            self._make(line, way, now)

    def _invite(self, line: _ServerQueue, account: str, way: _LinkRequest, now: datetime) -> None:
        """Ask an account for a guest invite; if it cannot make it, the next one may."""
        meeting, source = self._ledger.meetings.get(account, way.wanted.event), self._sources[account]
        if meeting is None:
            self._pass_on(way)
            return
        known = self._is_known(line, account)
        asked, made = self._asked(line, lambda: source.invite(meeting)) if known else (False, None)
        if made is not None:
            self._save([(way.wanted, made, line.key)], now)
            self._count(line.key, way.wanted.way.links, made=made.made)
            return
        if asked:
            self._count(line.key, "none")
        way.unasked |= not asked
        self._pass_on(way)

    def _pass_on(self, way: _LinkRequest) -> None:
        """Ask the next account; after the last one record that there is no link to be had."""
        way.stop += 1
        if not self._can_be_had(way):
            self._save([_none(way.wanted)], self._clock())

    def _can_be_had(self, way: _LinkRequest) -> bool:
        """Put a request into the queue of its next account. False if none is left and every one was asked."""
        while way.stop < len(way.wanted.accounts):
            if way.account in self._sources:
                self._put(_account_key(way.account), way)
                return True
            way.unasked |= self._ledger.meetings.get(way.account, way.wanted.event) is not None
            way.stop += 1
        return way.unasked

    def _make(self, line: _ServerQueue, way: _LinkRequest, now: datetime) -> None:
        """Let a link maker make a link for the holder of an account, or for guests."""
        wish, account = way.wanted, way.account
        meeting, maker = self._ledger.meetings.get(account, wish.event), self._makers.get(line.key.name)
        person = self._ledger.accounts.identity(account) if wish.whose != GUEST else None
        if meeting is None or maker is None or (wish.whose != GUEST and person is None):
            return
        title, visitor = meeting.title, _visitor(wish, person)
        asked, made = self._asked(line, lambda: Invite(maker.make(wish.event, title, visitor), made=True))
        if asked:
            self._save([(wish, made, line.key)], now)
            self._count(line.key, wish.way.links if made else "none")
            if made:
                self._count(_account_key(account), wish.way.links)

    def _is_known(self, line: _ServerQueue, account: str) -> bool:
        """Whether the person behind an account is the one whose meetings the ledger has."""
        if line.known is None:
            before = self._ledger.accounts.identity(account)
            asked, person = self._asked(line, self._sources[account].identity)
            line.known = person is not None and before is not None and _same(before, person)
            line.stranger = asked and not line.known
            if line.stranger:
                who = "another person than before is" if before else "nobody is known to be"
                line.failed = NeedsYou(f"opentalk.{account}: {who} behind this login; no link is made with it")
        return line.known

    def _asked(self, line: _ServerQueue, ask: Callable[[], T | None]) -> tuple[bool, T | None]:
        """Whether a server was asked, and what it gave."""
        job = line.key
        if self._outages.paused_until(job):
            line.failed = line.failed or Unavailable(self._outages.pause_message(job))
        if line.failed is not None:
            return False, None
        try:
            return True, ask()
        except Refused as error:  # this meeting's alone: the others go on
            log.warning("%s: %s", line.key.name, error)
            return True, None
        except SyncdError as error:
            line.failed = error
            if isinstance(error, Unavailable) and error.retry_after:
                self._outages.pause(job, pause_end(error.retry_after, self._clock()))
            return False, None

    def _save(self, made: Iterable["_Made"], now: datetime) -> None:
        """Record links, or that there are none to be had, in one transaction."""
        links = [(_link(wanted, invite, now), run) for wanted, invite, run in made]
        self._ledger.links.save(links)
        with self._lock:
            self._done += len(links)

    def _count(self, key: RunKey, word: str, *, made: bool = True) -> None:
        with self._lock:
            self._line(key).counts[word] += made

    def runs(self) -> list[Run]:
        """One for every server that was asked, or that could not be."""
        now = self._clock()
        return [
            Run(
                key=line.key,
                ended=now,
                state=line.failed.state if line.failed else "ok",
                counts=dict(line.counts),
                message=str(line.failed) if line.failed else None,
                cut_short=line.cut,
            )
            for line in sorted(self._lines.values(), key=lambda line: line.key.name)
            if line.counts or line.failed or line.cut
        ]


def _same(known: Identity, person: Identity) -> bool:
    return (known.issuer, known.subject) == (person.issuer, person.subject)


_Made = tuple[MissingLink, Invite | None, RunKey]
"""A link that was asked for, what there was, and who was asked."""


def _account_key(account: str) -> RunKey:
    return RunKey("mint", account)


def _maker_key(wanted: MissingLink) -> RunKey:
    assert wanted.way.maker is not None  # noqa: S101 -- else its accounts are asked
    return RunKey("maker", wanted.way.maker)


def _none(wanted: MissingLink) -> _Made:
    return wanted, None, _account_key(", ".join(wanted.accounts))


def _link(wanted: MissingLink, made: Invite | None, now: datetime) -> Link:
    code, fresh = (made.code, made.made) if made else (None, False)
    return Link(wanted.way.kind, wanted.event, wanted.whose, code, wanted.depends, fresh, now)


def _visitor(wish: MissingLink, person: Identity | None) -> Visitor:
    if person is None:
        return Visitor(external_id=wish.event)
    return Visitor(person.user_id, person.firstname, person.lastname, moderator=wish.moderator)
