# SPDX-License-Identifier: Apache-2.0
r"""Content lines (RFC 5545, 3.1): text made fit for a calendar, escaped and folded.

It must let nothing through that could become a line of its own. Not icalendar's writer, because that makes a
line break out of the backslash and the N of ``C:\New`` and takes twenty times as long.
"""

import re

PRODID = "-//syncd//syncd//EN"
WIDTH = 75

# C0 and C1 controls, noncharacters and lone surrogates: Radicale drops them silently, Xandikos answers 412,
# others break their own XML. U+2028 and U+2029 end a line for some parsers.
_UNFIT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufffe\uffff\ud800-\udfff]")
# The case is ignored where there are letters to ignore it in: for a class of all characters that takes 5 ms to compile.
_ADDRESS = re.compile(r"(?i:https?://|tel:|sips?:)[\x21-\x7e\u00a1-\U0010ffff]+")


def clean(value: str) -> str:
    """Text of any source with line breaks as LF and without what calendars cannot keep."""
    return _UNFIT.sub("", value.replace("\r\n", "\n").replace("\r", "\n"))


def one_line(value: str) -> str:
    """Text that must stay on one line, such as a title."""
    return " ".join(clean(value).split())


def shorten(value: str, octets: int) -> str:
    """Text of at most so many octets of UTF-8, cut between two characters and ended by an ellipsis."""
    data = value.encode()
    if len(data) <= octets:
        return value
    return data[: max(octets - 3, 0)].decode("utf-8", "ignore").rstrip() + "…"


def address(value: str | None) -> str | None:
    """An address that people may be sent to: http, https, tel or sip, without blanks; else nothing."""
    return value if value and clean(value) == value and _ADDRESS.fullmatch(value) else None


def text(value: str) -> str:
    """A TEXT value (RFC 5545, 3.3.11)."""
    escaped = clean(value).replace("\\", "\\\\").replace(";", "\\;").replace(",", "\\,")
    return escaped.replace("\n", "\\n")


def line(name: str, value: str) -> bytes:
    """One property, folded: ``name`` with its parameters, ``value`` as its type has it."""
    return fold(f"{name}:{value}")


def fold(text: str) -> bytes:
    """A content line as it is sent: folded to 75 octets a line, ended by CRLF."""
    data = text.encode()
    parts = []
    start, room = 0, WIDTH
    while len(data) - start > room:
        end = start + room
        while data[end] & 0xC0 == 0x80:  # noqa: PLR2004 -- inside a character of UTF-8
            end -= 1
        if data[end - 1 : end] == b"\\" != data[end - 2 : end - 1]:  # lenient readers do not fold escapes
            end -= 1
        parts.append(data[start:end])
        start, room = end, WIDTH - 1
    parts.append(data[start:])
    return b"\r\n ".join(parts) + b"\r\n"
