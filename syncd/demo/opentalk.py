# SPDX-License-Identifier: Apache-2.0
"""An OpenTalk with state, in memory: controller and web app on one origin.

It answers as recorded controllers 0.29 and 0.30 do, with their faults. With ``version="0.32"`` it refuses page sizes
out of range, of which ``invitees_max`` is one, and answers 401 to bad tokens; with ``version="0.35"`` it also has no
guest invites. Listings are those of 0.30 in every version. It sends no mail.
"""

import hashlib
import threading
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from html import escape
from typing import Any
from uuid import uuid4

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from syncd.demo.answers import after_link, json_answer, numbered_answer, read_json, refused_answer
from syncd.demo.events import (
    JSON,
    Event,
    Refusal,
    failure,
    instance_view,
    new_event,
    patched_event,
    patched_exception,
    plain,
    write_time,
)
from syncd.demo.identity import IdentityProvider, Person
from syncd.demo.listing import Events, read_query
from syncd.demo.rooms import Room, new_room, room_info, verified
from syncd.demo.serve import Traffic
from syncd.demo.signin import SignIn, Version

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
PAGE = """<!doctype html><html lang="de"><meta charset="utf-8"><title>{title}</title><h1>{title}</h1>
<p>Hier würde diese Besprechung stattfinden. Dies ist eine Vorführung ohne Ton und Bild.</p>
<p lang="en">This is where the meeting would take place. This is a demonstration without sound and picture.</p>
"""


class OpenTalk:
    """An OpenTalk whose people sign in at ``identity``. Serve ``app``.

    The methods do what the HTTP API does, called in this process and as the event's owner. Their fields have the
    API's names and values; times may also be aware datetimes. They raise Refusal where the API refuses, and KeyError
    for unknown events and people.
    """

    def __init__(
        self,
        identity: IdentityProvider,
        clock: Callable[[], datetime],
        version: Version = "0.30",
    ) -> None:
        self.version = version
        self._identity = identity
        self._clock = clock
        self._lock = threading.RLock()
        self._last = datetime.min.replace(tzinfo=UTC)
        self._users: dict[str, JSON] = {}  # by subject
        self._sign_in = SignIn(identity, clock, version)
        self._events = Events()
        self._rooms: dict[str, Room] = {}
        self._deleted_rooms: dict[str, str] = {}
        routes = [
            Route("/.well-known/opentalk/client", self._client),
            Route("/.well-known/opentalk/api", self._version),
            Route("/v1/{path:path}", self._api, methods=METHODS),
            Route("/room/{room}", self._page),
            Route("/dashboard/meetings/{event}", self._page),
            Route("/{path:path}", self._nothing, methods=METHODS),
        ]
        self.app = Traffic(Starlette(routes=routes))

    def create(self, username: str, **fields: Any) -> JSON:
        """Create an event of this user; with ``starts_at`` it has a time. Returns it as the user sees it."""
        kind = {"is_all_day": False} if "starts_at" in fields else {}
        usual = {"title": "Meeting", "description": "", "is_time_independent": not kind, **kind}
        with self._lock:
            return self._create(self._user_of(username), {**usual, **fields})

    def patch(self, event_id: str, **fields: Any) -> JSON:
        """Change an event as ``PATCH /events/{id}`` does (see ``patched_event``). Returns it as the owner sees it."""
        with self._lock:
            return self._patch(self._existing(event_id), fields)

    def delete(self, event_id: str) -> None:
        """Delete an event and its room."""
        with self._lock:
            self._delete(self._existing(event_id))

    def change(self, event_id: str, instance_id: str, **fields: Any) -> JSON:
        """Change one occurrence of a series. ``instance_id`` is its planned start in UTC, as ``20261123T080000Z``."""
        with self._lock:
            return self._change(self._existing(event_id), instance_id, fields)

    def move(self, event_id: str, instance_id: str, starts_at: Any, ends_at: Any) -> JSON:
        """Move one occurrence of a series."""
        return self.change(event_id, instance_id, starts_at=starts_at, ends_at=ends_at)

    def cancel(self, event_id: str, instance_id: str) -> JSON:
        """Cancel one occurrence of a series."""
        return self.change(event_id, instance_id, status="cancelled")

    def invite(self, event_id: str, username: str, role: str = "user") -> None:
        """Invite somebody who can sign in."""
        with self._lock:
            self._invite(self._existing(event_id), {"invitee": self._user_of(username)["id"], "role": role})

    def uninvite(self, event_id: str, username: str) -> None:
        """Withdraw an invitation: the user no longer sees the event."""
        with self._lock:
            del self._existing(event_id).invitations[self._user_of(username)["id"]]

    def accept(self, event_id: str, username: str) -> None:
        """Accept an invitation."""
        with self._lock:
            self._existing(event_id).invitations[self._user_of(username)["id"]]["status"] = "accepted"

    def decline(self, event_id: str, username: str) -> None:
        """Decline an invitation."""
        with self._lock:
            self._existing(event_id).invitations[self._user_of(username)["id"]]["status"] = "declined"

    def guest_invites(self, event_id: str) -> list[JSON]:
        """The guest invites of an event's room, inactive ones too, oldest first."""
        with self._lock:
            return list(self._room_of(self._existing(event_id)).invites.values())

    def load(self, events: Iterable[JSON], username: str) -> None:
        """Add events exactly as a controller listed them for a user, with their exceptions.

        Their creators stay as listed. Those that the user could edit become the user's own; to the others the user is
        invited, with the listed status.
        """
        with self._lock:
            user = self._user_of(username)
            for body in events:
                if body["type"] == "exception":
                    self._existing(body["recurring_event_id"]).exceptions[body["instance_id"]] = dict(body)
                else:
                    self._load(dict(body), user)

    def _load(self, body: JSON, user: JSON) -> None:
        own, status = body["can_edit"], body["invite_status"]
        invitations = {
            invitee["profile"].get("id", invitee["profile"]["email"]): dict(invitee)
            for invitee in body["invitees"]
            if invitee["profile"]["email"] != user["email"]
        }
        if not own:
            invitations[user["id"]] = _invitation(user, "user", status)
        event = Event(body, user["id"] if own else body["created_by"]["id"], invitations)
        self._events.put(event)
        room = new_room(body["room"], body["created_by"], body["created_at"])
        self._rooms[body["room"]["id"]] = Room({**room.body, "id": body["room"]["id"]}, event.owner, event.id)

    def _existing(self, event_id: str) -> Event:
        event = self._events.get(event_id)
        if event is None:
            raise KeyError(event_id)
        return event

    def _room_of(self, event: Event) -> Room:
        return self._rooms[event.body["room"]["id"]]

    def _now(self) -> str:
        """The time, never the same twice, so that what is created later also has a later time."""
        self._last = max(self._clock().astimezone(UTC), self._last + timedelta(microseconds=1))
        return write_time(self._last)

    def _user_of(self, username: str) -> JSON:
        return self._welcome(self._identity.person(username))

    def _welcome(self, person: Person) -> JSON:
        """The user of a person, created at the first call, which also gives them the invitations to their address."""
        if person.sub not in self._users:
            user = {
                "id": str(uuid4()),
                "email": person.email,
                "title": "",
                "firstname": person.firstname,
                "lastname": person.lastname,
                "display_name": f"{person.firstname} {person.lastname}",
                "avatar_url": _avatar(person.email),
            }
            self._users[person.sub] = user
            for event in self._events:
                if event.invitations.pop(person.email, None):
                    event.invitations[user["id"]] = _invitation(user, "user")
        return self._users[person.sub]

    async def _client(self, request: Request) -> Response:
        origin = str(request.base_url).rstrip("/")
        return json_answer({"opentalk_controller": {"base_url": origin}})

    async def _version(self, _: Request) -> Response:
        return json_answer({"opentalk_api": {"v1": {"base_url": "v1"}}})

    async def _nothing(self, _: Request) -> Response:
        return Response(status_code=404)

    async def _page(self, request: Request) -> Response:
        """The page to which the links of a demonstration lead."""
        with self._lock:
            room = self._rooms.get(request.path_params.get("room", ""))
            event = self._events.get(room.event or "" if room else request.path_params.get("event", ""))
            title = event.body["title"] if event else "OpenTalk"
        return HTMLResponse(PAGE.format(title=escape(title)), 200 if room or event else 404)

    async def _api(self, request: Request) -> Response:
        body = await request.body()
        try:
            with self._lock:
                return self._answer(request, request.path_params["path"].split("/"), body)
        except Refusal as refusal:
            return refused_answer(refusal)

    def _answer(self, request: Request, path: list[str], body: bytes) -> Response:
        match request.method, path:
            case "GET", ["auth", "login"]:
                name = "default" if self.version == "0.29" else "Frontend"
                return json_answer({"oidc": {"name": name, "url": self._identity.issuer}})
            case "POST", ["auth", "login"]:
                return json_answer(self._sign_in.post(read_json(request, body)))
            case "POST", ["invite", "verify"]:
                code = read_json(request, body).get("invite_code", "")
                return json_answer(verified(self._rooms.values(), code, self._clock()))
        user = self._user_of(self._sign_in.username(request.headers.get("authorization", "")))
        return self._answer_user(request, user, path, body)

    def _answer_user(self, request: Request, user: JSON, path: list[str], body: bytes) -> Response:
        headers: Mapping[str, str] = {}
        value: Any
        match request.method, path:
            case _, ["events", event_id, *rest]:
                return self._answer_event(request, user, event_id, rest, body)
            case _, ["rooms", room_id, *rest]:
                return self._answer_room(request, user, room_id, rest, body)
            case "GET", ["users", "me"]:
                themes = {"dashboard_theme": "system", "conference_theme": "system", "language": "en-US"}
                value = {**user, **themes, "tariff_status": "default", "used_storage": 0}
            case "GET", ["events"]:
                value, cursor = self._events.page(user["id"], read_query(request.url.query, self.version))
                headers = after_link(request, cursor)
            case "POST", ["events"]:
                value = self._create(user, read_json(request, body))
            case "GET", ["rooms"]:
                rooms = sorted(self._rooms.values(), key=lambda room: room.id)
                return numbered_answer(request, [room.body for room in rooms if self._may_enter(user, room)])
            case "POST", ["rooms"]:
                room = new_room(read_json(request, body), user, self._now())
                self._rooms[room.id] = room
                value = room.body
            case _:
                raise Refusal(404 if path[:2] == ["users", "me"] else 403)
        return json_answer(value, headers)

    def _answer_event(self, request: Request, user: JSON, event_id: str, rest: list[str], body: bytes) -> Response:
        event = self._events.get(event_id)
        if event is None or event.status_for(user["id"]) is None:
            raise Refusal(403)
        invited = event.invitations.get(user["id"])
        match request.method, rest:
            case "GET", []:
                return json_answer(event.view(user["id"], read_query(request.url.query, self.version).invitees_max))
            case ("PATCH" | "DELETE") as method, ["invite"] if invited:
                invited["status"] = "accepted" if method == "PATCH" else "declined"
                return Response(status_code=204)
            case _ if event.owner == user["id"]:
                return self._answer_owner(request, event, rest, body)
        raise Refusal(403)

    def _answer_owner(self, request: Request, event: Event, rest: list[str], body: bytes) -> Response:
        match request.method, rest:
            case "PATCH", []:
                patch = read_json(request, body)
                return json_answer(self._patch(event, patch)) if patch else Response(status_code=204)
            case "DELETE", []:
                self._delete(event)
            case "PATCH", ["instances", instance_id]:
                return json_answer(self._change(event, instance_id, read_json(request, body)))
            case "POST", ["invites"]:
                made = self._invite(event, read_json(request, body))
                return Response(status_code=201 if made else 204)
            case "DELETE", ["invites", invitee]:
                if event.invitations.pop(invitee, None) is None:
                    raise failure()
            case _:
                raise Refusal(403)
        return Response(status_code=204)

    def _create(self, user: JSON, fields: Mapping[str, Any]) -> JSON:
        now = self._now()
        room = new_room(fields, user, now)
        event = new_event(plain(fields), user, now, room_info(room, fields))
        room.event = event.id
        self._rooms[room.id] = room
        self._events.put(event)
        return {**event.view(user["id"]), "invitees_truncated": False}

    def _patch(self, event: Event, patch: Mapping[str, Any]) -> JSON:
        now = self._now()
        room = self._room_of(event)
        event = patched_event(event, plain(patch), room.body["created_by"], now)
        room.body |= {name: patch[name] for name in ("password", "waiting_room") if name in patch}
        room.keep_invite(room.body["created_by"], now)
        self._events.put(event)
        return event.view(event.owner)

    def _delete(self, event: Event) -> None:
        self._events.remove(event)
        room = self._rooms.pop(event.body["room"]["id"])
        self._deleted_rooms[room.id] = room.owner

    def _change(self, event: Event, instance_id: str, patch: Mapping[str, Any]) -> JSON:
        editor = event.body["created_by"]
        exception = patched_exception(event, instance_id, plain(patch), editor, self._now())
        event.exceptions[instance_id] = exception
        return instance_view(event, exception, event.owner)

    def _invite(self, event: Event, fields: JSON) -> bool:
        """Invite a user, or an address, for which a guest invite is made. False if they were invited already."""
        users = {user["id"]: user for user in self._users.values()}
        address = fields.get("email")
        user = users.get(fields.get("invitee", "")) or next(
            (user for user in users.values() if user["email"] == address), None
        )
        if user is None and address is None:
            raise Refusal(404, "not_found", "A requested resource could not be found")
        key = user["id"] if user else str(address)
        if key in event.invitations or key == event.owner:
            return False
        if user:
            event.invitations[key] = _invitation(user, fields.get("role", "user"))
        else:
            profile = {"kind": "email", "email": key, "avatar_url": _avatar(key)}
            event.invitations[key] = {"profile": profile, "status": "pending"}
            self._room_of(event).add_invite(None, event.body["created_by"], self._now())
        return True

    def _may_enter(self, user: JSON, room: Room) -> bool:
        event = self._events.get(room.event) if room.event else None
        return room.owner == user["id"] or (event is not None and event.status_for(user["id"]) is not None)

    def _answer_room(self, request: Request, user: JSON, room_id: str, rest: list[str], body: bytes) -> Response:
        if self._deleted_rooms.get(room_id) == user["id"]:
            raise failure()
        room = self._rooms.get(room_id)
        if room is None or not self._may_enter(user, room):
            raise Refusal(403)
        if self.version == "0.35" and rest[:1] == ["invites"]:
            raise Refusal(410)
        match request.method, rest:
            case "GET", []:
                return json_answer(room.body)
            case "GET", ["invites"]:
                return numbered_answer(request, room.newest_invites())
            case "POST", ["invites"] if room.owner == user["id"]:
                expiration = read_json(request, body).get("expiration")
                return json_answer(room.add_invite(expiration, user, self._now()))
            case _, ["invites", code] if room.owner == user["id"]:
                return self._answer_invite(request, room, code, body)
        raise Refusal(403)

    def _answer_invite(self, request: Request, room: Room, code: str, body: bytes) -> Response:
        if code not in room.invites:
            raise failure()
        invite = room.invites[code]
        match request.method:
            case "GET":
                return json_answer(invite)
            case "PUT":
                return json_answer(room.expire_invite(invite, read_json(request, body).get("expiration"), self._now()))
            case "DELETE":
                invite |= {"active": False, "updated": self._now()}
                return Response(status_code=204)
        raise Refusal(403)


def _invitation(user: JSON, role: str, status: str = "pending") -> JSON:
    return {"profile": {"kind": "registered", **user, "role": role}, "status": status}


def _avatar(email: str) -> str:
    digest = hashlib.md5(email.lower().encode(), usedforsecurity=False).hexdigest()
    return f"https://seccdn.libravatar.org/avatar/{digest}"
