# SPDX-License-Identifier: Apache-2.0
"""An Apache OpenMeetings that makes entry hashes for meetings, over its REST services.

The server keeps a visitor on the session that asked for the hash, not on the hash: a second hash of the same
session renames everybody who got the first, and opening a link turns its session into the visitor's, without a
right to anything. So every hash has a login of its own, and no two are made at once. Links that were made must
never be fetched from here: a GET enters the room, and uses a link up.
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
"""What OpenMeetings calls our group of rooms and visitors; their type; the UTF-16 units of a room's name."""

DEADLINE = 25.0
"""Seconds for an answer: since 9.0.0 a wrong password is answered after 6 to 15 of them."""

GUARDED = "openmeetings: something before the server refuses us: let this machine reach its services"
REFUSALS = {
    401: GUARDED,
    403: GUARDED,
    404: "openmeetings: its services are not there (404): openmeetings.url must end with the context's path, as in "
    "https://om.example.org/openmeetings",
    405: "openmeetings: a service has another method (405): its version is not one that syncd knows",
    407: GUARDED,
}


class _WrongMethod(NeedsYou):
    """The service has another method in this version."""


class OpenMeetings:
    """An OpenMeetings account with the rights Login and SOAP at ``url``, which ends with the context's path.

    ``room`` is the number of the room for everything; ``None`` makes a room of its own for every event, for
    ``capacity`` people (the server's own default is 4). ``deadline`` bounds an answer, in seconds. The password
    is read for every login. Nothing is asked until a method is called; threads may share it, and take turns.
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
        self._remote = HttpClient(NAME, ca_file=ca_file, deadline=deadline, connections=1, clock=clock)
        self._turn = threading.Lock()
        self._login_method = "POST"
        self._wrong_password = False

    def hash(self, event: str, name: str, visitor: Visitor) -> str:
        """Make the entry hash by which ``visitor`` enters the room of ``event``, as often as they like.

        ``name`` is the meeting's title; a room made now is called that. Raises LoginRefused, NeedsYou,
        Unavailable, and Refused if the server takes everything but this event.
        """

        def make(sid: str) -> str:
            room = self._room_of(sid, event, name) if self._room is None else self._room
            return self._make_hash(sid, room, visitor, visitor.external_id or event, multiple=True)

        try:
            return self._logged_in(make)
        except Refused as error:
            raise Refused(f"event {event}: {error}") from None

    def check(self) -> None:
        """Find out whether hashes could be made: account, rights, room; one is made and never opened.

        It is for one use only, so that the server forgets its session after half an hour.
        """

        def probe(sid: str) -> None:
            if self._room is None:  # asks for a room that nobody has, and makes none without ``room=``
                self._send("GET", f"room/{ROOM_TYPE}/{EXTERNAL_TYPE}/check", {"sid": sid})
            else:
                self._require_room(sid, self._room)
            self._make_hash(sid, self._room or 0, Visitor("check"), "check", multiple=False)

        self._logged_in(probe)

    def close(self) -> None:
        """Close the connection."""
        self._remote.close()

    def _logged_in(self, ask: Callable[[str], T]) -> T:
        """Let ``ask`` use a session of its own, and a second one if the first turned out to be none."""
        with self._turn:
            with suppress(NotAllowed):  # once more then: the session may have ended between two requests
                return ask(self._login())
            return ask(self._login())

    def _login(self) -> str:
        """A new session. The password was moved out of the URL in 9.0.0, from GET to POST.

        The server's Allow names both, so only trying tells them apart; the better one is tried first.
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
        """The room of an event, made if there is none.

        The type is said twice: the server looks a room up by that of the path and makes it of the other.
        """
        room = {
            "type": ROOM_TYPE,
            "name": _cut(name),
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
        """Asked for a room that it does not have, the server fails with a Java message; a hash it would make."""
        try:
            self._send("GET", f"room/{room}", {"sid": sid})
        except Refused:
            raise NeedsYou(f"openmeetings has no room {room}: correct openmeetings.room") from None

    def _make_hash(self, sid: str, room: int, visitor: Visitor, external_id: str, *, multiple: bool) -> str:
        user = {
            "externalId": external_id,
            "externalType": EXTERNAL_TYPE,
            "firstname": visitor.firstname,  # never null: it would be the name "null"
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
        """Ask a service: its JSON, ``{}`` if it says nothing; every other status becomes one of our exceptions.

        Errors come in four shapes: 200 with the type ERROR, which is for the caller; 500 with the same JSON;
        500 with a page of the servlet container; 400, 404, 405 and 415 with nothing at all.
        """
        answer = self._remote.send(method, f"{self._services}/{path}", params=params, form=form)
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


def _cut(name: str) -> str:
    """A name as long as the database takes it; Java counts in UTF-16 units, of which no half pair is left."""
    return name.encode("utf-16-le")[: 2 * NAME_LENGTH].decode("utf-16-le", "ignore")
