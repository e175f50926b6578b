# SPDX-License-Identifier: Apache-2.0
"""Carries out one action in a calendar: conditional requests, and what the ledger is to record of it.

Nothing is written blindly: an object that is not the one that the ledger records is looked at first, and what a user
added to it is merged in. Nothing is recorded here, so that what several threads have done is recorded together.
"""

import logging
from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

from syncd.errors import Changed, UidTaken
from syncd.ical.mark import read_mark
from syncd.ical.merge import merge
from syncd.model import Entry, Found, Placement, Profile, Stored
from syncd.plan.calendar import Create, Leave, Look, Update, Write, after_conflict
from syncd.plan.deletions import Delete, Forget, may_delete
from syncd.plan.records import Place, Record, Unplace, decision, placement, removed
from syncd.sync.ports import Calendar, PushLedger

log = logging.getLogger(__name__)

ROUNDS = 3
"""How often an object that changes under our hands is looked at again."""


class Target(Struct, frozen=True):
    """The calendar of one push: its name in the configuration, its server, its profile, the ledger.

    ``keep`` preserves what people changed in our entries, ``restore`` puts again what they deleted.
    """

    name: str
    calendar: Calendar
    profile: Profile
    ledger: PushLedger
    now: datetime
    keep: bool = False
    restore: bool = False


class Written(Struct, frozen=True):
    """What was done: its word in ``syncd sync``, and what the ledger is to record of it, if anything.

    Besides the words that are counted there are ``removed`` for what somebody deleted and that remains so, and
    ``noted`` and ``forgotten`` for what changes in the ledger alone.
    """

    word: str
    record: Record | None = None


class _Put(Struct, frozen=True):
    """One entry on its way: its bytes, and the placement that the ledger has of it."""

    target: Target
    entry: Entry
    body: bytes
    there: Placement | None


def new_href(event: str) -> str:
    """Where the object of an event is put if there is none yet."""
    return f"syncd-{event}.ics"


def apply(target: Target, action: Write, entry: Entry | None, there: Placement | None, body: bytes) -> Written:
    """Carry out one action.

    ``entry`` with its ``body`` is what is put, ``there`` the placement that the ledger has; deletions have no entry,
    creations may have no placement. Raises what the calendar raises, and Changed for an object that keeps changing.
    """
    if isinstance(action, Forget):
        return Written("forgotten", Unplace(action.event))
    if isinstance(action, Delete):
        assert there is not None  # noqa: S101 -- only what is placed is deleted
        return _delete(target, there, counts=action.counts)
    if entry is None or not body:
        raise Changed("its entry went while it was about to be put")
    put = _Put(target, entry, body, there)
    match action:
        case Create():
            return _create(put)
        case Update():
            return _update(put)
        case Look(restore=restore):
            return _resolve(put, restore=restore)


def _create(put: _Put) -> Written:
    put = replace(put, there=None)  # what the ledger had was no object of ours
    href = new_href(put.entry.event)
    try:
        stored = put.target.calendar.create(href, put.body)
    except UidTaken as error:
        return _leave(put, href, str(error))
    except Changed:
        return _resolve(put)
    return _placed(put, stored, "created", "it was not there")


def _update(put: _Put) -> Written:
    # Cyrus and sabre give no ETag where they add to an object: look before writing over it
    if put.there is None or put.there.etag is None or put.there.edited:
        return _resolve(put)
    try:
        stored = put.target.calendar.update(put.there.href, put.body, put.there.etag)
    except Changed:
        return _resolve(put)
    return _placed(put, stored, "updated", "its content changed")


def _resolve(put: _Put, *, restore: bool = True) -> Written:
    """Look at what lies there: put it if it is gone, merge what is ours, leave what is somebody else's."""
    href = put.there.href if put.there else new_href(put.entry.event)
    for _ in range(ROUNDS):
        found = put.target.calendar.fetch(href)
        try:
            if found:
                return _meet(put, found)
            if put.there and not restore:
                return _removed(put.target, put.entry, put.there)
            return _put_again(put, href)
        except UidTaken as error:
            return _leave(put, href, str(error))
        except Changed:
            continue
    raise Changed("somebody keeps changing it; it is tried again with the next run")


def _put_again(put: _Put, href: str) -> Written:
    stored = put.target.calendar.create(href, put.body)
    deleted = put.there is not None and put.there.state == "placed"
    return _placed(put, stored, "created", "somebody deleted it" if deleted else "it was not there")


def _meet(put: _Put, found: Found) -> Written:
    """Merge with the object that lies there, or leave it."""
    placed = put.there is not None and put.there.state in ("placed", "removed")
    verdict = after_conflict(put.entry, read_mark(found.body), placed=placed)
    if isinstance(verdict, Leave):
        return _leave(put, found.href, verdict.why, found.etag)
    revision = max(put.entry.revision, verdict.revision)
    return _merge(replace(put, entry=replace(put.entry, revision=revision)), found)


def _merge(put: _Put, found: Found) -> Written:
    """Put our entry with what a user added to the object, unless it says all that already."""
    target = put.target
    base = target.ledger.placements.body(target.name, put.entry.event)
    merged = merge(base, found.body, put.body, keep=target.keep)
    edited = merged.body != put.body
    if not merged.needed:
        there = placement(target.name, put.entry, found.href, found.etag, edited=edited)
        if put.there is not None and put.there.state == "placed":
            return Written("noted", Place(there, put.body))
        adopted = decision(target.name, put.entry.event, target.now, "adopted", "it was there already")
        return Written("adopted", Place(there, put.body, adopted))
    stored = target.calendar.update(found.href, merged.body, found.etag)
    mark = read_mark(merged.body)  # its SEQUENCE is above theirs
    entry = replace(put.entry, revision=mark.revision if mark else put.entry.revision)
    why = "it was not as it should be; what somebody added stays" if edited else "it was not as it should be"
    return _placed(replace(put, entry=entry), stored, "updated", why, edited=edited)


def _placed(put: _Put, stored: Stored, word: str, why: str, *, edited: bool = False) -> Written:
    target, event = put.target, put.entry.event
    there = placement(target.name, put.entry, stored.href, stored.etag, edited=edited)
    return Written(word, Place(there, put.body, decision(target.name, event, target.now, word, why)))


def _removed(target: Target, entry: Entry, there: Placement) -> Written:
    return Written("removed", removed(entry, there, target.now) if there.state != "removed" else None)


def _leave(put: _Put, href: str, why: str, etag: str | None = None) -> Written:
    """Leave somebody else's copy alone; it is not looked at until it changes, or our entry does."""
    target, entry = put.target, put.entry
    left = placement(target.name, entry, href, etag, state="left")
    if put.there and put.there.state == "left":
        return Written("noted", Place(left))
    log.info("caldav.%s: event %s is left alone: %s", target.name, entry.event, why)
    return Written("left", Place(left, decision=decision(target.name, entry.event, target.now, "left", why)))


def _delete(target: Target, there: Placement, *, counts: bool) -> Written:
    word, why = "deleted", "the meeting is gone"
    try:
        if there.etag is None:
            raise Changed("no ETag is known")
        target.calendar.delete(there.href, there.etag)
    except Changed:
        if not _delete_ours(target, there):
            word, why = "left", "the meeting is gone, but its entry is not ours alone any more"
    decided = decision(target.name, there.event, target.now, word, why)
    return Written(word, Unplace(there.event, decided, target.now if counts and word == "deleted" else None))


def _delete_ours(target: Target, there: Placement) -> bool:
    """Delete what lies there now if it is ours. False if something else remains."""
    found = target.calendar.fetch(there.href)
    if found is None:
        return True
    if not may_delete(there, read_mark(found.body)):
        return False
    target.calendar.delete(there.href, found.etag)
    return True
