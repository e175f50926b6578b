# SPDX-License-Identifier: Apache-2.0
"""The runs in the ledger: what was done when, how it went, and how everything stands because of it."""

import json
import sys
from collections.abc import Mapping
from datetime import datetime

from msgspec import Struct
from sqlite_utils import Database

from syncd.ledger.database import LedgerFile, moment_of, text_of, time_of
from syncd.model import Decision, Run, Standing
from syncd.plan.timing import Listed

LAST = chr(sys.maxunicode)
"""Sorts behind every text."""

PROBE = 16 << 10
"""Bytes that must find room before links are made."""


class Whereabouts(Struct, frozen=True):
    """Which accounts have an event (account -> whether listings lack it), which lost it, and where it was put."""

    accounts: Mapping[str, bool]
    gone: tuple[str, ...]
    calendars: tuple[str, ...]


class History(LedgerFile):
    """The ledger's table of runs, and what follows from it."""

    def save_run(self, run: Run) -> None:
        """Note how a run went."""
        with self._transaction() as db:
            insert_run(db, run)

    def probe(self) -> None:
        """Raise what would keep the ledger from taking a few links: they are made where nobody takes them back.

        The pages that it fills are free again afterwards, and written all the same.
        """
        with self._transaction() as db:
            db.execute("INSERT INTO secret VALUES ('probe', ?)", ("-" * PROBE,))
            db.execute("DELETE FROM secret WHERE name = 'probe'")

    def standings(self) -> dict[tuple[str, str], Standing]:
        """How everything stands that ever ran: (kind, name) -> Standing."""
        latest = self._rows(
            "SELECT kind, name, ended, state, scope, counts, message, next_try FROM run WHERE id IN "
            "(SELECT max(id) FROM run GROUP BY kind, name)"
        )
        # the latest by id: a clock that was wrong may have dated an earlier run later
        good = self._rows("SELECT kind, name, ended, max(id) FROM run WHERE state = 'ok' GROUP BY kind, name")
        success = {(kind, name): time_of(ended) for kind, name, ended, _ in good}
        return {
            (kind, name): Standing(
                Run(
                    kind,
                    name,
                    moment_of(ended),
                    state,
                    scope,
                    json.loads(counts),
                    message,
                    time_of(next_try),
                ),
                success.get((kind, name)),
            )
            for kind, name, ended, state, scope, counts, message, next_try in latest
        }

    def failures(self, kind: str, name: str) -> int:
        """How many runs in a row have not gone well."""
        rows = self._rows(
            "SELECT count(*) FROM run WHERE kind = ?1 AND name = ?2 AND id > coalesce((SELECT max(id) FROM run "
            "WHERE kind = ?1 AND name = ?2 AND state = 'ok'), 0)",
            (kind, name),
        )
        return int(rows[0][0])

    def sizes(self) -> dict[tuple[str, str], int]:
        """How much there is: ("account", name) -> meetings, ("calendar", name) and ("profile", key) -> entries."""
        rows = self._rows(
            "SELECT 'account', account, count(*) FROM meeting GROUP BY account UNION ALL "
            "SELECT 'calendar', calendar, count(*) FROM placement WHERE state = 'placed' GROUP BY calendar UNION ALL "
            "SELECT 'profile', profile, count(*) FROM entry WHERE digest != '' GROUP BY profile"
        )
        return {(kind, name): count for kind, name, count in rows}

    def last_listed(self, account: str) -> Listed:
        """When the window and everything of an account were last listed to their ends."""
        rows = self._rows(
            "SELECT scope, ended, max(id) FROM run WHERE kind = 'pull' AND name = ? AND state = 'ok' "
            "AND scope IN ('window', 'everything') GROUP BY scope ORDER BY max(id)",
            (account,),
        )
        last = {scope: time_of(ended) for scope, ended, _ in rows}
        return Listed(list(last.values())[-1] if last else None, last.get("everything"))

    def decisions(self, event: str) -> list[Decision]:
        """What was decided of an event, oldest first."""
        rows = self._rows("SELECT at, kind, name, word, why FROM decision WHERE event = ? ORDER BY id", (event,))
        return [Decision(event, moment_of(at), kind, name, word, why) for at, kind, name, word, why in rows]

    def find_events(self, beginning: str) -> list[str]:
        """The ids that begin like this, of all events that the ledger still mentions."""
        rows = self._rows(
            "SELECT event FROM meeting WHERE account IN (SELECT name FROM account) AND event BETWEEN ?1 AND ?2 "
            "UNION SELECT event FROM gone WHERE event BETWEEN ?1 AND ?2 "
            "UNION SELECT event FROM link WHERE kind IN ('invite', 'hash') AND event BETWEEN ?1 AND ?2 "
            "UNION SELECT event FROM entry WHERE event BETWEEN ?1 AND ?2 "
            "UNION SELECT event FROM placement WHERE event BETWEEN ?1 AND ?2 "
            "UNION SELECT event FROM decision WHERE event BETWEEN ?1 AND ?2 ORDER BY event",
            (beginning, beginning + LAST),
        )
        return [event for (event,) in rows]

    def whereabouts(self, event: str) -> Whereabouts:
        """Who has an event, who lost it, and where it was put."""
        have = self._rows(
            "SELECT account, unlisted FROM meeting WHERE account IN (SELECT name FROM account) AND event = ?", (event,)
        )
        gone = self._rows("SELECT account FROM gone WHERE event = ?", (event,))
        calendars = self._rows("SELECT calendar FROM placement WHERE event = ?", (event,))
        return Whereabouts(
            {account: bool(unlisted) for account, unlisted in have},
            tuple(account for (account,) in gone),
            tuple(calendar for (calendar,) in calendars),
        )


def insert_decision(db: Database, decision: Decision) -> None:
    """Note a decision in the transaction that carries it out."""
    db.execute(
        "INSERT INTO decision (event, at, kind, name, word, why) VALUES (?, ?, ?, ?, ?, ?)",
        (decision.event, text_of(decision.at), decision.kind, decision.name, decision.word, decision.why),
    )


def sweep_decisions(db: Database, before: datetime) -> None:
    """Forget decisions from before a moment, but the latest of each kind while anything else mentions their event."""
    db.execute(
        "DELETE FROM decision AS old WHERE at < ? AND (EXISTS (SELECT 1 FROM decision WHERE event = old.event "
        "AND kind = old.kind AND name = old.name AND id > old.id) OR NOT ("
        "EXISTS (SELECT 1 FROM meeting WHERE account IN (SELECT name FROM account) AND event = old.event) "
        "OR EXISTS (SELECT 1 FROM link WHERE kind IN ('invite', 'hash') AND event = old.event) "
        "OR EXISTS (SELECT 1 FROM entry WHERE event = old.event) "
        "OR EXISTS (SELECT 1 FROM placement WHERE event = old.event)))",
        (text_of(before),),
    )


def insert_run(db: Database, run: Run) -> None:
    """Note a run in a transaction that is open. Of quiet runs only the latest is kept: they are one a minute."""
    quiet = run.state == "ok" and not run.done
    if quiet:
        db.execute(
            "DELETE FROM run WHERE kind = ? AND name = ? AND scope = ? AND quiet", (run.kind, run.name, run.scope)
        )
    db.execute(
        "INSERT INTO run (kind, name, ended, state, scope, quiet, counts, message, next_try) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            run.kind,
            run.name,
            text_of(run.ended),
            run.state,
            run.scope,
            quiet,
            json.dumps(run.counts),
            run.message,
            text_of(run.next_try),
        ),
    )
