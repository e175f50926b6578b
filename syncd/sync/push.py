# SPDX-License-Identifier: Apache-2.0
"""Makes a calendar agree with its entries: writes, four in flight, and now and then a look at what is really there.

Only what our ledger has noted, or what bears our mark where we meant to write, is ever changed or removed;
everything else in the calendar is somebody else's. One entry that fails does not stop the others.
"""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from threading import Lock
from typing import TypeVar

from msgspec import Struct

from syncd.errors import BadAnswer, Changed, LoginRefused, NeedsYou, Refused, Stopped, SyncdError, Unavailable
from syncd.ical.mark import read_mark
from syncd.model import Entry, Placement, Run, RunKey, Seen, Window
from syncd.plan import audit
from syncd.plan.calendar import CalendarAction, Look, Update, Write, calendar_actions
from syncd.plan.deletions import LATELY, Delete, Forget, Hold, is_carried_out
from syncd.plan.timing import Audited, audit_due, full_audit_due
from syncd.sync.ports import Progress
from syncd.sync.render import render_entries, summary
from syncd.sync.write import Target, apply

log = logging.getLogger(__name__)

IN_FLIGHT = 4
TROUBLES = 3
REFUSALS = 20
EVERY = timedelta(hours=1)


OnWrite = Callable[[str, str], None]
"""Hears of every action that was carried out: its word in ``syncd sync`` and the event."""


def push(
    target: Target,
    window: Window,
    progress: Progress,
    told: OnWrite,
    *,
    workers: int = IN_FLIGHT,
    audit_every: timedelta = EVERY,
) -> Run:
    """Carry out what ``calendar_actions`` finds, nearest meeting first; deletions before all.

    Where the last audit is ``audit_every`` old, what is really there is asked for first, and what is not as we
    noted it is looked at. Counts: ``created``, ``updated``, ``deleted``, ``adopted``, ``left``, ``removed`` by
    somebody else, ``failed``, ``entries`` that are in the calendar afterwards, ``held`` deletions, ``leftovers``
    of another ledger. A server that fails three times is left alone for the rest of this run. What was done
    before a stop is told, too.
    """
    name, ledger, now = target.name, target.ledger, target.now
    rendering = render_entries(ledger, target.profile, now, progress)
    problems = list(rendering.problems)
    wanted, placed = rendering.entries, ledger.placements.of(name)
    found, trouble = _audit(target, placed, audit_every)
    guard = ledger.deletions.guard(name, target.profile.accounts, now - LATELY)
    actions = calendar_actions(wanted, placed, window, now, guard)
    held = next((action for action in actions if isinstance(action, Hold)), None)
    work = _with_looks(actions, found.looks if found else [], wanted)
    work.sort(key=lambda action: _turn(action, wanted, window, now))
    if work:
        target.calendar.check()
    outcome = _Outcome(target.name, len(work), progress, told)

    def do(action: Write) -> None:
        outcome.note(action, lambda: apply(target, action, wanted, placed))

    _in_parallel(work, do, workers)
    after = ledger.placements.of(name)
    if is_carried_out(guard, after):
        ledger.deletions.save_hold(name, held, now)
    if found and outcome.state == "ok" and not outcome.troubles:  # else it is asked for again with the next try
        settled = {look.event for look in found.looks} <= {action.event for action in work}
        found.save(target, after, clean=settled and not outcome.counts["failed"] + outcome.counts["created"])
    leftovers = sum(ledger.audits.leftovers(name).values())
    outcome.counts["held"] = len(held.events) if held else 0
    outcome.counts["entries"] = sum(place.state == "placed" for place in after.values())
    outcome.counts["leftovers"] = leftovers
    needs_you, message = outcome.needs_you or bool(problems), summary([*problems, *outcome.problems])
    state = outcome.state
    if state == "ok" and trouble:
        state, message = trouble.state, str(trouble)
    elif state == "ok" and held:
        state, message = "held", f"would delete {len(held.events)} of {held.coming}: syncd confirm {name}"
    elif state == "ok" and message:
        state = NeedsYou.state if needs_you else Unavailable.state
    elif state == "ok" and leftovers:
        message = f"{leftovers} more that syncd wrote are unknown to this ledger and left alone"
    audited = ledger.audits.last(name)
    return Run(
        key=RunKey("push", name),
        ended=now,
        state=state,
        scope="audit" if found else "",
        counts=dict(outcome.counts),
        message=message,
        last_look=audited.at if audited else None,
        retry_after=outcome.retry_after,
    )


def _with_looks(actions: Sequence[CalendarAction], looks: Sequence[Look], wanted: Mapping[str, Entry]) -> list[Write]:
    """What is to be carried out, each event once: a look, which writes what is needed, instead of an update."""
    waiting = {event for action in actions if isinstance(action, Hold) for event in action.events}
    others = {action.event for action in actions if not isinstance(action, Hold | Update)} | waiting
    shown = {event for event, entry in wanted.items() if entry.digest}
    # what somebody deleted comes back when it changes, also when an audit and the change meet
    updated = {action.event for action in actions if isinstance(action, Update)}
    looked = {
        look.event: Look(look.event, look.restore or look.event in updated)
        for look in looks
        if look.event in shown - others
    }
    rest = [action for action in actions if not isinstance(action, Hold) and action.event not in looked]
    return [*looked.values(), *rest]


def _turn(action: Write, wanted: Mapping[str, Entry], window: Window, now: datetime) -> datetime:
    """Deletions come before all, then what comes next."""
    gone = isinstance(action, Delete | Forget)
    return window.since if gone else max(wanted[action.event].start, now)


class _Audit(Struct, frozen=True):
    """What an audit saw, and what of it is worth a look."""

    whole: datetime
    seen: Seen
    looks: list[Look]

    def save(self, target: Target, placed: Mapping[str, Placement], *, clean: bool) -> None:
        """Note it, so that the next one asks for what changes from now on; if it was not ``clean``, for all."""
        seen, unknown = self.seen, audit.unknown(placed, self.seen)
        known = target.ledger.audits.leftovers(target.name)
        if not seen.complete:
            unknown += [href for href in known if href not in seen.etags]
        leftovers = {href: known[href] if href in known else _is_ours(target, href) for href in unknown}
        cursor = seen.cursor if clean else None
        target.ledger.audits.save(target.name, Audited(target.now, self.whole, target.calendar.url, cursor), leftovers)


def _audit(target: Target, placed: Mapping[str, Placement], every: timedelta) -> tuple[_Audit | None, BadAnswer | None]:
    """Ask the calendar what is there, if it is time; that it cannot tell keeps nobody from writing."""
    before = target.ledger.audits.last(target.name)
    if not audit_due(before, every, target.now):
        return None, None
    if full_audit_due(before, target.calendar.url, target.now):
        before = None
    try:
        seen = target.calendar.seen(before.cursor if before else None)
    except BadAnswer as error:
        return None, error
    looks = audit.looks(placed, seen, restore=target.restore, daily=before is None)
    return _Audit(before.whole if before else target.now, seen, looks), None


def _is_ours(target: Target, href: str) -> bool:
    """Whether an object that our ledger does not know bears our marks: a lost ledger's are all that is left of it."""
    try:
        found = target.calendar.fetch(href)
    except SyncdError as error:
        log.info("caldav.%s: an object could not be looked at: %s", target.name, error)
        return False
    mark = read_mark(found.body) if found else None
    return mark is not None and mark.digest is not None


class _Outcome:
    """What has become of the actions so far; shared by the threads of one push.

    ``state`` is other than "ok" when the rest is not to be done: the server was given up, or syncd ends.
    """

    def __init__(self, name: str, total: int, progress: Progress, told: OnWrite) -> None:
        self.counts: Counter[str] = Counter(dict.fromkeys(WORDS, 0))
        self.problems: list[str] = []
        self.state = "ok"
        self.troubles = 0
        self.needs_you = False
        self.retry_after: float | None = None
        self._name = name
        self._total = total
        self._done = self._refused = 0
        self._progress = progress
        self._told = told
        self._lock = Lock()

    def note(self, action: Write, work: Callable[[], str]) -> None:
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
            self.troubles += 1
            self.retry_after = max(self.retry_after or 0.0, error.retry_after or 0.0) or None
        self.needs_you |= not isinstance(error, Unavailable | Changed)
        given_up = self.troubles >= TROUBLES or self.retry_after or self._refused >= REFUSALS
        if given_up or isinstance(error, LoginRefused | NeedsYou):
            self.state = error.state
            self.problems.insert(0, str(error))
        else:
            self.problems.append(f"event {event}: {error}")
        log.debug("caldav.%s: event %s: %s", self._name, event, error)  # the run tells it, once


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
