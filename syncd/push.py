# SPDX-License-Identifier: Apache-2.0
"""Makes a calendar agree with its entries: conditional writes, four in flight, each noted at once.

Only what our ledger has noted, or what bears our mark where we meant to write, is ever changed or removed;
everything else in the calendar is somebody else's. One entry that fails does not stop the others.
"""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from threading import Lock
from typing import Protocol, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from syncd import plan
from syncd.errors import Changed, LoginRefused, NeedsYou, Refused, Stopped, SyncdError, UidTaken, Unavailable
from syncd.guard import Delete, Guard, Hold, is_coming
from syncd.ical.mark import read_mark
from syncd.ical.render import with_revision
from syncd.model import Entry, Found, Placement, Profile, Run, Stored, Window
from syncd.sync import Ledger as SyncLedger
from syncd.sync import Progress, render_entries, summary

log = logging.getLogger(__name__)

IN_FLIGHT = 4
TROUBLES = 3
REFUSALS = 20
ROUNDS = 3
LATELY = timedelta(days=1)


class Calendar(Protocol):
    """A CalDAV calendar; ``href`` is relative to it."""

    def check(self) -> None:
        """Raise NeedsYou if this is not a calendar that can be written."""

    def create(self, href: str, body: bytes) -> Stored:
        """Put an object where none is. Raises Changed if one is."""

    def update(self, href: str, body: bytes, etag: str | None) -> Stored:
        """Put an object over the one with this ETag. Raises Changed if it has another, or is gone."""

    def delete(self, href: str, etag: str | None) -> None:
        """Remove the object with this ETag; fine if it is gone. Raises Changed if it has another."""

    def fetch(self, href: str) -> Found | None:
        """What lies there."""


class Ledger(SyncLedger, Protocol):
    """What a push needs of the ledger besides."""

    # fmt: off
    def placements(self, calendar: str) -> dict[str, Placement]: ...
    def save_placement(self, placement: Placement, body: bytes) -> None: ...
    def forget_placement(self, calendar: str, event: str) -> None: ...
    def guard(self, calendar: str, accounts: Sequence[str], since: datetime) -> Guard: ...
    def save_hold(self, name: str, hold: Hold | None) -> None: ...
    # fmt: on


class Target(Struct, frozen=True):
    """The calendar of one push: its name in the configuration, its server, its profile, our notes."""

    name: str
    calendar: Calendar
    profile: Profile
    ledger: Ledger
    now: datetime


Told = Callable[[str, str], None]
"""Hears of every action that was carried out: its word in ``syncd sync`` and the event."""


def push(target: Target, window: Window, progress: Progress, told: Told, *, workers: int = IN_FLIGHT) -> Run:
    """Carry out what ``plan.calendar_actions`` finds, nearest meeting first; deletions before all.

    Counts: ``created``, ``updated``, ``deleted``, ``adopted``, ``left``, ``failed``, ``entries`` that are
    in the calendar afterwards, ``unasked`` deletions of coming entries, ``held`` ones. A server that fails
    three times is left alone for the rest of this run. What was done before a stop is told, too.
    """
    name, ledger, now = target.name, target.ledger, target.now
    problems = list(render_entries(ledger, target.profile, now, progress).problems)
    wanted, placed = ledger.entries(target.profile.key), ledger.placements(name)
    guard = ledger.guard(name, target.profile.accounts, now - LATELY)
    actions = plan.calendar_actions(wanted, placed, window, now, guard)
    held = next((action for action in actions if isinstance(action, Hold)), None)
    work: list[plan.Write] = [action for action in actions if not isinstance(action, Hold)]
    work.sort(key=lambda action: max(wanted[action.event].start, now) if _puts(action) else window.since)
    if work:
        target.calendar.check()
    outcome = _Outcome(target.name, len(work), progress, told)

    def carry_out(action: plan.Write) -> None:
        outcome.note(action, lambda: _carry_out(target, action, wanted, placed))

    _in_parallel(work, carry_out, workers)
    counts, after = outcome.counts, ledger.placements(name)
    if not guard.confirmed & {event for event in after if event in guard.gone}:
        ledger.save_hold(name, held)  # a confirmed one stands until it is carried out
    gone = {action.event for action in work if isinstance(action, Delete)} - after.keys() - guard.confirmed
    counts["unasked"] = sum(is_coming(placed[event], now) for event in gone)
    counts["held"] = len(held.events) if held else 0
    counts["entries"] = sum(place.state == "placed" for place in after.values())
    problems += outcome.problems
    state, message = outcome.state, summary(problems)
    if state == "ok" and held:
        state, message = "held", f"would delete {len(held.events)} of {held.coming}: syncd confirm {name}"
    elif state == "ok" and problems:
        state = NeedsYou.state
    next_try = now + timedelta(seconds=outcome.retry_after) if outcome.retry_after else None
    return Run(kind="push", name=name, ended=now, state=state, counts=dict(counts), message=message, next_try=next_try)


def _puts(action: plan.Write) -> bool:
    return isinstance(action, plan.Create | plan.Update)


class _Outcome:
    """What has become of the actions so far; shared by the threads of one push.

    ``state`` is other than "ok" when the rest is not to be done: the server was given up, or syncd ends.
    """

    def __init__(self, name: str, total: int, progress: Progress, told: Told) -> None:
        self.counts: Counter[str] = Counter(dict.fromkeys(WORDS, 0))
        self.problems: list[str] = []
        self.state = "ok"
        self.retry_after: float | None = None
        self._name = name
        self._total = total
        self._done = self._troubles = self._refused = 0
        self._progress = progress
        self._told = told
        self._lock = Lock()

    def note(self, action: plan.Write, work: Callable[[], str]) -> None:
        """Do the work, unless the rest is not to be done, and note its word or its failure."""
        if self.state != "ok":
            return
        try:
            self._progress(self._name, self._done, self._total)
            word = work()
        except Stopped as end:
            self.state = end.state
        except SyncdError as error:
            with self._lock:
                self._fail(action.event, error)
        else:
            with self._lock:
                self.counts[word] += 1
                self._done += 1
                self._refused = 0
                self._told(word, action.event)

    def _fail(self, event: str, error: SyncdError) -> None:
        self.counts["failed"] += 1
        self._refused += isinstance(error, Refused)
        if isinstance(error, Unavailable):
            self._troubles += 1
            self.retry_after = max(self.retry_after or 0.0, error.retry_after or 0.0) or None
        given_up = self._troubles >= TROUBLES or self._refused >= REFUSALS
        if given_up or isinstance(error, LoginRefused | NeedsYou):
            self.state = error.state
            self.problems.insert(0, str(error))
        else:
            self.problems.append(f"event {event}: {error}")
        log.warning("caldav.%s: event %s: %s", self._name, event, error)


WORDS = ("created", "updated", "deleted", "adopted", "left", "failed")


T = TypeVar("T")


def _in_parallel(work: Sequence[T], do: Callable[[T], None], workers: int) -> None:
    if workers == 1:
        for item in work:
            do(item)
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="push") as pool:
        for _ in pool.map(do, work):
            pass


def _carry_out(target: Target, action: plan.Write, wanted: dict[str, Entry], placed: dict[str, Placement]) -> str:
    match action:
        case plan.Create(event):
            return _create(target, wanted[event])
        case plan.Update(event):
            return _update(target, wanted[event], placed[event])
        case Delete(event):
            return _delete(target, placed[event])
        case plan.Forget(event):
            target.ledger.forget_placement(target.name, event)
            return "forgotten"


def _body(target: Target, entry: Entry) -> bytes:
    return target.ledger.body(target.profile.key, entry.event)


def _create(target: Target, entry: Entry) -> str:
    href, body = f"syncd-{entry.event}.ics", _body(target, entry)
    # Whoever is killed between the PUT and its record must still find the object if the meeting goes meanwhile.
    target.ledger.save_placement(replace(_placement(target, entry, href, None), digest="", state="placing"), b"")
    try:
        stored = target.calendar.create(href, body)
    except UidTaken as error:
        return _leave(target, entry, href, str(error))
    except Changed:
        return _resolve(target, entry, href)
    return _placed(target, entry, stored, body, "created")


def _update(target: Target, entry: Entry, there: Placement) -> str:
    if there.etag is None:  # Cyrus and sabre tell none where they add to an object: look before writing over it
        return _resolve(target, entry, there.href)
    body = _body(target, entry)
    try:
        stored = target.calendar.update(there.href, body, there.etag)
    except Changed:
        return _resolve(target, entry, there.href)
    return _placed(target, entry, stored, body, "updated")


def _resolve(target: Target, entry: Entry, href: str) -> str:
    """Look at what lies where we meant to write: adopt ours, write it anew if it is gone, leave theirs."""
    body = _body(target, entry)
    for _ in range(ROUNDS):
        found = target.calendar.fetch(href)
        try:
            if found is None:
                return _placed(target, entry, target.calendar.create(href, body), body, "created")
            match plan.after_conflict(entry, read_mark(found.body)):
                case plan.Leave(why):
                    return _leave(target, entry, href, why)
                case plan.Adopt(revision, digest, done):
                    ours = replace(_placement(target, entry, href, found.etag), revision=revision, digest=digest)
                    target.ledger.save_placement(ours, found.body)
                    if done:
                        return "adopted"
                    entry, body = _raised(target, entry, body)
                    return _placed(target, entry, target.calendar.update(href, body, found.etag), body, "updated")
        except UidTaken as error:
            return _leave(target, entry, href, str(error))
        except Changed:
            continue
    raise Changed("somebody keeps changing it; it is tried again with the next run")


def _raised(target: Target, entry: Entry, body: bytes) -> tuple[Entry, bytes]:
    """The entry with a SEQUENCE above the one in the calendar: a lost ledger has forgotten how high it was."""
    revision = plan.next_revision(
        (other, digest) for other, digest in target.ledger.versions(entry.event) if digest != entry.digest
    )
    if revision <= entry.revision:
        return entry, body
    entry, body = replace(entry, revision=revision), with_revision(body, revision)
    target.ledger.save_entries(target.profile.key, [(entry, body)], [], target.now)
    return entry, body


def _delete(target: Target, there: Placement) -> str:
    word = "deleted"
    try:
        if there.etag is None:
            raise Changed("no ETag is known")
        target.calendar.delete(there.href, there.etag)
    except Changed:
        found = target.calendar.fetch(there.href)
        mark = read_mark(found.body) if found else None
        if found and mark and mark.digest is not None and not mark.people:
            target.calendar.delete(there.href, found.etag)
        elif found:
            word = "left"
    target.ledger.forget_placement(target.name, there.event)
    return word


def _placement(target: Target, entry: Entry, href: str, etag: str | None) -> Placement:
    return Placement(
        calendar=target.name,
        event=entry.event,
        href=href,
        etag=etag,
        revision=entry.revision,
        digest=entry.digest,
        start=entry.start,
        end=entry.end,
    )


def _placed(target: Target, entry: Entry, stored: Stored, body: bytes, word: str) -> str:
    target.ledger.save_placement(_placement(target, entry, stored.href, stored.etag), body)
    return word


def _leave(target: Target, entry: Entry, href: str, why: str) -> str:
    """Note that the calendar has somebody else's copy, so that it is not looked at until ours changes."""
    note = replace(_placement(target, entry, href, None), state="left")
    target.ledger.save_placement(note, b"")
    log.info("caldav.%s: event %s is left alone: %s", target.name, entry.event, why)
    return "left"
