# SPDX-License-Identifier: Apache-2.0
"""Makes entry hashes for meetings, with the REST services of an Apache OpenMeetings.

The server stores the visitor in the session that requested the hash, not with the hash: a second hash of the same
session renames everybody who got the first, and opening a link makes its session the visitor's, without rights. So
every hash is made in a session of its own, one at a time. A link must never be fetched from here: a GET enters the
room and uses the link up.
"""

import json
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from syncd.errors import BadAnswer, LoginRefused, NeedsYou, Refused, Unavailable
from syncd.model import Visitor
from syncd.openmeetings.wire import (
    LOGIN_ERRORS,
    WRONG_PASSWORD,
    Json,
    NotAllowed,
    login_error,
    read_code,
    read_result,
    service_error,
)
from syncd.transport import HttpClient, decode, unavailable

T = TypeVar("T")

NAME = "openmeetings"
EXTERNAL_TYPE = "syncd"
ROOM_TYPE = "CONFERENCE"
NAME_LENGTH = 255
"""The external type of our rooms and visitors; the type of a room; the most UTF-16 units in a room's name."""

DEADLINE = 25.0
"""Seconds for a whole answer: since 9.0.0 a wrong password is answered after 6 to 15 seconds."""

BLOCKED = "openmeetings: something before the server refuses us: let this machine reach its services"
REFUSALS = {
    401: BLOCKED,
    403: BLOCKED,
    404: "openmeetings: its services are not there (404): openmeetings.url must end with the context's path, as in "
    "https://om.example.org/openmeetings",
    405: "openmeetings: a service has another method (405): its version is not one that syncd knows",
    407: BLOCKED,
}


class _WrongMethod(NeedsYou):
    """The service has another HTTP method in this version."""


class OpenMeetings:
    """An OpenMeetings account with the rights Login and SOAP at ``url``, which ends with the context's path.

    ``room`` is the number of the room for all events; with ``None`` every event gets a room of its own, for
    ``capacity`` people (the server's default is 4). ``deadline`` bounds an answer, in seconds. The password is read
    for every login. Constructing it sends nothing. Threads may share it; their requests wait for each other.
    """

    def __init__(
        self,
        *,
        url: str,
        username: str,
        password: Callable[[], str],
        room: int | None = None,
        capacity: int = 50,
        ca_file: Path | None = None,
        clock: Callable[[], datetime],
        deadline: float = DEADLINE,
    ) -> None:
        self._services = f"{url.rstrip('/')}/services"
        self._username = username
        self._password = password
        self._room = room
        self._capacity = capacity
        self._client = HttpClient(NAME, ca_file=ca_file, deadline=deadline, connections=1, clock=clock)
        self._lock = threading.Lock()
        self._login_method = "POST"
        self._wrong_password = False

    def make(self, event: str, title: str, visitor: Visitor) -> str:
        """Make the entry hash with which ``visitor`` enters the room of ``event``, any number of times.

        A room that is made gets the meeting's ``title`` as its name. Raises LoginRefused, NeedsYou, Unavailable, and
        Refused if the server refuses this event alone.
        """

        def make(sid: str) -> str:
            room = self._room_of(sid, event, title) if self._room is None else self._room
            return self._make_hash(sid, room, visitor, visitor.external_id or event, multiple=True)

        try:
            return self._logged_in(make)
        except Refused as error:
            raise Refused(f"event {event}: {error}") from None

    def check(self) -> str:
        """Raise whatever would keep hashes from being made: account, rights, room. One is made and never opened.

        It is for a single use, so that the server forgets its session after half an hour.
        """

        def probe(sid: str) -> None:
            if self._room is None:  # looks up a room that does not exist; without ``room=`` none is made
                self._send("GET", f"room/{ROOM_TYPE}/{EXTERNAL_TYPE}/check", {"sid": sid})
            else:
                self._require_room(sid, self._room)
            self._make_hash(sid, self._room or 0, Visitor("check"), "check", multiple=False)

        self._logged_in(probe)
        return "account, right, room and a hash"

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _logged_in(self, ask: Callable[[str], T]) -> T:
        """Call ``ask`` with a new session; if that turned out to have ended, once more with another."""
        with self._lock:
            with suppress(NotAllowed):  # the session may have ended between two requests
                return ask(self._login())
            return ask(self._login())

    def _login(self) -> str:
        """Log in and return the id of the new session.

        Before 9.0.0 this is a GET with the password in the URL, since then a POST. Either version names both methods
        in Allow, so only trying shows which it is; POST is tried first.
        """
        if self._wrong_password:
            raise LoginRefused(LOGIN_ERRORS[WRONG_PASSWORD])
        fields = {"user": self._username, "pass": self._password()}
        try:
            answer = self._send_login(fields)
        except _WrongMethod:
            self._login_method = "GET" if self._login_method == "POST" else "POST"
            answer = self._send_login(fields)
        kind, message = read_result(answer)
        if kind == "ERROR":
            self._wrong_password = message == WRONG_PASSWORD
            raise login_error(message)
        return read_code(message)

    def _send_login(self, fields: Mapping[str, str]) -> Json:
        if self._login_method == "POST":
            return self._send("POST", "user/login", form=fields)
        return self._send("GET", "user/login", params=fields)

    def _room_of(self, sid: str, event: str, name: str) -> int:
        """The number of an event's room, which is made if there is none.

        The type is sent twice: the server looks a room up by the one in the path and makes it with the other.
        """
        room = {
            "type": ROOM_TYPE,
            "name": _shortened(name),
            "capacity": self._capacity,
            "externalId": event,
            "externalType": EXTERNAL_TYPE,
            "isPublic": False,
        }
        path = f"room/{ROOM_TYPE}/{EXTERNAL_TYPE}/{quote(event, safe='')}"
        found = self._send("GET", path, {"sid": sid, "room": json.dumps(room)}).get("roomDTO")
        if not isinstance(found, dict) or not str(found.get("id", "")).isdecimal():
            raise BadAnswer("openmeetings made no room, and did not say why")
        return int(str(found["id"]))

    def _require_room(self, sid: str, room: int) -> None:
        """Raise NeedsYou if there is no such room; the server would make a hash for it all the same."""
        try:
            self._send("GET", f"room/{room}", {"sid": sid})
        except Refused:
            raise NeedsYou(f"openmeetings has no room {room}: correct openmeetings.room") from None

    def _make_hash(self, sid: str, room: int, visitor: Visitor, external_id: str, *, multiple: bool) -> str:
        user = {
            "externalId": external_id,
            "externalType": EXTERNAL_TYPE,
            "firstname": visitor.firstname,  # never null, which would become the name "null"
            "lastname": visitor.lastname,
        }
        options = {
            "roomId": room,
            "moderator": visitor.moderator,
            "allowSameURLMultipleTimes": multiple,  # a JSON boolean: 1 is read as false
        }
        form = {"user": json.dumps(user), "options": json.dumps(options)}
        kind, message = read_result(self._send("POST", "user/hash", {"sid": sid}, form))
        if kind == "ERROR":
            raise service_error(message)
        return read_code(message)

    def _send(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
    ) -> Json:
        """Send a request to a service and return its JSON, ``{}`` for an empty answer; raise for every other status.

        Errors come in four forms: 200 with the type ERROR, which the caller reads; 500 with the same JSON; 500 with
        an HTML page of the servlet container; 400, 404, 405 and 415 without a body.
        """
        answer = self._client.send(method, f"{self._services}/{path}", params=params, form=form)
        match answer.status:
            case 200:
                return decode(answer, Json, NAME)
            case 204:
                return {}
            case 500 if answer.body.lstrip()[:1] == b"{":
                raise service_error(read_result(decode(answer, Json, NAME))[1])
            case 500:
                raise Unavailable("openmeetings broke down over a request (500, and no JSON); its log says why")
            case 405:
                raise _WrongMethod(REFUSALS[405])
            case status if status in REFUSALS:
                raise NeedsYou(REFUSALS[status])
            case status if status == 429 or status > 500:  # noqa: PLR2004
                raise unavailable(answer, NAME)
            case status:
                raise BadAnswer(f"openmeetings does not take a request as its other versions do ({status})")


def _shortened(name: str) -> str:
    """A name cut to the length of the database's column, which Java counts in UTF-16 units; no pair is cut in half."""
    return name.encode("utf-16-le")[: 2 * NAME_LENGTH].decode("utf-16-le", "ignore")
