# SPDX-License-Identifier: Apache-2.0
import logging
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.daemon.systemd import Notifier

PROCESS = 4711


class Systemd:
    """The other end of ``NOTIFY_SOCKET``."""

    def __init__(self, name: str) -> None:
        self.environ = {"NOTIFY_SOCKET": name}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(10)
        self._socket.bind(f"\0{name[1:]}" if name.startswith("@") else name)

    def heard(self) -> list[str]:
        return self._socket.recv(4096).decode().split("\n")

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Systemd]:
    systemd = Systemd(f"@syncd-{uuid4()}" if request.param == "abstract" else str(tmp_path / "notify"))
    yield systemd
    systemd.close()


@pytest.fixture(scope="module")
def shared() -> Iterator[Systemd]:
    systemd = Systemd(f"@syncd-{uuid4()}")
    yield systemd
    systemd.close()


def test_systemd_hears_how_the_daemon_stands(systemd: Systemd) -> None:
    notifier = Notifier(systemd.environ, PROCESS, lambda: 12_345_678_901)
    notifier.ready("1 account, 2 calendars")
    assert systemd.heard() == ["READY=1", "STATUS=1 account, 2 calendars"]
    notifier.reloading()
    assert systemd.heard() == ["RELOADING=1", "MONOTONIC_USEC=12345678"]
    notifier.status("team waits")
    assert systemd.heard() == ["STATUS=team waits"]
    notifier.alive()
    assert systemd.heard() == ["WATCHDOG=1"]
    notifier.stopping("ending")
    assert systemd.heard() == ["STOPPING=1", "STATUS=ending"]


def test_the_moment_of_a_reload_is_on_the_clock_that_systemd_compares_it_with(systemd: Systemd) -> None:
    notifier = Notifier(systemd.environ, PROCESS)
    before = clock_us()
    notifier.reloading()
    moment = int(systemd.heard()[1].removeprefix("MONOTONIC_USEC="))
    assert before <= moment <= clock_us()


def clock_us() -> int:
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


@given(st.text(max_size=200))
def test_no_status_can_say_anything_but_a_status(shared: Systemd, text: str) -> None:
    Notifier(shared.environ, PROCESS).ready(text)
    first, second = shared.heard()
    assert first == "READY=1"
    assert second.startswith("STATUS=")


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1"}], ids=str)
def test_without_a_systemd_that_listens_nothing_is_told_nor_logged(
    environ: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    notifier = Notifier({**environ, "WATCHDOG_USEC": "90000000"}, PROCESS)
    notifier.ready("1 account")
    notifier.alive()
    assert notifier.interval is None
    assert caplog.records == []


def test_a_systemd_that_is_gone_does_not_end_the_daemon(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}, PROCESS)
    notifier.ready("1 account")
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == f"systemd could not be told READY: {os.strerror(2)}"


def test_a_systemd_that_does_not_listen_any_more_does_not_hold_the_daemon_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    systemd = Systemd(str(tmp_path / "notify"))
    notifier = Notifier(systemd.environ, PROCESS)
    while not caplog.records:  # until its queue is full
        notifier.alive()
    assert "could not be told WATCHDOG" in caplog.text
    assert systemd.heard() == ["WATCHDOG=1"]
    systemd.close()


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "90000000"}, 45),
        ({"WATCHDOG_USEC": "90000000", "WATCHDOG_PID": str(PROCESS)}, 45),
        ({"WATCHDOG_USEC": "90000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_USEC": "²"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_PID": str(PROCESS)}, None),
    ],
    ids=str,
)
def test_a_sign_of_life_is_due_after_half_of_what_the_watchdog_allows(
    environ: dict[str, str], seconds: float | None
) -> None:
    assert Notifier({"NOTIFY_SOCKET": "/run/systemd/notify", **environ}, PROCESS).interval == seconds
