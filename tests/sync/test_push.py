# SPDX-License-Identifier: Apache-2.0
from collections import Counter

import pytest

from syncd.errors import Unavailable
from syncd.sync.push import BATCH
from tests.support.meetings import HOUR, meeting
from tests.support.memory_servers import MemoryCalendar
from tests.support.pipeline import House


class Killed(BaseException):
    """The process ends here."""


def house_of(count: int) -> House:
    house = House(*(meeting(f"e{number:03}", number / 10) for number in range(1, count + 1)))
    house.pull()
    house.mint()
    return house


def states(house: House) -> Counter[str]:
    return Counter(place.state for place in house.ledger.placements.of("team").values())


def kill_after(house: House, count: int) -> None:
    def progress(name: str, done: int, _total: int) -> None:
        if name == "team" and done == count:
            raise Killed

    house.progress = progress


def test_what_is_to_be_put_is_recorded_before_the_first_request() -> None:
    house = house_of(BATCH + 5)
    kill_after(house, 0)
    with pytest.raises(Killed):
        house.push()
    assert states(house) == {"placing": BATCH}
    assert [verb for verb, _ in house.calendar.log] == ["seen", "check"]


@pytest.mark.parametrize("done", [0, 1, BATCH - 1, BATCH, BATCH + 3])
def test_after_a_kill_the_rest_is_put_and_nothing_twice(done: int) -> None:
    house = house_of(BATCH + 5)
    kill_after(house, done)
    with pytest.raises(Killed):
        house.push()
    house.progress = lambda _name, _done, _total: None
    run = house.push()
    assert (run.state, run.counts["created"]) == ("ok", BATCH + 5 - done)
    assert states(house) == {"placed": BATCH + 5}
    assert Counter(verb for verb, _ in house.calendar.log if verb in ("create", "update", "fetch")) == {
        "create": BATCH + 5
    }


def test_what_was_not_begun_when_a_server_is_given_up_is_not_on_its_way() -> None:
    house = house_of(10)
    house.calendar.fail(Unavailable("down"), verb="create", after=2, times=99)
    run = house.push()
    assert (run.state, run.counts["created"], run.counts["failed"]) == ("retrying", 2, 3)
    assert states(house) == {"placed": 2, "placing": 3}


def test_what_somebody_removed_is_still_recorded_so_when_its_turn_does_not_come() -> None:
    house = house_of(6)
    house.push()
    house.calendar.user_deletes("syncd-e006.ics")
    house.now += HOUR
    house.push()
    assert states(house) == {"placed": 5, "removed": 1}
    before = house.ledger.placements.of("team")["e006"]
    for number in range(1, 7):
        house.change(f"e{number:03}", title="Other")
    house.pull()
    house.calendar.fail(Unavailable("down"), verb="update", times=99)
    assert house.push().state == "retrying"
    assert house.ledger.placements.of("team")["e006"] == before


def test_the_nearest_meeting_comes_first_and_deletions_before_all() -> None:
    house = house_of(5)
    house.push()
    house.calendar.log.clear()
    house.source.meetings.pop("e005")
    for event, day in (("n1", 3), ("n2", 1), ("n3", 2)):
        house.source.meetings[event] = meeting(event, day)
    house.pull()
    house.push()
    writes = [call for call in house.calendar.log if call[0] != "check"]
    assert writes == [
        ("delete", "syncd-e005.ics"),
        ("create", "syncd-n2.ics"),
        ("create", "syncd-n3.ics"),
        ("create", "syncd-n1.ics"),
    ]


def test_an_entry_that_goes_to_two_calendars_is_recorded_for_each() -> None:
    house, second = house_of(3), MemoryCalendar("second")
    house.push()
    house.push(calendar=second)
    assert house.ledger.placements.of("second").keys() == house.ledger.placements.of("team").keys()
    assert second.objects.keys() == house.calendar.objects.keys()
