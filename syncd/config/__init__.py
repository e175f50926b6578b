# SPDX-License-Identifier: Apache-2.0
"""Finds, reads and checks the configuration file.

A table of the file is a Struct, a key is a field of it. ``keys`` says which values a key accepts, ``draft`` collects
the problems of a file, ``secret`` says where a password is found. Nothing is opened but the file itself and its
``ca_file``s, no server is asked, and the environment is an argument.
"""

import os
from collections.abc import Collection, Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Struct

from syncd.config import keys
from syncd.config.draft import Draft, closest
from syncd.config.keys import Key
from syncd.config.secret import Secret
from syncd.errors import ConfigError
from syncd.model import Audience, Way

__all__ = ["MAKERS", "Account", "Calendar", "Config", "Feeds", "Maker", "OpenMeetings", "Secret", "find", "load"]

ETC = Path("/etc")
VAR_LIB = Path("/var/lib/syncd")

_PASSWORD = Key(keys.secret, '{ file = "work.password" }', derived=True)
_CA_FILE = Key(keys.certificates, '"/etc/ssl/certs/our-ca.pem"')
_FLAG = Key(keys.flag, "true")


class _Table(Struct, frozen=True, kw_only=True):
    """A table of the file. Its repr has no values, because they are names of people, addresses and secrets."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({getattr(self, 'name', '')})"


class _General(_Table, frozen=True, kw_only=True):
    """``[syncd]``: settings that are not about one server."""

    state: Annotated[Path, Key(keys.path, '"/var/lib/syncd"', derived=True)]
    language: Annotated[Literal["de", "en"], Key(keys.choice("de", "en"), '"de"')] = "en"


class Account(_Table, frozen=True, kw_only=True):
    """``[opentalk.NAME]``: somebody's OpenTalk account.

    ``controller``, ``issuer`` and ``client_id`` are discovered from ``url`` where they are ``None``. Without
    ``username`` and ``password`` the account is signed in with ``syncd login``. Events are read from ``past`` before
    now to ``ahead`` after now; every ``every``, and those of the next days every ``soon_every``.
    """

    name: str
    url: Annotated[str, Key(keys.base, '"https://meet.example.org"')]
    controller: Annotated[str | None, Key(keys.base, '"https://controller.example.org"')] = None
    issuer: Annotated[str | None, Key(keys.base, '"https://id.example.org/auth/realms/meet"')] = None
    client_id: Annotated[str | None, Key(keys.text, '"Frontend"')] = None
    client_secret: Annotated[Secret | None, Key(keys.secret, '{ file = "client.secret" }')] = None
    username: Annotated[str | None, Key(keys.text, '"alice"', derived=True)] = None
    password: Annotated[Secret | None, _PASSWORD] = None
    every: Annotated[timedelta, Key(keys.duration(timedelta(seconds=10)), '"5m"')] = timedelta(minutes=5)
    soon_every: Annotated[timedelta, Key(keys.duration(timedelta(seconds=10)), '"1m"')] = timedelta(minutes=1)
    past: Annotated[timedelta, Key(keys.duration(), '"30d"')] = timedelta(days=30)
    ahead: Annotated[timedelta, Key(keys.duration(), '"365d"')] = timedelta(days=365)
    per_page: Annotated[int, Key(keys.whole(1, 100), "100")] = 100
    adhoc: Annotated[bool, _FLAG] = False
    declined: Annotated[bool, _FLAG] = False
    enabled: Annotated[bool, _FLAG] = True
    ca_file: Annotated[Path | None, _CA_FILE] = None
    plain_http: Annotated[bool, _FLAG] = False


class Maker(_Table, frozen=True, kw_only=True):
    """The table of any link maker: ``url`` is where syncd reaches it, ``public_url`` where people do."""

    url: Annotated[str, Key(keys.base, '"https://conference.example.org"')]
    public_url: Annotated[str, Key(keys.base, '"https://conference.example.org"', derived=True)]
    ca_file: Annotated[Path | None, _CA_FILE] = None
    plain_http: Annotated[bool, _FLAG] = False

    @property
    def secrets(self) -> list[Secret]:
        """All secrets of the table."""
        values = (getattr(self, field) for field in self.__struct_fields__)
        return [value for value in values if isinstance(value, Secret)]


class OpenMeetings(Maker, frozen=True, kw_only=True):
    """``[openmeetings]``: the server that makes entry links.

    ``room`` is the number of the room for all meetings, or ``per-meeting`` for a room each.
    """

    url: Annotated[str, Key(keys.base, '"https://om.example.org/openmeetings"')]
    public_url: Annotated[str, Key(keys.base, '"https://om.example.org/openmeetings"', derived=True)]
    username: Annotated[str, Key(keys.text, '"syncd"')]
    password: Annotated[Secret, Key(keys.secret, '{ command = ["pass", "show", "openmeetings"] }')]
    room: Annotated[Literal["per-meeting"] | int, Key(keys.room, '"per-meeting"')] = "per-meeting"
    link: Annotated[Literal["hash"], Key(keys.choice("hash"), '"hash"')] = "hash"


MAKERS: Mapping[str, type[Maker]] = {"openmeetings": OpenMeetings}
"""The tables of link makers, by their names in the file."""


class Calendar(_Table, frozen=True, kw_only=True):
    """``[caldav.NAME]``: a calendar that is written.

    ``url`` is the calendar itself or, with ``calendar`` (a display name), any address of its server.
    """

    name: str
    url: Annotated[str, Key(keys.collection, '"https://dav.example.org/alice/opentalk/"')]
    calendar: Annotated[str | None, Key(keys.text, '"OpenTalk"')] = None
    username: Annotated[str, Key(keys.text, '"alice"')]
    password: Annotated[Secret, Key(keys.secret, '{ credential = "team" }')]
    accounts: Annotated[tuple[str, ...], Key(keys.several(keys.name, "account names"), '["work"]', derived=True)]
    ways_in: Annotated[tuple[str, ...], Key(keys.several(keys.name, "ways in"), '["opentalk"]', derived=True)]
    audience: Annotated[Audience, Key(keys.choice("owner", "guests"), '"guests"', derived=True)]
    passwords: Annotated[bool, Key(keys.flag, "true", derived=True)]
    on_edit: Annotated[Literal["restore", "keep"], Key(keys.choice("restore", "keep"), '"restore"')] = "restore"
    on_delete: Annotated[Literal["respect", "restore"], Key(keys.choice("respect", "restore"), '"respect"')] = "respect"
    audit: Annotated[timedelta, Key(keys.duration(timedelta(minutes=1)), '"1h"')] = timedelta(hours=1)
    enabled: Annotated[bool, _FLAG] = True
    ca_file: Annotated[Path | None, _CA_FILE] = None
    plain_http: Annotated[bool, _FLAG] = False


class Feeds(_Table, frozen=True, kw_only=True):
    """``[feeds]``: the HTTP server of the feeds.

    ``listen`` is ``HOST:PORT`` or ``unix:PATH``; ``public_url`` is where calendar programs reach it.
    """

    listen: Annotated[str, Key(keys.listen, '"127.0.0.1:8080"')]
    public_url: Annotated[str, Key(keys.base, '"https://syncd.example.org"')]
    trusted_proxies: Annotated[
        tuple[str, ...], Key(keys.several(keys.network, "addresses", least=0), '["127.0.0.1"]')
    ] = ("127.0.0.1",)
    plain_http: Annotated[bool, _FLAG] = False


class Config(Struct, frozen=True, kw_only=True):
    """A configuration that was checked. ``path`` is absolute; accounts and calendars are in the file's order.

    ``ways`` are all ways in that exist; ``makers`` are the tables of the link makers, by their names.
    """

    path: Path
    state: Path
    language: Literal["de", "en"]
    accounts: dict[str, Account]
    ways: tuple[Way, ...]
    makers: dict[str, Maker]
    calendars: dict[str, Calendar]
    feeds: Feeds | None

    @property
    def ways_in(self) -> tuple[str, ...]:
        """The keys of the ways in that this configuration can offer: without a link maker, or with its table."""
        return _available(self.ways, self.makers)


def find(explicit: Path | None, environ: Mapping[str, str], etc: Path = ETC) -> Path:
    """The path of the configuration: ``explicit``, else ``$SYNCD_CONFIG``, else the first usual place that has one.

    A folder that this user may not look into counts as having none. Raises ConfigError, which names all places.
    """
    if explicit is not None:
        return explicit
    if environ.get("SYNCD_CONFIG"):
        return Path(environ["SYNCD_CONFIG"])
    usual = [etc / "syncd/config.toml"]
    if (home := _xdg(environ, "XDG_CONFIG_HOME", ".config")) is not None:
        usual.append(home / "syncd/config.toml")
    places = ["$SYNCD_CONFIG (not set)"]
    for place in usual:
        try:
            place.stat()
        except OSError:
            places.append(f"{place} (not there, or closed to this user)")
        else:
            return place
    raise ConfigError(
        [
            f"no configuration: looked at {', '.join(places)}; write one of them or name one with --config FILE; "
            "`syncd demo` needs none"
        ]
    )


def load(
    path: Path,
    environ: Mapping[str, str],
    ways: tuple[Way, ...],
    *,
    etc: Path = ETC,
    tables: Mapping[str, type[Maker]] = MAKERS,
) -> Config:
    """Read and check the configuration at ``path``. Raises ConfigError with all of its problems.

    ``ways`` are all ways in that exist; ``tables`` are the tables of link makers, by their names in the file.
    """
    file = Path(os.path.normpath(path.absolute()))
    draft = Draft(file, environ, ("opentalk", "caldav"))
    draft.expect(("syncd", "opentalk", *tables, "caldav", "feeds"))
    general = draft.section("syncd", _General)
    _settle_state(general, draft, etc)
    accounts = draft.named_sections("opentalk", Account, "work")
    for name, values in accounts.items():
        _check_login(values, name, draft)
    if not draft.tables.get("opentalk"):
        draft.problem("opentalk", "there is no account", "[opentalk.work]")
    makers = _makers(draft, tables)
    calendars = _calendars(draft, tuple(accounts), ways, makers)
    feeds = draft.section("feeds", Feeds) if "feeds" in draft.tables else None
    if draft.problems:
        raise ConfigError(draft.problems)
    shared = _General(**general)
    return Config(
        path=file,
        state=shared.state,
        language=shared.language,
        accounts={name: Account(name=name, **values) for name, values in accounts.items()},
        ways=ways,
        makers={name: tables[name](**values) for name, values in makers.items()},
        calendars={name: Calendar(name=name, **values) for name, values in calendars.items()},
        feeds=Feeds(**feeds) if feeds is not None else None,
    )


def _makers(draft: Draft, tables: Mapping[str, type[Maker]]) -> dict[str, dict[str, Any]]:
    """The values of the link makers' tables, by their names. ``public_url`` is ``url`` unless it is given."""
    makers = {name: draft.section(name, kind) for name, kind in tables.items() if name in draft.tables}
    for values in makers.values():
        if values.get("public_url", "") is None:
            values["public_url"] = values.get("url")
    return makers


def _calendars(
    draft: Draft, accounts: tuple[str, ...], ways: Iterable[Way], makers: Collection[str]
) -> dict[str, dict[str, Any]]:
    """The values of the calendars' tables, by their names, with the defaults that depend on other keys."""
    calendars = draft.named_sections("caldav", Calendar, "team")
    for name, values in calendars.items():
        _settle_calendar(values, f"caldav.{name}", draft, accounts)
        _settle_ways(values, f"caldav.{name}", draft, ways, makers)
    _settle_apart(calendars, draft)
    return calendars


def _available(ways: Iterable[Way], makers: Collection[str]) -> tuple[str, ...]:
    return tuple(way.key for way in ways if way.maker is None or way.maker in makers)


def _settle_state(values: dict[str, Any], draft: Draft, etc: Path) -> None:
    """The default of ``state`` follows from the configuration's path, so that the daemon and people have the same."""
    if values.get("state", "") is None:
        home = _xdg(draft.environ, "XDG_STATE_HOME", ".local/state")
        if draft.file.is_relative_to(etc):
            values["state"] = VAR_LIB
        elif home is not None:
            values["state"] = home / "syncd"
        else:
            what = "is missing, and neither $XDG_STATE_HOME nor $HOME is set"
            draft.problem("syncd.state", what, 'state = "/var/lib/syncd"')


def _check_login(values: Mapping[str, Any], name: str, draft: Draft) -> None:
    """Username and password go together. A key that was wrong is not in ``values``, one left out is ``None``."""
    keys_of_login = {"username": 'username = "alice"', "password": f"password = {_PASSWORD.example}"}
    absent = [key for key in keys_of_login if values.get(key, "") is None]
    if len(absent) == 1:
        what = f"is missing: give username and password, or neither and run `syncd login {name}`"
        draft.problem(f"opentalk.{name}.{absent[0]}", what, keys_of_login[absent[0]])


def _settle_calendar(values: dict[str, Any], path: str, draft: Draft, accounts: tuple[str, ...]) -> None:
    """Fill in defaults that depend on other keys, and check what a calendar says about other tables."""
    _settle_accounts(values, path, draft, accounts)
    several = len(values.get("accounts", ())) > 1
    if values.get("audience", "") is None:
        values["audience"] = "guests" if several else "owner"
    elif several and values.get("audience") == "owner":
        what = '"owner" is for one account: the links of several owners do not fit into one calendar'
        draft.problem(f"{path}.audience", what, 'audience = "guests"')
    if values.get("passwords", "") is None:
        values["passwords"] = values.get("audience") == "owner"


def _settle_ways(values: dict[str, Any], path: str, draft: Draft, ways: Iterable[Way], makers: Collection[str]) -> None:
    """``ways_in`` defaults to all that the configuration offers; each way in that is given must be one of them."""
    key, available = f"{path}.ways_in", _available(ways, makers)
    example = f'ways_in = ["{available[0]}"]'
    if values.get("ways_in", ()) is None:
        values["ways_in"] = available
    needed = {way.key: way.maker for way in ways}
    for word in values.get("ways_in", ()):
        if word not in needed:
            suggestion = closest(word, needed)
            hint = f'did you mean "{suggestion}"?' if suggestion else f"there are {', '.join(needed)}"
            draft.problem(key, f"there is no way in {word}, {hint}", example)
        elif word not in available:
            draft.problem(key, f"names {word}, but there is no table [{needed[word]}]", example)


def _settle_apart(calendars: dict[str, dict[str, Any]], draft: Draft) -> None:
    """No two tables for the same calendar: each would remove the entries of the other, for ever."""
    names: dict[tuple[str, str | None], str] = {}
    for name, values in calendars.items():
        first = names.setdefault((str(values.get("url")).rstrip("/"), values.get("calendar")), name)
        if first != name and values.get("url"):
            what = f"is the calendar of caldav.{first} already: list the accounts of both there"
            draft.problem(f"caldav.{name}.url", what, 'accounts = ["work", "home"]')


def _settle_accounts(values: dict[str, Any], path: str, draft: Draft, accounts: tuple[str, ...]) -> None:
    key, example = f"{path}.accounts", f'accounts = ["{next(iter(accounts), "work")}"]'
    if values.get("accounts", ()) is None:
        values["accounts"] = accounts[:1]
        if len(accounts) > 1:
            draft.problem(key, f"is missing: there are several accounts, {', '.join(accounts)}", example)
    for name in values.get("accounts", ()) if accounts else ():
        if name not in accounts:
            suggestion = closest(name, accounts)
            hint = f'did you mean "{suggestion}"?' if suggestion else f"there are {', '.join(accounts)}"
            draft.problem(key, f"there is no account {name}, {hint}", example)


def _xdg(environ: Mapping[str, str], variable: str, below_home: str) -> Path | None:
    """A base directory of the XDG specification, or ``None`` without a home; a relative one is ignored, as it says."""
    if (folder := environ.get(variable, "")) and Path(folder).is_absolute():
        return Path(folder)
    home = environ.get("HOME", "")
    return Path(home) / below_home if home else None
