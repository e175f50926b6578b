# SPDX-License-Identifier: Apache-2.0
import pytest

from syncd.config import MAKERS
from syncd.jobs.servers import BUILDERS
from syncd.plan.addresses import guest_address, room_address
from syncd.plan.links import OPENMEETINGS, WAYS


@pytest.mark.parametrize("field", ["key", "label", "kind", "link", "links"])
def test_no_two_ways_in_are_called_the_same(field: str) -> None:
    assert len({getattr(way, field) for way in WAYS}) == len(WAYS)


def test_every_link_maker_has_a_table_and_a_wiring_and_no_other_key_of_the_status() -> None:
    makers = {way.maker for way in WAYS if way.maker}
    assert makers == MAKERS.keys() == BUILDERS.keys()
    assert not makers & {"ok", "daemon", "accounts", "calendars", "feeds", "syncd"}


def test_every_way_in_has_links_that_differ_by_their_code() -> None:
    for way in WAYS:
        one, other = (way.address.format(url="u", room="r", code=code, language="l") for code in ("c0", "c1"))
        assert one.replace("c0", "c1") == other != one


def test_the_addresses_are_those_that_the_servers_open() -> None:
    """OpenTalk's web app from 2.0 on; OpenMeetings with its number of German (its languages.xml)."""
    assert room_address("https://meet.example.org", "b6c1") == "https://meet.example.org/room/b6c1"
    assert guest_address("https://meet.example.org", "b6c1", "0a") == "https://meet.example.org/room/b6c1?invite=0a"
    german = OPENMEETINGS.address.format(url="https://om", code="6a", language=OPENMEETINGS.languages["de"])
    assert german == "https://om/hash?secure=6a&language=2"
