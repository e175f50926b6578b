# SPDX-License-Identifier: Apache-2.0
import csv
import io
import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.demo.serve import Traffic
from syncd.ledger.ledger import Ledger
from syncd.ledger.lock import sync_lock
from syncd.transport import Answer, HttpClient
from tests.support.calendar_servers import free_port, radicale, xandikos
from tests.support.end_to_end import EndToEnd
from tests.support.meetings import NOW


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[EndToEnd]:
    with EndToEnd(tmp_path) as rig:
        yield rig


def get(url: str, **headers: str) -> Answer:
    remote = HttpClient("test")
    try:
        return remote.send("GET", url, headers=headers)
    finally:
        remote.close()


@pytest.mark.parametrize("server", [radicale, xandikos], ids=["radicale", "xandikos"])
def test_sync_puts_the_week_into_a_real_calendar_and_then_does_nothing(tmp_path: Path, server: object) -> None:
    assert callable(server)
    with EndToEnd(tmp_path, server=server()) as rig:
        first = rig.syncd("sync", "--json")
        assert (first.code, first.err) == (0, "")
        meetings = len(rig.coming())
        result = json.loads(first.out)
        assert result["accounts"] == {"alice": {"state": "ok", "meetings": meetings + 1, "invites": 6, "hashes": 6}}
        nothing = dict.fromkeys(("updated", "deleted", "adopted", "left", "failed"), 0)
        assert result["calendars"] == {"team": {"state": "ok", "created": meetings, **nothing}}
        objects = rig.objects()
        assert sorted(objects) == sorted(f"syncd-{event}.ics" for event in rig.coming())
        again = json.loads(rig.syncd("sync", "--json").out)
        assert again["calendars"] == {"team": {"state": "ok", "created": 0, **nothing}}
        assert rig.objects() == objects


def test_a_dry_run_prints_the_plan_and_changes_nothing_anywhere(rig: EndToEnd) -> None:
    planned = rig.syncd("sync", "--dry-run")
    assert planned.code == 0
    assert "team: created" in planned.out
    assert "Budget 2027" in planned.out
    assert not (rig.folder / "state").exists()
    rig.syncd("sync")
    before, ledger = rig.objects(), (rig.folder / "state" / "ledger.sqlite").read_bytes()
    traffic = rig.stage.opentalk.app
    assert isinstance(traffic, Traffic)
    traffic.clear()
    budget = next(event for event, title in rig.coming().items() if title == "Budget 2027")
    rig.stage.opentalk.delete(budget)
    planned = rig.syncd("sync", "--dry-run", "--json")
    assert json.loads(planned.out)["calendars"]["team"]["deleted"] == 1
    assert rig.objects() == before
    assert (rig.folder / "state" / "ledger.sqlite").read_bytes() == ledger
    assert {method for method, path in rig.opentalk_log if "auth" not in path} == {"GET"}


def test_events_lists_each_meeting_once_and_makes_no_link(rig: EndToEnd) -> None:
    listed = json.loads(rig.syncd("events", "--json").out)
    titles = [event["title"] for event in listed]
    assert sorted(titles) == sorted([*rig.coming().values(), "Project room"])
    assert all(event["guest"] is None for event in listed)
    assert not [path for method, path in rig.opentalk_log if method == "POST" and path.endswith("/invites")]
    fixe = next(event for event in listed if event["title"] == "Jour fixe")
    assert len(fixe["exceptions"]) == 1
    rows = list(csv.DictReader(io.StringIO(rig.syncd("events", "--csv", "--from", "+6d").out)))
    assert {row["title"] for row in rows} >= {"Jour fixe", "Stand-up"}
    assert "Project room" not in {row["title"] for row in rows}


def test_a_wrong_password_is_told_once_and_exits_with_77(rig: EndToEnd) -> None:
    (rig.folder / "alice.password").write_text("wrong", encoding="utf-8")
    done = rig.syncd("sync")
    assert done.code == 77
    assert "opentalk.alice" in done.out
    assert "wrong" not in done.err.replace("password is wrong", "")
    tokens = [request for request in rig.stage.identity.app.log if request.path.endswith("/token")]
    assert len(tokens) == 1
    status = json.loads(rig.syncd("status", "--json").out)
    assert status["accounts"]["alice"]["state"] == "needs_login"


def test_a_wrong_openmeetings_password_is_tried_once_and_the_meetings_go_out_without_that_link(rig: EndToEnd) -> None:
    (rig.folder / "openmeetings.password").write_text("wrong", encoding="utf-8")
    done = rig.syncd("sync", "--json")
    assert done.code == 1
    assert len(rig.stage.openmeetings.penalties) == 1
    assert len(rig.objects()) == len(rig.coming())
    assert rig.stage.openmeetings.hashes == []


def test_a_second_process_on_the_ledger_learns_which_one_has_it(rig: EndToEnd) -> None:
    with sync_lock(rig.folder / "state", NOW):
        done = rig.syncd("sync")
    assert (done.code, done.out) == (75, "")
    assert "is syncing on" in done.err


def test_all_problems_of_a_wrong_configuration_are_printed_and_it_exits_with_78(rig: EndToEnd) -> None:
    text = rig.config.read_text(encoding="utf-8")
    rig.config.write_text(text.replace('url = "', 'ulr = "', 1) + "\n[nonsense]\n", encoding="utf-8")
    done = rig.syncd("sync")
    assert done.code == 78
    assert "did you mean" in done.err
    assert "nonsense" in done.err


def test_check_online_asks_every_server(rig: EndToEnd) -> None:
    done = rig.syncd("check", "--online")
    assert (done.code, done.out.strip()) == (0, f"{rig.config}: all is well, all servers agree")
    assert len(rig.stage.openmeetings.hashes) == 1
    assert rig.stage.openmeetings.entered == []
    (rig.folder / "calendar.password").write_text("wrong", encoding="utf-8")
    done = rig.syncd("check", "--online")
    assert done.code == 77
    assert "calendar team" in done.err


def test_the_daemon_syncs_serves_the_feed_and_ends_cleanly(rig: EndToEnd) -> None:
    port = free_port()
    rig.configure(feeds=f"127.0.0.1:{port}", every="10s")
    address = rig.syncd("feed", "add", "phone", "--label", "my phone").out.strip()
    assert address.startswith(f"http://127.0.0.1:{port}/feed/")
    with subprocess.Popen(rig.command("run"), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        lines = []
        for line in process.stderr:
            lines.append(line)
            if "push team" in line:
                break
        feed = get(address)
        assert feed.status == 200
        assert feed.body.count(b"BEGIN:VEVENT") >= len(rig.coming())
        assert get(address, **{"If-None-Match": feed.headers["etag"]}).status == 304
        second = rig.syncd("sync")
        assert (second.code, "calendar team" in second.out) == (0, True), second.err
        status = json.loads(rig.syncd("status", "--json").out)
        assert status["ok"] is True
        assert status["daemon"]["running"] is True
        assert rig.syncd("feed", "revoke", "phone").code == 0
        assert get(address).status == 404
        process.send_signal(signal.SIGTERM)
        lines += process.stderr
    assert process.returncode == 0
    output = "".join(lines)
    assert "Traceback" not in output
    token = address.rsplit("/", 1)[1]
    assert token not in output
    assert not [title for title in rig.coming().values() if title in output]
    assert len(rig.objects()) == len(rig.coming())


def test_a_feed_is_shown_without_its_address_and_its_name_is_taken_once(rig: EndToEnd) -> None:
    first = rig.syncd("feed", "add", "phone")
    assert rig.syncd("feed", "add", "phone").code == 2
    listed = json.loads(rig.syncd("feed", "list", "--json").out)
    assert [(each["name"], each["audience"]) for each in listed] == [("phone", "owner")]
    assert first.out.strip().rsplit("/", 1)[1] not in rig.syncd("feed", "list").out


def test_reading_commands_create_no_ledger(rig: EndToEnd) -> None:
    for words in (("status",), ("feed", "list"), ("events",), ("check",)):
        assert rig.syncd(*words).code == 0
    assert rig.syncd("explain", "0").code == 1
    assert not (rig.folder / "state").exists()


def test_too_many_deletions_are_held_with_exit_code_4_until_they_are_confirmed(rig: EndToEnd) -> None:
    rig.syncd("sync")
    for event in list(rig.coming()):
        rig.stage.opentalk.delete(event)
    done = rig.syncd("sync")
    assert done.code == 4
    assert "syncd confirm team" in done.out
    assert rig.syncd("confirm", "team").code == 0
    assert rig.syncd("sync").code == 0
    assert rig.objects() == {}


def test_a_name_is_confirmed_for_the_calendar_and_the_feed_that_bear_it(rig: EndToEnd) -> None:
    assert rig.syncd("confirm", "team").code == 1
    assert not (rig.folder / "state").exists()
    assert rig.syncd("feed", "add", "phone").code == 0
    rig.syncd("sync")
    assert rig.syncd("feed", "add", "team").code == 0
    nobody = rig.syncd("confirm", "nobody")
    assert (nobody.code, "there is team, phone" in nobody.err) == (2, True)
    assert rig.syncd("confirm", "phone").code == 1
    for event in list(rig.coming()):
        rig.stage.opentalk.delete(event)
    assert rig.syncd("sync").code == 4
    assert "phone: 6 deletions pass" in rig.syncd("confirm", "phone").err
    assert "team: 12 deletions pass" in rig.syncd("confirm", "team").err
    assert rig.syncd("sync").code == 0
    assert rig.objects() == {}
    status = json.loads(rig.syncd("status", "--json").out)
    assert {name: feed["entries"] for name, feed in status["feeds"].items()} == {"phone": 0, "team": 0}


def codes(rig: EndToEnd) -> list[str]:
    with Ledger.open(rig.folder / "state", read_only=True) as ledger:
        return [link.code for link in ledger.links.all().values() if link.code]


def test_explain_says_why_an_entry_looks_as_it_does_without_a_secret(rig: EndToEnd) -> None:
    budget = rig.week.budget
    assert rig.syncd("explain", budget).code == 1
    assert not (rig.folder / "state").exists()
    address = rig.syncd("feed", "add", "phone").out.strip()
    rig.syncd("sync")
    first = rig.syncd("explain", budget[:8].upper())
    assert (first.code, first.err) == (0, "")
    assert first.out.startswith(f"Budget 2027\nevent {budget}\n")
    for line in ("Europe/Berlin", f"placed as syncd-{budget}.ics", "feed phone", "calendar team          created: "):
        assert line in first.out
    moved = {key: {"datetime": f"2027-01-01T1{hour}:00:00Z", "timezone": "UTC"} for hour, key in enumerate(TIMES)}
    rig.stage.opentalk.patch(budget, title="Budget 2028", **moved)
    (rig.folder / "calendar.password").write_text("wrong", encoding="utf-8")
    rig.syncd("sync")
    waiting = rig.syncd("explain", budget)
    assert "next     it is written anew because title, start, end changed" in waiting.out
    assert "trouble  needs_login: " in waiting.out
    rig.configure()
    rig.syncd("sync")
    second = rig.syncd("explain", budget)
    assert second.out.startswith("Budget 2028\n")
    assert "Fri 2027-01-01 10:00 to 11:00 UTC" in second.out
    assert "account alice          changed: title, start, end" in second.out
    assert "calendar team          updated: " in second.out
    assert "written anew" not in second.out
    secrets = [*codes(rig), "s3cret", address.rsplit("/", 1)[1].removesuffix(".ics"), "://"]
    assert len(secrets) > 12
    assert not [secret for secret in secrets for output in (first, waiting, second) if secret in output.out]


TIMES = ("starts_at", "ends_at")


def test_explain_asks_for_more_where_a_beginning_is_of_none_or_of_several(rig: EndToEnd) -> None:
    rig.syncd("sync")
    nothing = rig.syncd("explain", "nothing")
    assert (nothing.code, nothing.out) == (2, "")
    assert "the ledger has no event nothing" in nothing.err
    several = rig.syncd("explain", "")
    assert several.code == 2
    assert sorted(line[:36] for line in several.out.splitlines()) == sorted(event["id"] for event in rig._events())
    assert all(title in several.out and title not in several.err for title in rig.coming().values())


def test_explain_shows_a_held_deletion_and_works_beside_the_daemon(rig: EndToEnd) -> None:
    rig.configure(feeds=f"127.0.0.1:{free_port()}")
    rig.syncd("sync")
    events = list(rig.coming())
    for event in events:
        rig.stage.opentalk.delete(event)
    rig.syncd("sync")
    with subprocess.Popen(rig.command("run"), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        try:
            assert any("push team" in line for line in process.stderr)
            output = rig.syncd("explain", events[0])
        finally:
            process.send_signal(signal.SIGTERM)
        process.stderr.read()
    assert output.code == 0
    assert "next     its deletion is held, one of 6: waits for `syncd confirm team`" in output.out
    assert "calendar team          held: its deletion waits for a person" in output.out


def test_the_daemon_reads_its_configuration_again_and_keeps_the_old_one_if_the_new_is_wrong(rig: EndToEnd) -> None:
    rig.configure(feeds=f"127.0.0.1:{free_port()}")
    good = rig.config.read_text(encoding="utf-8")
    with subprocess.Popen(rig.command("run"), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        try:
            assert any("push team" in line for line in process.stderr)
            before = rig.objects()
            rig.config.write_text(good.replace("[caldav.team]", "[caldav.team]\nevrey = 1"), encoding="utf-8")
            process.send_signal(signal.SIGHUP)
            assert any("is not taken; the old one stays" in line for line in process.stderr)
            rig.config.write_text(good.replace("[caldav.team]", "[caldav.other]"), encoding="utf-8")
            process.send_signal(signal.SIGHUP)
            assert any("the configuration was read again; 1 accounts" in line for line in process.stderr)
            assert any("push other" in line for line in process.stderr)
            status = json.loads(rig.syncd("status", "--json").out)
            assert status["calendars"]["team"]["state"] == "retired"
            assert status["calendars"]["other"]["entries"] == len(before)
        finally:
            process.send_signal(signal.SIGTERM)
        rest = process.stderr.read()
    assert process.returncode == 0, rest
    assert rig.objects() == before
