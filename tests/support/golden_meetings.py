# SPDX-License-Identifier: Apache-2.0
"""The meetings and profiles of the golden entries, which were reviewed by a person, and of the tests of rendering."""

from datetime import UTC, datetime

from hypothesis import strategies as st
from msgspec.structs import replace

from syncd.ical.render import Rendered, render
from syncd.model import Addresses, CallIn, Meeting, Override, Profile, SharedFolder, WaysIn
from syncd.plan.links import OPENMEETINGS, OPENTALK, WAYS
from tests.support.meetings import at

any_text = st.text(st.characters(), max_size=300)
ROOM = "https://meet.example.org/room/b6c1e9d0-2d0f-4a55-8a43-6f2f2f0f0a01"
GUEST_LINK = f"{ROOM}?invite=0a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d"
ENTRY_LINK = "https://om.example.org/openmeetings/hash?secure=6a5b4c3d2e1f&language=2"
LINKS: WaysIn = {"opentalk": Addresses(GUEST_LINK, ROOM), "openmeetings": Addresses(ENTRY_LINK)}
OWNER = Profile(
    accounts=("work",),
    urls=("https://meet.example.org",),
    makers={"openmeetings": "https://om.example.org/openmeetings"},
    audience="owner",
    passwords=True,
    ways_in=WAYS,
    language="de",
    installation="5f2d9c1b",
    versions=("1", "2026.1"),
)
GUESTS = replace(OWNER, audience="guests", passwords=False)


MEETING = Meeting(
    id="3f0c6a52-6a7e-4d0e-9d5e-2f6f0a7b1c11",
    title="Jour fixe",
    description="Agenda:\n1. Rückblick, Ausblick; Rest\n2. C:\\New\\notes.txt",
    start=at(2026, 11, 2, 8),
    end=at(2026, 11, 2, 9),
    room="b6c1e9d0-2d0f-4a55-8a43-6f2f2f0f0a01",
    password="s3cret-room",
    call_in=CallIn("+49 30 5557890", "0123456789", "9876543210"),
    shared_folder=SharedFolder("https://cloud.example.org/s/Xy12", "s3cret-folder"),
    own=True,
    creator="Alice Adams",
    created=datetime(2026, 10, 1, 12, tzinfo=UTC),
    updated=datetime(2026, 10, 2, 6, 0, 1, tzinfo=UTC),
)
SERIES = replace(
    MEETING,
    recurrence=("RRULE:FREQ=WEEKLY;UNTIL=20261231T225959Z",),
    overrides=(
        Override(original=at(2026, 11, 9, 8), start=at(2026, 11, 10, 9)),
        Override(original=at(2026, 11, 16, 8), cancelled=True),
        Override(original=at(2026, 11, 23, 8), title="Sonderthema", description="Nur heute."),
    ),
)
GOLDEN: dict[str, tuple[Meeting, WaysIn, Profile]] = {
    "owner-de": (MEETING, LINKS, OWNER),
    "owner-en": (replace(MEETING, invite_status="pending", own=False), LINKS, replace(OWNER, language="en")),
    "guests": (MEETING, LINKS, GUESTS),
    "guests-without-a-guest-link": (MEETING, {"opentalk": Addresses(None, ROOM)}, replace(GUESTS, ways_in=(OPENTALK,))),
    "openmeetings-first": (MEETING, LINKS, replace(OWNER, ways_in=(OPENMEETINGS, OPENTALK))),
    "all-day": (
        replace(MEETING, all_day=True, start=at(2026, 12, 1), end=at(2026, 12, 1)),
        LINKS,
        OWNER,
    ),
    "series": (SERIES, LINKS, OWNER),
    "series-all-day": (
        replace(
            MEETING,
            all_day=True,
            start=at(2026, 12, 1),
            end=at(2026, 12, 3),
            recurrence=("RRULE:FREQ=MONTHLY;UNTIL=20270601",),
            overrides=(
                Override(original=at(2027, 1, 1), cancelled=True),
                Override(original=at(2027, 2, 1), start=at(2027, 2, 8)),
            ),
        ),
        LINKS,
        OWNER,
    ),
    "off-the-rule": (replace(MEETING, recurrence=("RRULE:FREQ=WEEKLY;BYDAY=TH;COUNT=4",)), LINKS, OWNER),
    "two-zones": (replace(MEETING, end=at(2026, 11, 2, 10, zone="America/New_York")), LINKS, OWNER),
    "new-york": (
        replace(
            MEETING,
            start=at(2026, 3, 2, 14, zone="America/New_York"),
            end=at(2026, 3, 2, 15, 30, zone="America/New_York"),
            recurrence=("RRULE:FREQ=DAILY;INTERVAL=3;COUNT=5",),
        ),
        LINKS,
        OWNER,
    ),
    "utc": (
        replace(MEETING, start=at(2026, 11, 2, 8, zone="UTC"), end=at(2026, 11, 2, 9, zone="Etc/UTC")),
        LINKS,
        OWNER,
    ),
}


def rendered(meeting: Meeting, ways: WaysIn = LINKS, profile: Profile = OWNER, revision: int = 0) -> Rendered:
    result = render(meeting, ways, profile, revision)
    assert result is not None
    return result


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
