# SPDX-License-Identifier: Apache-2.0
"""Asks a calendar what is really in it, and records what was found; ``plan.audit`` judges it."""

import logging
from collections.abc import Mapping
from datetime import datetime, timedelta

from msgspec import Struct

from syncd.errors import BadAnswer, SyncdError
from syncd.ical.mark import read_mark
from syncd.model import Placement, Seen
from syncd.plan import audit
from syncd.plan.calendar import Look
from syncd.plan.timing import LastAudit, audit_due, full_audit_due
from syncd.sync.write import Target

log = logging.getLogger(__name__)


class Audit(Struct, frozen=True):
    """What an audit saw, and which objects to look at; ``whole`` is when all of the calendar was last listed.

    ``trouble`` is why the calendar could not be listed, if it could not: then nothing was seen.
    """

    whole: datetime | None = None
    seen: Seen | None = None
    looks: tuple[Look, ...] = ()
    trouble: BadAnswer | None = None


NO_AUDIT = Audit()
"""No audit was due."""


def audit_calendar(target: Target, placements: Mapping[str, Placement], every: timedelta) -> Audit:
    """List the calendar if an audit is due. An answer that is no listing does not stop the push.

    Raises what the calendar raises, except BadAnswer.
    """
    before = target.ledger.audits.last(target.name)
    if not audit_due(before, every, target.now):
        return NO_AUDIT
    if full_audit_due(before, target.calendar.url, target.now):
        before = None
    try:
        seen = target.calendar.seen(before.cursor if before else None)
    except BadAnswer as error:
        return Audit(trouble=error)
    looks = audit.looks(placements, seen, restore=target.restore, daily=before is None)
    return Audit(before.whole if before else target.now, seen, tuple(looks))


def save_audit(target: Target, found: Audit, placements: Mapping[str, Placement], *, clean: bool) -> None:
    """Record an audit. The next one lists what changed since; everything if this one was not ``clean``."""
    if found.seen is None or found.whole is None:
        return
    hrefs = audit.leftovers(placements, found.seen)
    before = target.ledger.audits.leftovers(target.name)
    if not found.seen.complete:
        hrefs += [href for href in before if href not in found.seen.etags]
    leftovers = {href: before[href] if href in before else _is_ours(target, href) for href in hrefs}
    cursor = found.seen.cursor if clean else None
    target.ledger.audits.save(target.name, LastAudit(target.now, found.whole, target.calendar.url, cursor), leftovers)


def _is_ours(target: Target, href: str) -> bool:
    """Whether an object that the ledger does not have bears our marks: a lost ledger had placed it."""
    try:
        found = target.calendar.fetch(href)
    except SyncdError as error:
        log.info("caldav.%s: an object could not be looked at: %s", target.name, error)
        return False
    mark = read_mark(found.body) if found else None
    return mark is not None and mark.digest is not None
