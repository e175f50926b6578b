# SPDX-License-Identifier: Apache-2.0
"""The ledger's table of placements: our entries in calendars, and the bytes that were put there."""

import sqlite3
from datetime import datetime

from syncd.ledger.audits import forget_cursor
from syncd.ledger.database import Database, moment_of, text_of, time_of
from syncd.ledger.deletions import insert_lost
from syncd.ledger.history import insert_decision
from syncd.model import Decision, Placement


class Placements:
    """Placements by calendar and event."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, calendar: str) -> dict[str, Placement]:
        """The placements of a calendar by event."""
        rows = self._database.stream(
            "SELECT event, href, etag, revision, digest, starts, ends, state, edited FROM placement WHERE calendar = ?",
            (calendar,),
        )
        return {
            event: Placement(
                calendar, event, href, etag, revision, digest, moment_of(starts), time_of(ends), state, bool(edited)
            )
            for event, href, etag, revision, digest, starts, ends, state, edited in rows
        }

    def body(self, calendar: str, event: str) -> bytes:
        """The bytes that were last put, or would have been but for what a user added; empty if unknown."""
        rows = self._database.rows("SELECT body FROM placement WHERE calendar = ? AND event = ?", (calendar, event))
        return bytes(rows[0]["body"]) if rows else b""

    def counts(self) -> dict[str, int]:
        """How many entries lie in each calendar."""
        rows = self._database.rows(
            "SELECT calendar, count(*) AS entries FROM placement WHERE state = 'placed' GROUP BY calendar"
        )
        return {row["calendar"]: row["entries"] for row in rows}

    def save(self, placement: Placement, body: bytes, decision: Decision | None = None) -> None:
        """Record what was just put, found or left in a calendar, and why."""

        def work(db: sqlite3.Connection) -> None:
            _save(db, placement, body)
            if placement.state == "placing" or (decision and decision.word == "created"):
                forget_cursor(db, placement.calendar)
            if decision:
                insert_decision(db, decision)

        self._database.write(work)

    def forget(
        self, calendar: str, event: str, decision: Decision | None = None, *, lost_at: datetime | None = None
    ) -> None:
        """Drop the placement of an entry that is not in a calendar any more, or never was ours.

        ``lost_at`` makes it count against the deletions of a day.
        """

        def work(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM placement WHERE calendar = ? AND event = ?", (calendar, event))
            if lost_at:
                insert_lost(db, calendar, event, lost_at)
            if decision:
                insert_decision(db, decision)

        self._database.write(work)


def _save(db: sqlite3.Connection, placement: Placement, body: bytes) -> None:
    db.execute(
        "INSERT INTO placement (calendar, event, href, etag, revision, digest, starts, ends, state, body, edited) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (calendar, event) DO UPDATE SET href = excluded.href, "
        "etag = excluded.etag, revision = excluded.revision, digest = excluded.digest, starts = excluded.starts, "
        "ends = excluded.ends, state = excluded.state, body = excluded.body, edited = excluded.edited",
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
            int(placement.edited),
        ),
    )
