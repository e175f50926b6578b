# SPDX-License-Identifier: Apache-2.0
"""A week of believable meetings, and changes to them for somebody who watches."""

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from itertools import count
from zoneinfo import ZoneInfo

from syncd.demo.opentalk import OpenTalk

BERLIN = "Europe/Berlin"
TEXTS = {
    "en": {
        "fixe": ("Jour fixe", "Agenda:\n1. News from the house\n2. Open points"),
        "standup": ("Stand-up", "Fifteen minutes, standing."),
        "budget": ("Budget 2027", "Confidential. The figures are in the shared folder."),
        "review": ("Architecture review", "Bob shows the draft."),
        "citizens": ("Office hour", "Everybody with the link may come in; please wait in the lobby."),
        "york": ("Call with New York", "Their morning, our afternoon."),
        "team": ("Team day", ""),
        "room": ("Project room", "Always open."),
        "question": ("A quick question about the budget", ""),
    },
    "de": {
        "fixe": ("Jour fixe", "Tagesordnung:\n1. Neues aus dem Haus\n2. Offene Punkte"),
        "standup": ("Morgenrunde", "Fünfzehn Minuten, im Stehen."),
        "budget": ("Haushalt 2027", "Vertraulich. Die Zahlen liegen im gemeinsamen Ordner."),
        "review": ("Architekturrunde", "Bob stellt den Entwurf vor."),
        "citizens": ("Sprechstunde", "Wer den Link hat, darf kommen; bitte im Warteraum warten."),
        "york": ("Gespräch mit New York", "Dort morgens, hier nachmittags."),
        "team": ("Teamtag", ""),
        "room": ("Projektraum", "Immer offen."),
        "question": ("Kurze Frage zum Haushalt", ""),
    },
}

SAYINGS = {
    "en": {
        "asks": "Alice sets up a meeting for tomorrow",
        "moves": "Alice moves the budget meeting by an hour",
        "cancels": "Alice cancels one occurrence of the jour fixe",
        "invites": "Bob invites Alice to his review",
        "deletes": "Alice deletes tomorrow's meeting again",
    },
    "de": {
        "asks": "Alice setzt für morgen eine Besprechung an",
        "moves": "Alice verschiebt die Haushaltsbesprechung um eine Stunde",
        "cancels": "Alice sagt einen Termin des Jour fixe ab",
        "invites": "Bob lädt Alice zu seiner Runde ein",
        "deletes": "Alice löscht die Besprechung von morgen wieder",
    },
}

Change = tuple[str, Callable[[], object]]
"""A line for people, and the function that makes the change."""


class Week:
    """The meetings of Alice and Bob around ``today``, created in an OpenTalk; ``language`` is "de" or "en"."""

    def __init__(self, opentalk: OpenTalk, today: date, language: str) -> None:
        self._opentalk = opentalk
        self._texts = TEXTS[language]
        self._sayings = SAYINGS[language]
        self._today = today
        self._monday = today - timedelta(days=today.weekday())
        self._make()

    def _at(self, days: int, hour: int, minute: int = 0, zone: str = BERLIN) -> dict[str, str]:
        day = self._monday + timedelta(days=days)
        local = datetime.combine(day, time(hour, minute), ZoneInfo(zone))
        return {"datetime": local.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), "timezone": zone}

    def _event(self, who: str, word: str, start: dict[str, str], end: dict[str, str], **more: object) -> str:
        title, description = self._texts[word]
        event = self._opentalk.create(who, title=title, description=description, starts_at=start, ends_at=end, **more)
        return str(event["id"])

    def _instance(self, days: int, hour: int, minute: int = 0) -> str:
        moment = self._at(days, hour, minute)["datetime"]
        return moment.replace("-", "").replace(":", "")

    def _make(self) -> None:
        weekly, daily = ["RRULE:FREQ=WEEKLY"], ["FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR"]
        at, event = self._at, self._event
        self.fixe = event("alice", "fixe", at(0, 9), at(0, 10), recurrence_pattern=weekly)
        self._opentalk.move(self.fixe, self._instance(7, 9), at(8, 11), at(8, 12))
        standup = event("alice", "standup", at(0, 8, 30), at(0, 8, 45), recurrence_pattern=daily)
        self._opentalk.cancel(standup, self._instance(9, 8, 30))
        self.budget = event("alice", "budget", at(8, 14), at(8, 15, 30), password="s3cret", show_meeting_details=True)  # noqa: S106
        event("alice", "citizens", at(10, 16), at(10, 18), waiting_room=True)
        event("alice", "york", at(9, 9, zone="America/New_York"), at(9, 10, zone="America/New_York"))
        midnight = {key: {**at(days, 12), "datetime": f"{self._monday + timedelta(days)}T00:00:00Z"} for key, days in
                    (("starts_at", 11), ("ends_at", 12))}  # fmt: skip
        title, description = self._texts["team"]
        self._opentalk.create("alice", title=title, description=description, is_all_day=True, **midnight)
        title, description = self._texts["room"]
        self._opentalk.create("alice", title=title, description=description)
        self.review = event("bob", "review", at(9, 13), at(9, 14))

    def changes(self) -> Iterator[Change]:
        """Changes, one after the other, without end."""
        opentalk, says = self._opentalk, self._sayings
        days = (self._today - self._monday).days + 1
        yield says["invites"], lambda: opentalk.invite(self.review, "alice")
        for week in count(2):
            hour = 14 + week % 3
            create = partial(self._event, "alice", "question", self._at(days, 15), self._at(days, 15, 15))
            events: list[str] = []
            yield says["asks"], partial(_create_into, events, create)
            times = {"starts_at": self._at(8, hour), "ends_at": self._at(8, hour + 1, 30)}
            yield says["moves"], partial(opentalk.patch, self.budget, **times)
            yield says["cancels"], partial(opentalk.cancel, self.fixe, self._instance(7 * week, 9))
            yield says["deletes"], partial(_delete_from, events, opentalk.delete)


def _create_into(events: list[str], create: Callable[[], str]) -> None:
    events.append(create())


def _delete_from(events: list[str], delete: Callable[[str], None]) -> None:
    delete(events.pop())
