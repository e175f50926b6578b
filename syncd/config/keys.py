# SPDX-License-Identifier: Apache-2.0
"""Which values a key of the configuration accepts: readers that turn TOML's values into ours.

A table is a Struct whose fields say how they are read: ``every: Annotated[timedelta, Key(...)]``. A reader sees one
value only; checks between tables are not made here. It raises Wrong with a message that completes "KEY: " and never
contains the value, which may be a secret at the wrong place.
"""

import ipaddress
import re
import ssl
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

import msgspec
from msgspec import Struct

from syncd.config.secret import Secret

LONGEST = timedelta(days=3650)
NAME = re.compile(r"[a-z0-9-]+")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SOURCES = ("file", "command", "env", "credential")


class Wrong(Exception):
    """A value that its key does not accept."""


class Place(Struct, frozen=True):
    """Where a value is: its key's path, file and environment, and the ``plain_http`` of the same table."""

    key: str
    file: Path
    environ: Mapping[str, str]
    plain_http: bool = False


Reader = Callable[[object, Place], Any]


class Key(Struct, frozen=True):
    """How a field is read, and an example of a value as TOML.

    ``derived`` marks a field that may be left out though it has no fixed default: it follows from other keys.
    """

    read: Reader
    example: str
    derived: bool = False


def keys_of(table: type[Struct]) -> dict[str, Key]:
    """The keys that a table of the configuration has, in the order of its fields."""
    return {
        field.name: note
        for field in msgspec.structs.fields(table)
        for note in getattr(field.type, "__metadata__", ())
        if isinstance(note, Key)
    }


def text(value: object, _: Place) -> str:
    """One line of text that is not empty."""
    if not isinstance(value, str):
        raise Wrong("must be a text in quotes")
    if not value.strip():
        raise Wrong("is empty")
    if _CONTROL.search(value):
        raise Wrong("must be one line without control characters")
    return value


def flag(value: object, _: Place) -> bool:
    """A TOML boolean; ``"false"`` in quotes would be true to a lenient reader."""
    if not isinstance(value, bool):
        raise Wrong("must be true or false, without quotes")
    return value


def whole(least: int, most: int) -> Reader:
    """A whole number within bounds."""

    def read(value: object, _: Place) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise Wrong(f"must be a whole number from {least} to {most}, without quotes")
        if not least <= value <= most:
            raise Wrong(f"must be from {least} to {most}")
        return value

    return read


def choice(*words: str) -> Reader:
    """One of a few words."""
    allowed = " or ".join(f'"{word}"' for word in words)

    def read(value: object, _: Place) -> str:
        if not isinstance(value, str) or value not in words:
            raise Wrong(f"must be {allowed}")
        return value

    return read


def several(read_item: Reader, what: str, *, least: int = 1) -> Reader:
    """A list of at least ``least`` items, no two of them equal."""

    def read(value: object, place: Place) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise Wrong(f"must be a list of {what} in square brackets")
        if len(value) < least:
            raise Wrong("is an empty list")
        items = tuple(read_item(item, place) for item in value)
        if len(set(items)) < len(items):
            raise Wrong("names something twice")
        return items

    return read


def duration(least: timedelta = timedelta()) -> Reader:
    """``"90s"``, ``"5m"``, ``"12h"``, ``"30d"``; at most ten years, so that no sum with a date overflows."""

    def read(value: object, _: Place) -> timedelta:
        form = re.fullmatch(r"([0-9]{1,9})([smhd])", value) if isinstance(value, str) else None
        if form is None:
            raise Wrong("must be a number with s, m, h or d, in quotes")
        span = timedelta(**{_UNITS[form[2]]: int(form[1])})
        if span < least:
            raise Wrong(f"must be at least {least.total_seconds():g}s")
        if span > LONGEST:
            raise Wrong(f"must be at most {LONGEST.days}d")
        return span

    return read


def room(value: object, _: Place) -> str | int:
    """An OpenMeetings room number, or ``per-meeting``: a room of its own for every meeting."""
    if value == "per-meeting":
        return "per-meeting"
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 2**63:
        raise Wrong('must be "per-meeting" or the number of a room, without quotes')
    return value


def collection(value: object, place: Place) -> str:
    """An absolute http(s) address, unchanged: CalDAV servers distinguish addresses with and without a final slash."""
    address = text(value, place)
    parts = _split(address)
    if parts is None or parts.scheme not in {"http", "https"} or not parts.hostname:
        raise Wrong("must be a whole address that begins with https://")
    if "@" in parts.netloc:
        raise Wrong("must not hold a login: write it into username and password")
    if "?" in address or "#" in address:
        raise Wrong("must end with its path, without ? and #")
    if parts.scheme == "http" and not (place.plain_http or _loopback(parts.hostname)):
        raise Wrong(
            "must begin with https://: http:// is for this machine itself; where everybody on the way may "
            "read along, write plain_http = true beside it"
        )
    return address


def base(value: object, place: Place) -> str:
    """An absolute http(s) address to which paths are appended; a final slash is removed."""
    return collection(value, place).rstrip("/")


def _split(address: str) -> SplitResult | None:
    """The parts of an address; ``None`` if it is not one. urlsplit drops spaces and checks a port when it is read."""
    if re.search(r"[\s\\<>\"{}|^`]", address):
        return None
    try:
        parts = urlsplit(address)
        _ = parts.port
    except ValueError:
        return None
    return parts


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def listen(value: object, place: Place) -> str:
    """``HOST:PORT``, ``[IPV6]:PORT`` or ``unix:PATH``, the path made absolute."""
    form = text(value, place)
    if form.startswith("unix:") and form != "unix:":
        return f"unix:{place.file.parent / form.removeprefix('unix:')}"
    parts = _split(f"//{form}")
    if parts is None or not parts.hostname or parts.port is None or parts.netloc != form or "@" in form:
        raise Wrong("must be HOST:PORT, the port from 0 to 65535, or unix:/PATH")
    return form


def network(value: object, place: Place) -> str:
    """An IP address or network."""
    form = text(value, place)
    try:
        ipaddress.ip_network(form)
    except ValueError:
        raise Wrong("must hold IP addresses or networks such as 10.0.0.0/8") from None
    return form


def name(value: object, _: Place) -> str:
    """The name of a table."""
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise Wrong("must hold names made of a to z, 0 to 9 and -")
    return value


def path(value: object, place: Place) -> Path:
    """A path, relative to the configuration file."""
    return place.file.parent / text(value, place)


def certificates(value: object, place: Place) -> Path:
    """A PEM file with at least one certificate in it."""
    file = path(value, place)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(file)
    except ssl.SSLError:
        raise Wrong(f"{file} holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)") from None
    except OSError as error:
        raise Wrong(f"{file} cannot be read: {error.strerror}") from None
    return file


def secret(value: object, place: Place) -> Secret:
    """A table that says where the secret is found; it is not read yet."""
    if not isinstance(value, dict):
        raise Wrong("a secret does not stand in this file: say where it is")
    if len(value) != 1 or (kind := next(iter(value))) not in _SOURCES:
        raise Wrong("must have exactly one of file, command, env and credential")
    source = value[kind]
    if kind == "command":
        return Secret(place.key, kind, _command(source), place.file, place.environ)
    if not _plain(source):
        raise Wrong(f"{kind} must be a text in quotes")
    if kind == "credential" and ("/" in source or source in {".", ".."}):
        raise Wrong("credential must be the name of a file, without a folder")
    return Secret(place.key, kind, source, place.file, place.environ)


def _command(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(_plain(part) for part in value):
        raise Wrong("command must be a list: the program and each argument in quotes of its own")
    return tuple(value)


def _plain(value: object) -> bool:
    return isinstance(value, str) and bool(value) and "\0" not in value
