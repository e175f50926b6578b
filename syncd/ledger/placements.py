# SPDX-License-Identifier: Apache-2.0
"""What the ledger knows of calendars: placements, audits, and the deletions that wait for a person."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime

from syncd.ledger.database import moment_of, text_of, time_of
from syncd.ledger.deletions import insert_lost
from syncd.ledger.history import History, insert_decision
from syncd.model import Audited, Decision, Placement
from syncd.plan.deletions import Guard, Hold


class Placements(History):
    """The tables of placements, audits and holds. ``name`` is a calendar's, or ``feed/`` and a feed's."""

    def placements(self, calendar: str) -> dict[str, Placement]:
        """What we placed in a calendar: event -> Placement."""
        rows = self._stream(
            "SELECT event, href, etag, revision, digest, starts, ends, state, edited FROM placement WHERE calendar = ?",
            (calendar,),
        )
        return {
            event: Placement(
                calendar, event, href, etag, revision, digest, moment_of(starts), time_of(ends), state, bool(edited)
            )
            for event, href, etag, revision, digest, starts, ends, state, edited in rows
        }

    def placed_body(self, calendar: str, event: str) -> bytes:
        """The bytes that were last put, or would have been but for what a user added; empty if unknown."""
        rows = self._rows("SELECT body FROM placement WHERE calendar = ? AND event = ?", (calendar, event))
        return bytes(rows[0][0]) if rows else b""

    def save_placement(self, placement: Placement, body: bytes, decided: Decision | None = None) -> None:
        """Note what was just put, found or left in a calendar, and why."""
        with self._transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO placement (calendar, event, href, etag, revision, digest, starts, ends, state, "
                "body, edited) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    placement.calendar,
                    placement.event,
                    placement.href,
                    placement.etag,
                    placement.revision,
                    placement.digest,
                    text_of(placement.start),
                    text_of(placement.end),
                    placement.state,
                    body,
                    placement.edited,
                ),
            )
            if placement.state == "placing" or (decided and decided.word == "created"):
                # What was made and deleted since a cursor is no change to a server (RFC 6578, 3.5): it is not told.
                db.execute("UPDATE audit SET cursor = NULL WHERE calendar = ?", (placement.calendar,))
            if decided:
                insert_decision(db, decided)

    def forget_placement(
        self, calendar: str, event: str, decided: Decision | None = None, *, lost_at: datetime | None = None
    ) -> None:
        """An entry is not in a calendar any more, or was never ours; ``lost_at`` makes it count for the guard."""
        with self._transaction() as db:
            db.execute("DELETE FROM placement WHERE calendar = ? AND event = ?", (calendar, event))
            if lost_at:
                insert_lost(db, calendar, event, lost_at)
            if decided:
                insert_decision(db, decided)

    def audited(self, calendar: str) -> Audited | None:
        """The last audit of a calendar."""
        rows = self._rows("SELECT at, whole, url, cursor FROM audit WHERE calendar = ?", (calendar,))
        return Audited(moment_of(rows[0][0]), moment_of(rows[0][1]), *rows[0][2:]) if rows else None

    def save_audit(self, calendar: str, audited: Audited, leftovers: Mapping[str, bool]) -> None:
        """Note an audit, and the objects there that look like ours and are unknown: href -> whether they are."""
        with self._transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO audit (calendar, at, whole, url, cursor) VALUES (?, ?, ?, ?, ?)",
                (calendar, text_of(audited.at), text_of(audited.whole), audited.url, audited.cursor),
            )
            db.execute("DELETE FROM leftover WHERE calendar = ?", (calendar,))
            for href, ours in leftovers.items():
                db.execute("INSERT INTO leftover (calendar, href, ours) VALUES (?, ?, ?)", (calendar, href, ours))

    def leftovers(self, calendar: str) -> dict[str, bool]:
        """The objects of the last audit that look like ours and are unknown: href -> whether they are ours."""
        rows = self._rows("SELECT href, ours FROM leftover WHERE calendar = ?", (calendar,))
        return {href: bool(ours) for href, ours in rows}

    def save_hold(self, name: str, hold: Hold | None, at: datetime) -> None:
        """Note which deletions wait for a person; ``None``: none do."""
        rows = self._rows("SELECT events, coming FROM hold WHERE name = ?", (name,))
        new = [(json.dumps(sorted(hold.events)), hold.coming)] if hold else []
        if rows == new:
            return
        known = {event for events, _ in rows for event in json.loads(events)}
        feed = name.removeprefix("feed/")
        kind = "push" if feed == name else "feed"
        with self._transaction() as db:
            db.execute("DELETE FROM hold WHERE name = ?", (name,))
            for events, coming in new:
                db.execute("INSERT INTO hold VALUES (?, ?, ?, 0)", (name, events, coming))
            for event in set(hold.events if hold else ()) - known:
                insert_decision(db, Decision(event, at, kind, feed, "held", "its deletion waits for a person"))

    def confirm(self, name: str) -> int:
        """Let the deletion that is held, and only that, pass; the number of events it names, 0 if none is held."""
        with self._transaction() as db:
            rows = db.execute("SELECT events FROM hold WHERE name = ?", (name,)).fetchall()
            db.execute("UPDATE hold SET confirmed = 1 WHERE name = ?", (name,))
        return len(json.loads(rows[0][0])) if rows else 0

    def guard(self, name: str, accounts: Sequence[str], since: datetime) -> Guard:
        """What deletions of these accounts' entries are judged by; ``since`` is a day ago."""
        gone: dict[str, set[str]] = {account: set() for account in accounts}
        # what lost its time is still there, but for no calendar
        no_more = "SELECT account, event FROM gone UNION SELECT account, event FROM meeting WHERE starts IS NULL"
        for account, event in self._rows(no_more):
            gone.get(account, set()).add(event)
        empty = [
            name for name in accounts if not self._rows("SELECT 1 FROM meeting WHERE account = ? LIMIT 1", (name,))
        ]
        holds = self._rows("SELECT events, confirmed FROM hold WHERE name = ?", (name,))
        held = {confirmed: frozenset(json.loads(events)) for events, confirmed in holds}
        lately = self._rows("SELECT count(*) FROM lost WHERE name = ? AND at >= ?", (name, text_of(since)))
        return Guard(
            gone=frozenset().union(*gone.values()),
            emptied=frozenset().union(*(gone[each] for each in empty)),
            lately=int(lately[0][0]),
            held=held.get(0, frozenset()),
            confirmed=held.get(1, frozenset()),
        )
