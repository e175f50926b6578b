# SPDX-License-Identifier: Apache-2.0
"""The ledger's tables of runs and decisions: what was done when, how it went, and the state of everything now."""

import json
import sqlite3
from collections.abc import Iterable
from datetime import datetime

from syncd.ledger.database import Database, moment_of, text_of, time_of
from syncd.model import Decision, Run, RunKey, Standing
from syncd.plan.timing import LastListings


class History:
    """Reads and writes runs, by RunKey, and decisions, by event id."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def save(self, run: Run) -> None:
        """Record how a run went."""
        self._database.write(lambda db: insert_run(db, run))

    def standings(self) -> dict[RunKey, Standing]:
        """The standing of everything that ever ran: its latest run, and when it last succeeded."""
        # the latest by id: a clock that was wrong may have dated an earlier run later
        latest = self._database.rows(
            "SELECT kind, name, ended, state, scope, counts, message, next_try FROM run WHERE id IN "
            "(SELECT max(id) FROM run GROUP BY kind, name)"
        )
        good = self._database.rows(
            "SELECT kind, name, ended FROM run WHERE id IN "
            "(SELECT max(id) FROM run WHERE state = 'ok' GROUP BY kind, name)"
        )
        success = {RunKey(row["kind"], row["name"]): moment_of(row["ended"]) for row in good}
        runs = map(_run_of, latest)
        return {run.key: Standing(run, success.get(run.key)) for run in runs}

    def failures(self, key: RunKey) -> int:
        """How many runs in a row have failed. One whose deletions wait for a person has gone well."""
        rows = self._database.rows(
            "SELECT count(*) AS failures FROM run WHERE kind = ? AND name = ? AND id > coalesce((SELECT max(id) "
            "FROM run WHERE kind = ? AND name = ? AND state IN ('ok', 'held')), 0)",
            (*key, *key),
        )
        return int(rows[0]["failures"])

    def last_listings(self, account: str) -> LastListings:
        """When the window, and when everything of an account was last listed completely."""
        rows = self._database.rows(
            "SELECT scope, ended FROM run WHERE id IN (SELECT max(id) FROM run WHERE kind = 'pull' AND name = ? "
            "AND state = 'ok' AND scope IN ('window', 'everything') GROUP BY scope) ORDER BY id",
            (account,),
        )
        last = {row["scope"]: moment_of(row["ended"]) for row in rows}
        return LastListings(window=next(reversed(last.values()), None), everything=last.get("everything"))

    def decisions(self, event: str) -> list[Decision]:
        """The decisions about an event, oldest first."""
        rows = self._database.rows(
            "SELECT at, kind, name, word, why FROM decision WHERE event = ? ORDER BY id", (event,)
        )
        return [
            Decision(event, moment_of(row["at"]), RunKey(row["kind"], row["name"]), row["word"], row["why"])
            for row in rows
        ]


def insert_run(db: sqlite3.Connection, run: Run) -> None:
    """Record a run in a transaction that is open. Of quiet runs only the latest is kept: they are one a minute."""
    quiet = int(run.state == "ok" and not run.done)
    if quiet:
        db.execute("DELETE FROM run WHERE kind = ? AND name = ? AND scope = ? AND quiet = 1", (*run.key, run.scope))
    db.execute(
        "INSERT INTO run (kind, name, ended, state, scope, quiet, counts, message, next_try) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *run.key,
            text_of(run.ended),
            run.state,
            run.scope,
            quiet,
            json.dumps(run.counts),
            run.message,
            text_of(run.next_try),
        ),
    )


def forget_runs(db: sqlite3.Connection, key: RunKey) -> None:
    """Forget all runs of a key, in a transaction that is open."""
    db.execute("DELETE FROM run WHERE kind = ? AND name = ?", key)


def sweep_runs(db: sqlite3.Connection, before: datetime) -> None:
    """Forget runs from before a moment, but the latest good one of each key and scope."""
    db.execute(
        "DELETE FROM run WHERE ended < ? AND id NOT IN "
        "(SELECT max(id) FROM run WHERE state = 'ok' GROUP BY kind, name, scope)",
        (text_of(before),),
    )


def insert_decision(db: sqlite3.Connection, decision: Decision) -> None:
    """Record a decision in the transaction that carries it out."""
    insert_decisions(db, [decision])


def insert_decisions(db: sqlite3.Connection, decisions: Iterable[Decision]) -> None:
    """Record decisions in the transaction that carries them out."""
    db.executemany(
        "INSERT INTO decision (event, at, kind, name, word, why) VALUES (?, ?, ?, ?, ?, ?)",
        [(each.event, text_of(each.at), *each.run, each.word, each.why) for each in decisions],
    )


def sweep_decisions(db: sqlite3.Connection, before: datetime) -> None:
    """Forget decisions from before a moment, but not the latest of a run on an event that another table mentions."""
    db.execute(
        "DELETE FROM decision AS old WHERE at < ? AND (EXISTS (SELECT 1 FROM decision WHERE event = old.event "
        "AND kind = old.kind AND name = old.name AND id > old.id) OR NOT ("
        "EXISTS (SELECT 1 FROM meeting WHERE account IN (SELECT name FROM account) AND event = old.event) "
        "OR EXISTS (SELECT 1 FROM link WHERE event = old.event) "
        "OR EXISTS (SELECT 1 FROM entry WHERE event = old.event) "
        "OR EXISTS (SELECT 1 FROM placement WHERE event = old.event)))",
        (text_of(before),),
    )


def _run_of(row: sqlite3.Row) -> Run:
    return Run(
        key=RunKey(row["kind"], row["name"]),
        ended=moment_of(row["ended"]),
        state=row["state"],
        scope=row["scope"],
        counts=json.loads(row["counts"]),
        message=row["message"],
        next_try=time_of(row["next_try"]),
    )
