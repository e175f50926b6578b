# SPDX-License-Identifier: Apache-2.0
import shutil
import subprocess
from configparser import ConfigParser
from pathlib import Path

import pytest

from syncd.daemon.systemd import Notifier
from syncd.errors import ConfigError
from syncd.transport import PATIENCE

FOLDER = Path(__file__).parent.parent / "systemd"
UNIT = FOLDER / "syncd.service"


def service() -> ConfigParser:
    parser = ConfigParser(strict=False, interpolation=None, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # the documented way to keep case
    parser.read(UNIT, encoding="utf-8")
    return parser


def rules(name: str) -> list[list[str]]:
    lines = (FOLDER / name).read_text(encoding="utf-8").splitlines()
    return [line.split() for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("Type", "notify"),
        ("NotifyAccess", "main"),
        ("WatchdogSec", "90s"),
        ("ExecStart", "/usr/bin/syncd run"),
        ("User", "syncd"),
        ("StateDirectory", "syncd"),
        ("StateDirectoryMode", "0700"),
        ("LoadCredential", "syncd:/etc/syncd/secrets/"),
        ("UMask", "0077"),
        ("Restart", "on-failure"),
        ("KillSignal", "SIGTERM"),
        ("TimeoutStopSec", "30s"),
        ("LimitCORE", "0"),
        ("ProtectSystem", "strict"),
        ("NoNewPrivileges", "yes"),
        ("CapabilityBoundingSet", ""),
        ("MemoryDenyWriteExecute", "yes"),
        ("RestrictAddressFamilies", "AF_INET AF_INET6 AF_UNIX"),
    ],
)
def test_the_decisive_lines_stand_in_the_unit(key: str, value: str) -> None:
    assert service()["Service"][key] == value


def test_a_wrong_configuration_is_not_restarted_and_everything_else_is_without_end() -> None:
    assert service()["Service"]["RestartPreventExitStatus"] == str(ConfigError.code)
    assert service()["Unit"]["StartLimitIntervalSec"] == "0"


def test_a_reload_is_the_signal_that_reads_the_configuration_again() -> None:
    assert service()["Service"]["ExecReload"] == "/bin/kill -HUP $MAINPID"


def test_a_daemon_that_is_stuck_is_killed_and_started_again() -> None:
    assert service()["Service"]["Restart"] in ("on-failure", "on-abnormal", "on-watchdog", "always")
    assert "WatchdogSignal" not in service()["Service"]  # SIGABRT, at which Python tells where it is stuck


def test_the_end_has_time_for_the_step_in_hand_and_the_watchdog_for_two_signs_of_life() -> None:
    end, watchdog = (int(service()["Service"][key].removesuffix("s")) for key in ("TimeoutStopSec", "WatchdogSec"))
    assert end >= PATIENCE
    assert Notifier({"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": f"{watchdog}000000"}, 1).interval == watchdog / 2


def test_every_line_of_the_unit_stands_below_a_comment_that_says_why() -> None:
    lines = UNIT.read_text(encoding="utf-8").split("[Service]")[1].split("[Install]")[0].strip().splitlines()
    blocks = "\n".join(lines).split("\n\n")
    assert all(block.startswith("#") for block in blocks)


def test_the_folders_that_the_unit_loads_from_are_made_and_closed() -> None:
    folders = {rule[1]: rule[2:] for rule in rules("syncd.tmpfiles")}
    loaded = service()["Service"]["LoadCredential"].partition(":")[2].rstrip("/")
    assert folders[loaded] == ["0700", "root", "root"]
    assert folders["/etc/syncd"] == ["0750", "root", "syncd"]


def test_the_user_of_the_unit_is_made() -> None:
    (rule,) = rules("syncd.sysusers")
    assert rule[:2] == ["u", service()["Service"]["User"]]
    assert rule[-1] == "/var/lib/syncd"


@pytest.fixture
def analyze(tmp_path: Path) -> tuple[str, Path]:
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("there is no systemd-analyze on this machine")
    unit = tmp_path / "syncd.service"  # verify wants the program to be there
    unit.write_text(UNIT.read_text(encoding="utf-8").replace("/usr/bin/syncd run", "/bin/true"), encoding="utf-8")
    return tool, unit


def test_systemd_understands_every_line(analyze: tuple[str, Path]) -> None:
    tool, unit = analyze
    done = subprocess.run([tool, "verify", "--man=no", unit], capture_output=True, text=True, check=False)
    assert [line for line in done.stderr.splitlines() if "syncd" in line] == []


def test_systemd_finds_little_exposure(analyze: tuple[str, Path]) -> None:
    tool, unit = analyze
    done = subprocess.run(
        [tool, "security", "--offline=true", "--threshold=15", "--no-pager", unit],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-500:]
