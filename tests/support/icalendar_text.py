# SPDX-License-Identifier: Apache-2.0
"""How the tests read what was rendered: by the letter of RFC 5545, not with the parser that may be wrong too."""

import re

from hypothesis import strategies as st
from msgspec.structs import replace

from syncd.ical.render import Rendered, render
from syncd.model import CallIn, Meeting, Profile, SharedFolder, WaysIn
from tests.support.golden_meetings import LINKS, MEETING, OWNER

any_text = st.text(st.characters(), max_size=300)


def rendered(meeting: Meeting, ways: WaysIn = LINKS, profile: Profile = OWNER, revision: int = 0) -> Rendered:
    result = render(meeting, ways, profile, revision)
    assert result is not None
    return result


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


@st.composite
def texts(draw: st.DrawFn) -> Meeting:
    return replace(
        MEETING,
        title=draw(any_text),
        description=draw(any_text),
        password=draw(st.none() | any_text),
        call_in=draw(st.none() | st.builds(CallIn, any_text, any_text, any_text)),
        shared_folder=draw(st.none() | st.builds(SharedFolder, any_text, any_text)),
        creator=draw(any_text),
    )
