# SPDX-License-Identifier: Apache-2.0
"""A configuration while it is read: the tables of the file, overridden by the environment, and the problems so far.

Tables are read by the keys that their Structs declare. Reading goes on after a problem, so that one run reports all
of them. Which values a key accepts is in ``keys``; checks between tables are in ``config`` itself.
"""

import json
import re
import tomllib
from collections.abc import Collection, Mapping
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from syncd.config.keys import NAME, Key, Place, Wrong, keys_of
from syncd.errors import ConfigError

PREFIX = "SYNCD_"
_LINE = 'url = "https://meet.example.org"'


class Draft:
    """The tables of ``file``, overridden by ``environ``; ``problems`` grows while they are read.

    ``tables`` is the whole document. ``named`` are the tables that consist of named ones (``[opentalk.work]``).
    Raises ConfigError if the file cannot be read as TOML.
    """

    def __init__(self, file: Path, environ: Mapping[str, str], named: Collection[str]) -> None:
        self.file = file
        self.environ = environ
        self.problems: list[str] = []
        self.tables = _document(file)
        self._named = named
        self._origin: dict[str, str] = {}  # key path -> the variable that set it
        self._text: dict[str, str] = {}  # key path -> the text of that variable
        for variable in sorted(environ):
            if variable.startswith(PREFIX) and "__" in variable.removeprefix(PREFIX):
                self._override(variable, environ[variable])

    def problem(self, key: str, what: str, example: str) -> None:
        """Record what is wrong at a key path; ``example`` is a line that would be right."""
        origin = f" (from ${self._origin[key]})" if key in self._origin else ""
        self.problems.append(f"{self.file}: {key}{origin}: {what} (example: {example})")

    def expect(self, sections: Collection[str]) -> None:
        """Record a problem for every top-level key that is none of these tables."""
        for name in self.tables:
            if name not in sections:
                self.problem(_dotted(name), _unknown("table", name, sections), "[opentalk.work]")

    def section(self, name: str, kind: type[Struct]) -> dict[str, Any]:
        """The values of a table that exists once, by key; see ``_read``."""
        return self._read(self.tables.get(name, {}), kind, name)

    def named_sections(self, name: str, kind: type[Struct], example: str) -> dict[str, dict[str, Any]]:
        """The values of every table ``[name.X]``, by X and key, in the order of the file."""
        tables = self.tables.get(name, {})
        if not isinstance(tables, dict):
            self.problem(name, "must be a table with a name of your choice", f"[{name}.{example}]")
            return {}
        return {
            each: self._read(raw, kind, _dotted(name, each))
            for each, raw in tables.items()
            if self._is_named(name, each, raw, example)
        }

    def _is_named(self, section: str, name: str, raw: object, example: str) -> bool:
        path, table = _dotted(section, name), f"[{section}.{example}]"
        if not isinstance(raw, dict):
            self.problem(path, f"must stand in a table with a name of your choice, [{section}.NAME]", table)
        elif not NAME.fullmatch(name):
            self.problem(path, "a name is made of a to z, 0 to 9 and -", table)
        else:
            return True
        return False

    def _read(self, raw: object, kind: type[Struct], path: str) -> dict[str, Any]:
        """The values of a table by key. Wrong ones are missing; derived ones that the file leaves out are ``None``."""
        if not isinstance(raw, dict):
            self.problem(path, "must be a table", f"[{path}]")
            return {}
        keys = keys_of(kind)
        for name in raw:
            if name not in keys:
                self._unknown_key(path, name, keys)
        required = {field.name for field in msgspec.structs.fields(kind) if field.required}
        values: dict[str, Any] = {}
        for name, key in keys.items():
            place = Place(f"{path}.{name}", self.file, self.environ, raw.get("plain_http") is True)
            if name in raw:
                values |= self._read_key(name, key, raw[name], place)
            elif key.derived:
                values[name] = None
            elif name in required:
                self.problem(place.key, "is missing", f"{name} = {key.example}")
        return values

    def _read_key(self, name: str, key: Key, raw: object, place: Place) -> dict[str, Any]:
        """The value under its name; an empty dict, after a problem is recorded, if it is wrong."""
        try:
            return {name: self._value(key, raw, place)}
        except Wrong as wrong:
            self.problem(place.key, str(wrong), f"{name} = {key.example}")
            return {}

    def _value(self, key: Key, raw: object, place: Place) -> object:
        """A key's value. The text of a variable that is valid TOML, such as a number, may still be meant as text."""
        try:
            return key.read(raw, place)
        except Wrong:
            if place.key not in self._text:
                raise
            with suppress(Wrong):  # the message about the value as TOML says more
                return key.read(self._text[place.key], place)
            raise

    def _unknown_key(self, path: str, name: str, keys: Mapping[str, Key]) -> None:
        similar = closest(name, keys) or next(iter(keys))
        self.problem(f"{path}.{_dotted(name)}", _unknown("key", name, keys), f"{similar} = {keys[similar].example}")

    def _override(self, variable: str, value: str) -> None:
        """Apply ``SYNCD_TABLE__KEY`` or ``SYNCD_TABLE__NAME__KEY``; a last step ``__FILE`` is the kind of a secret."""
        section, _, rest = variable.removeprefix(PREFIX).lower().partition("__")
        tables = [section]
        if section in self._named and "__" in rest:
            name, rest = self._split_name(self.tables.get(section), rest)
            tables.append(name)
        self._put(tables, rest.split("__", 1), variable, value)

    @staticmethod
    def _split_name(tables: object, rest: str) -> tuple[str, str]:
        """Split a table's name off. Names in the file are tried first, because ``a--b`` reads like two steps."""
        for name in sorted(tables, key=len, reverse=True) if isinstance(tables, dict) else ():
            start = name.lower().replace("-", "_") + "__"
            if rest.startswith(start):
                return name, rest.removeprefix(start)
        name, _, rest = rest.partition("__")
        return name.replace("_", "-"), rest

    def _put(self, tables: list[str], keys: list[str], variable: str, value: str) -> None:
        """Set a key; the source of a secret replaces the whole secret of the file, not one of its keys."""
        table = self.tables
        for depth, step in enumerate(tables, 1):
            if step not in table:
                table[step] = {}
                self._origin[_dotted(*tables[:depth])] = variable
            table = table[step]
            if not isinstance(table, dict):
                return  # a problem of the file, reported when the table is read
        path = _dotted(*tables, keys[0])
        if len(keys) == 1:
            table[keys[0]] = _parsed(value)
            self._text[path] = value
        elif path in self._origin and isinstance(table[keys[0]], dict):
            table[keys[0]][keys[1]] = _parsed(value)
        else:
            table[keys[0]] = {keys[1]: _parsed(value)}
        self._origin[path] = variable


def closest(word: str, words: Collection[str]) -> str | None:
    """The word of ``words`` that is most like ``word``; ``None`` if none is."""
    return next(iter(get_close_matches(word, words, 1)), None)


def _unknown(what: str, word: str, words: Collection[str]) -> str:
    suggestion = closest(word, words)
    return f"unknown {what}, " + (f'did you mean "{suggestion}"?' if suggestion else f"known are {', '.join(words)}")


def _dotted(*steps: str) -> str:
    """A key path as TOML writes it; an unusual key is quoted, so that a problem stays on one line."""
    return ".".join(step if re.fullmatch(r"[A-Za-z0-9_-]+", step) else json.dumps(step) for step in steps)


def _parsed(value: str) -> object:
    """The value of a variable: read as TOML if it is valid TOML, else the text itself."""
    try:
        tables = tomllib.loads(f"x = {value}")
    except (ValueError, RecursionError):
        return value
    return tables["x"] if len(tables) == 1 else value


def _document(file: Path) -> dict[str, Any]:
    """The document of a TOML file. A byte order mark, which editors on Windows write, is skipped."""
    try:
        return tomllib.loads(file.read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        problem = f"line {line}: is not UTF-8: save the file as UTF-8"
    except tomllib.TOMLDecodeError as error:
        what, _, where = str(error).rpartition(" (at ")
        problem = f"{where.removesuffix(')')}: {what} (example: {_LINE})"
    except OSError as error:
        problem = f"cannot be read: {error.strerror}; let this user read it, or name another with --config FILE"
    except (ValueError, RecursionError):
        problem = f"holds a number or a nesting beyond all measure (example: {_LINE})"
    raise ConfigError([f"{file}: {problem}"])
