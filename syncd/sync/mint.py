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
"""How long links are made on one server in one run; then calendars are pushed with what there is."""


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

    Servers work side by side, each for ``BUDGET``; the rest waits for the next run, which follows at once. One
    that fails is left alone for the rest of this run; the others go on. Counts: for each way in, by its word
    (``Way.links``), how many links were made; ``none``: how many could not be had. Raises what the ledger raises, and
    Stopped.
    """
    start, links = clock(), ledger.links.all()
    missing = once_each(
        link
        for profile in profiles
        for link in missing_links(ledger.meetings.origins(profile.accounts), links, profile, start)
    )
    minting = _LinkRun(sources, makers, ledger, clock, progress, outages or Outages({}, clock))
    minting.make(missing, workers)
    return minting.runs()


class _LinkRequest(Struct, order=True):
    """A request for one link, passed from account to account until one can create it.

    It waits in one queue at a time, so that no link is created twice. ``position`` is the index of the account that is
    asked next. ``incomplete``: an account that has the meeting could not be asked, so the link may still be had.
    """

    later: bool
    turn: int
    link: MissingLink
    position: int = 0
    incomplete: bool = False

    @property
    def account(self) -> str:
        """The account that is asked next."""
        return self.link.accounts[self.position]


class _ServerQueue:
    """The requests that wait for one server, an account's or a link maker's; one thread at a time works them off."""

    def __init__(self, key: RunKey) -> None:
        self.key = key
        self.account = key.name if key.kind == "mint" else None
        self.requests: list[_LinkRequest] = []
        self.busy = False
        self.start: datetime | None = None
        self.cut_short = False
        self.same_owner: bool | None = None
        self.stranger = False
        self.counts: Counter[str] = Counter()
        self.failure: SyncdError | None = None


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

    def make(self, missing: Sequence[MissingLink], workers: int) -> None:
        """Work all queues off, side by side or, with one worker, one after the other in this thread."""
        self._total = len(missing)
        if any(self._may_be_made(link) for link in missing):
            self._ledger.links.probe()  # else every run would make again what it cannot record
        if workers == 1:
            works: list[Callable[[], None]] = []
            self._start = lambda _server, work: works.append(work)
            self._begin(missing)
            for work in works:
                work()
            return
        with HostPools(workers) as pools:
            running: list[Future[None]] = []
            self._start = lambda server, work: running.append(pools.submit(self._outages.host(server) or "", work))
            try:
                self._begin(missing)
            except BaseException:
                self._ended = True
                raise
            for each in running:  # it grows meanwhile
                each.exception()
        for each in running:
            each.result()

    def _may_be_made(self, link: MissingLink) -> bool:
        return link.way.maker in self._makers if link.way.maker else bool(self._sources.keys() & {*link.accounts})

    def _begin(self, missing: Sequence[MissingLink]) -> None:
        requests = [_LinkRequest(link.way.maker is None, turn, link) for turn, link in enumerate(missing)]
        hopeless: list[MissingLink] = []
        # link makers' first: personal links wait in an account's queue only until its owner is checked
        for request in sorted(requests):
            if request.link.way.maker is None:
                hopeless += [] if self._enqueue_next(request) else [request.link]
            elif request.link.whose != GUEST and request.account in self._sources:
                self._enqueue(_account_key(request.account), request)
            else:
                self._enqueue(_maker_key(request.link), request)
        self._save_results(map(_no_link, hopeless), self._clock())

    def _enqueue(self, key: RunKey, request: _LinkRequest) -> None:
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
        queue.start = queue.start or now
        if queue.account and request.link.way.maker:
            if self._is_same_owner(queue, queue.account) or not queue.stranger:  # an outage says nothing about a person
                self._enqueue(_maker_key(request.link), request)
        elif now - queue.start > BUDGET:
            queue.cut_short = True
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
        same_owner = self._is_same_owner(queue, account)
        has_answer, invite = self._call_server(queue, lambda: source.invite(meeting)) if same_owner else (False, None)
        if invite is not None:
            self._save_results([(request.link, invite, queue.key)], now)
            self._count(queue.key, request.link.way.links, int(invite.made))
            return
        if has_answer:
            self._count(queue.key, "none")
        request.incomplete |= not has_answer
        self._pass_on(request)

    def _pass_on(self, request: _LinkRequest) -> None:
        """Ask the next account; after the last one record that there is no link to be had."""
        request.position += 1
        if not self._enqueue_next(request):
            self._save_results([_no_link(request.link)], self._clock())

    def _enqueue_next(self, request: _LinkRequest) -> bool:
        """Put a request into the queue of its next account. False if none is left and every one was asked."""
        while request.position < len(request.link.accounts):
            if request.account in self._sources:
                self._enqueue(_account_key(request.account), request)
                return True
            request.incomplete |= self._ledger.meetings.get(request.account, request.link.event) is not None
            request.position += 1
        return request.incomplete

    def _make(self, queue: _ServerQueue, request: _LinkRequest, now: datetime) -> None:
        """Let a link maker make a link for the holder of an account, or for guests."""
        link, account = request.link, request.account
        meeting, maker = self._ledger.meetings.get(account, link.event), self._makers.get(queue.key.name)
        person = self._ledger.accounts.identity(account) if link.whose != GUEST else None
        if meeting is None or maker is None or (link.whose != GUEST and person is None):
            return
        title, visitor = meeting.title, _visitor(link, person)
        has_answer, invite = self._call_server(queue, lambda: Invite(maker.make(link.event, title, visitor), made=True))
        if has_answer:
            self._save_results([(link, invite, queue.key)], now)
            self._count(queue.key, link.way.links if invite else "none")
            if invite:
                self._count(_account_key(account), link.way.links)

    def _is_same_owner(self, queue: _ServerQueue, account: str) -> bool:
        """Whether the person behind an account is the one whose meetings the ledger has."""
        if queue.same_owner is None:
            before = self._ledger.accounts.identity(account)
            has_answer, person = self._call_server(queue, self._sources[account].identity)
            queue.same_owner = person is not None and before is not None and _is_same_person(before, person)
            queue.stranger = has_answer and not queue.same_owner
            if queue.stranger:
                who = "another person than before is" if before else "nobody is known to be"
                queue.failure = NeedsYou(f"opentalk.{account}: {who} behind this login; no link is made with it")
        return queue.same_owner

    def _call_server(self, queue: _ServerQueue, call: Callable[[], T | None]) -> tuple[bool, T | None]:
        """Ask a server with ``call``. Returns whether it answered, and the result of the call.

        Not asked, (False, None), while its host is paused, and once it has failed in this run.
        """
        job = queue.key
        if self._outages.paused_until(job):
            queue.failure = queue.failure or Unavailable(self._outages.pause_message(job))
        if queue.failure is not None:
            return False, None
        try:
            return True, call()
        except Refused as error:  # for this meeting alone: the others go on
            log.warning("%s: %s", queue.key.name, error)
            return True, None
        except SyncdError as error:
            queue.failure = error
            if isinstance(error, Unavailable) and error.retry_after:
                self._outages.pause(job, pause_end(error.retry_after, self._clock()))
            return False, None

    def _save_results(self, results: Iterable["_LinkResult"], now: datetime) -> None:
        """Record links, or that there are none to be had, in one transaction."""
        links = [(_link(missing, invite, now), server) for missing, invite, server in results]
        self._ledger.links.save(links)
        with self._lock:
            self._done += len(links)

    def _count(self, key: RunKey, word: str, number: int = 1) -> None:
        with self._lock:
            self._queue(key).counts[word] += number

    def runs(self) -> list[Run]:
        """One run for every server that was asked, or that could not be asked."""
        now = self._clock()
        return [
            Run(
                key=queue.key,
                ended=now,
                state=queue.failure.state if queue.failure else "ok",
                counts=dict(queue.counts),
                message=str(queue.failure) if queue.failure else None,
                cut_short=queue.cut_short,
            )
            for queue in sorted(self._queues.values(), key=lambda queue: queue.key.name)
            if queue.counts or queue.failure or queue.cut_short
        ]


def _is_same_person(before: Identity, person: Identity) -> bool:
    return (before.issuer, before.subject) == (person.issuer, person.subject)


_LinkResult = tuple[MissingLink, Invite | None, RunKey]
"""A missing link, the invite (``None`` if there is none to be had), and the server that gave this answer."""


def _account_key(account: str) -> RunKey:
    return RunKey("mint", account)


def _maker_key(link: MissingLink) -> RunKey:
    assert link.way.maker is not None  # noqa: S101 -- else its accounts are asked
    return RunKey("maker", link.way.maker)


def _no_link(link: MissingLink) -> _LinkResult:
    return link, None, _account_key(", ".join(link.accounts))


def _link(link: MissingLink, invite: Invite | None, now: datetime) -> Link:
    code, fresh = (invite.code, invite.made) if invite else (None, False)
    return Link(link.way.kind, link.event, link.whose, code, link.depends, fresh, now)


def _visitor(link: MissingLink, person: Identity | None) -> Visitor:
    if person is None:
        return Visitor(external_id=link.event)
    return Visitor(person.user_id, person.firstname, person.lastname, moderator=link.moderator)
