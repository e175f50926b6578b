# SPDX-License-Identifier: Apache-2.0
"""What people lost without having been asked."""

from datetime import datetime

from sqlite_utils import Database

from syncd.ledger.database import text_of
from syncd.plan.deletions import LATELY


def insert_lost(db: Database, name: str, event: str, at: datetime) -> None:
    """Count a coming entry that people lost without having been asked, and forget those of days ago."""
    db.execute("DELETE FROM lost WHERE name = ? AND at < ?", (name, text_of(at - LATELY)))
    db.execute("INSERT INTO lost (name, event, at) VALUES (?, ?, ?)", (name, event, text_of(at)))
