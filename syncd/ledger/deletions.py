# SPDX-License-Identifier: Apache-2.0
"""The ledger's tables of deletions: those that wait for a person, and those of the last day that nobody confirmed.

``name`` is a calendar's, or for a feed what ``plan.deletions.hold_name`` makes of its name.
"""

import json
import sqlite3
from collections.abc import Sequence
from datetime import datetime

from syncd.ledger.database import Database, marks, text_of
from syncd.ledger.history import insert_decision
from syncd.model import Decision, RunKey
from syncd.plan.deletions import FEED_HOLDS, Guard, Hold, allowance_start


class Deletions:
    """Held and unconfirmed deletions by name."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def save_hold(self, name: str, hold: Hold | None, at: datetime) -> None:
        """Record which deletions wait for a person; ``None``: none do."""
        rows = [(row["events"], row["coming"]) for row in self._database.rows(f"{SELECT_HOLD} WHERE name = ?", (name,))]
        new = [(json.dumps(sorted(hold.events)), hold.coming)] if hold else []
        if rows == new:
            return
        before = {event for events, _ in rows for event in json.loads(events)}
        run = _run_of(name)

        def work(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM hold WHERE name = ?", (name,))
            for events, coming in new:
                db.execute(
                    "INSERT INTO hold (name, events, coming, confirmed) VALUES (?, ?, ?, 0)", (name, events, coming)
                )
            for event in sorted(set(hold.events if hold else ()) - before):
                insert_decision(db, Decision(event, at, run, "held", "its deletion waits for a person"))

        self._database.write(work)

    def confirm(self, name: str) -> int:
        """Let the deletion that is held, and only that, pass; the number of events it names, 0 if none is held."""

        def work(db: sqlite3.Connection) -> int:
            row = db.execute(f"{SELECT_HOLD} WHERE name = ?", (name,)).fetchone()
            db.execute("UPDATE hold SET confirmed = 1 WHERE name = ?", (name,))
            return len(json.loads(row["events"])) if row else 0

        return self._database.write(work)

    def guard(self, name: str, accounts: Sequence[str], since: datetime) -> Guard:
        """What deletions of these accounts' entries are judged by; ``since`` is ``allowance_start``."""
        gone: dict[str, set[str]] = {account: set() for account in accounts}
        # what lost its time is still there, but for no calendar
        absent = self._database.rows(
            f"SELECT account, event FROM gone WHERE account IN ({marks(accounts)}) "
            f"UNION SELECT account, event FROM meeting WHERE starts IS NULL AND account IN ({marks(accounts)})",
            (*accounts, *accounts),
        )
        for row in absent:
            gone[row["account"]].add(row["event"])
        empty = [account for account in accounts if not self._has_meetings(account)]
        holds = self._database.rows("SELECT events, confirmed FROM hold WHERE name = ?", (name,))
        events = {row["confirmed"]: frozenset(json.loads(row["events"])) for row in holds}
        lately = self._database.rows(
            "SELECT count(*) AS lost FROM lost WHERE name = ? AND at >= ?", (name, text_of(since))
        )
        return Guard(
            gone=frozenset().union(*gone.values()),
            emptied=frozenset().union(*(gone[each] for each in empty)),
            lately=int(lately[0]["lost"]),
            held=events.get(0, frozenset()),
            confirmed=events.get(1, frozenset()),
        )

    def _has_meetings(self, account: str) -> bool:
        return bool(self._database.rows("SELECT 1 FROM meeting WHERE account = ? LIMIT 1", (account,)))


SELECT_HOLD = "SELECT events, coming FROM hold"


def _run_of(name: str) -> RunKey:
    """The run that carries out the deletions of this name."""
    feed = name.removeprefix(FEED_HOLDS)
    return RunKey("push", name) if feed == name else RunKey("feed", feed)


def insert_lost(db: sqlite3.Connection, name: str, event: str, at: datetime) -> None:
    """Record the unconfirmed deletion of a future entry, for the daily limit; drop records older than a day.

    In a transaction that is open.
    """
    db.execute("DELETE FROM lost WHERE name = ? AND at < ?", (name, text_of(allowance_start(at))))
    db.execute("INSERT INTO lost (name, event, at) VALUES (?, ?, ?)", (name, event, text_of(at)))


def forget_deletions(db: sqlite3.Connection, name: str) -> None:
    """Forget the holds and the deletions of a name that is no more, in a transaction that is open."""
    db.execute("DELETE FROM hold WHERE name = ?", (name,))
    db.execute("DELETE FROM lost WHERE name = ?", (name,))
