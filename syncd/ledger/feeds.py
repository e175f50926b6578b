# SPDX-License-Identifier: Apache-2.0
"""The ledger's tables of feeds: their tokens, the profile that each shows, and what it shows of that."""

import json
import sqlite3
from collections.abc import Iterable
from datetime import datetime

from syncd.ledger.database import Database, moment_of, text_of, time_of
from syncd.ledger.deletions import forget_deletions, insert_lost
from syncd.ledger.history import forget_runs, insert_decision
from syncd.model import Decision, Feed, RunKey
from syncd.plan.deletions import Delete, hold_name
from syncd.plan.feed import Carry

CONTENT = (
    "FROM entry WHERE profile = ? AND digest != '' AND NOT (erased = 1 AND event IN "
    "(SELECT event FROM released WHERE feed = ?))"
)
"""What a feed shows, by its profile and its name."""


class Feeds:
    """Feeds by name. A feed shows an erased entry until it is released from the feed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> dict[str, Feed]:
        """All feeds."""
        rows = self._database.rows(
            "SELECT name, token_sha256, accounts, audience, passwords, label, made, built FROM feed ORDER BY name"
        )
        return {
            row["name"]: Feed(
                name=row["name"],
                token_sha256=row["token_sha256"],
                accounts=tuple(json.loads(row["accounts"])),
                audience=row["audience"],
                passwords=bool(row["passwords"]),
                label=row["label"],
                made=moment_of(row["made"]),
                built=row["built"],
            )
            for row in rows
        }

    def add(self, feed: Feed) -> bool:
        """Record a new feed; false if its name is taken."""
        values = (
            feed.name,
            feed.token_sha256,
            json.dumps(feed.accounts),
            feed.audience,
            int(feed.passwords),
            feed.label,
            text_of(feed.made),
        )

        def work(db: sqlite3.Connection) -> bool:
            cursor = db.execute(
                "INSERT INTO feed (name, token_sha256, accounts, audience, passwords, label, made) "
                "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                values,
            )
            return cursor.rowcount == 1

        return self._database.write(work)

    def revoke(self, name: str) -> bool:
        """Forget a feed, so that its address opens nothing any more; false if there is none of the name."""

        def work(db: sqlite3.Connection) -> bool:
            db.execute("DELETE FROM released WHERE feed = ?", (name,))
            forget_deletions(db, hold_name(name))
            forget_runs(db, RunKey("feed", name))
            return db.execute("DELETE FROM feed WHERE name = ?", (name,)).rowcount == 1

        return self._database.write(work)

    def build(self, feed: Feed, profile: str, carried_entries: Iterable[Carry]) -> None:
        """Let a feed show another profile, and ``carried_entries`` of its former one.

        What is erased in the other profile is not shown unless the feed showed it before.
        """
        carried_entries = list(carried_entries)

        def work(db: sqlite3.Connection) -> None:
            content = {row["event"] for row in db.execute(f"SELECT event {CONTENT}", (feed.built, feed.name))}
            sql = "SELECT event FROM entry WHERE profile = ? AND digest != '' AND erased = 1"
            for row in db.execute(sql, (profile,)).fetchall():
                if row["event"] not in content:
                    _release(db, feed, row["event"])
            for each in carried_entries:
                db.execute(
                    "INSERT INTO entry (profile, event, inputs, digest, revision, starts, ends, changed, body, "
                    "erased) SELECT ?, event, '', digest, revision, starts, ends, changed, body, ? FROM entry "
                    "WHERE profile = ? AND event = ? ON CONFLICT DO NOTHING",
                    (profile, int(each.erased), feed.built, each.event),
                )
            db.execute("UPDATE feed SET built = ? WHERE name = ?", (profile, feed.name))

        self._database.write(work)

    def content(self, feed: Feed) -> dict[str, datetime | None]:
        """What a feed shows: event -> when its entry ends."""
        rows = self._database.rows(f"SELECT event, ends {CONTENT}", (feed.built, feed.name))
        return {row["event"]: time_of(row["ends"]) for row in rows}

    def release(self, feed: Feed, deletions: Iterable[Delete], at: datetime) -> None:
        """Let a feed show these events no more."""
        deletions = list(deletions)

        def work(db: sqlite3.Connection) -> None:
            for each in deletions:
                _release(db, feed, each.event)
                run = RunKey("feed", feed.name)
                insert_decision(db, Decision(each.event, at, run, "deleted", "the meeting is gone"))
                if each.counts:
                    insert_lost(db, hold_name(feed.name), each.event, at)

        self._database.write(work)

    def edition(self, feed: Feed) -> list[tuple[str, int]]:
        """The content of a feed in the order of its event ids: (digest, revision)."""
        rows = self._database.rows(f"SELECT digest, revision {CONTENT} ORDER BY event", (feed.built, feed.name))
        return [(row["digest"], row["revision"]) for row in rows]

    def edition_bodies(self, feed: Feed) -> list[tuple[str, int, bytes]]:
        """The same with the iCalendar bytes, from one read: (digest, revision, bytes)."""
        rows = self._database.rows(f"SELECT digest, revision, body {CONTENT} ORDER BY event", (feed.built, feed.name))
        return [(row["digest"], row["revision"], row["body"]) for row in rows]


def _release(db: sqlite3.Connection, feed: Feed, event: str) -> None:
    """Let a feed show an erased entry no more, in a transaction that is open."""
    db.execute("INSERT INTO released (feed, event) VALUES (?, ?) ON CONFLICT DO NOTHING", (feed.name, event))
