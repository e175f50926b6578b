# SPDX-License-Identifier: Apache-2.0
"""The embedded servers of the benchmarks, filled: people with meetings, and a configuration for all of them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from syncd.demo.stage import PASSWORDS, Stage


@contextmanager
def crowd(people: int, meetings: int, *, calendars: bool = True, settings: str = "") -> Iterator[Path]:
    """So many people with so many meetings each, as served here; gives the configuration that syncs all of them.

    Each has a calendar of their own, if ``calendars``; there is none at its address.
    ``settings`` are lines of every account's table.
    """
    with Stage(lambda: datetime.now(UTC)) as stage, TemporaryDirectory() as folder:
        names = ["alice", *(f"person-{number}" for number in range(1, people))]
        for name in names[1:]:
            stage.identity.add_user(name, PASSWORDS["alice"], "Person", name, f"{name}@example.org")
        for number, name in enumerate(names):
            load(stage, name, meetings, first=number * meetings)
        yield _write_config(Path(folder), stage, names, settings, calendars=calendars)


def load(stage: Stage, person: str, size: int, first: int) -> None:
    """Fill an account: four of five meetings are single, one is a series; all start within the window."""
    single = stage.opentalk.create(person, title="Meeting", description="Agenda: " + "x" * 200, **_times(0))
    series = stage.opentalk.create(person, title="Series", recurrence_pattern=["RRULE:FREQ=WEEKLY"], **_times(0))
    events = []
    for number in range(size - 2):
        like = series if number % 5 == 0 else single
        event, room = (f"{kind:08x}-0000-4000-8000-{first + number:012x}" for kind in (1, 2))
        times = {key: _json(when) for key, when in _times(number).items()}
        events.append(
            {**like, "id": event, "room": {**like["room"], "id": room}, "title": f"Meeting {number}", **times}
        )
    stage.opentalk.load(events, person)


def _times(number: int) -> dict[str, datetime]:
    start = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) + timedelta(hours=number % 8000)
    return {"starts_at": start, "ends_at": start + timedelta(hours=1)}


def _json(when: datetime) -> dict[str, str]:
    return {"datetime": when.strftime("%Y-%m-%dT%H:%M:%SZ"), "timezone": "Europe/Berlin"}


def _write_config(folder: Path, stage: Stage, names: list[str], settings: str, *, calendars: bool) -> Path:
    """One person's password is everybody's, and their calendars'."""
    secret = folder / "password"
    with os.fdopen(os.open(secret, os.O_CREAT | os.O_WRONLY, 0o600), "w", encoding="utf-8") as file:
        file.write(PASSWORDS["alice"])
    login = 'username = "{0}"\npassword = {{ file = "password" }}'
    tables = [f'[syncd]\nstate = "{folder / "state"}"']
    tables += [f'[opentalk.{name}]\nurl = "{stage.web}"\n{login.format(name)}\n{settings}' for name in names]
    if calendars:
        tables += [
            f'[caldav.{name}]\nurl = "{stage.web}/{name}/"\naccounts = ["{name}"]\n{login.format(name)}'
            for name in names
        ]
    path = folder / "config.toml"
    path.write_text("\n".join(tables) + "\n", encoding="utf-8")
    return path
