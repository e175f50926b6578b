# SPDX-License-Identifier: Apache-2.0
import re

import pytest
from hypothesis import given
from msgspec.structs import replace

from syncd.model import Addresses, CallIn, Meeting, SharedFolder
from syncd.plan.links import OPENMEETINGS, OPENTALK
from tests.support.golden_meetings import GUEST_LINK, GUESTS, LINKS, MEETING, OWNER, ROOM, SERIES, rendered, texts
from tests.support.icalendar_text import properties, unescaped


@given(texts())
def test_guests_read_no_password_no_pin_and_no_person(meeting: Meeting) -> None:
    secret = replace(
        meeting,
        title="",
        description="",
        password="Pw7Pw7",
        call_in=CallIn("+49 30 5557890", "0123456789", "9876543210"),
        shared_folder=SharedFolder("https://cloud.example.org/s/Fo7Fo7", "Fp7Fp7"),
        creator="Alice Adams",
        overrides=SERIES.overrides,
        recurrence=SERIES.recurrence,
    )
    guests = rendered(secret, profile=GUESTS).body.replace(b"\r\n ", b"")
    owner = rendered(secret).body.replace(b"\r\n ", b"")
    for word in (b"Pw7Pw7", b"9876543210", b"Fo7Fo7", b"Fp7Fp7", b"Alice", b"CLASS:PRIVATE"):
        assert word in owner
        assert word not in guests
    assert b"tel:+49305557890\r\n" in guests
    assert f"LOCATION:{GUEST_LINK}\r\n".encode() in guests


def test_an_owner_without_passwords_keeps_the_folder_and_the_inviter() -> None:
    body = rendered(MEETING, profile=replace(OWNER, passwords=False)).body.replace(b"\r\n ", b"")
    assert not re.search(rb"s3cret|9876543210|PIN|Passwort", body)
    assert b"https://cloud.example.org/s/Xy12" in body
    assert b"Eingeladen von Alice Adams" in body


def test_guests_who_may_have_passwords_get_those_of_the_room_only() -> None:
    body = rendered(MEETING, profile=replace(GUESTS, passwords=True)).body.replace(b"\r\n ", b"")
    assert b"s3cret-room" in body
    assert b"PIN 9876543210" in body.replace(b"\r\n ", b"")
    assert not re.search(rb"s3cret-folder|cloud\.example|Alice", body)


@pytest.mark.parametrize("link", ["javascript:alert(1)", "file:///etc/passwd", "https://a b/", "https://a\r\nX:1", ""])
def test_only_addresses_of_the_web_become_links(link: str) -> None:
    folder = SharedFolder(link, "x")
    body = rendered(
        replace(MEETING, shared_folder=folder, call_in=None),
        {"opentalk": Addresses(link, link), "openmeetings": Addresses(link)},
    ).body
    assert properties(body, "LOCATION") == properties(body, "URL") == properties(body, "CONFERENCE") == []
    assert unescaped(properties(body, "DESCRIPTION")[0]).startswith("Passwort: s3cret-room\n\nAgenda:")


def test_without_the_first_way_in_the_next_one_is_the_join_link() -> None:
    profile = replace(OWNER, ways_in=(OPENMEETINGS, OPENTALK))
    body = rendered(MEETING, {**LINKS, "openmeetings": Addresses()}, profile).body
    assert properties(body, "LOCATION") == [ROOM]
    assert properties(body, "DESCRIPTION")[0].startswith(f"{ROOM}\\nFür Gäste: ")


def test_openmeetings_alone_says_nothing_of_opentalk() -> None:
    body = rendered(MEETING, LINKS, replace(OWNER, ways_in=(OPENMEETINGS,))).body.replace(b"\r\n ", b"")
    assert not re.search(rb"meet\.example\.org|s3cret-room|tel:|Telefon", body)


def test_an_endless_description_is_cut_between_characters_and_the_way_in_stays() -> None:
    for size in range(40_000, 40_004):
        value = unescaped(properties(rendered(replace(MEETING, description="x" + "ü€" * size)).body, "DESCRIPTION")[0])
        assert 15_990 < len(value.encode()) <= 16_000
        assert value.startswith(ROOM)
        assert value.endswith("…\n\nEingeladen von Alice Adams")
