# SPDX-License-Identifier: Apache-2.0
"""A calendar object such as syncd writes, and its name in the calendar."""

UID = "3f0c2a5e-7d1b-4c55-9a80-1f2e3d4c5b6a"
HREF = f"syncd-{UID}.ics"


def calendar_object(title: str = "Jour fixe", *, uid: str = UID, extra: str = "") -> bytes:
    """An object of one event with our marker; ``extra`` are further lines of the event, each with its line end."""
    lines = (
        "BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:-//syncd//EN\nBEGIN:VEVENT\n"
        f"UID:{uid}\nDTSTAMP:20261122T080000Z\nDTSTART:20261124T090000Z\nDTEND:20261124T100000Z\n"
        f"SUMMARY:{title}\nX-SYNCD-INSTALLATION:0123abcd\nX-SYNCD-DIGEST:fedcba98\n{extra}END:VEVENT\nEND:VCALENDAR\n"
    )
    return lines.replace("\n", "\r\n").encode()
