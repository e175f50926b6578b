# SPDX-License-Identifier: Apache-2.0
"""The ledger's table of entries: meetings as rendered for a profile, with their iCalendar bytes."""

import sqlite3
from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec

from syncd.ledger.database import Database, marks, moment_of, text_of, time_of
from syncd.model import Entry, EntryInputs


class Entries:
    """Entries by profile and event. An erased one keeps its bytes until no feed shows it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, profile: str) -> dict[str, Entry]:
        """The entries of a profile, in the order of their event ids.

        An erased one has no digest, and no inputs where its meeting is gone.
        """
        rows = self._database.stream(
            "SELECT event, inputs, CASE WHEN erased = 1 THEN '' ELSE digest END AS digest, revision, starts, ends "
            "FROM entry WHERE profile = ? ORDER BY event",
            (profile,),
        )
        return {
            row["event"]: Entry(
                event=row["event"],
                inputs=self._database.value(row["inputs"], EntryInputs) if row["inputs"] else None,
                digest=row["digest"],
                revision=row["revision"],
                start=moment_of(row["starts"]),
                end=time_of(row["ends"]),
            )
            for row in rows
        }

    def bodies(self, profile: str, events: Sequence[str]) -> dict[str, bytes]:
        """The iCalendar bytes of some hundred entries, by event; those that are not there are left out."""
        if not events:
            return {}
        sql = f"SELECT event, body FROM entry WHERE profile = ? AND event IN ({marks(events)})"
        return {row["event"]: row["body"] for row in self._database.rows(sql, (profile, *events))}

    def versions(self, event: str) -> list[tuple[int, str]]:
        """All contents of an event that were rendered or lie in calendars: (revision, digest)."""
        rows = self._database.rows(
            "SELECT revision, digest FROM entry WHERE event = ? UNION SELECT revision, digest FROM placement "
            "WHERE event = ?",
            (event, event),
        )
        return [(row["revision"], row["digest"]) for row in rows]

    def save(
        self, profile: str, entries: Iterable[tuple[Entry, bytes]], erased_events: Iterable[str], changed: datetime
    ) -> None:
        """Record entries of a profile with their bytes, and erase others."""
        entries, erased_events = list(entries), list(erased_events)

        def work(db: sqlite3.Connection) -> None:
            for entry, body in entries:
                if entry.digest or not _erase(db, profile, entry.event, _text_of(entry.inputs)):
                    _save(db, profile, entry, body, changed)
            for event in erased_events:
                _erase(db, profile, event, "")

        self._database.write(work)

    def sweep(self, used_profiles: Iterable[str]) -> None:
        """Delete erased entries that no feed shows, and all of profiles that are neither used nor shown by a feed."""
        profiles = {row["profile"] for row in self._database.rows("SELECT DISTINCT profile FROM entry")}
        feed_profiles = {row["built"] for row in self._database.rows("SELECT built FROM feed")}
        unused_profiles = profiles - {*used_profiles} - feed_profiles
        erased_entries = self._database.rows(
            "SELECT profile, event, inputs FROM entry WHERE erased = 1 AND NOT EXISTS (SELECT 1 FROM feed WHERE built "
            "= entry.profile AND NOT EXISTS (SELECT 1 FROM released WHERE feed = feed.name AND event = entry.event))"
        )
        if not (unused_profiles or erased_entries):
            return

        def work(db: sqlite3.Connection) -> None:
            for profile in unused_profiles:
                db.execute("DELETE FROM entry WHERE profile = ?", (profile,))
            for row in erased_entries:
                sql = "UPDATE entry SET digest = '', body = ?, erased = 0" if row["inputs"] else "DELETE FROM entry"
                db.execute(
                    f"{sql} WHERE profile = ? AND event = ? AND inputs = ?", (*([b""] if row["inputs"] else []), *row)
                )
            db.execute("DELETE FROM released WHERE event NOT IN (SELECT event FROM entry WHERE erased = 1)")

        self._database.write(work)


def _text_of(inputs: EntryInputs | None) -> str:
    """The inputs of an entry as the ledger writes them."""
    return msgspec.json.encode(inputs).decode() if inputs else ""


def _save(db: sqlite3.Connection, profile: str, entry: Entry, body: bytes, changed: datetime) -> None:
    db.execute(
        "INSERT INTO entry (profile, event, inputs, digest, revision, starts, ends, changed, body, erased) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0) ON CONFLICT (profile, event) DO UPDATE SET inputs = excluded.inputs, "
        "digest = excluded.digest, revision = excluded.revision, starts = excluded.starts, ends = excluded.ends, "
        "changed = excluded.changed, body = excluded.body, erased = 0",
        (
            profile,
            entry.event,
            _text_of(entry.inputs),
            entry.digest,
            entry.revision,
            text_of(entry.start),
            text_of(entry.end),
            text_of(changed),
            body,
        ),
    )
    db.execute(
        "DELETE FROM released WHERE event = ? AND feed IN (SELECT name FROM feed WHERE built = ?)",
        (entry.event, profile),
    )


def _erase(db: sqlite3.Connection, profile: str, event: str, inputs: str) -> bool:
    """Erase an entry; false if there is none that shows anything."""
    cursor = db.execute(
        "UPDATE entry SET erased = 1, inputs = ? WHERE profile = ? AND event = ? AND digest != ''",
        (inputs, profile, event),
    )
    return cursor.rowcount == 1
