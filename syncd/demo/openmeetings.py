# SPDX-License-Identifier: Apache-2.0
"""An Apache OpenMeetings as far as entry links go: its REST services and the page behind a link.

Everything is in memory: for demonstrations and tests only. It behaves as releases 9.0.0 and 8.1.0 were observed to: a
visitor belongs to the session, not to the hash; opening a link takes the session over; answers pass through Jettison,
which writes a text that looks like a number as a number. It never sleeps: each wrong password, for which the real one
waits, is counted in ``penalties``.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl
from uuid import uuid4

import msgspec
from msgspec import Struct
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from syncd.decoding import decode
from syncd.demo.entry_page import SOMEBODY, language_of, page
from syncd.demo.jettison import coerced, fields_of, flag_of, mapped, number_of

CONTEXT = "/openmeetings"
SESSION_LIFE = timedelta(minutes=30)
ROOM_TYPES = ("CONFERENCE", "PRESENTATION", "INTERVIEW")
POST_LOGIN_SINCE = 9

TEXTS = {
    "error.bad.credentials": (
        "Username/email and/or password is/are wrong.",
        "Nutzername/E-Mail und/oder Passwort ist/sind falsch.",
    ),
    "error.notallowed": ("Admin authorization required", "Administratorrechte erforderlich"),
}
BROKEN = '<!doctype html><html lang="en"><head><title>HTTP Status 500 – Internal Server Error</title></head></html>'


class Room(Struct, kw_only=True, rename="camel"):
    """A room with the fields of the server's API; ``None`` and empty lists are left out of answers."""

    id: int = 0
    name: str = ""
    tag: str | None = ""
    comment: str = ""
    type: str = "CONFERENCE"
    capacity: int = 4
    appointment: bool = False
    is_public: bool = False
    demo: bool = False
    closed: bool = False
    external_id: str | None = None
    external_type: str | None = None
    redirect_url: str | None = ""
    moderated: bool = False
    wait_moderator: bool = False
    allow_user_questions: bool = False
    allow_recording: bool = False
    wait_recording: bool = False
    audio_only: bool = False
    hidden_elements: list[str] = []


class Guest(Struct, frozen=True, rename="camel"):
    """The visitor whom a session's links let in."""

    external_id: str = ""
    external_type: str = ""
    firstname: str = ""
    lastname: str = ""


class Hash(Struct):
    """A hash that was made: its room, and the session's visitor at that moment."""

    code: str
    sid: str
    room: int
    visitor: Guest
    multiple: bool
    moderator: bool
    used: bool = False


class Entered(Struct, frozen=True):
    """An entry into a room with a link."""

    code: str
    room: int
    visitor: Guest
    moderator: bool


class _User(Struct, frozen=True):
    password: str
    rights: frozenset[str]
    groups: frozenset[str]


class _Session(Struct):
    rights: frozenset[str]
    refreshed: datetime
    permanent: bool = False
    visitor: Guest | None = None


class _Failure(Exception):
    """An exception inside a service. Its answer is a 500 with the text in body and header."""


Endpoint = Callable[[Request], Awaitable[Response]]


class OpenMeetings:
    """The server, with the rooms of a fresh installation. Serve ``app``; its paths begin with CONTEXT.

    ``version`` decides the method of a login: POST since 9.0.0, GET before. Times are those of ``clock``.
    """

    def __init__(self, clock: Callable[[], datetime], version: str = "9.0.0") -> None:
        self.version = version
        self.rooms = {room.id: room for room in _first_rooms()}
        self.hashes: list[Hash] = []
        self.entered: list[Entered] = []
        self.penalties: list[str] = []
        self._clock = clock
        self._posts = int(version.partition(".")[0]) >= POST_LOGIN_SINCE
        self._users: dict[str, _User] = {}
        self._sessions: dict[str, _Session] = {}
        self.app = self._application()

    def add_user(
        self,
        login: str,
        password: str,
        rights: Iterable[str] = ("LOGIN", "SOAP"),
        groups: Iterable[str] = ("users",),
    ) -> None:
        """Add a user, or replace one."""
        self._users[login.strip().lower()] = _User(password, frozenset(rights), frozenset(groups))

    def _application(self) -> Starlette:
        services = CONTEXT + "/services"
        routes = [
            _route("GET", CONTEXT + "/hash", self._enter),
            _route("GET", services + "/info/version", self._version),
            _route("GET", services + "/info/health", self._health),
            _route("GET", services + "/error/{key}/{language:int}", self._error_text),
            _route("POST" if self._posts else "GET", services + "/user/login", self._login),
            _route("POST", services + "/user/hash", self._make_hash),
            _route("GET", services + "/room/public/{type}", self._public_rooms),
            _route("GET", services + "/room/count/{id:int}", self._count),
            _route("GET", services + "/room/{verb:str}/{id:int}", self._close_or_open),
            _route("GET", services + "/room/{type}/{external_type}/{external_id}", self._get_or_create),
            _route("GET", services + "/room/{id:int}", self._get_room),
            _route("POST", services + "/room/", self._save_room),
        ]
        return Starlette(routes=routes, exception_handlers={HTTPException: _nothing, _Failure: _failed})

    async def _version(self, _: Request) -> Response:
        return _json({"info": {"version": self.version, "revision": "0a1b2c3", "buildDate": "2026-11-22T04:28:58Z"}})

    async def _health(self, _: Request) -> Response:
        return _json({"health": {"inited": self._posts, "installed": self._posts, "dbOk": True}})

    async def _error_text(self, request: Request) -> Response:
        texts = TEXTS.get(request.path_params["key"], ("[Missing]", "[Missing]"))
        return _result(texts[language_of(str(request.path_params["language"]))])

    async def _login(self, request: Request) -> Response:
        fields = await _form(request) if self._posts else request.query_params
        login = fields.get("user", "").strip().lower()
        user = self._users.get(login)
        if user is None or user.password != fields.get("pass"):
            if self._posts:
                self.penalties.append(login)
            return _result("error.bad.credentials", "ERROR")
        if "LOGIN" not in user.rights:
            return _result("error.notactivated", "ERROR")
        if not user.groups:
            return _result("error.nogroup", "ERROR")
        sid = str(uuid4())
        self._sessions[sid] = _Session(user.rights, self._clock())
        return _result(sid)

    def _session(self, sid: str) -> _Session | None:
        session = self._sessions.get(sid)
        if session and not session.permanent and self._clock() - session.refreshed > SESSION_LIFE:
            del self._sessions[sid]
            return None
        return session

    def _allowed(self, request: Request, right: str = "SOAP") -> _Session:
        """The session of a request. The answer is the same if it is unknown, expired, taken over or lacks the right."""
        session = self._session(request.query_params.get("sid", ""))
        if session is None or right not in session.rights:
            raise _Failure("error.notallowed")
        session.refreshed = self._clock()
        return session

    async def _make_hash(self, request: Request) -> Response:
        form = await _form(request)
        user, options = (
            _read(form.get("user"), HTTPStatus.BAD_REQUEST),
            _read(form.get("options"), HTTPStatus.BAD_REQUEST),
        )
        session = self._allowed(request)
        if user is None or options is None:
            missing = "options" if options is None else "user"
            raise _Failure(f'Cannot invoke "RoomOptionsDTO.getRoomId()" because "{missing}" is null')
        visitor = Guest(**fields_of(user, Guest))
        if not visitor.external_id or not visitor.external_type:
            return _result("externalId and/or externalType are not set", "ERROR")
        made = Hash(
            code=str(uuid4()),
            sid=request.query_params["sid"],
            room=number_of(options.get("roomId")) or 0,  # a missing room is noticed only at the entry
            visitor=visitor,
            multiple=flag_of(options.get("allowSameURLMultipleTimes")),
            moderator=flag_of(options.get("moderator")),
        )
        self.hashes.append(made)
        session.visitor = visitor  # also for every hash that this session made before
        session.permanent = session.permanent or made.multiple
        return _result(made.code)

    async def _enter(self, request: Request) -> Response:
        """The page behind a link: always 200, and every GET is an entry."""
        language = language_of(request.query_params.get("language", ""))
        code = request.query_params.get("secure", "")
        link = next((made for made in self.hashes if made.code == code), None)
        if link is None:
            return page("invalid", language)
        if link.used and not link.multiple:
            return page("used", language)
        session = self._session(link.sid)
        if session is None or session.visitor is None or link.room not in self.rooms:
            return page("invalid", language)
        visitor = session.visitor
        link.used = True
        session.rights = frozenset({"ROOM"})  # the session is now the visitor's
        self.entered.append(Entered(code, link.room, visitor, link.moderator))
        who = f"{visitor.firstname} {visitor.lastname}".strip() or SOMEBODY[language]
        word = "moderates" if link.moderator else "enters"
        return page(word, language, who=who, room=self.rooms[link.room].name)

    async def _public_rooms(self, request: Request) -> Response:
        kind = _room_type(request)
        self._allowed(request, "ROOM")
        return _json(
            {"roomDTO": [mapped(room) for room in self.rooms.values() if room.is_public and room.type == kind]}
        )

    def _room(self, request: Request) -> Room:
        room = self.rooms.get(request.path_params["id"])
        if room is None:
            raise _Failure('Cannot invoke "Room.getId()" because "r" is null')
        return room

    async def _get_room(self, request: Request) -> Response:
        self._allowed(request)
        return _json({"roomDTO": mapped(self._room(request))})

    async def _get_or_create(self, request: Request) -> Response:
        given = _read(request.query_params.get("room"), HTTPStatus.NOT_FOUND)
        wanted = None if given is None else _room_of(given, HTTPStatus.NOT_FOUND)
        key = (_room_type(request), request.path_params["external_type"], request.path_params["external_id"])
        self._allowed(request)
        for room in self.rooms.values():
            if (room.type, room.external_type, room.external_id) == key:
                return _json({"roomDTO": mapped(room)})
        if wanted is None:
            return Response(status_code=HTTPStatus.NO_CONTENT)
        return self._created(wanted)

    async def _save_room(self, request: Request) -> Response:
        given = _read((await _form(request)).get("room"), HTTPStatus.BAD_REQUEST) or {}
        wanted = _room_of(given, HTTPStatus.BAD_REQUEST)
        self._allowed(request)
        if wanted.id in self.rooms:
            self.rooms[wanted.id] = wanted  # every field, also those that were not sent
            return _json({"roomDTO": mapped(wanted)})
        return self._created(wanted)

    def _created(self, room: Room) -> Response:
        room.id = max([8, *self.rooms]) + 1
        self.rooms[room.id] = room
        answer = mapped(room)
        answer.pop("externalType", None)  # missing in the answer to the first request
        return _json({"roomDTO": answer})

    async def _count(self, request: Request) -> Response:
        self._allowed(request)
        return _result(str(sum(entry.room == request.path_params["id"] for entry in self.entered)))

    async def _close_or_open(self, request: Request) -> Response:
        verb = request.path_params["verb"]
        if verb not in {"close", "open"}:
            raise HTTPException(HTTPStatus.NOT_FOUND)
        self._allowed(request)
        self._room(request).closed = verb == "close"
        return _result("Closed" if verb == "close" else "Opened")


def _route(method: str, path: str, endpoint: Endpoint) -> Route:
    route = Route(path, endpoint, methods=[method])
    route.methods = {method}  # without HEAD, which Starlette adds and OpenMeetings refuses
    return route


def _nothing(request: Request, error: Exception) -> Response:
    """The answer to errors before a service is reached: without a body; Allow names every method at all."""
    assert isinstance(error, HTTPException)  # noqa: S101 -- the type that it is registered for
    if request.method in {"HEAD", "TRACE"}:
        return Response(status_code=HTTPStatus.FORBIDDEN)
    if error.status_code == HTTPStatus.INTERNAL_SERVER_ERROR:
        return Response(BROKEN, error.status_code, {"content-type": "text/html;charset=utf-8"})
    allow = {"allow": "DELETE,POST,GET,OPTIONS,HEAD"} if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED else {}
    return Response(status_code=error.status_code, headers=allow)


def _failed(_: Request, error: Exception) -> Response:
    return _result(str(error), "ERROR", HTTPStatus.INTERNAL_SERVER_ERROR, {"exception": str(error)})


def _json(value: object, status: int = HTTPStatus.OK, headers: Mapping[str, str] = {}) -> Response:
    return Response(msgspec.json.encode(value), status, {"content-type": "application/json", **headers})


def _result(
    message: str, kind: str = "SUCCESS", status: int = HTTPStatus.OK, headers: Mapping[str, str] = {}
) -> Response:
    return _json({"serviceResult": {"message": coerced(message), "type": kind}}, status, headers)


async def _form(request: Request) -> dict[str, str]:
    if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        raise HTTPException(HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
    return dict(parse_qsl((await request.body()).decode(), keep_blank_values=True))


def _read(text: str | None, status: int) -> dict[str, Any] | None:
    """A parameter that is a JSON object; one that cannot be read is answered with ``status``, without a body."""
    if text is None:
        return None
    try:
        return decode(text, dict[str, Any])
    except msgspec.MsgspecError:
        raise HTTPException(status) from None


def _room_type(request: Request) -> str:
    kind: str = request.path_params["type"]
    if kind not in ROOM_TYPES:
        raise HTTPException(HTTPStatus.INTERNAL_SERVER_ERROR)
    return kind


def _room_of(given: Mapping[str, Any], status: int) -> Room:
    """A room as it was sent, with the server's defaults; without a valid type it is answered with ``status``."""
    if given.get("type") not in ROOM_TYPES:
        raise HTTPException(status)
    return Room(**fields_of(given, Room))


def _first_rooms() -> Iterable[Room]:
    """The public conference rooms of a fresh installation."""
    hidden = {2: ["MICROPHONE_STATUS"], 3: ["WHITEBOARD", "MICROPHONE_STATUS"], 4: ["MICROPHONE_STATUS"], 7: []}
    common: dict[str, Any] = {"capacity": 32, "is_public": True, "allow_user_questions": True, "allow_recording": True}
    for number, elements in hidden.items():
        name = f"Public room {number}"
        yield Room(id=number, name=name, tag=None, redirect_url=None, hidden_elements=elements, **common)
