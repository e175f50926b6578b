# SPDX-License-Identifier: Apache-2.0
"""``syncd`` is killed again and again at random steps while the meetings change; then it runs once more in peace."""

import http.client
import random
import re
import socket
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

import pytest
from starlette.types import ASGIApp

from syncd.demo.openmeetings import CONTEXT
from syncd.demo.serve import RunningServer
from syncd.ledger.ledger import Ledger
from tests.support.calendar_objects import digest_in, revision_of
from tests.support.calendar_servers import Server, radicale
from tests.support.end_to_end import EndToEnd
from tests.support.kill_points import LEDGER, CalendarProxy, Death, Killer, KillPoint, Moment, ProcessEnd
from tests.support.random_edits import RandomEdits

TRIALS = 8
KILLS = 27
MOMENTS: tuple[Moment, ...] = ("before", "after", "after", "later")


class Trial:
    """An end-to-end rig with kill points before its servers and a feed, and the laws that hold after every kill."""

    def __init__(self, folder: Path, server: Server, chance: random.Random) -> None:
        self._chance = chance
        self._socket = folder / "feed.sock"
        self._stack = ExitStack()
        self.killer = Killer(folder, self._change, self._look_at_feed)
        self.proxy = CalendarProxy(server)
        self._stack.callback(self.proxy.close)
        self.rig = EndToEnd(folder, before=KillPoint("calendar", self.proxy, self.killer), server=server)
        self.stage = self._stack.enter_context(self.rig).stage
        self.stage.web = self._gated("opentalk", self.stage.opentalk.app)
        self.stage.identity.url = self._gated("identity", self.stage.identity.app)
        self.stage.meetings = self._gated("openmeetings", self.stage.openmeetings.app) + CONTEXT
        self.rig.configure()
        self._stack.enter_context(self.killer)
        self.edits = RandomEdits(self.stage.opentalk, self.rig.week, chance)
        self.short_feeds: list[str] = []
        self._settled: set[str] = set()
        self._pending = len(self.edits.events())
        self._feed = self._make_feed()

    def _gated(self, name: str, app: ASGIApp) -> str:
        return self._stack.enter_context(RunningServer(KillPoint(name, app, self.killer))).url

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def syncd(
        self, *words: str, death: Death | None = None, wrong: Callable[[], Sequence[str]] | None = None
    ) -> ProcessEnd:
        environ = {"SYNCD_FEEDS__LISTEN": f"unix:{self._socket}"}
        return self.killer.run(["--config", str(self.rig.config), *words], death, environ=environ, wrong=wrong)

    def _make_feed(self) -> str:
        done = self.syncd("feed", "add", "phone")
        assert done.code == 0, done.output
        return "/feed/" + done.output.strip().rpartition("/")[2]

    def _change(self) -> None:
        self.edits.make_one()
        self._pending += 1

    def go_on(self) -> ProcessEnd:
        """Edit the meetings, and run a daemon or a one-shot sync until it is killed."""
        for _ in range(self._chance.randint(0, 3)):
            self._change()
        before, pending = set(self.edits.events()), self._pending
        word = self._chance.choice(("run", "sync"))
        done = self.syncd(word, death=self._some_death())
        # A daemon never ends by itself; a one-shot run may lack the link of a meeting that went meanwhile.
        assert done.code in ((-9,) if word == "run" else (-9, 0, 1)), done.output
        if done.code == 0:
            self._settled, self._pending = before, self._pending - pending
        return done

    def _some_death(self) -> Death:
        chance, events, pending = self._chance, self.edits.events().keys(), self._pending
        new, gone = len(events - self._settled), len(self._settled - events)
        most_and_weight = {
            "identity": (2, 1),
            "opentalk": (7 + 2 * new, 1),
            "opentalk GET /v1/events": (3, 2),
            "opentalk POST": (new, 2),
            "openmeetings": (6 * new, 2),
            "openmeetings POST /openmeetings/services/user/hash": (2 * new, 2),
            "calendar": (1 + pending, 1),
            "calendar GET": (1, 1),
            "calendar PUT": (pending, 5),
            "calendar DELETE": (gone, 3),
            LEDGER: (12 + 6 * pending, 5),
        }
        places = {place: weight for place, (most, weight) in most_and_weight.items() if most}
        (place,) = chance.choices(list(places), list(places.values()))
        most = most_and_weight[place][0]
        number = min(chance.randint(1, most), chance.randint(1, most))  # what lies far is seldom reached
        delay = chance.choice((0, 0.0005, 0.002, 0.01))
        change = chance.choice((0, 0, chance.randint(1, 12)))
        return Death(place, number, chance.choice(MOMENTS), delay, change)

    def finish(self) -> None:
        """One run that is not killed: a one-shot sync, or a daemon until its calendar and its ledger agree."""
        once = self._chance.random() < 0.5
        done = self.syncd("sync") if once else self.syncd("run", wrong=lambda: [*self.disagreements(), *self.orphans()])
        assert done.code == 0, done.output

    def disagreements(self) -> list[str]:
        """The differences between the calendar and Alice's meetings."""
        events, objects = self.edits.events(), self.rig.objects()
        wrong = [f"{href} is too much" for href in objects.keys() - {f"syncd-{event}.ics" for event in events}]
        for event in events.values():
            body = objects.get(f"syncd-{event.id}.ics")
            if body is None:
                wrong.append(f"{event.id} is missing")
            elif (shown := self.edits.occurrences_in(body)) != (there := self.edits.occurrences(event)):
                wrong.append(f"{event.id} shows {sorted(shown - there)} and lacks {sorted(there - shown)}")
            elif links := self._wrong_links(event.id, body.replace(b"\r\n ", b"").decode()):
                wrong.append(f"{event.id} has {links}")
        return wrong

    def _wrong_links(self, event: str, text: str) -> str | None:
        shown = set(re.findall(r"invite=([0-9a-f-]{36})", text))
        there = {each["invite_code"] for each in self.stage.opentalk.guest_invites(event)}
        if shown - there or (len(shown) != 1 and self.edits.is_own(event)):
            return f"{len(shown)} guest links, {len(there)} are there"
        codes = set(re.findall(r"hash\?secure=([0-9a-f-]{36})", text))
        return None if len(codes) == 1 and codes <= self._hashes()[event, "Alice"] else "no hash of its own"

    def _hashes(self) -> dict[tuple[str, str], set[str]]:
        """The hashes that OpenMeetings has made, by the event whose room they open and who comes in by them."""
        openmeetings = self.stage.openmeetings
        found: dict[tuple[str, str], set[str]] = {}
        for each in list(openmeetings.hashes):
            key = (openmeetings.rooms[each.room].external_id or "", each.visitor.firstname)
            found.setdefault(key, set()).add(each.code)
        return found

    def superfluous(self) -> tuple[int, int]:
        """How many guest invites and hashes were made that no meeting needed."""
        posts = Counter(path for method, path in self.rig.opentalk_log if method == "POST" and "/invites" in path)
        return (sum(posts.values()) - len(posts), sum(len(codes) - 1 for codes in self._hashes().values()))

    def orphans(self) -> Iterator[str]:
        """The differences between the ledger's placements and the objects in the calendar."""
        objects = self.rig.objects()
        with Ledger.open(self.rig.folder / "state", read_only=True) as ledger:
            placed = {each.href: each for each in ledger.placements.of("team").values()}
        yield from (f"{href} is only in one of them" for href in objects.keys() ^ placed.keys())
        for href in objects.keys() & placed.keys():
            body, place = objects[href], placed[href]
            if (revision_of(body), digest_in(body), place.state) != (place.revision, place.digest, "placed"):
                yield f"{href} is not as the ledger has it"

    def damage(self) -> str | None:
        """What SQLite finds wrong in the ledger as it lies there: looked at in a copy, so that nothing is repaired."""
        with TemporaryDirectory() as folder:
            for file in (self.rig.folder / "state").glob("ledger.sqlite*"):
                (Path(folder) / file.name).write_bytes(file.read_bytes())
            with closing(sqlite3.connect(Path(folder) / "ledger.sqlite")) as copy:
                found = copy.execute("PRAGMA integrity_check").fetchone()[0]
        return None if found == "ok" else str(found)

    def traces(self) -> tuple[int, int, int]:
        """What a quiet run must not make: writes to the calendar, requests for invites, hashes."""
        posts = sum(method == "POST" and "/invites" in path for method, path in self.rig.opentalk_log)
        return self.proxy.writes, posts, len(self.stage.openmeetings.hashes)

    def _look_at_feed(self) -> None:
        """A daemon is about to die: its feed has every meeting that was in step before, or says that it cannot."""
        with closing(_UnixConnection(self._socket)) as connection:
            try:
                connection.request("GET", self._feed)
                answer = connection.getresponse()
                body = answer.read()
            except (OSError, http.client.HTTPException):
                return  # it does not serve yet, or has ended
        there = set(re.findall(r"^UID:([0-9a-f-]{36})", body.decode(), re.MULTILINE))
        lost = (self._settled & self.edits.events().keys()) - there
        if answer.status == 200 and lost:
            self.short_feeds.append(f"{len(lost)} of {len(self._settled)} meetings are missing")


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=5)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


@pytest.mark.parametrize("number", range(TRIALS))
def test_killed_anywhere_and_run_again_nothing_is_lost_doubled_or_orphaned(number: int, tmp_path: Path) -> None:
    seed = random.getrandbits(32) + number
    print(f"seed {seed}")  # noqa: T201 -- what pytest shows when it fails
    with Trial(tmp_path, radicale(), random.Random(seed)) as trial:
        while trial.killer.deaths.total() < KILLS:
            done = trial.go_on()
            print(done.died or f"lived {done.code}")  # noqa: T201
            assert trial.damage() is None
            assert max(trial.superfluous()) <= trial.killer.deaths.total()
        trial.finish()
        assert trial.disagreements() == []
        assert list(trial.orphans()) == []
        assert trial.superfluous()[0] == 0  # an invite that was made and not noted is found again
        assert (trial.proxy.faults, trial.short_feeds) == ([], [])
        before = trial.traces()
        assert trial.syncd("sync").code == 0
        assert trial.traces() == before
        assert trial.damage() is None
        print(*(f"{times:3} {where}" for where, times in trial.killer.deaths.most_common()), sep="\n")  # noqa: T201


@pytest.mark.parametrize("command", ["sync", "run"])
def test_a_meeting_that_goes_after_a_kill_between_its_put_and_the_record_leaves_the_calendar(
    command: str, tmp_path: Path
) -> None:
    with Trial(tmp_path, radicale(), random.Random(1)) as trial:
        assert trial.syncd("sync").code == 0
        event = trial.edits.create()
        done = trial.syncd(command, death=Death("calendar PUT", 1, "after"))
        assert (done.code, done.died.split()[:2]) == (-9, ["calendar", "PUT"])
        assert f"syncd-{event}.ics" in trial.rig.objects()
        trial.stage.opentalk.delete(event)
        assert trial.syncd("sync").code == 0
        assert trial.disagreements() == []


@pytest.mark.parametrize("write", range(1, 20))
def test_killed_while_the_ledger_is_made_the_next_start_makes_it(write: int, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    account = "[opentalk.alice]\nurl = 'https://meet.example.org'\nusername = 'alice'\npassword = { env = 'NONE' }\n"
    state = f"[syncd]\nstate = '{tmp_path / 'state'}'\n"
    config.write_text(f"{state}{account}[feeds]\nlisten = '127.0.0.1:0'\npublic_url = 'https://syncd.example.org'\n")
    with Killer(tmp_path, lambda: None, lambda: None) as killer:
        for name, death in (("first", Death(LEDGER, write)), ("second", None)):
            done = killer.run(["--config", str(config), "feed", "add", name], death)
            assert done.code in ((-9, 0) if death else (0,)), done.output
