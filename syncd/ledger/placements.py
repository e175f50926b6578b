# SPDX-License-Identifier: Apache-2.0
"""The ledger's table of placements: our entries in calendars, and the bytes that were put there."""

import sqlite3
from collections.abc import Iterable

from syncd.ledger.audits import forget_cursor
from syncd.ledger.database import Database, moment_of, text_of, time_of
from syncd.ledger.deletions import insert_lost
from syncd.ledger.history import insert_decisions
from syncd.model import Placement
from syncd.plan.records import Attempt, Place, Record, Unplace


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
            row["event"]: Placement(
                calendar=calendar,
                event=row["event"],
                href=row["href"],
                etag=row["etag"],
                revision=row["revision"],
                digest=row["digest"],
                start=moment_of(row["starts"]),
                end=time_of(row["ends"]),
                state=row["state"],
                edited=bool(row["edited"]),
            )
            for row in rows
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

    def record(self, calendar: str, records: Iterable[Record]) -> None:
        """Record what was just put, found, left or deleted in a calendar, and why, in one transaction."""
        changes = list(records)
        places = [each for each in changes if isinstance(each, Place)]
        removals = [each for each in changes if isinstance(each, Unplace)]
        attempts = [(calendar, each.event) for each in changes if isinstance(each, Attempt)]
        decisions = [each.decision for each in places if each.decision]
        decisions += [each.decision for each in removals if each.decision]
        new = any(each.placement.state == "placing" for each in places) or any(
            each.word == "created" for each in decisions
        )

        def work(db: sqlite3.Connection) -> None:
            db.executemany("UPDATE placement SET digest = '' WHERE calendar = ? AND event = ?", attempts)
            db.executemany(INSERT, [_row(calendar, each) for each in places])
            db.executemany(
                "DELETE FROM placement WHERE calendar = ? AND event = ?", [(calendar, each.event) for each in removals]
            )
            for each in removals:
                if each.lost_at:
                    insert_lost(db, calendar, each.event, each.lost_at)
            if new:
                forget_cursor(db, calendar)
            insert_decisions(db, decisions)

        if changes:
            self._database.write(work)


INSERT = (
    "INSERT INTO placement (calendar, event, href, etag, revision, digest, starts, ends, state, body, edited) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (calendar, event) DO UPDATE SET href = excluded.href, "
    "etag = excluded.etag, revision = excluded.revision, digest = excluded.digest, starts = excluded.starts, "
    "ends = excluded.ends, state = excluded.state, body = excluded.body, edited = excluded.edited"
)


def _row(calendar: str, place: Place) -> tuple[object, ...]:
    there = place.placement
    return (
        calendar,
        there.event,
        there.href,
        there.etag,
        there.revision,
        there.digest,
        text_of(there.start),
        text_of(there.end),
        there.state,
        place.body,
        int(there.edited),
    )
