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
from syncd.guard import Guard, Hold
from syncd.history import History, insert_run, moment_of, text_of, time_of
from syncd.model import Entry, Feed, Identity, Link, Meeting, Placement, Run
from syncd.plan import Drop, Keep, Known, LinkKey, Source
from syncd.schema import FILE, ledger_errors

HISTORY = timedelta(days=30)


class Ledger(History):
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
            db.execute("INSERT OR REPLACE INTO account VALUES (?, ?, ?, ?, ?, ?)", (name, *now))

    def identity(self, name: str) -> Identity | None:
        """Who stands behind an account's name, or ``None`` before its first login."""
        rows = self._rows("SELECT issuer, subject, user_id, firstname, lastname FROM account WHERE name = ?", (name,))
        return Identity(*rows[0]) if rows else None

    def known(self, account: str) -> Iterator[tuple[str, Known]]:
        """All meetings of an account, as far as decisions need them, row by row: (event, Known)."""
        sql = "SELECT event, digest, starts, ends, unlisted FROM meeting WHERE account = ?"
        for event, digest, starts, ends, unlisted in self._stream(sql, (account,)):
            yield event, Known(digest, time_of(starts), time_of(ends), bool(unlisted))

    def save_pull(self, account: str, changes: Iterable[Keep | Drop], run: Run) -> None:
        """All that one pull changes, and its run: everything or nothing. A full listing sweeps old runs away."""
        with self._transaction() as db:
            for change in changes:
                match change:
                    case Drop(event):
                        db.execute("DELETE FROM meeting WHERE account = ? AND event = ?", (account, event))
                        db.execute("INSERT OR IGNORE INTO gone VALUES (?, ?)", (account, event))
                    case Keep(meeting, known, _):
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
            if run.scope == "everything":
                db.execute(
                    "DELETE FROM run WHERE ended < ? AND id NOT IN "
                    "(SELECT max(id) FROM run WHERE state = 'ok' GROUP BY kind, name)",
                    (text_of(run.ended - HISTORY),),
                )
            insert_run(db, run)

    def meeting(self, account: str, event: str) -> Meeting | None:
        """A meeting as an account sees it."""
        rows = self._rows("SELECT content FROM meeting WHERE account = ? AND event = ?", (account, event))
        return msgspec.json.decode(rows[0][0], type=Meeting) if rows else None

    def sources(self, accounts: Sequence[str]) -> dict[str, Source]:
        """All meetings with a time of these accounts: event -> the first account that has it, and what it sees."""
        found: dict[str, Source] = {}
        for account in accounts:
            alone = (account,)
            rows = self._stream(
                "SELECT event, digest, starts, ends, room, own FROM meeting WHERE account = ? AND starts NOTNULL",
                (account,),
            )
            for event, digest, starts, ends, room, own in rows:
                first = found.get(event)
                if first is None:
                    source = Source(account, alone, digest, moment_of(starts), time_of(ends), room, bool(own))
                else:
                    source = msgspec.structs.replace(first, accounts=(*first.accounts, account))
                found[event] = source
        return found

    def links(self) -> dict[LinkKey, Link]:
        """All links: (kind, event, whose) -> Link."""
        rows = self._stream("SELECT kind, event, whose, code, depends, made, at FROM link")
        return {
            (kind, event, whose): Link(kind, event, whose, code, depends, bool(made), moment_of(at))
            for kind, event, whose, code, depends, made, at in rows
        }

    def save_link(self, link: Link) -> None:
        """Keep a link at once: what was made must never be forgotten."""
        with self._transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO link VALUES (?, ?, ?, ?, ?, ?, ?)",
                (link.kind, link.event, link.whose, link.code, link.depends, link.made, text_of(link.at)),
            )

    def entries(self, profile: str) -> dict[str, Entry]:
        """The entries of a profile, in the order of their event ids: event -> Entry."""
        rows = self._stream(
            "SELECT event, inputs, digest, revision, starts, ends FROM entry WHERE profile = ? ORDER BY event",
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

    def edition(self, profile: str) -> list[tuple[str, int]]:
        """The content of a profile's entries in the order of their event ids: (digest, revision)."""
        rows = self._rows(
            "SELECT digest, revision FROM entry WHERE profile = ? AND digest != '' ORDER BY event", (profile,)
        )
        return [(digest, revision) for digest, revision in rows]

    def edition_bodies(self, profile: str) -> list[tuple[str, int, bytes]]:
        """The same with the iCalendar bytes, from one read: (digest, revision, bytes)."""
        rows = self._rows(
            "SELECT digest, revision, body FROM entry WHERE profile = ? AND digest != '' ORDER BY event", (profile,)
        )
        return [(digest, revision, body) for digest, revision, body in rows]

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
        """Keep entries of a profile with their bytes, and drop others."""
        with self._transaction() as db:
            for entry, body in entries:
                db.execute(
                    "INSERT OR REPLACE INTO entry VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
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
            for event in erased:
                db.execute("DELETE FROM entry WHERE profile = ? AND event = ?", (profile, event))

    def forget_profiles(self, used: Iterable[str]) -> None:
        """Drop the entries of all profiles but these."""
        unused = {row[0] for row in self._rows("SELECT DISTINCT profile FROM entry")} - set(used)
        if unused:
            with self._transaction() as db:
                for profile in unused:
                    db.execute("DELETE FROM entry WHERE profile = ?", (profile,))

    def placements(self, calendar: str) -> dict[str, Placement]:
        """What we placed in a calendar: event -> Placement."""
        rows = self._stream(
            "SELECT event, href, etag, revision, digest, starts, ends, state FROM placement WHERE calendar = ?",
            (calendar,),
        )
        return {
            event: Placement(calendar, event, href, etag, revision, digest, moment_of(starts), time_of(ends), state)
            for event, href, etag, revision, digest, starts, ends, state in rows
        }

    def save_placement(self, placement: Placement, body: bytes) -> None:
        """Note what was just put, found or left in a calendar."""
        with self._transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO placement VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
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
                ),
            )

    def forget_placement(self, calendar: str, event: str) -> None:
        """An entry is not in a calendar any more, or was never ours."""
        with self._transaction() as db:
            db.execute("DELETE FROM placement WHERE calendar = ? AND event = ?", (calendar, event))

    def save_hold(self, name: str, hold: Hold | None) -> None:
        """Note which deletions of a calendar wait for a person; ``None``: none do."""
        rows = self._rows("SELECT events, coming FROM hold WHERE name = ?", (name,))
        new = [(json.dumps(sorted(hold.events)), hold.coming)] if hold else []
        if rows == new:
            return
        with self._transaction() as db:
            db.execute("DELETE FROM hold WHERE name = ?", (name,))
            for events, coming in new:
                db.execute("INSERT INTO hold VALUES (?, ?, ?, 0)", (name, events, coming))

    def confirm(self, name: str) -> int:
        """Let the deletion that is held, and only that, pass; the number of events it names, 0 if none is held."""
        with self._transaction() as db:
            rows = db.execute("SELECT events FROM hold WHERE name = ?", (name,)).fetchall()
            db.execute("UPDATE hold SET confirmed = 1 WHERE name = ?", (name,))
        return len(json.loads(rows[0][0])) if rows else 0

    def guard(self, calendar: str, accounts: Sequence[str], since: datetime) -> Guard:
        """What the deletions from a calendar of these accounts are judged by; ``since`` is a day ago."""
        gone: dict[str, set[str]] = {account: set() for account in accounts}
        for account, event in self._rows("SELECT account, event FROM gone"):
            gone.get(account, set()).add(event)
        sizes = self.sizes()
        holds = self._rows("SELECT events, confirmed FROM hold WHERE name = ?", (calendar,))
        held = {confirmed: frozenset(json.loads(events)) for events, confirmed in holds}
        lately = self._rows(
            "SELECT total(json_extract(counts, '$.unasked')) FROM run WHERE kind = 'push' AND name = ? AND ended >= ?",
            (calendar, text_of(since)),
        )
        return Guard(
            gone=frozenset().union(*gone.values()),
            emptied=frozenset().union(*(gone[each] for each in accounts if not sizes.get(("account", each)))),
            lately=int(lately[0][0]),
            held=held.get(0, frozenset()),
            confirmed=held.get(1, frozenset()),
        )

    def save_feed(self, feed: Feed) -> bool:
        """Keep a new feed; false if its name is taken."""
        with self._transaction() as db:
            cursor = db.execute(
                "INSERT OR IGNORE INTO feed VALUES (?, ?, ?, ?, ?, ?, ?)",
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
            "SELECT name, token_sha256, accounts, audience, passwords, label, made FROM feed ORDER BY name"
        )
        return {
            name: Feed(name, token, tuple(json.loads(accounts)), audience, bool(passwords), label, moment_of(made))
            for name, token, accounts, audience, passwords, label, made in rows
        }

    def revoke_feed(self, name: str) -> bool:
        """Forget a feed, so that its address opens nothing any more; false if there is none of the name."""
        with self._transaction() as db:
            return db.execute("DELETE FROM feed WHERE name = ?", (name,)).rowcount == 1

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
