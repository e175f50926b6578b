# SPDX-License-Identifier: Apache-2.0
"""The ledger's tables of meetings: what each account has, what of it cannot be read, and what is gone."""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from syncd.decoding import decode
from syncd.ledger.database import Database, moment_of, text_of, time_of
from syncd.ledger.history import insert_decision, insert_run
from syncd.model import Decision, Meeting, Run, Unreadable
from syncd.plan.links import Origin
from syncd.plan.pull import Drop, Keep, KnownMeeting


class Meetings:
    """Meetings by account and event."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, account: str, event: str) -> Meeting | None:
        """A meeting as an account sees it."""
        rows = self._database.rows("SELECT content FROM meeting WHERE account = ? AND event = ?", (account, event))
        return self._database.value(rows[0]["content"], Meeting) if rows else None

    def digests(self, account: str) -> dict[str, str]:
        """The digests of the events in listings: one whose digest has not changed need not be read again."""
        rows = self._database.stream("SELECT event, digest FROM meeting WHERE account = ? AND unlisted = 0", (account,))
        return {row["event"]: row["digest"] for row in rows}

    def of(self, account: str) -> Iterator[tuple[str, KnownMeeting]]:
        """All meetings of an account as far as decisions need them, row by row: (event, KnownMeeting)."""
        sql = "SELECT event, digest, starts, ends, unlisted FROM meeting WHERE account = ?"
        for row in self._database.stream(sql, (account,)):
            start, end = time_of(row["starts"]), time_of(row["ends"])
            yield row["event"], KnownMeeting(row["digest"], start, end, bool(row["unlisted"]))

    def origins(self, accounts: Sequence[str]) -> dict[str, Origin]:
        """All meetings with a time, by event, as the first of these accounts that has it sees it."""
        found: dict[str, Origin] = {}
        for account in accounts:
            alone = (account,)
            rows = self._database.stream(
                "SELECT event, digest, starts, ends, room, own FROM meeting WHERE account = ? AND starts IS NOT NULL",
                alone,
            )
            for row in rows:
                first = found.get(row["event"])
                if first is not None:
                    found[row["event"]] = msgspec.structs.replace(first, accounts=(*first.accounts, account))
                    continue
                found[row["event"]] = Origin(
                    account=account,
                    accounts=alone,
                    digest=row["digest"],
                    start=moment_of(row["starts"]),
                    end=time_of(row["ends"]),
                    room=row["room"],
                    own=bool(row["own"]),
                )
        return found

    def counts(self) -> dict[str, int]:
        """How many meetings each account has."""
        rows = self._database.rows("SELECT account, count(*) AS meetings FROM meeting GROUP BY account")
        return {row["account"]: row["meetings"] for row in rows}

    def unreadable(self, account: str) -> list[Unreadable]:
        """The events of an account that could not be read when it was last listed."""
        sql = "SELECT event, reason FROM unreadable WHERE account = ? ORDER BY event"
        return [Unreadable(row["event"], row["reason"]) for row in self._database.rows(sql, (account,))]

    def save_pull(
        self, account: str, changes: Iterable[Keep | Drop], run: Run, unreadable: Iterable[Unreadable] = ()
    ) -> None:
        """Record all that one pull changes, why, and its run: everything or nothing.

        ``unreadable`` are all events of the account that cannot be read now.
        """
        rows = [(account, each.event, each.reason) for each in unreadable]
        changes = list(changes)

        def work(db: sqlite3.Connection) -> None:
            for change in changes:
                if isinstance(change, Drop):
                    _drop(db, account, change, run)
                else:
                    _keep(db, account, change, run)
            db.execute("DELETE FROM unreadable WHERE account = ?", (account,))
            db.executemany("INSERT INTO unreadable (account, event, reason) VALUES (?, ?, ?)", rows)
            insert_run(db, run)

        self._database.write(work)


def _drop(db: sqlite3.Connection, account: str, change: Drop, run: Run) -> None:
    db.execute("DELETE FROM meeting WHERE account = ? AND event = ?", (account, change.event))
    db.execute("INSERT INTO gone (account, event) VALUES (?, ?) ON CONFLICT DO NOTHING", (account, change.event))
    insert_decision(db, Decision(change.event, run.ended, run.key, "gone", change.why))


def _keep(db: sqlite3.Connection, account: str, change: Keep, run: Run) -> None:
    meeting, row = change.meeting, change.row
    if change.fresh:
        insert_decision(db, Decision(meeting.id, run.ended, run.key, "new"))
    elif names := _changed_fields(db, account, meeting):
        insert_decision(db, Decision(meeting.id, run.ended, run.key, "changed", names))
    db.execute("DELETE FROM gone WHERE account = ? AND event = ?", (account, meeting.id))
    db.execute(
        "INSERT INTO meeting (account, event, digest, starts, ends, room, own, unlisted, content) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (account, event) DO UPDATE SET digest = excluded.digest, "
        "starts = excluded.starts, ends = excluded.ends, room = excluded.room, own = excluded.own, "
        "unlisted = excluded.unlisted, content = excluded.content",
        (
            account,
            meeting.id,
            row.digest,
            text_of(row.start),
            text_of(row.end),
            meeting.room,
            int(meeting.own),
            int(row.unlisted),
            msgspec.json.encode(meeting),
        ),
    )


def _changed_fields(db: sqlite3.Connection, account: str, meeting: Meeting) -> str:
    """The names of the fields of a meeting that differ from the ledger's, never their values."""
    sql = "SELECT content FROM meeting WHERE account = ? AND event = ?"
    row = db.execute(sql, (account, meeting.id)).fetchone()
    before = decode(row["content"], Meeting) if row else None
    names = [name for name in Meeting.__struct_fields__ if name != "updated"]
    return ", ".join(name for name in names if before and getattr(before, name) != getattr(meeting, name))


def sweep_gone(db: sqlite3.Connection) -> None:
    """Forget which events are gone where no entry and no placement is left of them, in a transaction that is open."""
    db.execute(
        "DELETE FROM gone WHERE event NOT IN (SELECT event FROM placement) AND event NOT IN (SELECT event FROM entry)"
    )
