# SPDX-License-Identifier: Apache-2.0
"""The ledger's tables of audits: when each calendar was last looked at, and the leftovers that were found there."""

import sqlite3
from collections.abc import Mapping

from syncd.ledger.database import Database, moment_of, text_of
from syncd.plan.timing import LastAudit


class Audits:
    """Audits by calendar."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def last(self, calendar: str) -> LastAudit | None:
        """The last audit of a calendar."""
        rows = self._database.rows("SELECT at, whole, url, cursor FROM audit WHERE calendar = ?", (calendar,))
        if not rows:
            return None
        row = rows[0]
        return LastAudit(moment_of(row["at"]), moment_of(row["whole"]), row["url"], row["cursor"])

    def save(self, calendar: str, audit: LastAudit, leftovers: Mapping[str, bool]) -> None:
        """Record an audit, and the objects that look like ours and are not placed: href -> whether they are ours."""

        def work(db: sqlite3.Connection) -> None:
            db.execute(
                "INSERT INTO audit (calendar, at, whole, url, cursor) VALUES (?, ?, ?, ?, ?) ON CONFLICT (calendar) "
                "DO UPDATE SET at = excluded.at, whole = excluded.whole, url = excluded.url, cursor = excluded.cursor",
                (calendar, text_of(audit.at), text_of(audit.whole), audit.url, audit.cursor),
            )
            db.execute("DELETE FROM leftover WHERE calendar = ?", (calendar,))
            for href, ours in leftovers.items():
                db.execute("INSERT INTO leftover (calendar, href, ours) VALUES (?, ?, ?)", (calendar, href, int(ours)))

        self._database.write(work)

    def leftovers(self, calendar: str) -> dict[str, bool]:
        """The objects that look like ours and are not placed, from the last audit: href -> whether they are ours."""
        rows = self._database.rows("SELECT href, ours FROM leftover WHERE calendar = ?", (calendar,))
        return {row["href"]: bool(row["ours"]) for row in rows}


def forget_cursor(db: sqlite3.Connection, calendar: str) -> None:
    """Let the next audit list everything: a server does not report what was created and deleted since a cursor.

    RFC 6578, 3.5: such an object is no change. In a transaction that is open.
    """
    db.execute("UPDATE audit SET cursor = NULL WHERE calendar = ?", (calendar,))
