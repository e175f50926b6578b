# SPDX-License-Identifier: Apache-2.0
"""Random edits of Alice's meetings in OpenTalk, and the occurrences that her calendar must show then."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import recurring_ical_events
from icalendar import Calendar

from syncd.demo.events import Event, instance_id, instance_view, occurrences, read_time
from syncd.demo.opentalk import OpenTalk
from syncd.demo.week import BERLIN, Week
from tests.support.occurrences import moment_of

DELETIONS = 5
"""As many coming meetings may go within a day without anybody's word."""

AHEAD = timedelta(days=45)
Shown = set[tuple[datetime, datetime, str]]
"""Occurrences: start, end and title."""


class RandomEdits:
    """Edits meetings at random, one at a time; ``changes`` counts them."""

    def __init__(self, opentalk: OpenTalk, week: Week, random: Random) -> None:
        self.changes = self._deletions = 0
        self._opentalk = opentalk
        self._random = random
        self._alice = opentalk._user_of("alice")["id"]
        self._today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        opentalk.invite(week.review, "alice")

    def make_one(self) -> None:
        """Make one edit."""
        self.changes += 1
        happens = self._random.choices(
            [self._create, self._retitle, self._move, self._cancel, self._move_one, self._delete], [4, 4, 3, 3, 2, 1]
        )[0]
        happens()

    def events(self) -> dict[str, Event]:
        """The meetings with a time that Alice sees."""
        with self._opentalk._lock:
            return {
                event.id: event
                for event in self._opentalk._events
                if event.starts and event.status_for(self._alice) not in (None, "declined")
            }

    def is_own(self, event: str) -> bool:
        """Whether Alice is the owner of an event."""
        return bool(self.events()[event].owner == self._alice)

    def occurrences(self, event: Event) -> Shown:
        """The occurrences of an event from tomorrow on, as OpenTalk has it."""
        since, until = self._today + timedelta(days=1), self._today + AHEAD
        found = set()
        for body in self._occurrences(event, since, until):
            found.add((_time(body["starts_at"]), _time(body["ends_at"]), body["title"]))
        return found

    def occurrences_in(self, body: bytes) -> Shown:
        """The occurrences that an object in a calendar shows in that time."""
        since, until = self._today + timedelta(days=1), self._today + AHEAD
        query = recurring_ical_events.of(Calendar.from_ical(body))
        return {
            (moment_of(each["DTSTART"].dt), moment_of(each["DTEND"].dt), str(each["SUMMARY"]))
            for each in query.between(since, until)
        }

    def _occurrences(self, event: Event, since: datetime, until: datetime) -> Iterator[dict[str, Any]]:
        assert event.starts
        if not event.pattern:
            if since <= event.starts < until:
                yield event.body
            return
        start = event.starts.astimezone(event.zone)
        length = _time(event.body["ends_at"]) - event.starts
        for when in occurrences(start, event.pattern).between(since, until, inc=True):
            planned = {"datetime": when.isoformat(), "timezone": event.zone.key}
            ends = {"datetime": (when.astimezone(UTC) + length).isoformat(), "timezone": event.zone.key}
            exception = event.exceptions.get(instance_id(when))
            shown = instance_view(event, exception, event.owner) if exception else {**event.body, "status": "ok"}
            if not exception:
                shown |= {"starts_at": planned, "ends_at": ends}
            if shown["status"] != "cancelled":
                yield shown

    def _some(self, *, series: bool | None = None) -> Event | None:
        wanted = [
            event
            for event in self.events().values()
            if not event.body["is_all_day"] and series in (None, bool(event.pattern))
        ]
        return self._random.choice(wanted) if wanted else None

    def _title(self) -> str:
        return f"Meeting {self.changes}: {self._random.choice(('Jour fixe', 'Übergabe', 'a, b; c', 'x' * 90))}"

    def _times(self) -> dict[str, Any]:
        start = self._today + timedelta(days=self._random.randint(2, 20), hours=self._random.randint(6, 17))
        end = start + timedelta(minutes=self._random.choice((15, 60, 90)))
        times = {"starts_at": start, "ends_at": end}
        return {name: {"datetime": when.isoformat(), "timezone": BERLIN} for name, when in times.items()}

    def create(self) -> str:
        """Alice makes a meeting."""
        return str(self._opentalk.create("alice", title=self._title(), description="", **self._times())["id"])

    def _create(self) -> None:
        rule = self._random.choice((None, None, "RRULE:FREQ=WEEKLY", "RRULE:FREQ=DAILY;COUNT=12"))
        who = self._random.choice(("alice", "alice", "alice", "bob"))
        fields = self._times() | ({"recurrence_pattern": [rule]} if rule else {})
        event = self._opentalk.create(who, title=self._title(), description="Agenda", **fields)
        if who == "bob":
            self._opentalk.invite(event["id"], "alice")

    def _patch(self, event: Event, **fields: object) -> None:
        pattern = {"recurrence_pattern": list(event.pattern)} if event.pattern else {}  # or it is none any more
        self._opentalk.patch(event.id, **pattern, **fields)

    def _retitle(self) -> None:
        if event := self._some():
            self._patch(event, title=self._title())

    def _move(self) -> None:
        if event := self._some(series=False):
            self._patch(event, **self._times())

    def _occurrence(self) -> tuple[Event, datetime] | None:
        event = self._some(series=True)
        if event is None or event.starts is None:
            return None
        dates = occurrences(event.starts.astimezone(event.zone), event.pattern)
        coming = dates.between(self._today + timedelta(days=2), self._today + AHEAD)
        return (event, self._random.choice(coming[:8])) if len(coming) > 1 else None

    def _cancel(self) -> None:
        if found := self._occurrence():
            self._opentalk.cancel(found[0].id, instance_id(found[1]))

    def _move_one(self) -> None:
        if found := self._occurrence():
            event, when = found
            start = when + timedelta(hours=self._random.choice((-1, 1, 2)))
            self._opentalk.move(event.id, instance_id(when), start, start + timedelta(minutes=45))

    def _delete(self) -> None:
        event = self._some()
        if event is None or self._deletions == DELETIONS:
            return
        self._deletions += 1
        if event.owner != self._alice and self._random.random() < 0.5:
            self._opentalk.uninvite(event.id, "alice")
        else:
            self._opentalk.delete(event.id)


def _time(value: dict[str, str]) -> datetime:
    return read_time(value["datetime"]).astimezone(UTC)
