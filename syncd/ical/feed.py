# SPDX-License-Identifier: Apache-2.0
"""Many entries as one feed: their stored bytes, joined.

It must not parse or render: a feed of a thousand meetings is built on a request. Its input is what
``render`` wrote; equal entries in equal order give equal bytes, so that a feed's ETag can be their digest.
"""

import re
from collections.abc import Iterable

from syncd.ical.lines import PRODID, line, text
from syncd.ical.zones import FIRST_YEAR, vtimezone

_BLOCK = re.compile(rb"^BEGIN:(VTIMEZONE|VEVENT)\r\n.*?^END:\1\r\n", re.DOTALL | re.MULTILINE)
_TZID = re.compile(rb"^TZID:(.*)\r$", re.MULTILINE)
_ONSET = re.compile(rb"^DTSTART:([0-9]{4})", re.MULTILINE)
_HOME = "Europe/Berlin"


def join_feed(bodies: Iterable[bytes], *, name: str) -> bytes:
    """One VCALENDAR with all the events of the entries, in their order, and each zone once.

    ``name`` is what calendar programs show. How often to ask is written twice, as in RFC 7986 and in
    Outlook's older way; Google and Microsoft follow neither. There is no UID and no date: nothing may change
    between two requests that did not change in a meeting. An empty feed keeps a VTIMEZONE, because some programs
    refuse a calendar without any component.
    """
    zones: dict[bytes, bytes] = {}
    events: list[bytes] = []
    for body in bodies:
        for block in _BLOCK.finditer(body):
            if block[1] == b"VEVENT":
                events.append(block[0])
            else:
                _keep_earliest(zones, block[0])
    head = [
        b"BEGIN:VCALENDAR\r\n",
        line("VERSION", "2.0"),
        line("PRODID", PRODID),
        line("CALSCALE", "GREGORIAN"),
        line("METHOD", "PUBLISH"),
        line("NAME", text(name)),
        line("X-WR-CALNAME", text(name)),
        line("REFRESH-INTERVAL;VALUE=DURATION", "PT1H"),
        line("X-PUBLISHED-TTL", "PT1H"),
    ]
    blocks = [*zones.values(), *events] or [vtimezone(_HOME, FIRST_YEAR)]
    return b"".join((*head, *blocks, b"END:VCALENDAR\r\n"))


def _keep_earliest(zones: dict[bytes, bytes], block: bytes) -> None:
    """Keep the VTIMEZONE that begins in the earlier year: it is right for the events of both."""
    tzid = _TZID.search(block)
    if tzid is None:
        return
    other = zones.get(tzid[1])
    if other is None or _first_year(block) < _first_year(other):
        zones[tzid[1]] = block


def _first_year(block: bytes) -> bytes:
    return min(_ONSET.findall(block), default=b"9999")
