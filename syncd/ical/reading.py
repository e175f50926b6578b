# SPDX-License-Identifier: Apache-2.0
r"""Content lines of any source, read and written back (RFC 5545, 3.1).

Servers re-order, re-fold and re-encode what they keep, and much of what lies in a calendar is not ours: this takes
whatever is there, and must never raise. icalendar's parser says what a line is. Written back is the line as it was,
never what was understood of it: icalendar's writer makes a line break out of the backslash and the N of ``C:\New``.
What lines mean is for ``meaning`` to say.
"""

import re
from collections.abc import Iterator, Mapping

from msgspec import Struct
from msgspec.structs import replace

from syncd.ical.lines import clean, fold, line

DEPTH = 8
"""Of components in each other; an alarm of an event in a calendar is the third."""

_COMPONENT = re.compile("[A-Z0-9-]+")
_NAME = re.compile("([A-Za-z0-9-]+)[:;]")
_NOT_UTF8 = re.compile("[\udc80-\udcff]+")
_LISTS = frozenset(("EXDATE", "RDATE"))
_BRACKETS = frozenset(("BEGIN", "END"))


class Property(Struct, frozen=True):
    """One line: ``line`` is all of it as it was written, but unfolded; ``name`` is in capitals.

    ``parameters`` are by their names in capitals, without quotes, several values of one joined by commas. A line that
    icalendar refuses has only a name, that at its beginning, if any; its ``value`` is the whole line.
    """

    name: str
    line: str
    value: str
    parameters: Mapping[str, str] = {}
    refused: bool = False

    def text(self) -> str:
        """Its value without the escapes of a TEXT (RFC 5545, 3.3.11); empty if the line was refused."""
        from icalendar.parser import unescape_backslash  # noqa: PLC0415 -- see read_lines

        return "" if self.refused else unescape_backslash(self.value)


class Component(Struct, frozen=True):
    """What is between BEGIN and END: properties, and the components in it, each in their order."""

    name: str
    properties: tuple[Property, ...] = ()
    parts: tuple["Component", ...] = ()

    def named(self, name: str) -> list[Property]:
        """The properties of a name."""
        return [item for item in self.properties if item.name == name]


def read_lines(body: bytes) -> Iterator[Property]:
    """Every line that is not empty, unfolded, without the characters that no calendar can keep."""
    from icalendar.parser import Contentlines  # noqa: PLC0415 -- takes 0.03 s, and most runs read no edited entry

    # unfolded as Latin-1, which is byte by byte, because a fold may split a character (RFC 5545, 3.1)
    text = body.removeprefix(b"\xef\xbb\xbf").decode("latin-1")
    for unfolded in Contentlines.from_ical(text):  # type: ignore[no-untyped-call]
        if item := _read(_decoded(unfolded.encode("latin-1"))):
            yield item


def read_calendar(body: bytes) -> Component | None:
    """The one VCALENDAR of an object; ``None`` if there is none, or several, or one that is cut or too deep.

    Lists of dates are taken apart, one date a property.
    """
    open_: list[tuple[str, list[Property], list[Component]]] = [("", [], [])]
    for item in read_lines(body):
        value = item.value.strip().upper()
        if item.name == "BEGIN":
            open_.append((value, [], []))
            if len(open_) > DEPTH or not _COMPONENT.fullmatch(value):
                return None
        elif item.name == "END":
            name, properties, parts = open_.pop()
            if name != value or not open_:
                return None
            open_[-1][2].append(Component(name, tuple(properties), tuple(parts)))
        else:
            open_[-1][1].extend(_split_dates(item))
    calendars = open_[0][2]
    return calendars[0] if len(open_) == 1 and [part.name for part in calendars] == ["VCALENDAR"] else None


def write(component: Component) -> bytes:
    """A component as it is sent: lines folded, ended by CRLF."""
    lines = [fold(item.line) for item in component.properties]
    parts = [write(part) for part in component.parts]
    return b"".join([line("BEGIN", component.name), *lines, *parts, line("END", component.name)])


def _decoded(data: bytes) -> str:
    """Text; what is not UTF-8 is taken for Windows' western letters.

    It must not be sent as it is: Xandikos refuses the object (412), Radicale takes all of it for Latin-1.
    """
    return _NOT_UTF8.sub(
        lambda found: found[0].encode("utf-8", "surrogateescape").decode("cp1252", "replace"),
        data.decode("utf-8", "surrogateescape"),
    )


def _read(text: str) -> Property | None:
    from icalendar.parser import Contentline  # noqa: PLC0415 -- see read_lines

    # a line that begins with a blank would go on with the one before it
    fit = clean(text.replace("\r", "")).lstrip(" \t")
    if not fit:
        return None
    try:
        name, parameters, value = Contentline(fit).raw_parts()  # type: ignore[no-untyped-call]
        if name.upper() in _BRACKETS and fit.strip() != text.strip():
            raise ValueError("a component that only cleaning would make")
    except ValueError:
        found = _NAME.match(fit)
        return Property(found[1].upper() if found else "", fit, fit, refused=True)
    flat = {key.upper(): each if isinstance(each, str) else ",".join(each) for key, each in parameters.items()}
    return Property(name.upper(), fit, value, flat)


def _split_dates(item: Property) -> Iterator[Property]:
    if item.name not in _LISTS or item.refused:
        yield item
        return
    head = item.line.removesuffix(item.value)
    for one in item.value.split(","):
        yield replace(item, line=head + one, value=one)
