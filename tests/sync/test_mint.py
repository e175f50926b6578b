# SPDX-License-Identifier: Apache-2.0
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from threading import Barrier, Event

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from syncd.errors import LedgerError, LoginRefused, NeedsYou, Refused, Stopped, SyncdError, Unavailable
from syncd.ledger.ledger import Ledger
from syncd.ledger.links import Links
from syncd.model import Audience, Identity, Invite, Link, Meeting, Profile, Run, RunKey, Visitor
from syncd.plan.links import WAYS
from syncd.plan.pull import Keep, row_of
from syncd.sync.mint import mint
from syncd.sync.outages import Outages
from syncd.sync.pull import pull
from tests.support.meetings import DAY, NOW, meeting
from tests.support.memory_servers import MemoryLinkMaker, MemorySource
from tests.support.pipeline import LISTING, silent
from tests.support.tables import full_disk

PATIENCE = 20.0


class LinkRig:
    """Several accounts and an OpenMeetings, one calendar for guests of all, and a clock that requests can move."""

    def __init__(self, ledger: Ledger, accounts: Mapping[str, Sequence[Meeting]], workers: int = 1) -> None:
        self.now = NOW
        self.ledger = ledger
        self.workers = workers
        self.sources: dict[str, MemorySource] = {}
        for name, meetings in accounts.items():
            source = self.sources[name] = MemorySource(*meetings)
            source.person = Identity("https://id.example.org", name, f"user-{name}", name.title(), "Adams")
            self.pull(name)
        self.link_maker = MemoryLinkMaker()
        self.profile = Profile(
            accounts=tuple(accounts),
            urls=("https://meet.example.org",) * len(accounts),
            makers={"openmeetings": "https://om.example.org/openmeetings"},
            audience="guests",
            passwords=False,
            ways_in=WAYS,
            language="en",
            installation="0123",
            versions=("1",),
        )
        hosts = {RunKey("mint", name): "https://meet.example.org" for name in accounts}
        self.outages = Outages(hosts, lambda: self.now)

    def pull(self, name: str) -> None:
        pull(name, self.sources[name], self.ledger, replace(LISTING, names=tuple(self.sources)), self.now)

    def mint(self) -> dict[str, Run]:
        runs = mint(
            [self.profile, replace(self.profile, accounts=self.profile.accounts[::-1])],
            self.sources,
            {"openmeetings": self.link_maker},
            self.ledger,
            lambda: self.now,
            silent,
            self.outages,
            workers=self.workers,
        )
        return {run.key.name: run for run in runs}

    def links(self) -> dict[str, set[str]]:
        """The events that have a link of a kind."""
        links = self.ledger.links.all().values()
        return {kind: {link.event for link in links if link.kind == kind and link.code} for kind in ("invite", "hash")}


WEEK = [meeting(f"e{number}", number) for number in range(1, 8)]
EVENTS = {each.id for each in WEEK}


@pytest.fixture(params=[1, 8], ids=["one after the other", "side by side"])
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LinkRig]:
    with Ledger.open(tmp_path) as ledger:
        yield LinkRig(ledger, {"alice": WEEK}, workers=request.param)


@pytest.fixture
def memory() -> Iterator[Ledger]:
    with Ledger.in_memory() as ledger:
        yield ledger


class SlowSource(MemorySource):
    """An account of which every invite takes time."""

    def __init__(self, rig: LinkRig, takes: timedelta) -> None:
        super().__init__(*WEEK)
        self.person = rig.sources["alice"].person
        self._town = rig
        self._takes = takes

    def invite(self, meeting: Meeting) -> Invite | None:
        self._town.now += self._takes
        return super().invite(meeting)


class SlowLinkMaker(MemoryLinkMaker):
    """A link maker of which every hash takes time."""

    def __init__(self, rig: LinkRig, takes: timedelta) -> None:
        super().__init__()
        self._town = rig
        self._takes = takes

    def make(self, event: str, title: str, visitor: Visitor) -> str:
        self._town.now += self._takes
        return super().make(event, title, visitor)


@pytest.mark.parametrize("error", [Unavailable("down"), LoginRefused("no"), NeedsYou("what now")])
def test_a_dead_openmeetings_keeps_no_invite_waiting(rig: LinkRig, error: SyncdError) -> None:
    rig.link_maker.broken = error
    runs = rig.mint()
    assert {name: run.state for name, run in runs.items()} == {"alice": "ok", "openmeetings": error.state}
    assert rig.links() == {"invite": EVENTS, "hash": set()}
    rig.link_maker.broken = None
    assert rig.mint()["openmeetings"].counts == {"hashes": 7}


@pytest.mark.parametrize("error", [Unavailable("down"), LoginRefused("no"), NeedsYou("what now")])
@pytest.mark.parametrize("audience", ["owner", "guests"])
def test_a_dead_opentalk_keeps_no_hash_waiting(rig: LinkRig, error: SyncdError, audience: Audience) -> None:
    rig.profile = replace(rig.profile, audience=audience)
    rig.sources["alice"].broken["invite"] = error
    runs = rig.mint()
    assert {name: run.state for name, run in runs.items()} == {"alice": error.state, "openmeetings": "ok"}
    assert rig.links() == {"invite": set(), "hash": EVENTS}
    assert rig.sources["alice"].requests["invite"] == 1


class Waiting(MemoryLinkMaker):
    """A link maker that waits for an event before it makes a hash."""

    def __init__(self, happened: Event) -> None:
        super().__init__()
        self._happened = happened

    def make(self, event: str, title: str, visitor: Visitor) -> str:
        assert self._happened.wait(PATIENCE)
        return super().make(event, title, visitor)


class Telling(MemorySource):
    """An account that sets an event when it has made all its invites."""

    def __init__(self, *meetings: Meeting) -> None:
        super().__init__(*meetings)
        self.done = Event()

    def invite(self, meeting: Meeting) -> Invite | None:
        made = super().invite(meeting)
        if len(self.invites) == len(self.meetings):
            self.done.set()
        return made


def test_an_openmeetings_that_hangs_keeps_no_invite_waiting(tmp_path: Path) -> None:
    with Ledger.open(tmp_path) as ledger:
        rig = LinkRig(ledger, {"alice": WEEK}, workers=8)
        source = Telling(*WEEK)
        source.person = rig.sources["alice"].person
        rig.sources["alice"], rig.link_maker = source, Waiting(source.done)
        rig.mint()
        assert rig.links() == {"invite": EVENTS, "hash": EVENTS}


def test_a_slow_openmeetings_uses_up_its_own_time_alone(memory: Ledger) -> None:
    rig = LinkRig(memory, {"alice": WEEK})
    rig.link_maker = SlowLinkMaker(rig, timedelta(seconds=12))
    runs = rig.mint()
    assert rig.links() == {"invite": EVENTS, "hash": {"e1", "e2", "e3"}}
    assert (runs["alice"].cut_short, runs["openmeetings"].cut_short) == (False, True)
    while any(run.cut_short for run in rig.mint().values()):
        pass
    assert rig.links()["hash"] == EVENTS


def test_a_slow_opentalk_uses_up_its_own_time_alone(memory: Ledger) -> None:
    rig = LinkRig(memory, {"alice": WEEK})
    rig.sources["alice"] = SlowSource(rig, timedelta(seconds=12))
    runs = rig.mint()
    assert rig.links() == {"invite": {"e1", "e2", "e3"}, "hash": EVENTS}
    assert (runs["alice"].cut_short, runs["openmeetings"].cut_short) == (True, False)


shared = st.fixed_dictionaries(
    {name: st.dictionaries(st.sampled_from([f"e{day}" for day in range(1, 9)]), st.booleans()) for name in "abc"}
)


@settings(deadline=None, max_examples=40)
@given(shared, st.sampled_from([None, "a", "b", "c"]))
def test_whoever_has_a_meeting_each_link_is_made_once_and_nearest_first(
    having: dict[str, dict[str, bool]], dead: str | None
) -> None:
    accounts = {
        name: [meeting(event, int(event[1:]), own=own) for event, own in events.items()]
        for name, events in having.items()
    }
    with Ledger.in_memory() as ledger:
        rig = LinkRig(ledger, accounts)
        if dead:
            rig.sources[dead].broken["invite"] = Unavailable("down")
        rig.mint()
        makers = {name: list(source.invites) for name, source in rig.sources.items()}
        for name, made in makers.items():  # what another could not make comes when that is known
            at_once = [event for event in made if next(each for each in having if event in having[each]) == name]
            assert at_once == sorted(at_once)
        living = [name for name in having if name != dead]
        first = {
            event: next(name for name in living if having[name].get(event))
            for event in {event for name in living for event, own in having[name].items() if own}
        }
        assert {event: name for name, made in makers.items() for event in made} == first
        assert sum(map(len, makers.values())) == len(first)
        hashes = [event for event, _ in rig.link_maker.made]
        assert hashes == sorted({event for events in having.values() for event in events})
        assert rig.links() == {"invite": set(first), "hash": set(hashes)}
        rig.link_maker.made.clear()
        rig.mint()
        assert rig.link_maker.made == []


def test_many_threads_make_nothing_twice(tmp_path: Path) -> None:
    many = [meeting(f"e{number}", 1 + number / 10) for number in range(40)]
    foreign = [replace(each, own=False) for each in many]
    with Ledger.open(tmp_path) as ledger:
        rig = LinkRig(ledger, {"a": foreign, "b": foreign[::2] + many[1::2], "c": many}, workers=8)
        rig.mint()
        made = Counter(event for source in rig.sources.values() for event in source.invites)
        assert made == Counter({each.id for each in many})
        assert Counter(event for event, _ in rig.link_maker.made) == made
        assert rig.links() == {"invite": set(made), "hash": set(made)}
        assert rig.sources["a"].requests["invite"] == 40
        assert rig.sources["b"].requests["invite"] == 40
        assert rig.sources["c"].requests["invite"] == 20


class Together(MemorySource):
    """An account that answers only while others are asked, too."""

    def __init__(self, barrier: Barrier, *meetings: Meeting) -> None:
        super().__init__(*meetings)
        self._barrier = barrier

    def invite(self, meeting: Meeting) -> Invite | None:
        self._barrier.wait(PATIENCE)
        return super().invite(meeting)


def test_accounts_are_worked_off_side_by_side(tmp_path: Path) -> None:
    barrier = Barrier(3)
    with Ledger.open(tmp_path) as ledger:
        rig = LinkRig(ledger, {name: [meeting(f"of-{name}")] for name in "abc"}, workers=8)
        for name, source in rig.sources.items():
            waiting = Together(barrier, *source.meetings.values())
            waiting.person = source.person
            rig.sources[name] = waiting
        rig.mint()
        assert rig.links()["invite"] == {"of-a", "of-b", "of-c"}


class Gated(MemorySource):
    """An account that makes no invite before the gate is open, and ``opens`` it itself, or not."""

    def __init__(self, source: MemorySource, gate: Event, *, opens: bool) -> None:
        super().__init__(*source.meetings.values())
        self.person = source.person
        self._gate = gate
        self._opens = opens

    def invite(self, meeting: Meeting) -> Invite | None:
        if self._opens:
            self._gate.set()
        assert self._gate.wait(timeout=10)
        return super().invite(meeting)


def test_a_slow_host_holds_no_account_on_another_up(tmp_path: Path) -> None:
    gate = Event()
    with Ledger.open(tmp_path) as ledger:
        rig = LinkRig(ledger, {name: [meeting(f"of-{name}")] for name in "abcd"}, workers=3)
        hosts = {RunKey("mint", name): "https://slow.example.org" for name in "abc"}
        rig.outages = Outages({**hosts, RunKey("mint", "d"): "https://other.example.org"}, lambda: rig.now)
        for name, source in rig.sources.items():
            rig.sources[name] = Gated(source, gate, opens=name == "d")
        rig.mint()
        assert rig.links()["invite"] == {"of-a", "of-b", "of-c", "of-d"}


@pytest.mark.parametrize("audience", ["owner", "guests"])
def test_another_person_behind_the_login_makes_no_link(rig: LinkRig, audience: Audience) -> None:
    rig.profile = replace(rig.profile, audience=audience)
    rig.sources["alice"].person = Identity("https://id.example.org", "bob", "u2", "Bob", "Burton")
    runs = rig.mint()
    assert rig.sources["alice"].requests["invite"] == 0
    assert all(visitor.firstname == "" for _, visitor in rig.link_maker.made)
    assert len(rig.link_maker.made) == (0 if audience == "owner" else 7)
    assert runs["alice"].state == "needs_you"
    message = runs["alice"].message or ""
    assert "opentalk.alice" in message
    assert not {"Bob", "Burton", "Alice", "Adams"} & set(message.split())


def test_an_account_of_which_nobody_is_known_makes_no_link(memory: Ledger) -> None:
    rig = LinkRig(memory, {"alice": WEEK})
    rig.sources["new"] = MemorySource(meeting("of-new"))
    memory.meetings.save_pull(
        "new", [Keep(meeting("of-new"), row_of(meeting("of-new")))], Run(RunKey("pull", "new"), NOW)
    )
    rig.profile = replace(rig.profile, accounts=("alice", "new"), urls=("https://meet.example.org",) * 2)
    assert rig.mint()["new"].state == "needs_you"
    assert rig.sources["new"].requests["invite"] == 0
    assert rig.links()["invite"] == EVENTS


@pytest.mark.parametrize("broken", ["the first", "none"])
def test_a_refusal_is_one_meetings_alone(rig: LinkRig, broken: str) -> None:
    class Refusing(MemoryLinkMaker):
        def make(self, event: str, title: str, visitor: Visitor) -> str:
            if event == "e1" and broken == "the first":
                raise Refused("event e1: openmeetings refuses it")
            return super().make(event, title, visitor)

    rig.link_maker = Refusing()
    run = rig.mint()["openmeetings"]
    assert run.counts == ({"none": 1, "hashes": 6} if broken == "the first" else {"hashes": 7})
    assert run.state == "ok"


def test_nothing_is_made_that_a_full_ledger_could_not_note(memory: Ledger) -> None:
    rig = LinkRig(memory, {"alice": WEEK})
    with full_disk(memory):
        for _ in range(3):
            with pytest.raises(LedgerError):
                rig.mint()
    assert (rig.link_maker.made, rig.sources["alice"].invites) == ([], {})
    rig.mint()
    assert rig.links() == {"invite": EVENTS, "hash": EVENTS}


def test_a_run_without_wishes_writes_nothing_and_asks_nobody(rig: LinkRig) -> None:
    rig.mint()
    before = rig.ledger.database._reader().total_changes
    rig.sources["alice"].broken["invite"] = rig.link_maker.broken = Unavailable("down")
    assert rig.mint() == {}
    assert rig.ledger.database._reader().total_changes == before


def test_a_stop_ends_all_queues_and_the_links_made_are_saved(rig: LinkRig) -> None:
    def stop(_name: str, done: int, total: int) -> None:
        assert total == 14
        if done >= 4:
            raise Stopped("syncd is ending")

    with pytest.raises(Stopped):
        mint(
            [rig.profile],
            rig.sources,
            {"openmeetings": rig.link_maker},
            rig.ledger,
            lambda: rig.now,
            stop,
            workers=rig.workers,
        )
    links = rig.links()
    assert links["invite"] == set(rig.sources["alice"].invites)
    assert links["hash"] == {event for event, _ in rig.link_maker.made}
    assert 4 <= len(links["invite"]) + len(links["hash"]) <= 5


def test_a_host_that_wants_to_be_left_alone_is_by_all_its_accounts(memory: Ledger) -> None:
    rig = LinkRig(memory, {name: [meeting(f"of-{name}")] for name in "abc"})
    rig.sources["a"].broken["invite"] = Unavailable("asks for fewer requests (429)", 600.0)
    runs = rig.mint()
    assert sum(source.requests["invite"] for source in rig.sources.values()) == 1
    assert {runs[name].state for name in "abc"} == {"retrying"}
    assert {rig.outages.paused_until(RunKey("mint", name)) for name in "abc"} == {NOW + timedelta(minutes=10)}
    assert runs["openmeetings"].state == "ok"
    rig.now += timedelta(minutes=9)
    rig.mint()
    assert sum(source.requests["invite"] for source in rig.sources.values()) == 1
    rig.now += timedelta(minutes=1)
    rig.sources["a"].broken.clear()
    rig.mint()
    assert rig.links()["invite"] == {"of-a", "of-b", "of-c"}


def test_an_account_may_be_called_openmeetings(memory: Ledger) -> None:
    rig = LinkRig(memory, {"openmeetings": WEEK})
    rig.mint()
    assert rig.links() == {"invite": EVENTS, "hash": EVENTS}


def test_what_one_account_has_no_right_to_make_the_next_one_makes_and_nobody_asks_again_that_day(
    memory: Ledger,
) -> None:
    foreign = [replace(each, own=False) for each in WEEK]
    rig = LinkRig(memory, {"a": foreign, "b": foreign})
    assert rig.mint()["b"].counts == {"none": 7}
    rig.now = NOW + DAY / 2
    assert rig.mint() == {}
    rig.now = NOW + DAY
    assert rig.mint()["a"].counts["none"] == 7


class BrokenLinks(Links):
    """A table that takes no link."""

    def save(self, links: Iterable[tuple[Link, RunKey]]) -> None:
        if [*links]:
            raise LedgerError("the disk is full")


def test_a_ledger_that_breaks_ends_all_lines_before_each_has_made_something(tmp_path: Path) -> None:
    with Ledger.open(tmp_path) as ledger:
        ledger.links = BrokenLinks(ledger.database)
        rig = LinkRig(ledger, {name: [meeting(f"of-{name}")] for name in "abcdefgh"}, workers=2)
        with pytest.raises(LedgerError):
            rig.mint()
        made = len(rig.link_maker.made) + sum(len(source.invites) for source in rig.sources.values())
        assert 1 <= made <= 3, "what was under way: two at the host of the accounts, one at the link maker"
