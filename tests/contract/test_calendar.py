# SPDX-License-Identifier: Apache-2.0
"""What every calendar promises, held by the one in memory and by real servers."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Protocol

import icalendar
import pytest
from msgspec import Struct

from syncd.errors import Changed, NeedsYou, UidTaken
from syncd.model import Found, Seen, Stored
from tests.support import calendar_servers
from tests.support.calendar_objects import HREF, UID, calendar_object
from tests.support.memory_servers import MemoryCalendar

OTHER = "syncd-00000000-0000-4000-8000-000000000000.ics"


class Calendar(Protocol):
    @property
    def url(self) -> str: ...
    def create(self, href: str, body: bytes) -> Stored: ...
    def update(self, href: str, body: bytes, etag: str | None) -> Stored: ...
    def delete(self, href: str, etag: str | None) -> None: ...
    def fetch(self, href: str) -> Found | None: ...
    def seen(self, cursor: str | None) -> Seen: ...
    def check(self) -> None: ...
    def close(self) -> None: ...


class SharedCalendar(Struct):
    """A calendar, the same as somebody else has it open, and how the whole of it is deleted."""

    calendar: Calendar
    somebody: Calendar
    vanish: Callable[[], object]


@pytest.fixture(params=["memory", "radicale", "xandikos"])
def shared(request: pytest.FixtureRequest) -> Iterator[SharedCalendar]:
    if request.param == "memory":
        memory = MemoryCalendar()
        yield SharedCalendar(memory, memory, lambda: setattr(memory, "gone", True))
        return
    server = calendar_servers.radicale() if request.param == "radicale" else calendar_servers.xandikos()
    url = server.fresh_calendar()
    shared = SharedCalendar(server.calendar(url), server.calendar(url), lambda: server.send("DELETE", url))
    yield shared
    shared.calendar.close()
    shared.somebody.close()


@pytest.fixture
def calendar(shared: SharedCalendar) -> Calendar:
    return shared.calendar


def event(calendar: Calendar, href: str = HREF) -> icalendar.Event:
    found = calendar.fetch(href)
    assert found is not None
    return icalendar.Calendar.from_ical(found.body).events[0]


def _etag(calendar: Calendar, href: str) -> str | None:
    found = calendar.fetch(href)
    return found.etag if found else None


def test_what_is_created_can_be_fetched(calendar: Calendar) -> None:
    stored = calendar.create(HREF, calendar_object())
    found = calendar.fetch(stored.href)
    assert stored.href == HREF
    assert found is not None
    assert found.href == HREF
    assert stored.etag in (None, found.etag)
    assert event(calendar)["SUMMARY"] == "Jour fixe"


def test_a_second_creation_changes_nothing(calendar: Calendar) -> None:
    calendar.create(HREF, calendar_object())
    before = calendar.fetch(HREF)
    with pytest.raises(Changed):
        calendar.create(HREF, calendar_object("Another"))
    assert calendar.fetch(HREF) == before


def test_a_uid_is_taken_under_any_href(calendar: Calendar) -> None:
    calendar.create(HREF, calendar_object())
    with pytest.raises(UidTaken):
        calendar.create(OTHER, calendar_object())
    assert calendar.fetch(OTHER) is None


def test_the_right_etag_updates(calendar: Calendar) -> None:
    first = calendar.create(HREF, calendar_object())
    second = calendar.update(HREF, calendar_object("Moved"), first.etag)
    third = calendar.update(HREF, calendar_object("Moved again"), second.etag)
    assert len({first.etag, second.etag, third.etag}) == 3
    assert event(calendar)["SUMMARY"] == "Moved again"


def test_a_stale_etag_changes_nothing(shared: SharedCalendar) -> None:
    stored = shared.calendar.create(HREF, calendar_object())
    theirs = shared.somebody.update(HREF, calendar_object("Theirs"), stored.etag)
    assert theirs.etag != stored.etag
    with pytest.raises(Changed):
        shared.calendar.update(HREF, calendar_object("Ours"), stored.etag)
    with pytest.raises(Changed):
        shared.calendar.delete(HREF, stored.etag)
    assert event(shared.calendar)["SUMMARY"] == "Theirs"


def test_without_an_etag_what_is_there_is_updated(calendar: Calendar) -> None:
    calendar.create(HREF, calendar_object())
    calendar.update(HREF, calendar_object("Moved"), None)
    assert event(calendar)["SUMMARY"] == "Moved"


@pytest.mark.parametrize("etag", [None, '"never-seen"'])
def test_what_is_missing_cannot_be_updated(calendar: Calendar, etag: str | None) -> None:
    with pytest.raises(Changed):
        calendar.update(HREF, calendar_object(), etag)
    assert calendar.fetch(HREF) is None


@pytest.mark.parametrize("etag", [None, '"never-seen"'])
def test_what_is_missing_can_be_deleted(calendar: Calendar, etag: str | None) -> None:
    calendar.delete(HREF, etag)
    assert calendar.fetch(HREF) is None


@pytest.mark.parametrize("known", [True, False], ids=["etag", "no-etag"])
def test_what_is_deleted_is_gone_and_can_come_back(calendar: Calendar, known: bool) -> None:
    stored = calendar.create(HREF, calendar_object())
    calendar.delete(HREF, stored.etag if known else None)
    assert calendar.fetch(HREF) is None
    calendar.create(HREF, calendar_object())
    assert event(calendar)["UID"] == UID


def test_equal_bytes_keep_their_meaning_and_ours_stay_marked(calendar: Calendar) -> None:
    title = "Größe und 漢字 🎉 " + "sehr " * 40 + "lang"
    extra = "DESCRIPTION:" + "ä" * 300 + "\\n\\nAgenda\\, dann: https://meet.example.org/room/1\n"
    calendar.create(HREF, calendar_object(title, extra=extra))
    found = event(calendar)
    assert found["SUMMARY"] == title
    assert found["DESCRIPTION"] == "ä" * 300 + "\n\nAgenda, dann: https://meet.example.org/room/1"
    assert found["X-SYNCD-INSTALLATION"] == "0123abcd"
    assert found["X-SYNCD-DIGEST"] == "fedcba98"


def test_a_calendar_that_is_gone_is_not_an_empty_one(shared: SharedCalendar) -> None:
    stored = shared.calendar.create(HREF, calendar_object())
    shared.vanish()
    for attempt in (
        shared.calendar.check,
        lambda: shared.calendar.seen(None),
        lambda: shared.calendar.fetch(HREF),
        lambda: shared.calendar.create(OTHER, calendar_object()),
        lambda: shared.calendar.update(HREF, calendar_object(), stored.etag),
    ):
        try:
            attempt()
        except Changed:  # a precondition may be looked at first; who then looks, learns it
            with pytest.raises(NeedsYou):
                shared.calendar.fetch(HREF)
        except NeedsYou:
            continue
        else:
            pytest.fail("nobody noticed")


def test_a_calendar_that_is_gone_has_no_changes(shared: SharedCalendar) -> None:
    shared.calendar.create(HREF, calendar_object())
    cursor = shared.calendar.seen(None).cursor
    shared.vanish()
    with pytest.raises(NeedsYou):
        shared.calendar.seen(cursor)


def test_an_empty_calendar_is_completely_empty(calendar: Calendar) -> None:
    seen = calendar.seen(None)
    assert seen.etags == {}
    assert seen.complete


def test_what_is_created_is_seen_as_it_was_answered(calendar: Calendar) -> None:
    before = calendar.seen(None)
    first = calendar.create(HREF, calendar_object())
    since = calendar.seen(before.cursor)
    second = calendar.create(OTHER, calendar_object(uid="another"))
    for stored in (first, second):
        assert calendar.seen(None).etags[stored.href] == (stored.etag or _etag(calendar, stored.href))
    assert since.etags == {HREF: calendar.seen(None).etags[HREF]}
    assert calendar.seen(None).etags.keys() == {HREF, OTHER}
    assert calendar.seen(since.cursor).etags.keys() == {OTHER}


def test_where_nothing_changed_a_listing_of_changes_is_empty(calendar: Calendar) -> None:
    calendar.create(HREF, calendar_object())
    first = calendar.seen(None)
    assert first.cursor is not None
    second = calendar.seen(first.cursor)
    third = calendar.seen(second.cursor)
    assert not second.complete
    assert not third.complete
    assert (second.etags, third.etags) == ({}, {})


def test_an_edit_is_seen_by_its_etag(shared: SharedCalendar) -> None:
    stored = shared.calendar.create(HREF, calendar_object())
    before = shared.calendar.seen(None)
    shared.somebody.update(HREF, calendar_object("Theirs"), stored.etag)
    since, everything = shared.calendar.seen(before.cursor), shared.calendar.seen(None)
    assert before.etags[HREF] != everything.etags[HREF] == _etag(shared.calendar, HREF)
    assert not since.complete
    assert since.etags == everything.etags


def test_a_deletion_is_reported_or_proven_by_absence(shared: SharedCalendar) -> None:
    shared.calendar.create(HREF, calendar_object())
    shared.calendar.create(OTHER, calendar_object(uid="another"))
    before = shared.calendar.seen(None)
    shared.somebody.delete(HREF, before.etags[HREF])
    since, everything = shared.calendar.seen(before.cursor), shared.calendar.seen(None)
    assert since.etags == {HREF: None}
    assert not since.complete
    assert everything.etags == {OTHER: before.etags[OTHER]}
    assert everything.complete


def test_what_was_deleted_and_came_back_is_there(shared: SharedCalendar) -> None:
    shared.calendar.create(HREF, calendar_object())
    before = shared.calendar.seen(None)
    shared.somebody.delete(HREF, None)
    shared.somebody.create(HREF, calendar_object("Back"))
    assert shared.calendar.seen(before.cursor).etags == {HREF: _etag(shared.calendar, HREF)}


@pytest.mark.parametrize(
    "cursor", ["made-up", "http://radicale.org/ns/sync/" + "0" * 64, "0" * 40, "memory/99", "<&>"], ids=range(5)
)
def test_an_unknown_cursor_gets_a_whole_listing(calendar: Calendar, cursor: str) -> None:
    calendar.create(HREF, calendar_object())
    seen = calendar.seen(cursor)
    assert seen.complete
    assert seen.etags == {HREF: _etag(calendar, HREF)}
    assert calendar.seen(seen.cursor).etags == {}


def test_the_calendar_in_memory_forgets_what_changed_when_its_cursors_expire() -> None:
    memory = MemoryCalendar()
    old = memory.seen(None).cursor
    memory.user_puts(HREF, calendar_object())
    memory.expire_cursors()
    seen = memory.seen(old)
    assert seen.complete
    assert not memory.seen(seen.cursor).complete


def test_four_threads_share_a_calendar(calendar: Calendar) -> None:
    numbers = count()
    uids = [f"00000000-0000-4000-8000-{next(numbers):012}" for _ in range(12)]
    with ThreadPoolExecutor(4) as pool:
        stored = list(pool.map(lambda uid: calendar.create(f"syncd-{uid}.ics", calendar_object(uid=uid)), uids))
    assert {each.href for each in stored} == {f"syncd-{uid}.ics" for uid in uids}
    assert {event(calendar, each.href)["UID"] for each in stored} == set(uids)
