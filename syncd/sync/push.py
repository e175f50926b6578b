# SPDX-License-Identifier: Apache-2.0
"""Makes a calendar agree with its entries, in four steps: gather, decide, do, conclude.

Only what the ledger has placed, or what bears our mark where we meant to write, is ever changed or removed;
everything else in the calendar is somebody else's. One entry that fails does not stop the others.
"""

from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import timedelta

from msgspec import Struct

from syncd.errors import NeedsYou, SyncdError, Unavailable
from syncd.model import Entry, Placement, Run, RunKey, Window
from syncd.plan.calendar import CalendarAction, Create, Update, Write, calendar_actions
from syncd.plan.deletions import Delete, Guard, Hold, allowance_start, is_carried_out
from syncd.plan.records import Attempt, Record, intent, without_intent
from syncd.sync.audit import Audit, audit_calendar, save_audit
from syncd.sync.ports import Progress
from syncd.sync.render import render_entries, summary
from syncd.sync.tally import OnWrite, Tally
from syncd.sync.workers import in_parallel
from syncd.sync.write import Target, apply, new_href

IN_FLIGHT = 4
"""Requests at a time."""

BATCH = 200
"""Actions that are begun together: their bytes are read in one query, their intents recorded in one transaction."""

EVERY = timedelta(hours=1)


def push(
    target: Target,
    window: Window,
    progress: Progress,
    on_write: OnWrite,
    *,
    workers: int = IN_FLIGHT,
    audit_every: timedelta = EVERY,
) -> Run:
    """Carry out what ``calendar_actions`` finds, nearest meeting first; deletions before all.

    Where the last audit is ``audit_every`` old, the calendar is listed first, and what is not as the ledger has it is
    looked at. Counts: ``created``, ``updated``, ``deleted``, ``adopted``, ``left``, ``removed`` by
    somebody else, ``failed``, ``entries`` that are in the calendar afterwards, ``held`` deletions, ``leftovers``
    of another ledger. A server that fails three times is left alone for the rest of this run. The run of a push that
    is stopped has what was done before.
    """
    facts = _gather(target, progress, audit_every)
    actions = calendar_actions(facts.entries, facts.placements, window, target.now, facts.guard, facts.audit.looks)
    writes = [action for action in actions if not isinstance(action, Hold)]
    tally = Tally(target.name, len(writes), progress, on_write)
    _do(target, writes, facts, tally, workers)
    return _conclude(target, actions, facts, tally)


class _Facts(Struct, frozen=True):
    """What a push decides by: the entries and what could not be rendered, the placements, the guard, an audit."""

    entries: Mapping[str, Entry]
    problems: tuple[str, ...]
    placements: Mapping[str, Placement]
    guard: Guard
    audit: Audit


def _gather(target: Target, progress: Progress, audit_every: timedelta) -> _Facts:
    ledger, profile = target.ledger, target.profile
    rendering = render_entries(ledger, profile, target.now, progress)
    placements = ledger.placements.of(target.name)
    audit = audit_calendar(target, placements, audit_every)
    guard = ledger.deletions.guard(target.name, profile.accounts, allowance_start(target.now))
    return _Facts(rendering.entries, rendering.problems, placements, guard, audit)


def _do(target: Target, writes: Sequence[Write], facts: _Facts, tally: Tally, workers: int) -> None:
    """Carry the actions out, several at a time."""
    if writes:
        target.calendar.check()
    for first in range(0, len(writes), BATCH):
        if tally.state == "ok":
            _do_batch(target, writes[first : first + BATCH], facts, tally, workers)


class _Result(Struct, frozen=True):
    """What became of one action: what is to be recorded, and its word; no word if it failed or was not begun."""

    event: str
    record: Record | None = None
    word: str = ""


def _do_batch(target: Target, writes: Sequence[Write], facts: _Facts, tally: Tally, workers: int) -> None:
    """Record what is about to be put, carry the actions out, and record what became of them as they end."""
    ledger, entries, placements = target.ledger, facts.entries, facts.placements
    new = [entries[write.event] for write in writes if isinstance(write, Create)]
    intents: list[Record] = [intent(target.name, entry, new_href(entry.event)) for entry in new]
    intents += [Attempt(write.event) for write in writes if isinstance(write, Update | Delete)]
    try:
        bodies = ledger.entries.bodies(target.profile.key, [write.event for write in writes])
        ledger.placements.record(target.name, intents)
    except SyncdError as error:
        tally.end_unrecorded(error)
        return

    def do(write: Write) -> _Result:
        if not tally.goes_on():
            return _Result(write.event, without_intent(write.event, placements) if isinstance(write, Create) else None)
        try:
            entry, there = entries.get(write.event), placements.get(write.event)
            result = apply(target, write, entry, there, bodies.get(write.event, b""))
        except SyncdError as error:
            tally.fail(write.event, error)
            return _Result(write.event)
        return _Result(write.event, result.record, result.word)

    with closing(in_parallel(writes, do, workers)) as results:
        for batch in results:
            _record(target, batch, tally)


def _record(target: Target, results: Sequence[_Result], tally: Tally) -> None:
    """Record together what has ended. A ledger that fails is not asked again: it may let us wait each time."""
    if not tally.unrecorded:
        try:
            target.ledger.placements.record(target.name, [each.record for each in results if each.record])
        except SyncdError as error:
            tally.end_unrecorded(error)
    for each in results:
        if each.word:
            tally.succeed(each.event, each.word)


def _conclude(target: Target, actions: Sequence[CalendarAction], facts: _Facts, tally: Tally) -> Run:
    """Record what remains to be done by a person and by the next audit; the run that says how it went."""
    ledger, name = target.ledger, target.name
    is_written = any(not isinstance(action, Hold) for action in actions)
    after = ledger.placements.of(name) if is_written else facts.placements
    hold = next((action for action in actions if isinstance(action, Hold)), None)
    if is_carried_out(facts.guard, after) and not tally.unrecorded:
        ledger.deletions.save_hold(name, hold, target.now)
    if tally.state == "ok" and not tally.troubles:  # else the calendar is listed again with the next try
        save_audit(target, facts.audit, after, clean=_is_clean(facts.audit, actions, tally))
    last_audit = ledger.audits.last(name)
    leftovers = sum(ledger.audits.leftovers(name).values())
    state, message = _state(tally, facts, hold, name, leftovers)
    in_calendar = sum(place.state == "placed" for place in after.values())
    return Run(
        key=RunKey("push", name),
        ended=target.now,
        state=state,
        scope="audit" if facts.audit.seen else "",
        counts={
            **tally.counts,
            "held": len(hold.events) if hold else 0,
            "entries": in_calendar,
            "leftovers": leftovers,
        },
        message=message,
        last_look=last_audit.at if last_audit else None,
        retry_after=tally.retry_after,
    )


def _is_clean(audit: Audit, actions: Sequence[CalendarAction], tally: Tally) -> bool:
    """Whether all that the audit found was looked at, and nothing was created, which a cursor does not report."""
    done = {action.event for action in actions if not isinstance(action, Hold)}
    return all(look.event in done for look in audit.looks) and not tally.counts["failed"] + tally.counts["created"]


def _state(tally: Tally, facts: _Facts, hold: Hold | None, name: str, leftovers: int) -> tuple[str, str | None]:
    """How it went, in a word and a sentence: what ended it, a listing that is no good, what waits, what failed."""
    problems = summary([*facts.problems, *tally.problems])
    if tally.state != "ok":
        return tally.state, problems
    if facts.audit.trouble:
        return facts.audit.trouble.state, str(facts.audit.trouble)
    if hold:
        return "held", f"would delete {len(hold.events)} of {hold.coming}: syncd confirm {name}"
    if problems:
        return NeedsYou.state if tally.needs_you or facts.problems else Unavailable.state, problems
    if leftovers:
        return "ok", f"{leftovers} more that syncd wrote are unknown to this ledger and left alone"
    return "ok", None
