# SPDX-License-Identifier: Apache-2.0
"""Meetings such as an account lists them, of which a test changes what it is about, and the moment it takes place."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from syncd.model import Meeting, When

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
BERLIN = "Europe/Berlin"


def at(*time: int, zone: str = BERLIN) -> When:
    """A moment in UTC (year, month, day, hour ...) of a meeting that is planned in ``zone``."""
    return When(datetime(*time, tzinfo=UTC), zone)  # type: ignore[arg-type, misc]


def meeting(event: str = "e1", day: float = 1, **fields: object) -> Meeting:
    """Alice's meeting of an hour, ``day`` days after ``NOW``; ``fields`` replace those of ``Meeting``."""
    start = NOW + timedelta(days=day)
    usual: dict[str, object] = {
        "id": event,
        "title": f"Meeting {event}",
        "description": "Agenda",
        "start": When(start, BERLIN),
        "end": When(start + HOUR, BERLIN),
        "room": f"room-{event}",
        "own": True,
        "creator": "Alice Adams",
        "created": NOW - 5 * DAY,
        "updated": NOW - 5 * DAY,
    }
    return Meeting(**(usual | fields))  # type: ignore[arg-type]


class CountedLines(tuple[str, ...]):
    """Lines of a recurrence that count how often they are gone through."""

    times = 0

    def __iter__(self) -> Iterator[str]:
        self.times += 1
        return super().__iter__()
