# SPDX-License-Identifier: Apache-2.0
"""Reads rendered entries by the letter of RFC 5545, not with a parser that may be wrong, too."""

import re


def properties(body: bytes, name: str) -> list[str]:
    """The raw values of a property in every event, unfolded, in order."""
    events = re.findall(rb"(?ms)^BEGIN:VEVENT\r\n.*?^END:VEVENT\r\n", body)
    text = b"".join(events).replace(b"\r\n ", b"").decode()
    return [line.split(":", 1)[1] for line in text.split("\r\n") if re.match(rf"{name}[;:]", line)]


def unescaped(value: str) -> str:
    """A TEXT value, read by the letter of RFC 5545, 3.3.11."""
    return re.sub(r"\\(.)", lambda found: "\n" if found[1] in "nN" else found[1], value)


def lines(body: bytes, name: str) -> list[str]:
    return [line for line in body.decode().split("\r\n") if re.match(rf"{name}[;:]", line)]
