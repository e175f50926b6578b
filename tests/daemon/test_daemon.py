# SPDX-License-Identifier: Apache-2.0
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from syncd.daemon.daemon import Daemon
from syncd.daemon.process import ClockJump
from syncd.daemon.signals import StopRequest
from syncd.errors import NeedsYou
from syncd.jobs.jobs import SIDE_BY_SIDE
from syncd.jobs.servers import Servers
from syncd.ledger.ledger import Ledger
from syncd.model import Identity, Snapshot, Window
from syncd.transport import Answer, HttpClient
from tests.support.calendar_servers import free_port, radicale
from tests.support.configuration import configure
from tests.support.end_to_end import EndToEnd
from tests.support.kill_points import CalendarProxy
from tests.support.meetings import meeting
from tests.support.memory_servers import MemoryCalendar, MemorySource

PATIENCE = 30


def clock() -> datetime:
    return datetime.now(UTC)


class SlowSource(MemorySource):
    """An account whose listing waits until it is let through."""

    def __init__(self) -> None:
        super().__init__(meeting())
        self.begun = threading.Event()
        self.gate = threading.Event()

    def snapshot(self, window: Window | None, have: Mapping[str, str] = {}) -> Snapshot:
        self.begun.set()
        assert self.gate.wait(PATIENCE)
        return super().snapshot(window, have)


def test_a_stop_waits_for_the_step_in_hand_which_may_still_ring_others(tmp_path: Path) -> None:
    config, source, calendar = configure(tmp_path, openmeetings=False), SlowSource(), MemoryCalendar("team")
    servers = Servers({"work": source}, {}, {"team": calendar}, lambda: None)
    with Ledger.open(tmp_path / "state") as ledger:
        daemon = Daemon(config, ledger, servers, clock, StopRequest())
        daemon.start()
        assert source.begun.wait(PATIENCE)
        stopping = threading.Thread(target=daemon.stop)
        stopping.start()
        source.gate.set()
        stopping.join(PATIENCE)
        assert not stopping.is_alive()
        assert source.requests["full snapshot"] == 1
        assert ledger.meetings.counts()["work"] == 1


def test_accounts_on_a_slow_host_hold_no_account_on_another_up(tmp_path: Path) -> None:
    slow = {f"slow{number}": SlowSource() for number in range(SIDE_BY_SIDE + 1)}
    other = MemorySource(meeting())
    urls = {**dict.fromkeys(slow, 'url = "https://slow.example.org"'), "other": 'url = "https://other.example.org"'}
    config = configure(tmp_path, accounts=urls, calendars={})
    with Ledger.open(config.state) as ledger:
        for name, source in (*slow.items(), ("other", other)):
            source.person = Identity("https://id.example.org", name, f"u-{name}", "Alice", "Adams")
        daemon = Daemon(config, ledger, Servers({**slow, "other": other}, {}, {}, lambda: None), clock, StopRequest())
        daemon.start()
        try:
            (run,) = daemon.pull("other")
            assert run.state == "ok"
        finally:
            for source in slow.values():
                source.gate.set()
            daemon.stop()


def test_a_clock_that_jumps_or_a_machine_that_slept_is_noticed_once() -> None:
    wall, steady = datetime(2026, 11, 23, 12, tzinfo=UTC), 100.0
    clocks = ClockJump(lambda: wall, lambda: steady)
    wall, steady = wall + timedelta(seconds=30), steady + 30
    assert not clocks.detected()
    for jump in (timedelta(hours=8), -timedelta(days=1)):
        wall, steady = wall + jump, steady + 30
        assert clocks.detected()
        assert not clocks.detected()


def test_commands_ask_a_daemon_that_lists_the_whole_window_for_them(tmp_path: Path) -> None:
    config, source, calendar = (
        configure(tmp_path, openmeetings=False),
        MemorySource(meeting(day=10)),
        MemoryCalendar("team"),
    )
    servers = Servers({"work": source}, {}, {"team": calendar}, lambda: None)
    with Ledger.open(tmp_path / "state") as ledger:
        daemon = Daemon(config, ledger, servers, clock, StopRequest())
        daemon.start()
        try:
            daemon.sync()
            source.meetings["e2"] = meeting("e2", day=20)
            runs = {(run.key.kind, run.key.name): run for run in daemon.sync()}
            assert runs["pull", "work"].counts["changed"] == 1
            assert runs["pull", "work"].scope == "window"
            assert sorted(calendar.objects) == ["syncd-e1.ics", "syncd-e2.ics"]
            with pytest.raises(NeedsYou, match="does not know it"):
                daemon.pull("other")
            assert daemon.confirm("team") == (0, [])
        finally:
            daemon.stop()


STOPS = 25
"""Seconds within which a daemon ends, before systemd kills it."""


@contextmanager
def alive(rig: EndToEnd) -> Iterator[None]:
    """A daemon that has begun, until the test is through with it."""
    with subprocess.Popen(rig.command("run"), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        try:
            assert any("running; " in line for line in process.stderr)
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            _, output = process.communicate(timeout=STOPS)
        assert (process.returncode, "Traceback" in output) == (0, False), output


def get(url: str, **headers: str) -> Answer:
    with closing(HttpClient("test")) as remote:
        return remote.send("GET", url, headers=headers)


def made(rig: EndToEnd, proxy: CalendarProxy) -> tuple[int, int, int]:
    """How much was ever written into the calendar, and how many links were made."""
    invites = [path for method, path in rig.opentalk_log if method == "POST" and path.endswith("/invites")]
    return proxy.writes, len(rig.stage.openmeetings.hashes), len(invites)


def test_a_daemon_that_is_started_again_writes_nothing_and_serves_what_it_served(tmp_path: Path) -> None:
    with closing(CalendarProxy(radicale())) as proxy, EndToEnd(tmp_path, before=proxy, server=radicale()) as rig:
        rig.configure(feeds=f"127.0.0.1:{free_port()}")
        address = rig.syncd("feed", "add", "phone").out.strip()
        with alive(rig):
            assert rig.syncd("sync").code == 0
            first = get(address)
        objects, before = rig.objects(), made(rig, proxy)
        assert objects.keys() == {f"syncd-{event}.ics" for event in rig.coming()}
        with alive(rig):
            again = get(address)
            assert (again.body, again.headers["etag"]) == (first.body, first.headers["etag"])
            assert rig.syncd("sync").code == 0
            assert get(address).body == first.body
            assert get(address, **{"If-None-Match": first.headers["etag"]}).status == 304
        assert (rig.objects(), made(rig, proxy)) == (objects, before)
        event = next(iter(rig.coming()))
        rig.stage.opentalk.patch(event, title="Changed meanwhile")
        with alive(rig):
            assert rig.syncd("sync").code == 0
            changed = get(address, **{"If-None-Match": first.headers["etag"]})
        assert changed.status == 200
        assert b"SUMMARY:Changed meanwhile" in changed.body
        assert b"SUMMARY:Changed meanwhile" in rig.objects()[f"syncd-{event}.ics"]
        assert made(rig, proxy) == (before[0] + 1, *before[1:])
        assert proxy.faults == []
