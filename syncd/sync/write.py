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
"""How often an object is looked at that somebody else changes meanwhile."""


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


class WriteResult(Struct, frozen=True):
    """What was done: its word in ``syncd sync``, and what the ledger is to record of it, if anything.

    Besides the words that are counted there are ``removed`` for what somebody deleted and that remains so, and
    ``noted`` and ``forgotten`` for what changes in the ledger alone.
    """

    word: str
    record: Record | None = None


class _PutRequest(Struct, frozen=True):
    """One entry to put: its bytes, and the placement that the ledger has of it (``there``)."""

    target: Target
    entry: Entry
    body: bytes
    there: Placement | None


def new_href(event: str) -> str:
    """Where the object of an event is put if there is none yet."""
    return f"syncd-{event}.ics"


def apply(target: Target, action: Write, entry: Entry | None, there: Placement | None, body: bytes) -> WriteResult:
    """Carry out one action.

    ``entry`` with its ``body`` is what is put, ``there`` the placement that the ledger has; deletions have no entry,
    creations may have no placement. Raises what the calendar raises, and Changed for an object that keeps changing.
    """
    if isinstance(action, Forget):
        return WriteResult("forgotten", Unplace(action.event))
    if isinstance(action, Delete):
        assert there is not None  # noqa: S101 -- only what is placed is deleted
        return _delete(target, there, counts=action.counts)
    if entry is None or not body:
        raise Changed("its entry went while it was about to be put")
    request = _PutRequest(target, entry, body, there)
    match action:
        case Create():
            return _create(request)
        case Update():
            return _update(request)
        case Look(restore=restore):
            return _resolve(request, restore=restore)


def _create(request: _PutRequest) -> WriteResult:
    request = replace(request, there=None)  # the ledger's placement is not of an object of ours
    href = new_href(request.entry.event)
    try:
        answer = request.target.calendar.create(href, request.body)
    except UidTaken as error:
        return _leave(request, href, str(error))
    except Changed:
        return _resolve(request)
    return _placed(request, answer, "created", "it was not there")


def _update(request: _PutRequest) -> WriteResult:
    # Cyrus and sabre give no ETag where they add to an object: look before writing over it
    if request.there is None or request.there.etag is None or request.there.edited:
        return _resolve(request)
    try:
        answer = request.target.calendar.update(request.there.href, request.body, request.there.etag)
    except Changed:
        return _resolve(request)
    return _placed(request, answer, "updated", "its content changed")


def _resolve(request: _PutRequest, *, restore: bool = True) -> WriteResult:
    """Look at what lies there: put it if it is gone, merge what is ours, leave what is somebody else's."""
    href = request.there.href if request.there else new_href(request.entry.event)
    for _ in range(ROUNDS):
        found = request.target.calendar.fetch(href)
        try:
            if found:
                return _meet(request, found)
            if request.there and not restore:
                return _removed(request.target, request.entry, request.there)
            return _put_again(request, href)
        except UidTaken as error:
            return _leave(request, href, str(error))
        except Changed:
            continue
    raise Changed("somebody keeps changing it; it is tried again with the next run")


def _put_again(request: _PutRequest, href: str) -> WriteResult:
    answer = request.target.calendar.create(href, request.body)
    deleted = request.there is not None and request.there.state == "placed"
    return _placed(request, answer, "created", "somebody deleted it" if deleted else "it was not there")


def _meet(request: _PutRequest, found: Found) -> WriteResult:
    """Merge with the object that lies there, or leave it."""
    placed = request.there is not None and request.there.state in ("placed", "removed")
    verdict = after_conflict(request.entry, read_mark(found.body), placed=placed)
    if isinstance(verdict, Leave):
        return _leave(request, found.href, verdict.why, found.etag)
    revision = max(request.entry.revision, verdict.revision)
    return _merge(replace(request, entry=replace(request.entry, revision=revision)), found)


def _merge(request: _PutRequest, found: Found) -> WriteResult:
    """Put our entry with what a user added to the object, unless it says all that already."""
    target = request.target
    base = target.ledger.placements.body(target.name, request.entry.event)
    result = merge(base, found.body, request.body, keep=target.keep)
    edited = result.body != request.body
    if not result.needed:
        there = placement(target.name, request.entry, found.href, found.etag, edited=edited)
        if request.there is not None and request.there.state == "placed":
            return WriteResult("noted", Place(there, request.body))
        note = decision(target.name, request.entry.event, target.now, "adopted", "it was there already")
        return WriteResult("adopted", Place(there, request.body, note))
    answer = target.calendar.update(found.href, result.body, found.etag)
    mark = read_mark(result.body)  # its SEQUENCE is above theirs
    entry = replace(request.entry, revision=mark.revision if mark else request.entry.revision)
    why = "it was not as it should be; what somebody added stays" if edited else "it was not as it should be"
    return _placed(replace(request, entry=entry), answer, "updated", why, edited=edited)


def _placed(request: _PutRequest, answer: Stored, word: str, why: str, *, edited: bool = False) -> WriteResult:
    target, event = request.target, request.entry.event
    there = placement(target.name, request.entry, answer.href, answer.etag, edited=edited)
    return WriteResult(word, Place(there, request.body, decision(target.name, event, target.now, word, why)))


def _removed(target: Target, entry: Entry, there: Placement) -> WriteResult:
    return WriteResult("removed", removed(entry, there, target.now) if there.state != "removed" else None)


def _leave(request: _PutRequest, href: str, why: str, etag: str | None = None) -> WriteResult:
    """Leave somebody else's copy alone; it is not looked at until it changes, or our entry does."""
    target, entry = request.target, request.entry
    theirs = placement(target.name, entry, href, etag, state="left")
    if request.there and request.there.state == "left":
        return WriteResult("noted", Place(theirs))
    log.info("caldav.%s: event %s is left alone: %s", target.name, entry.event, why)
    return WriteResult("left", Place(theirs, decision=decision(target.name, entry.event, target.now, "left", why)))


def _delete(target: Target, there: Placement, *, counts: bool) -> WriteResult:
    word, why = "deleted", "the meeting is gone"
    try:
        if there.etag is None:
            raise Changed("no ETag is known")
        target.calendar.delete(there.href, there.etag)
    except Changed:
        if not _delete_ours(target, there):
            word, why = "left", "the meeting is gone, but its entry is not ours alone any more"
    note = decision(target.name, there.event, target.now, word, why)
    return WriteResult(word, Unplace(there.event, note, target.now if counts and word == "deleted" else None))


def _delete_ours(target: Target, there: Placement) -> bool:
    """Delete what lies there now if it is ours. False if something else remains."""
    found = target.calendar.fetch(there.href)
    if found is None:
        return True
    if not may_delete(there, read_mark(found.body)):
        return False
    target.calendar.delete(there.href, found.etag)
    return True
