# SPDX-License-Identifier: Apache-2.0
"""What changes of a meeting in the ledger."""

import msgspec
from sqlite_utils import Database

from syncd.model import Meeting


def changed_fields(db: Database, account: str, meeting: Meeting) -> str:
    """The names of what changed of a meeting since it was last written, never what it is."""
    sql = "SELECT content FROM meeting WHERE account = ? AND event = ?"
    rows = db.execute(sql, (account, meeting.id)).fetchall()
    known = msgspec.json.decode(rows[0][0], type=Meeting) if rows else None
    published = [name for name in Meeting.__struct_fields__ if name != "updated"]
    return ", ".join(name for name in published if known and getattr(known, name) != getattr(meeting, name))
