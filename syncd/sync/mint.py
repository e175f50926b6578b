# SPDX-License-Identifier: Apache-2.0
"""Makes the links that meetings lack: nearest meeting first, each server by itself, each link recorded at once.

Links are made on other people's servers and cannot be taken back. So none is made twice, none for an account behind
which another person is than before, and none that the ledger could not record.
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
        link
        for profile in profiles
        for link in missing_links(ledger.meetings.origins(profile.accounts), links, profile, begun)
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
    link: MissingLink
    stop: int = 0
    unasked: bool = False

    @property
    def account(self) -> str:
        """The account that is asked next."""
        return self.link.accounts[self.stop]


class _ServerQueue:
    """What one server, an account's or a link maker's, is to be asked for; one thread at a time works it off."""

    def __init__(self, key: RunKey) -> None:
        self.key = key
        self.account = key.name if key.kind == "mint" else None
        self.requests: list[_LinkRequest] = []
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
        self._queues: dict[RunKey, _ServerQueue] = {}
        self._lock = threading.RLock()
        self._start: Callable[[RunKey, Callable[[], None]], object] = lambda _server, _work: None
        self._ended = False
        self._done = self._total = 0

    def make(self, wanted: Sequence[MissingLink], workers: int) -> None:
        """Work all queues off, side by side or, with one worker, one after the other in this thread."""
        self._total = len(wanted)
        if any(self._may_be_made(link) for link in wanted):
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

    def _may_be_made(self, link: MissingLink) -> bool:
        return link.way.maker in self._makers if link.way.maker else bool(self._sources.keys() & {*link.accounts})

    def _begin(self, wanted: Sequence[MissingLink]) -> None:
        requests = [_LinkRequest(link.way.maker is None, turn, link) for turn, link in enumerate(wanted)]
        none: list[MissingLink] = []
        for request in sorted(requests):  # link makers' first: personal ones wait only to hear who the account is
            if request.link.way.maker is None:
                none += [] if self._can_be_had(request) else [request.link]
            elif request.link.whose != GUEST and request.account in self._sources:
                self._put(_account_key(request.account), request)
            else:
                self._put(_maker_key(request.link), request)
        self._save(map(_none, none), self._clock())

    def _put(self, key: RunKey, request: _LinkRequest) -> None:
        with self._lock:
            queue = self._queue(key)
            heappush(queue.requests, request)
            if not queue.busy:
                queue.busy = True
                self._start(queue.key, lambda: self._work(queue))

    def _queue(self, key: RunKey) -> _ServerQueue:
        return self._queues.setdefault(key, _ServerQueue(key))

    def _work(self, queue: _ServerQueue) -> None:
        try:
            while (request := self._next(queue)) is not None:
                self._progress("links", self._done, self._total)
                self._step(queue, request, self._clock())
        except BaseException:
            self._ended = True  # what ends one queue, the ledger or a stop, ends all
            raise

    def _next(self, queue: _ServerQueue) -> _LinkRequest | None:
        with self._lock:
            queue.busy = bool(queue.requests) and not self._ended
            return heappop(queue.requests) if queue.busy else None

    def _step(self, queue: _ServerQueue, request: _LinkRequest, now: datetime) -> None:
        queue.begun = queue.begun or now
        if queue.account and request.link.way.maker:
            if self._is_known(queue, queue.account) or not queue.stranger:  # an outage is no word about a person
                self._put(_maker_key(request.link), request)
        elif now - queue.begun > BUDGET:
            queue.cut = True
        elif queue.account:
            self._invite(queue, queue.account, request, now)
        else:
            self._make(queue, request, now)

    def _invite(self, queue: _ServerQueue, account: str, request: _LinkRequest, now: datetime) -> None:
        """Ask an account for a guest invite; if it cannot make it, the next one may."""
        meeting, source = self._ledger.meetings.get(account, request.link.event), self._sources[account]
        if meeting is None:
            self._pass_on(request)
            return
        known = self._is_known(queue, account)
        asked, made = self._asked(queue, lambda: source.invite(meeting)) if known else (False, None)
        if made is not None:
            self._save([(request.link, made, queue.key)], now)
            self._count(queue.key, request.link.way.links, made=made.made)
            return
        if asked:
            self._count(queue.key, "none")
        request.unasked |= not asked
        self._pass_on(request)

    def _pass_on(self, request: _LinkRequest) -> None:
        """Ask the next account; after the last one record that there is no link to be had."""
        request.stop += 1
        if not self._can_be_had(request):
            self._save([_none(request.link)], self._clock())

    def _can_be_had(self, request: _LinkRequest) -> bool:
        """Put a request into the queue of its next account. False if none is left and every one was asked."""
        while request.stop < len(request.link.accounts):
            if request.account in self._sources:
                self._put(_account_key(request.account), request)
                return True
            request.unasked |= self._ledger.meetings.get(request.account, request.link.event) is not None
            request.stop += 1
        return request.unasked

    def _make(self, queue: _ServerQueue, request: _LinkRequest, now: datetime) -> None:
        """Let a link maker make a link for the holder of an account, or for guests."""
        link, account = request.link, request.account
        meeting, maker = self._ledger.meetings.get(account, link.event), self._makers.get(queue.key.name)
        person = self._ledger.accounts.identity(account) if link.whose != GUEST else None
        if meeting is None or maker is None or (link.whose != GUEST and person is None):
            return
        title, visitor = meeting.title, _visitor(link, person)
        asked, made = self._asked(queue, lambda: Invite(maker.make(link.event, title, visitor), made=True))
        if asked:
            self._save([(link, made, queue.key)], now)
            self._count(queue.key, link.way.links if made else "none")
            if made:
                self._count(_account_key(account), link.way.links)

    def _is_known(self, queue: _ServerQueue, account: str) -> bool:
        """Whether the person behind an account is the one whose meetings the ledger has."""
        if queue.known is None:
            before = self._ledger.accounts.identity(account)
            asked, person = self._asked(queue, self._sources[account].identity)
            queue.known = person is not None and before is not None and _same(before, person)
            queue.stranger = asked and not queue.known
            if queue.stranger:
                who = "another person than before is" if before else "nobody is known to be"
                queue.failed = NeedsYou(f"opentalk.{account}: {who} behind this login; no link is made with it")
        return queue.known

    def _asked(self, queue: _ServerQueue, ask: Callable[[], T | None]) -> tuple[bool, T | None]:
        """Whether a server was asked, and what it gave."""
        job = queue.key
        if self._outages.paused_until(job):
            queue.failed = queue.failed or Unavailable(self._outages.pause_message(job))
        if queue.failed is not None:
            return False, None
        try:
            return True, ask()
        except Refused as error:  # this meeting's alone: the others go on
            log.warning("%s: %s", queue.key.name, error)
            return True, None
        except SyncdError as error:
            queue.failed = error
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
            self._queue(key).counts[word] += made

    def runs(self) -> list[Run]:
        """One for every server that was asked, or that could not be."""
        now = self._clock()
        return [
            Run(
                key=queue.key,
                ended=now,
                state=queue.failed.state if queue.failed else "ok",
                counts=dict(queue.counts),
                message=str(queue.failed) if queue.failed else None,
                cut_short=queue.cut,
            )
            for queue in sorted(self._queues.values(), key=lambda queue: queue.key.name)
            if queue.counts or queue.failed or queue.cut
        ]


def _same(known: Identity, person: Identity) -> bool:
    return (known.issuer, known.subject) == (person.issuer, person.subject)


_Made = tuple[MissingLink, Invite | None, RunKey]
"""A link that was asked for, what there was, and who was asked."""


def _account_key(account: str) -> RunKey:
    return RunKey("mint", account)


def _maker_key(link: MissingLink) -> RunKey:
    assert link.way.maker is not None  # noqa: S101 -- else its accounts are asked
    return RunKey("maker", link.way.maker)


def _none(link: MissingLink) -> _Made:
    return link, None, _account_key(", ".join(link.accounts))


def _link(link: MissingLink, made: Invite | None, now: datetime) -> Link:
    code, fresh = (made.code, made.made) if made else (None, False)
    return Link(link.way.kind, link.event, link.whose, code, link.depends, fresh, now)


def _visitor(link: MissingLink, person: Identity | None) -> Visitor:
    if person is None:
        return Visitor(external_id=link.event)
    return Visitor(person.user_id, person.firstname, person.lastname, moderator=link.moderator)
