# SPDX-License-Identifier: Apache-2.0
"""Events as OpenTalk's controller writes them in JSON, of which a test changes what it is about.

A field that is given as ``...`` is left out.
"""

from datetime import datetime
from typing import Any

ID = "3f0c6a52-6a7e-4d0e-9d5e-2f6f0a7b1c11"
ALICE = {"id": "9b2f0000-0000-4000-8000-000000000001", "email": "alice@example.org", "display_name": "Alice Adams"}


def time_json(moment: datetime | str, zone: str = "Europe/Berlin") -> dict[str, str]:
    """A moment in UTC with the zone in which the meeting is planned."""
    text = moment if isinstance(moment, str) else f"{moment:%Y-%m-%dT%H:%M:%SZ}"
    return {"datetime": text, "timezone": zone}


def event_json(**fields: Any) -> dict[str, Any]:
    """A meeting of an hour that takes place once."""
    usual = {
        "id": ID,
        "created_by": ALICE,
        "created_at": "2025-06-02T08:11:22.123456Z",
        "updated_by": ALICE,
        "updated_at": "2025-06-03T06:00:01.5Z",
        "title": "Jour fixe",
        "description": "Agenda",
        "room": {"id": "b6c1e9d0-2d0f-4a55-8a43-6f2f2f0f0a01", "waiting_room": False, "e2e_encryption": False},
        "is_time_independent": False,
        "is_all_day": False,
        "starts_at": time_json("2025-07-14T07:00:00Z"),
        "ends_at": time_json("2025-07-14T08:00:00Z"),
        "is_adhoc": False,
        "type": "single",
        "invite_status": "accepted",
        "can_edit": True,
    }
    return {name: value for name, value in {**usual, **fields}.items() if value is not ...}


def series_json(**fields: Any) -> dict[str, Any]:
    """The same every week."""
    return event_json(type="recurring", recurrence_pattern=["FREQ=WEEKLY"], **fields)


def exception_json(day: int, **fields: Any) -> dict[str, Any]:
    """The exception for the occurrence on that day of July 2025."""
    return {
        "id": f"{ID}_202507{day:02}T070000Z",
        "recurring_event_id": ID,
        "instance_id": f"202507{day:02}T070000Z",
        "created_by": ALICE,
        "original_starts_at": time_json(f"2025-07-{day:02}T07:00:00Z"),
        "type": "exception",
        "status": "ok",
        **fields,
    }
