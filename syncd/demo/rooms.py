# SPDX-License-Identifier: Apache-2.0
"""The rooms of the embedded OpenTalk and their guest invites, stored as the JSON that is sent.

HTTP and permissions are not decided here.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any
from uuid import uuid4

from syncd.demo.events import JSON, ROOM_FIELDS, Refusal, failure, read_time, write_time


class Room:
    """A room: ``body`` is the JSON that is sent, ``event`` the id of its event if it has one.

    ``invites`` are its guest invites by their code, expired ones included.
    """

    def __init__(self, body: JSON, owner: str, event: str | None = None) -> None:
        self.id: str = body["id"]
        self.body = body
        self.owner = owner
        self.event = event
        self.invites: dict[str, JSON] = {}

    def add_invite(self, expiration: Any, creator: JSON, now: str) -> JSON:
        """Make a guest invite; ``expiration`` may be in the past."""
        code = str(uuid4())
        invite: JSON = {
            "invite_code": code,
            "created": now,
            "created_by": creator,
            "updated": now,
            "updated_by": creator,
            "room_id": self.id,
            "active": True,
            "expiration": _expiration(expiration),
        }
        self.invites[code] = invite
        return invite

    def expire_invite(self, invite: JSON, expiration: Any, now: str) -> JSON:
        """Set when an invite expires; ``None`` means never."""
        invite |= {"expiration": _expiration(expiration), "updated": now}
        return invite

    def keep_invite(self, creator: JSON, now: str) -> None:
        """Make an invite without expiration if there is none, as every change of the event does for its mails."""
        if not any(invite["active"] and invite["expiration"] is None for invite in self.invites.values()):
            self.add_invite(None, creator, now)

    def newest_invites(self) -> list[JSON]:
        """The invites in the order of their listing."""
        return sorted(self.invites.values(), key=lambda invite: str(invite["updated"]), reverse=True)


def new_room(fields: Mapping[str, Any], creator: JSON, now: str) -> Room:
    """The room that a request creates; an empty password is refused."""
    if fields.get("password") == "":
        raise Refusal(400, "invalid_json", "Json deserialize error: Room password must have at least 1 characters")
    body = {"id": str(uuid4()), "created_by": creator, "created_at": now, "waiting_room": False}
    given = {name: fields[name] for name in ("password", "waiting_room") if fields.get(name) is not None}
    return Room({**body, **given}, creator["id"])


def room_info(room: Room, fields: Mapping[str, Any]) -> JSON:
    """The room as it is part of an event; it can be dialled into unless it is encrypted from end to end."""
    info = {"id": room.id, "waiting_room": False, "e2e_encryption": False}
    info |= {name: fields[name] for name in ROOM_FIELDS if fields.get(name) is not None}
    if not info["e2e_encryption"]:
        info["call_in"] = {"tel": "+49 30 5557890", "id": _digits(), "password": _digits()}
    return info


def verified(rooms: Iterable[Room], code: str, now: datetime) -> JSON:
    """The answer to a guest who opens an invite; only here the controller checks its expiration."""
    found = next((room for room in rooms if code in room.invites), None)
    if found is None:
        raise failure()
    invite = found.invites[code]
    if not invite["active"] or (invite["expiration"] and read_time(invite["expiration"]) <= now):
        raise Refusal(404, "not_found", "A requested resource could not be found")
    return {"room_id": found.id, "password_required": "password" in found.body}


def _expiration(value: Any) -> str | None:
    try:
        return None if value is None else write_time(read_time(value))
    except (ValueError, TypeError):
        raise Refusal(400, "invalid_json", "Json deserialize error: expiration is no time") from None


def _digits() -> str:
    return f"{uuid4().int % 10**10:010}"
