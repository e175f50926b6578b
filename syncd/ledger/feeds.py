# SPDX-License-Identifier: Apache-2.0
"""What the ledger knows of feeds: their tokens, the profile that each shows, and what it shows of that."""

import json
from collections.abc import Collection, Iterable
from datetime import datetime

from syncd.ledger.database import moment_of, text_of, time_of
from syncd.ledger.deletions import insert_lost
from syncd.ledger.history import History, insert_decision
from syncd.model import Decision, Feed

SHOWN = (
    "FROM entry WHERE profile = ?1 AND digest != '' AND NOT (erased AND event IN "
    "(SELECT event FROM released WHERE feed = ?2))"
)


class Subscriptions(History):
    """The tables of feeds. An entry that is erased stays in a feed until the feed has released it."""

    def save_feed(self, feed: Feed) -> bool:
        """Keep a new feed; false if its name is taken."""
        with self._transaction() as db:
            cursor = db.execute(
                "INSERT OR IGNORE INTO feed (name, token_sha256, accounts, audience, passwords, label, made) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    feed.name,
                    feed.token_sha256,
                    json.dumps(feed.accounts),
                    feed.audience,
                    feed.passwords,
                    feed.label,
                    text_of(feed.made),
                ),
            )
            return cursor.rowcount == 1

    def feeds(self) -> dict[str, Feed]:
        """All feeds by name."""
        rows = self._rows(
            "SELECT name, token_sha256, accounts, audience, passwords, label, made, built FROM feed ORDER BY name"
        )
        return {
            name: Feed(
                name, token, tuple(json.loads(accounts)), audience, bool(passwords), label, moment_of(made), built
            )
            for name, token, accounts, audience, passwords, label, made, built in rows
        }

    def revoke_feed(self, name: str) -> bool:
        """Forget a feed, so that its address opens nothing any more; false if there is none of the name."""
        with self._transaction() as db:
            db.execute("DELETE FROM released WHERE feed = ?", (name,))
            db.execute("DELETE FROM hold WHERE name = ?", (f"feed/{name}",))
            db.execute("DELETE FROM lost WHERE name = ?", (f"feed/{name}",))
            db.execute("DELETE FROM run WHERE kind = 'feed' AND name = ?", (name,))
            return db.execute("DELETE FROM feed WHERE name = ?", (name,)).rowcount == 1

    def build(self, feed: Feed, profile: str, known: Collection[str]) -> None:
        """Let a feed show another profile.

        What it showed and the other lacks is carried over: erased, but for what is ``known``, whose meetings are
        there and could not be rendered.
        """
        with self._transaction() as db:
            if feed.built is None:
                db.execute(
                    "INSERT OR IGNORE INTO released SELECT ?, event FROM entry WHERE profile = ? AND erased",
                    (feed.name, profile),
                )
            else:
                shown = db.execute(f"SELECT event {SHOWN}", (feed.built, feed.name)).fetchall()
                for (event,) in shown:
                    db.execute(
                        "INSERT OR IGNORE INTO entry (profile, event, inputs, digest, revision, starts, ends, changed, "
                        "body, erased) SELECT ?, event, '', digest, revision, starts, ends, changed, body, ? "
                        "FROM entry WHERE profile = ? AND event = ?",
                        (profile, event not in known, feed.built, event),
                    )
            db.execute("UPDATE feed SET built = ? WHERE name = ?", (profile, feed.name))

    def shown(self, feed: Feed) -> dict[str, tuple[datetime | None, bool]]:
        """What a feed shows: event -> when it ends, and whether its entry is erased."""
        rows = self._rows(f"SELECT event, ends, erased {SHOWN}", (feed.built, feed.name))
        return {event: (time_of(ends), bool(erased)) for event, ends, erased in rows}

    def release(self, feed: Feed, events: Iterable[str], lost: Collection[str], at: datetime) -> None:
        """Let a feed show these no more; those of them that are ``lost`` count for the guard."""
        with self._transaction() as db:
            for event in events:
                db.execute("INSERT OR IGNORE INTO released VALUES (?, ?)", (feed.name, event))
                insert_decision(db, Decision(event, at, "feed", feed.name, "deleted", "the meeting is gone"))
                if event in lost:
                    insert_lost(db, f"feed/{feed.name}", event, at)

    def edition(self, feed: Feed) -> list[tuple[str, int]]:
        """The content of a feed in the order of its event ids: (digest, revision)."""
        rows = self._rows(f"SELECT digest, revision {SHOWN} ORDER BY event", (feed.built, feed.name))
        return [(digest, revision) for digest, revision in rows]

    def edition_bodies(self, feed: Feed) -> list[tuple[str, int, bytes]]:
        """The same with the iCalendar bytes, from one read: (digest, revision, bytes)."""
        rows = self._rows(f"SELECT digest, revision, body {SHOWN} ORDER BY event", (feed.built, feed.name))
        return [(digest, revision, body) for digest, revision, body in rows]
