# SPDX-License-Identifier: Apache-2.0
"""Carries out what is to be written into a calendar: conditional requests, each outcome noted at once.

Nothing is written blindly: where the object is not the one we remember it is looked at first, and what a user
added to it is merged in.
"""

import logging
from collections.abc import Mapping
from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

from syncd.errors import Changed, UidTaken
from syncd.ical.mark import read_mark
from syncd.ical.merge import merge
from syncd.model import Decision, Entry, Found, Placement, Profile, RunKey, Stored
from syncd.plan.calendar import Adopt, Create, Leave, Look, Update, Write, after_conflict
from syncd.plan.deletions import Delete, Forget, may_delete
from syncd.sync.ports import Calendar, PushLedger

log = logging.getLogger(__name__)

ROUNDS = 3


class Target(Struct, frozen=True):
    """The calendar of one push: its name in the configuration, its server, its profile, our notes.

    ``keep`` lets stand what people changed in our entries, ``restore`` puts again what they deleted.
    """

    name: str
    calendar: Calendar
    profile: Profile
    ledger: PushLedger
    now: datetime
    keep: bool = False
    restore: bool = False


def apply(target: Target, action: Write, wanted: Mapping[str, Entry], placed: Mapping[str, Placement]) -> str:
    """Do one thing and note it; its word in ``syncd sync``.

    Besides those there are ``removed`` for what somebody deleted and that stays so, and ``noted`` and
    ``forgotten`` for what changes in our notes alone.
    """
    match action:
        case Create(event):
            return _create(target, wanted[event])
        case Update(event):
            return _update(target, wanted[event], placed[event])
        case Look(event, restore):
            return _resolve(target, wanted[event], placed[event].href, placed[event], restore=restore)
        case Delete(event, counts):
            return _delete(target, placed[event], counts=counts)
        case Forget(event):
            target.ledger.placements.forget(target.name, event)
            return "forgotten"


def _body(target: Target, entry: Entry) -> bytes:
    return target.ledger.entries.body(target.profile.key, entry.event)


def _create(target: Target, entry: Entry) -> str:
    href, body = f"syncd-{entry.event}.ics", _body(target, entry)
    # Whoever is killed between the PUT and its record must still find the object if the meeting goes meanwhile.
    target.ledger.placements.save(replace(_placement(target, entry, href, None), digest="", state="placing"), b"")
    try:
        stored = target.calendar.create(href, body)
    except UidTaken as error:
        return _leave(target, entry, href, str(error))
    except Changed:
        return _resolve(target, entry, href, None)
    return _placed(target, entry, stored, body, "created", "it was not there")


def _update(target: Target, entry: Entry, there: Placement) -> str:
    # Cyrus and sabre tell no ETag where they add to an object: look before writing over it
    if there.etag is None or there.edited:
        return _resolve(target, entry, there.href, there)
    body = _body(target, entry)
    try:
        stored = target.calendar.update(there.href, body, there.etag)
    except Changed:
        return _resolve(target, entry, there.href, there)
    return _placed(target, entry, stored, body, "updated", "its content changed")


def _resolve(target: Target, entry: Entry, href: str, there: Placement | None, *, restore: bool = True) -> str:
    """Look at what lies there: put it if it is gone, merge what is ours, leave what is somebody else's."""
    body = _body(target, entry)
    for _ in range(ROUNDS):
        found = target.calendar.fetch(href)
        try:
            if found is None and there and not restore:
                return _removed(target, entry, there)
            if found is None:
                stored = target.calendar.create(href, body)
                why = "somebody deleted it" if there and there.state == "placed" else "it was not there"
                return _placed(target, entry, stored, body, "created", why)
            placed = there is not None and there.state in ("placed", "removed")
            match after_conflict(entry, read_mark(found.body), placed=placed):
                case Leave(why):
                    return _leave(target, entry, href, why, found.etag, there)
                case Adopt(revision):
                    entry = replace(entry, revision=max(entry.revision, revision))
                    return _merge(target, entry, body, found, there)
        except UidTaken as error:
            return _leave(target, entry, href, str(error), None, there)
        except Changed:
            continue
    raise Changed("somebody keeps changing it; it is tried again with the next run")


def _merge(target: Target, entry: Entry, body: bytes, found: Found, there: Placement | None) -> str:
    """Put our entry with what a user added to the object, unless it says all that already."""
    base = target.ledger.placements.body(target.name, entry.event)
    merged = merge(base, found.body, body, keep=target.keep)
    edited = merged.body != body
    if not merged.needed:
        note = replace(_placement(target, entry, found.href, found.etag), edited=edited)
        known = there is not None and there.state == "placed"
        decided = None if known else _decision(target, entry.event, "adopted", "it was there already")
        target.ledger.placements.save(note, body, decided)
        return "noted" if known else "adopted"
    stored = target.calendar.update(found.href, merged.body, found.etag)
    mark = read_mark(merged.body)  # its SEQUENCE is above theirs
    entry = replace(entry, revision=mark.revision if mark else entry.revision)
    why = "it was not as it should be; what somebody added stays" if edited else "it was not as it should be"
    return _placed(target, entry, stored, body, "updated", why, edited=edited)


def _delete(target: Target, there: Placement, *, counts: bool) -> str:
    word, why = "deleted", "the meeting is gone"
    try:
        if there.etag is None:
            raise Changed("no ETag is known")
        target.calendar.delete(there.href, there.etag)
    except Changed:
        found = target.calendar.fetch(there.href)
        mark = read_mark(found.body) if found else None
        if found and may_delete(there, mark):
            target.calendar.delete(there.href, found.etag)
        elif found:
            word, why = "left", "the meeting is gone, but its entry is not ours alone any more"
    decided = _decision(target, there.event, word, why)
    lost_at = target.now if counts and word == "deleted" else None
    target.ledger.placements.forget(target.name, there.event, decided, lost_at=lost_at)
    return word


def _decision(target: Target, event: str, word: str, why: str) -> Decision:
    return Decision(event, target.now, RunKey("push", target.name), word, why)


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


def _placed(
    target: Target, entry: Entry, stored: Stored, body: bytes, word: str, why: str, *, edited: bool = False
) -> str:
    place = replace(_placement(target, entry, stored.href, stored.etag), edited=edited)
    target.ledger.placements.save(place, body, _decision(target, entry.event, word, why))
    return word


def _removed(target: Target, entry: Entry, there: Placement) -> str:
    """Note that somebody deleted it, so that it is not put again until the meeting changes."""
    if there.state != "removed":
        meeting = entry.inputs.digest if entry.inputs else ""
        note = replace(there, etag=None, digest=meeting, state="removed", edited=False)
        why = "somebody deleted it in the calendar; it comes back when the meeting changes"
        target.ledger.placements.save(note, b"", _decision(target, entry.event, "removed", why))
    return "removed"


def _leave(
    target: Target, entry: Entry, href: str, why: str, etag: str | None = None, there: Placement | None = None
) -> str:
    """Note that the calendar has somebody else's copy, so that it is not looked at until one of both changes."""
    note = replace(_placement(target, entry, href, etag), state="left")
    if there and there.state == "left":
        target.ledger.placements.save(note, b"")
        return "noted"
    target.ledger.placements.save(note, b"", _decision(target, entry.event, "left", why))
    log.info("caldav.%s: event %s is left alone: %s", target.name, entry.event, why)
    return "left"
