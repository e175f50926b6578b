# SPDX-License-Identifier: Apache-2.0
r"""Content lines of any source, read and written back (RFC 5545, 3.1).

Servers re-order, re-fold and re-encode what they keep, and much of what lies in a calendar is not ours:
this takes whatever is there, and must never raise. What lines mean is not known here. Not icalendar's
reader, because that makes a line break out of the backslash and the N of ``C:\New``.
"""

import re
from collections.abc import Iterator

from msgspec import Struct

from syncd.ical.lines import clean, line

DEPTH = 8
"""Of components in each other; an alarm of an event in a calendar is the third."""

_FOLD = re.compile(r"\r?\n[ \t]")
_LINE = re.compile(r'([A-Za-z0-9-]+)((?:;(?:"[^"]*"|[^":])*)?):(.*)', re.DOTALL)
_NAME = re.compile("[A-Z0-9-]+")
_LISTS = frozenset(("EXDATE", "RDATE"))


class Property(Struct, frozen=True):
    """One property: ``head`` is its name with its parameters as they were written, ``name`` in capitals."""

    name: str
    head: str
    value: str


class Component(Struct, frozen=True):
    """What is between BEGIN and END: properties, and the components in it, each in their order."""

    name: str
    properties: tuple[Property, ...] = ()
    parts: tuple["Component", ...] = ()

    def named(self, name: str) -> list[Property]:
        """The properties of a name."""
        return [item for item in self.properties if item.name == name]


def read_lines(body: bytes) -> Iterator[Property]:
    """Every line that is a property, whatever is between them."""
    # unfolded as bytes a fold may split a character (RFC 5545, 3.1), hence decoded only afterwards
    for text in re.split(r"\r?\n", _FOLD.sub("", body.removeprefix(b"\xef\xbb\xbf").decode("latin-1"))):
        match = _LINE.fullmatch(text)
        if match:
            yield Property(match[1].upper(), _decoded(match[1] + match[2]), _decoded(match[3]))


def read_calendar(body: bytes) -> Component | None:
    """The one VCALENDAR of an object; ``None`` if there is none, or several, or one that is cut or too deep.

    Lists of dates are taken apart, one date a property. What no calendar can keep is left out.
    """
    open_: list[tuple[str, list[Property], list[Component]]] = [("", [], [])]
    for item in read_lines(body):
        value = item.value.strip().upper()
        if item.name == "BEGIN":
            open_.append((value, [], []))
            if len(open_) > DEPTH or not _NAME.fullmatch(value):
                return None
        elif item.name == "END":
            name, properties, parts = open_.pop()
            if name != value or not open_:
                return None
            open_[-1][2].append(Component(name, tuple(properties), tuple(parts)))
        else:
            open_[-1][1].extend(_fit(item))
    calendars = open_[0][2]
    return calendars[0] if len(open_) == 1 and [part.name for part in calendars] == ["VCALENDAR"] else None


def write(component: Component) -> bytes:
    """A component as it is sent: lines folded, ended by CRLF."""
    lines = [line(item.head, item.value) for item in component.properties]
    parts = [write(part) for part in component.parts]
    return b"".join([line("BEGIN", component.name), *lines, *parts, line("END", component.name)])


def _decoded(text: str) -> str:
    return text.encode("latin-1").decode("utf-8", "replace")


def _fit(item: Property) -> Iterator[Property]:
    head, value = (clean(text.replace("\r", "")) for text in (item.head, item.value))
    for one in value.split(",") if item.name in _LISTS else [value]:
        yield Property(item.name, head, one)
