# SPDX-License-Identifier: Apache-2.0
import random
import tracemalloc
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import force_setattr, replace

from syncd.errors import BadAnswer
from syncd.model import CallIn, Meeting, Override, SharedFolder, When, Window
from syncd.opentalk.wire import Listing, read_invites
from syncd.plan.pull import row_of, with_overrides_outside
from tests.support.meetings import CountedLines, at
from tests.support.opentalk_json import ID, event_json, exception_json, series_json, time_json
from tests.support.replay import recorded


def joined(*items: Any) -> tuple[dict[str, Meeting], dict[str, str]]:
    listing = Listing("opentalk.work")
    listing.add(msgspec.json.encode(items))
    return listing.join()


def read(*items: Any) -> Meeting:
    meetings, unreadable = joined(*items)
    assert unreadable == {}
    return meetings[ID]


def problem(*items: Any) -> str:
    meetings, unreadable = joined(*items)
    assert meetings == {}
    return unreadable[ID]


def test_a_full_event_becomes_a_meeting() -> None:
    room = {
        "id": "r1",
        "password": "s3cret",
        "e2e_encryption": True,
        "guest_access": "direct_access",
        "call_in": {"tel": "+4930123456", "uri": "sip:x", "id": "0123456789", "password": "9876543210"},
    }
    folder = {"read": {"url": "https://cloud.example.org/s/x", "password": "pw"}, "read_write": {"url": "u"}}
    fields = {"room": room, "shared_folder": folder, "invite_status": "pending", "can_edit": False, "is_adhoc": True}
    assert read(series_json(**fields)) == Meeting(
        id=ID,
        title="Jour fixe",
        description="Agenda",
        start=at(2025, 7, 14, 7),
        end=at(2025, 7, 14, 8),
        recurrence=("RRULE:FREQ=WEEKLY",),
        room="r1",
        password="s3cret",
        call_in=CallIn("+4930123456", "0123456789", "9876543210"),
        e2e=True,
        guest_access="direct_access",
        shared_folder=SharedFolder("https://cloud.example.org/s/x", "pw"),
        invite_status="pending",
        adhoc=True,
        creator="Alice Adams",
        created=datetime(2025, 6, 2, 8, 11, 22, 123456, tzinfo=UTC),
        updated=datetime(2025, 6, 3, 6, 0, 1, 500000, tzinfo=UTC),
    )


def test_what_is_optional_may_be_missing_or_null_and_what_is_new_is_ignored() -> None:
    least = event_json(title=None, description=..., starts_at=..., ends_at=..., is_all_day=None, invite_status="later")
    least["room"] = {"id": "r1", "password": None, "call_in": None, "alias": {"new": [1]}}
    meeting = read({**least, "can_edit": None, "recurrence_pattern": None, "moons": 3, "type": "webinar"})
    assert (meeting.title, meeting.start, meeting.end, meeting.password) == ("", None, None, None)
    assert (meeting.invite_status, meeting.own, meeting.recurrence) == ("later", False, ())


def test_an_end_before_the_start_or_none_is_the_start() -> None:
    assert read(event_json(ends_at=time_json("2025-07-14T06:00:00Z"))).end == at(2025, 7, 14, 7)
    assert read(event_json(ends_at=None)).end == at(2025, 7, 14, 7)


def test_one_unreadable_event_is_named_and_the_others_go_on() -> None:
    other = event_json(id="00000000-0000-4000-8000-000000000002")
    meetings, unreadable = joined(event_json(title=7), other)
    assert set(meetings) == {other["id"]}
    assert unreadable == {ID: "Expected `str | null`, got `int` - at `$.title`"}


@pytest.mark.parametrize(
    ("item", "said"),
    [
        (event_json(starts_at=time_json("2025-07-14T07:00:00Z", "W. Europe Standard Time")), "W. Europe Standard Time"),
        (event_json(starts_at=time_json("2025-07-14T07:00:00")), "timezone component"),
        (event_json(starts_at=time_json("0001-01-01T00:00:00+02:00")), "outside of 1900"),
        (event_json(room={}), "`id`"),
        (event_json(type="recurring", recurrence_pattern=["FREQ=WEEKLY;COUNT=0"]), "COUNT"),
        (event_json(type="recurring", recurrence_pattern=["FREQ=DAILY;UNTIL=20200101T000000Z"]), "no date"),
    ],
)
def test_what_is_wrong_is_said_without_the_title(item: dict[str, Any], said: str) -> None:
    assert said in problem({**item, "title": "Kündigung"})
    assert "Kündigung" not in problem({**item, "title": "Kündigung"})


@pytest.mark.parametrize(
    "page", [b"", b"{}", b"[1]", b"[null]", b'[{"title":"x"}]', b'[{"id":7}]', b'[{"id":"../x"}]', b'[{"id":"a"}', b"<"]
)
def test_a_page_that_is_no_list_of_things_with_ids_is_a_bad_answer(page: bytes) -> None:
    with pytest.raises(BadAnswer, match=r"opentalk\.work"):
        Listing("opentalk.work").add(page)


def test_overrides_join_their_series_whatever_the_order_and_are_sorted() -> None:
    items = [series_json(), exception_json(28, status="cancelled"), exception_json(21, title="Moved", description="")]
    expected = (
        Override(at(2025, 7, 21, 7), title="Moved", description=""),
        Override(at(2025, 7, 28, 7), cancelled=True),
    )
    for seed in range(6):
        shuffled = random.Random(seed).sample(items, 3)
        assert read(*shuffled).overrides == expected


def test_exceptions_on_another_page_join_too() -> None:
    listing = Listing("opentalk.work")
    assert listing.add(msgspec.json.encode([exception_json(21, status="cancelled")])) == 1
    listing.add(msgspec.json.encode([series_json()]))
    assert len(listing.join()[0][ID].overrides) == 1


def test_an_occurrence_whose_start_alone_is_moved_lasts_as_long_as_the_others() -> None:
    moved = read(series_json(), exception_json(21, starts_at=time_json("2025-07-21T07:30:00Z", "Europe/Paris")))
    assert moved.overrides[0].start == at(2025, 7, 21, 7, 30, zone="Europe/Paris")
    assert moved.overrides[0].end == at(2025, 7, 21, 8, 30, zone="Europe/Paris")


def test_of_what_is_listed_twice_the_last_counts() -> None:
    twice = read(
        series_json(title="Old"),
        exception_json(21, title="Old"),
        series_json(title="New"),
        exception_json(21, title="New"),
    )
    assert (twice.title, [override.title for override in twice.overrides]) == ("New", ["New"])
    assert read(event_json(title=7), event_json()).title == "Jour fixe"
    assert problem(event_json(), event_json(title=7))


def test_exceptions_without_their_series_are_dropped() -> None:
    assert joined(exception_json(21), exception_json(22, original_starts_at=None)) == ({}, {})


def test_an_unreadable_exception_makes_its_series_unreadable() -> None:
    assert problem(series_json(), exception_json(21, original_starts_at=None)).startswith("an exception of it: ")
    assert "Nope" in problem(exception_json(21, starts_at=time_json("2025-07-21T09:00:00Z", "Nope")), series_json())


def test_the_recorded_listings_are_read_without_a_loss() -> None:
    pages = [
        exchange["response"]["body"]
        for exchange in recorded("opentalk-0.30.1.jsonl")
        if exchange["request"]["url"].startswith("/v1/events?per_page=7&time_independent=false")
    ]
    listing = Listing("opentalk.work")
    items = sum(listing.add(page.encode()) for page in pages)
    meetings, unreadable = listing.join()
    assert unreadable == {}
    assert items == len(meetings) + sum(len(meeting.overrides) for meeting in meetings.values())
    (weekly,) = (meeting for meeting in meetings.values() if meeting.title == "Weekly")
    assert [override.cancelled for override in weekly.overrides] == [False, True, False]
    assert weekly.overrides[0].start == at(2026, 11, 24, 10)


def test_ten_thousand_meetings_fit_into_memory() -> None:
    phone = {"tel": "+49 30 5557890", "id": "0123456789", "password": "9876543210"}
    page = msgspec.json.encode(
        [
            event_json(
                id=f"{n:08}-0000-4000-8000-000000000000", room={"id": f"room-{n:031}", "call_in": phone}, title=f"M{n}"
            )
            for n in range(2000)
        ]
    )
    tracemalloc.start()
    try:
        listing = Listing("opentalk.work")
        listing.add(page)
        meetings, _ = listing.join()
        assert tracemalloc.get_traced_memory()[0] / len(meetings) < 1200
    finally:
        tracemalloc.stop()


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), st.lists, max_leaves=4), st.data())
def test_no_value_anywhere_costs_more_than_its_event(value: Any, data: st.DataObject) -> None:
    item = event_json()
    name = data.draw(st.sampled_from([name for name in item if name != "id"]))
    other = event_json(id="00000000-0000-4000-8000-000000000002")
    meetings, unreadable = joined({**item, name: value}, other)
    assert meetings.keys() | unreadable.keys() == {ID, other["id"]}
    assert other["id"] in meetings


def test_an_unreadable_invite_is_passed_over() -> None:
    good = {"invite_code": "c", "active": True, "expiration": None, "created": "2025-06-02T08:11:22.1Z"}
    assert [invite.invite_code for invite in read_invites(msgspec.json.encode([{}, good, 3]), "opentalk.work")] == ["c"]
    with pytest.raises(BadAnswer):
        list(read_invites(b"<html>", "opentalk.work"))


def test_an_occurrence_keeps_its_own_end() -> None:
    moved = read(
        series_json(),
        exception_json(21, starts_at=time_json("2025-07-21T09:00:00Z"), ends_at=time_json("2025-07-21T08:00:00Z")),
    ).overrides[0]
    assert moved.start is not None
    assert moved.end == moved.start
    longer = read(series_json(), exception_json(21, ends_at=time_json("2025-07-21T09:00:00Z"))).overrides[0]
    assert (longer.start, longer.end) == (None, When(moved.original.utc + timedelta(hours=2), "Europe/Berlin"))


def test_the_recurrence_of_an_event_is_parsed_once_until_it_is_in_the_ledger() -> None:
    for items in ([series_json()], [exception_json(21), series_json()]):
        listed = read(*items)
        lines = CountedLines(listed.recurrence)
        force_setattr(listed, "recurrence", lines)
        assert row_of(listed).end is None
        hidden = Override(original=at(2025, 9, 1, 7), cancelled=True)
        window = Window(listed.created, listed.created + timedelta(days=50))
        whole = with_overrides_outside(listed, replace(listed, overrides=(hidden,)), window)
        assert hidden in whole.overrides
        assert row_of(whole).end is None
        assert lines.times == 0
