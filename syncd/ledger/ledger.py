# SPDX-License-Identifier: Apache-2.0
"""The ledger: all SQL, and the only door to it.

One method is one transaction; none keeps state between calls, and none is ever open while a socket is in
use. Writers wait for each other; readers never wait (WAL). Every method raises LedgerError.
"""

import json
import secrets
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
from sqlite_utils import Database

from syncd.errors import NeedsYou
from syncd.ledger.database import FILE, ledger_errors, moment_of, text_of, time_of
from syncd.ledger.entries import erase
from syncd.ledger.feeds import Subscriptions
from syncd.ledger.history import insert_decision, insert_run, sweep_decisions
from syncd.ledger.meetings import changed_fields
from syncd.ledger.placements import Placements
from syncd.model import Decision, Entry, Identity, Link, Meeting, Run
from syncd.plan.links import LinkKey, Origin
from syncd.plan.pull import Drop, Keep, KnownMeeting

HISTORY = timedelta(days=30)


class Ledger(Placements, Subscriptions):
    """The ledger in ``folder``. Safe to share between threads: each has a connection of its own."""

    def rehearsal(self) -> "Rehearsal":
        """A copy in memory, for one thread, that may be changed without a trace."""
        return Rehearsal(self.folder, self._db())

    def secret(self, name: str) -> str:
        """A key that is made once and kept: 128 bits, hexadecimal."""
        rows = self._rows("SELECT value FROM secret WHERE name = ?", (name,))
        if not rows:
            with self._transaction() as db:
                db.execute("INSERT OR IGNORE INTO secret VALUES (?, ?)", (name, secrets.token_hex(16)))
            rows = self._rows("SELECT value FROM secret WHERE name = ?", (name,))
        return str(rows[0][0])

    def identify(self, name: str, identity: Identity, names: Collection[str]) -> None:
        """Note who stands behind an account's name; ``names`` are all of the configuration.

        A person whose former name is none of them any more was renamed, and takes everything along. Raises
        NeedsYou if somebody else stands behind the name than before.
        """
        now = (identity.issuer, identity.subject, identity.user_id, identity.firstname, identity.lastname)
        rows = self._rows("SELECT issuer, subject, user_id, firstname, lastname FROM account WHERE name = ?", (name,))
        if rows and rows[0] == now:
            return
        if rows and rows[0][:2] != now[:2]:
            raise NeedsYou(
                f"opentalk.{name}: another person is behind this login than before; nothing is changed. Give the "
                "table a new name for a new person, or correct its username"
            )
        known = self._rows("SELECT name FROM account WHERE issuer = ? AND subject = ?", now[:2])
        with self._transaction() as db:
            for (former,) in known:
                if former != name and former not in names:
                    for table in ("meeting", "gone"):
                        db.execute(f"UPDATE OR REPLACE {table} SET account = ? WHERE account = ?", (name, former))  # noqa: S608
                    db.execute("UPDATE OR REPLACE link SET whose = ? WHERE whose = ?", (name, former))
                    for feed, accounts in db.execute("SELECT name, accounts FROM feed").fetchall():
                        renamed = [name if account == former else account for account in json.loads(accounts)]
                        db.execute("UPDATE feed SET accounts = ? WHERE name = ?", (json.dumps(renamed), feed))
            db.execute("INSERT OR REPLACE INTO account VALUES (?, ?, ?, ?, ?, ?)", (name, *now))

    def identity(self, name: str) -> Identity | None:
        """Who stands behind an account's name, or ``None`` before its first login."""
        rows = self._rows("SELECT issuer, subject, user_id, firstname, lastname FROM account WHERE name = ?", (name,))
        return Identity(*rows[0]) if rows else None

    def digests(self, account: str) -> dict[str, str]:
        """What need not be read again where it is still so: event -> digest; not of what listings lacked."""
        return dict(self._stream("SELECT event, digest FROM meeting WHERE account = ? AND NOT unlisted", (account,)))

    def known(self, account: str) -> Iterator[tuple[str, KnownMeeting]]:
        """All meetings of an account, as far as decisions need them, row by row: (event, Known)."""
        sql = "SELECT event, digest, starts, ends, unlisted FROM meeting WHERE account = ?"
        for event, digest, starts, ends, unlisted in self._stream(sql, (account,)):
            yield event, KnownMeeting(digest, time_of(starts), time_of(ends), bool(unlisted))

    def save_pull(self, account: str, changes: Iterable[Keep | Drop], run: Run) -> None:
        """All that one pull changes, why, and its run: everything or nothing."""
        with self._transaction() as db:
            for change in changes:
                match change:
                    case Drop(event, why):
                        db.execute("DELETE FROM meeting WHERE account = ? AND event = ?", (account, event))
                        db.execute("INSERT OR IGNORE INTO gone VALUES (?, ?)", (account, event))
                        insert_decision(db, Decision(event, run.ended, "pull", account, "gone", why))
                    case Keep(meeting, known, fresh):
                        if fresh:
                            insert_decision(db, Decision(meeting.id, run.ended, "pull", account, "new"))
                        elif names := changed_fields(db, account, meeting):
                            insert_decision(db, Decision(meeting.id, run.ended, "pull", account, "changed", names))
                        db.execute("DELETE FROM gone WHERE account = ? AND event = ?", (account, meeting.id))
                        db.execute(
                            "INSERT OR REPLACE INTO meeting VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                            (
                                account,
                                meeting.id,
                                known.digest,
                                text_of(known.start),
                                text_of(known.end),
                                meeting.room,
                                meeting.own,
                                known.unlisted,
                                msgspec.json.encode(meeting),
                            ),
                        )
            insert_run(db, run)

    def sweep(self, now: datetime) -> None:
        """Forget old runs and decisions, and which events are gone where nothing of them is left."""
        with self._transaction() as db:
            db.execute(
                "DELETE FROM run WHERE ended < ? AND id NOT IN "
                "(SELECT max(id) FROM run WHERE state = 'ok' GROUP BY kind, name, scope)",
                (text_of(now - HISTORY),),
            )
            sweep_decisions(db, now - HISTORY)
            db.execute(
                "DELETE FROM gone WHERE event NOT IN (SELECT event FROM placement) "
                "AND event NOT IN (SELECT event FROM entry)"
            )
        with ledger_errors(self.folder):
            self._db().execute("PRAGMA optimize")
            self._db().execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def meeting(self, account: str, event: str) -> Meeting | None:
        """A meeting as an account sees it."""
        rows = self._rows("SELECT content FROM meeting WHERE account = ? AND event = ?", (account, event))
        return msgspec.json.decode(rows[0][0], type=Meeting) if rows else None

    def sources(self, accounts: Sequence[str]) -> dict[str, Origin]:
        """All meetings with a time of these accounts: event -> the first account that has it, and what it sees."""
        found: dict[str, Origin] = {}
        for account in accounts:
            alone = (account,)
            rows = self._stream(
                "SELECT event, digest, starts, ends, room, own FROM meeting WHERE account = ? AND starts NOTNULL",
                (account,),
            )
            for event, digest, starts, ends, room, own in rows:
                first = found.get(event)
                if first is None:
                    source = Origin(account, alone, digest, moment_of(starts), time_of(ends), room, bool(own))
                else:
                    source = msgspec.structs.replace(first, accounts=(*first.accounts, account))
                found[event] = source
        return found

    def links(self, accounts: Sequence[str] | None = None) -> dict[LinkKey, Link]:
        """All links, or those of these accounts' meetings: (kind, event, whose) -> Link."""
        if accounts is None:
            rows = self._stream("SELECT kind, event, whose, code, depends, made, at FROM link")
        else:
            rows = self._stream(
                "SELECT DISTINCT kind, link.event, whose, code, depends, made, at FROM meeting JOIN link "
                "ON kind IN ('invite', 'hash') AND link.event = meeting.event "  # as the key of links begins
                "WHERE account IN (SELECT value FROM json_each(?))",
                (json.dumps(accounts),),
            )
        return {
            (kind, event, whose): Link(kind, event, whose, code, depends, bool(made), moment_of(at))
            for kind, event, whose, code, depends, made, at in rows
        }

    def save_link(self, link: Link, by: str) -> None:
        """Keep a link at once: what was made must never be forgotten. ``by`` tells who was asked for it."""
        with self._transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO link VALUES (?, ?, ?, ?, ?, ?, ?)",
                (link.kind, link.event, link.whose, link.code, link.depends, link.made, text_of(link.at)),
            )
            word = "none" if link.code is None else link.kind
            why = "none to be had" if link.code is None else "made" if link.made else "found"
            insert_decision(db, Decision(link.event, link.at, "mint", by, word, why))

    def entries(self, profile: str) -> dict[str, Entry]:
        """The entries of a profile, in the order of their event ids: event -> Entry.

        An erased one has nothing to show, and no inputs where its meeting is gone.
        """
        rows = self._stream(
            "SELECT event, inputs, CASE WHEN erased THEN '' ELSE digest END, revision, starts, ends FROM entry "
            "WHERE profile = ? ORDER BY event",
            (profile,),
        )
        return {
            event: Entry(event, inputs, digest, revision, moment_of(starts), time_of(ends))
            for event, inputs, digest, revision, starts, ends in rows
        }

    def body(self, profile: str, event: str) -> bytes:
        """The iCalendar bytes of one entry."""
        rows = self._rows("SELECT body FROM entry WHERE profile = ? AND event = ?", (profile, event))
        return bytes(rows[0][0])

    def versions(self, event: str) -> list[tuple[int, str]]:
        """All contents of an event that we rendered or that lie in calendars: (revision, digest)."""
        rows = self._rows(
            "SELECT revision, digest FROM entry WHERE event = ?1 UNION SELECT revision, digest FROM placement "
            "WHERE event = ?1",
            (event,),
        )
        return [(revision, digest) for revision, digest in rows]

    def save_entries(
        self, profile: str, entries: Iterable[tuple[Entry, bytes]], erased: Iterable[str], changed: datetime
    ) -> None:
        """Keep entries of a profile with their bytes, and erase others.

        What is erased, or has nothing to show any more, keeps its bytes until no feed shows it.
        """
        with self._transaction() as db:
            for entry, body in entries:
                if not entry.digest and erase(db, profile, entry.event, entry.inputs):
                    continue
                db.execute(
                    "INSERT OR REPLACE INTO entry (profile, event, inputs, digest, revision, starts, ends, changed, "
                    "body) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        profile,
                        entry.event,
                        entry.inputs,
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
            for event in erased:
                erase(db, profile, event, "")

    def sweep_entries(self, used: Iterable[str]) -> None:
        """Drop what is erased and shown by no feed, and all profiles but these and those that feeds show."""
        profiles = {row[0] for row in self._rows("SELECT DISTINCT profile FROM entry")}
        shown = {row[0] for row in self._rows("SELECT built FROM feed")}
        unused = profiles - {*used} - shown
        erased = self._rows(
            "SELECT profile, event, inputs FROM entry WHERE erased AND NOT EXISTS (SELECT 1 FROM feed WHERE built = "
            "entry.profile AND NOT EXISTS (SELECT 1 FROM released WHERE feed = feed.name AND event = entry.event))"
        )
        if not (unused or erased):
            return
        with self._transaction() as db:
            for profile in unused:
                db.execute("DELETE FROM entry WHERE profile = ?", (profile,))
            for profile, event, inputs in erased:
                sql = "UPDATE entry SET digest = '', body = x'', erased = 0" if inputs else "DELETE FROM entry"
                db.execute(f"{sql} WHERE profile = ? AND event = ? AND inputs = ?", (profile, event, inputs))
            db.execute("DELETE FROM released WHERE event NOT IN (SELECT event FROM entry WHERE erased)")

    def refresh_token(self, account: str) -> str | None:
        """What a sign-in in a browser gave for an account."""
        rows = self._rows("SELECT refresh_token FROM login WHERE account = ?", (account,))
        return str(rows[0][0]) if rows else None

    def save_refresh_token(self, account: str, token: str | None) -> None:
        """Keep it, or forget it."""
        with self._transaction() as db:
            db.execute("DELETE FROM login WHERE account = ?", (account,))
            if token is not None:
                db.execute("INSERT INTO login VALUES (?, ?)", (account, token))


class SignIns:
    """What sign-ins in a browser gave, for commands that need nothing else of the ledger and must not make one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def refresh_token(self, account: str) -> str | None:
        """The refresh token of an account, if anybody is signed in."""
        if not (self._folder / FILE).exists():
            return None
        with Ledger(self._folder) as ledger:
            return ledger.refresh_token(account)

    def save_refresh_token(self, account: str, token: str | None) -> None:
        """Keep it, or forget it."""
        with Ledger(self._folder) as ledger:
            ledger.save_refresh_token(account, token)


class Rehearsal(Ledger):
    """A ledger in memory, for one thread: what a dry run writes to. Empty without an ``original``."""

    def __init__(self, folder: Path, original: Database | None = None) -> None:
        self._original = original
        super().__init__(folder)

    def _open(self) -> Database:
        db = Database(sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False))
        if self._original is not None:
            with ledger_errors(self.folder):
                self._original.conn.backup(db.conn)
        return db
