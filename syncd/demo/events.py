# SPDX-License-Identifier: Apache-2.0
"""The events of the embedded OpenTalk, and what requests change in them, with the surprises of controller 0.30.

An event is stored as the JSON that is sent. HTTP, tokens and permissions are not decided here.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from dateutil.rrule import rruleset, rrulestr  # type: ignore[import-untyped]

JSON = dict[str, Any]
ROOM_FIELDS = ("password", "waiting_room", "e2e_encryption")
DATE_FIELDS = ("is_all_day", "starts_at", "ends_at")
OVERRIDE_FIELDS = ("title", "description", *DATE_FIELDS)
WRONG_PATTERN = (ValueError, TypeError, ZoneInfoNotFoundError)
ENDLESS = timedelta(days=36525)
MANY = 1000
BOUND = re.compile(r"COUNT=(\d+)|UNTIL=")


class Refusal(Exception):
    """An error answer. Without a ``code`` it has no body; with code ``"query"`` it is plain text."""

    def __init__(self, status: int, code: str = "", message: str = "", challenge: str = "") -> None:
        super().__init__(message or str(status))
        self.status = status
        self.code = code
        self.message = message
        self.challenge = challenge


def failure() -> Refusal:
    """The answer to what the controller does not expect, such as a missing row in its database."""
    return Refusal(500, "internal_server_error", "An internal server error occurred")


def read_time(text: str) -> datetime:
    """An RFC 3339 time; ValueError if it is none."""
    when = datetime.fromisoformat(text)
    if when.tzinfo is None:
        raise ValueError("without an offset")
    return when


def write_time(when: datetime) -> str:
    """A time as the controller writes it: UTC with ``Z``."""
    return when.astimezone(UTC).isoformat().replace("+00:00", "Z")


def instance_id(when: datetime) -> str:
    """The controller's id of an occurrence: its planned start in UTC."""
    return f"{when.astimezone(UTC):%Y%m%dT%H%M%SZ}"


def order_key(event_id: str, created: datetime, starts: datetime | None) -> tuple[bool, datetime, datetime, str]:
    """The order of listings: starts_at with nulls first, created_at, id."""
    return (starts is not None, starts or created, created, event_id)


class Event:
    """One event: ``body`` is the JSON that all users see alike, ``owner`` the id of the user who may change it.

    ``invitations`` are keyed by user id, or by mail address for people without an account; ``exceptions`` by instance
    id, as listed. A changed body is another Event, so that cached properties stay true.
    """

    def __init__(self, body: JSON, owner: str, invitations: dict[str, JSON] | None = None) -> None:
        self.id: str = body["id"]
        self.body = body
        self.owner = owner
        self.invitations = {} if invitations is None else invitations
        self.exceptions: dict[str, JSON] = {}

    @cached_property
    def created(self) -> datetime:
        """When it was created."""
        return read_time(self.body["created_at"])

    @cached_property
    def starts(self) -> datetime | None:
        """When it, or the first occurrence of a series, starts; None if it is time-independent."""
        return read_time(self.body["starts_at"]["datetime"]) if "starts_at" in self.body else None

    @cached_property
    def ends(self) -> datetime | None:
        """The column that time filters compare: for a series, the *start* of its last occurrence.

        The controller computes it from the wall clock in UTC as if that were local, so it is wrong by the zone's
        offset; an endless series ends after a hundred years.
        """
        if self.starts is None or not self.pattern:
            return read_time(self.body["ends_at"]["datetime"]) if self.starts else None
        for line in self.pattern:
            bound = BOUND.search(line)
            if "FREQ=" in line and (bound is None or int(bound[1] or 0) >= MANY):
                return self.starts + ENDLESS
        try:
            wrong = self.starts.astimezone(UTC).replace(tzinfo=self.zone)
            return max(occurrences(wrong, self.pattern), default=self.starts)
        except WRONG_PATTERN:  # possible only in an event that was loaded
            return self.starts + ENDLESS

    @cached_property
    def key(self) -> tuple[bool, datetime, datetime, str]:
        """Its position in the order of listings."""
        return order_key(self.id, self.created, self.starts)

    @property
    def pattern(self) -> Sequence[str]:
        """The recurrence lines; empty if it is no series."""
        lines: Sequence[str] = self.body.get("recurrence_pattern", ())
        return lines

    @property
    def zone(self) -> ZoneInfo:
        """The zone in which the series recurs."""
        return ZoneInfo(self.body["starts_at"]["timezone"])

    def status_for(self, user: str) -> str | None:
        """The user's ``invite_status``; None if the user may not see the event."""
        if user == self.owner:
            return "accepted"
        return self.invitations[user]["status"] if user in self.invitations else None

    def planned(self, instance: str) -> JSON:
        """The planned start of an occurrence. Raises a Refusal (404) if the series has no such occurrence."""
        if self.starts is not None and self.pattern:
            for when in occurrences(self.starts.astimezone(self.zone), self.pattern):
                if instance_id(when) >= instance:
                    if instance_id(when) == instance:
                        return {"datetime": write_time(when), "timezone": self.zone.key}
                    break
        raise Refusal(404, "not_found", "A requested resource could not be found")

    def view(self, user: str, invitees_max: int = 0, *, in_listing: bool = False) -> JSON:
        """The event as a user sees it; listings leave streaming out."""
        invitees = list(self.invitations.values())[: max(invitees_max, 0)]
        body = {
            **self.body,
            "invitees_truncated": invitees_max <= 0 or len(invitees) < len(self.invitations),
            "invitees": invitees,
            "invite_status": self.status_for(user),
            "can_edit": user == self.owner,
        }
        if in_listing:
            body.pop("streaming_targets", None)
            body.pop("training_participation_report", None)
        return body

    def exceptions_for(self, user: str) -> list[JSON]:
        """The exceptions as a user sees them."""
        return [{**exception, "can_edit": user == self.owner} for exception in self.exceptions.values()]


def occurrences(start: datetime, pattern: Sequence[str]) -> rruleset:
    """The starts that a pattern yields; DTSTART is one only if the rule matches it. Raises ValueError."""
    dates = rruleset()
    for line in pattern:
        head, colon, value = line.partition(":")
        name, *parameters = head.split(";") if colon else ("RRULE",)
        value = value if colon else line
        match name:
            case "RRULE":
                dates.rrule(rrulestr(value, dtstart=start))
            case "EXRULE":
                dates.exrule(rrulestr(value, dtstart=start))
            case "RDATE" | "EXDATE":
                add = dates.rdate if name == "RDATE" else dates.exdate
                for when in _dates(value, parameters, start):
                    add(when)
            case _:
                raise ValueError("unknown line")
    return dates


def _dates(value: str, parameters: Sequence[str], start: datetime) -> Iterator[datetime]:
    """The dates of an RDATE or EXDATE; one without an offset is in its TZID, else in the zone of the start."""
    named = next((ZoneInfo(each[5:]) for each in parameters if each.startswith("TZID=")), None)
    for text in value.split(","):
        when = datetime.fromisoformat(text)
        yield when if when.tzinfo else when.replace(tzinfo=named or start.tzinfo)


def date_time(value: Any) -> JSON:
    """A time with its zone, from the JSON of a request or from an aware datetime of this process."""
    if isinstance(value, datetime):
        return {"datetime": write_time(value), "timezone": getattr(value.tzinfo, "key", None) or "UTC"}
    try:
        when, zone = read_time(value["datetime"]), ZoneInfo(value["timezone"]).key
    except (ZoneInfoNotFoundError, ValueError, KeyError, TypeError):
        name = value.get("timezone") if isinstance(value, dict) else value
        raise Refusal(400, "invalid_json", f"Json deserialize error: failed to parse timezone: '{name}'") from None
    return {"datetime": write_time(when), "timezone": zone}


def plain(fields: Mapping[str, Any]) -> JSON:
    """The fields of a call in this process as the JSON of a request: datetimes as the API writes them."""
    return {name: date_time(v) if isinstance(v, datetime) else v for name, v in fields.items()}


def times_of(fields: Mapping[str, Any]) -> JSON:
    """The fields of a request that are about times, checked as the controller does; none if time-independent."""
    if fields.get("is_time_independent"):
        if fields.get("recurrence_pattern"):
            raise Refusal(400, "bad_request", "time independent events must not have recurrence_pattern set")
        return {}
    if any(fields.get(name) is None for name in DATE_FIELDS):
        raise Refusal(400, "bad_request", "time dependent events must have title and dates set")
    starts, ends = date_time(fields["starts_at"]), date_time(fields["ends_at"])
    check_span(starts, ends, all_day=fields["is_all_day"])
    times = {"is_all_day": fields["is_all_day"], "starts_at": starts, "ends_at": ends}
    if pattern := list(fields.get("recurrence_pattern") or ()):
        _check_pattern(read_time(starts["datetime"]).astimezone(ZoneInfo(starts["timezone"])), pattern)
        times["recurrence_pattern"] = pattern
    return times


def check_span(starts: JSON, ends: JSON, *, all_day: bool) -> None:
    """Refuse an end before the start, and all-day times that are not midnight in UTC."""
    if read_time(ends["datetime"]) < read_time(starts["datetime"]):
        raise Refusal(422, "invalid_event", "ends_at must not be before starts_at")
    if all_day and not all(when["datetime"].endswith("T00:00:00Z") for when in (starts, ends)):
        raise Refusal(422, "invalid_event", "is_all_day requires starts_at/ends_at to be set at the start of the day")


def _check_pattern(start: datetime, pattern: Sequence[str]) -> None:
    if any(re.search("FREQ=(HOURLY|MINUTELY|SECONDLY)", line) for line in pattern):
        raise Refusal(422, "invalid_event", "Frequencies below 'DAILY' are not supported")
    try:
        first = next(iter(occurrences(start, pattern)), None)
    except WRONG_PATTERN:
        raise Refusal(422, "invalid_event", "Invalid recurrence pattern") from None
    if first is None:
        raise Refusal(422, "invalid_event", "recurrence_pattern does not yield any dates")


def new_event(fields: Mapping[str, Any], creator: JSON, now: str, room: JSON) -> Event:
    """The event that a request creates."""
    for name in ("title", "description", "is_time_independent"):
        if name not in fields:
            raise Refusal(400, "invalid_json", f"Json deserialize error: missing field `{name}`")
    times = times_of(fields)
    body = {
        "id": str(uuid4()),
        "created_by": creator,
        "created_at": now,
        "updated_by": creator,
        "updated_at": now,
        "title": fields["title"],
        "description": fields["description"],
        "room": room,
        "is_time_independent": fields["is_time_independent"],
        **times,
        "is_adhoc": fields.get("is_adhoc", False),
        "type": "recurring" if "recurrence_pattern" in times else "single",
        "is_favorite": False,
        "show_meeting_details": fields.get("show_meeting_details", False),
    }
    if targets := fields.get("streaming_targets"):
        body["streaming_targets"] = [{"id": str(uuid4()), **target} for target in targets]
    return Event(body, creator["id"])


def patched_event(event: Event, patch: Mapping[str, Any], editor: JSON, now: str) -> Event:
    """The event after a PATCH, with two surprises of 0.30.

    A patch without ``recurrence_pattern`` makes a series a single event, and every patch that changes more than the
    room removes the exceptions. One that changes only the room leaves ``updated_at`` as it was.
    """
    body = {**event.body, "room": {**event.body["room"], **{k: patch[k] for k in ROOM_FIELDS if k in patch}}}
    if set(patch) <= set(ROOM_FIELDS):
        revised = Event(body, event.owner, event.invitations)
        revised.exceptions = event.exceptions
        return revised
    names = ("is_time_independent", *DATE_FIELDS)
    wanted = {name: patch.get(name, event.body.get(name)) for name in names}
    times = times_of({**wanted, "recurrence_pattern": patch.get("recurrence_pattern")})
    for name in (*DATE_FIELDS, "recurrence_pattern"):
        body.pop(name, None)
    simple = ("title", "description", "is_time_independent", "is_adhoc", "show_meeting_details")
    body |= times | {name: patch[name] for name in simple if name in patch}
    body |= {"updated_by": editor, "updated_at": now}
    body["type"] = "recurring" if "recurrence_pattern" in times else "single"
    return Event(body, event.owner, event.invitations)


def patched_exception(event: Event, instance: str, patch: Mapping[str, Any], editor: JSON, now: str) -> JSON:
    """The exception after a PATCH of an occurrence; its ``updated_at`` stays that of the first one (0.30)."""
    exception = event.exceptions.get(instance) or {
        "id": f"{event.id}_{instance}",
        "recurring_event_id": event.id,
        "instance_id": instance,
        "created_by": editor,
        "created_at": now,
        "updated_by": editor,
        "updated_at": now,
        "original_starts_at": event.planned(instance),
        "type": "exception",
        "status": "ok",
    }
    times = {name: date_time(patch[name]) for name in ("starts_at", "ends_at") if name in patch}
    others = {name: patch[name] for name in ("title", "description", "is_all_day", "status") if name in patch}
    exception = {**exception, **others, **times}
    instance_body = instance_view(event, exception, event.owner)
    check_span(instance_body["starts_at"], instance_body["ends_at"], all_day=instance_body["is_all_day"])
    return exception


def instance_view(event: Event, exception: JSON, user: str) -> JSON:
    """The answer to a PATCH of an occurrence; if only the start is moved, the planned end stays."""
    body = event.view(user)
    planned = read_time(exception["original_starts_at"]["datetime"])
    length = read_time(body["ends_at"]["datetime"]) - read_time(body["starts_at"]["datetime"])
    ends = {"datetime": write_time(planned + length), "timezone": body["ends_at"]["timezone"]}
    for name in ("is_time_independent", "recurrence_pattern", "is_adhoc", "show_meeting_details"):
        body.pop(name, None)
    body.pop("streaming_targets", None)
    overridden = {name: exception[name] for name in OVERRIDE_FIELDS if name in exception}
    return {
        **body,
        "id": exception["id"],
        "recurring_event_id": event.id,
        "instance_id": exception["instance_id"],
        "updated_by": exception["updated_by"],
        "updated_at": exception["updated_at"],
        "starts_at": exception["original_starts_at"],
        "ends_at": ends,
        **overridden,
        "type": "instance",
        "status": exception["status"],
    }
