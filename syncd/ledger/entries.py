# SPDX-License-Identifier: Apache-2.0
"""How an entry of the ledger is erased."""

from sqlite_utils import Database


def erase(db: Database, profile: str, event: str, inputs: str) -> bool:
    """Erase an entry; false if there is none that shows anything."""
    cursor = db.execute(
        "UPDATE entry SET erased = 1, inputs = ? WHERE profile = ? AND event = ? AND digest != ''",
        (inputs, profile, event),
    )
    return cursor.rowcount == 1
