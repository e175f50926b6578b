# SPDX-License-Identifier: Apache-2.0
"""``syncd demo``: all of syncd on this machine, between embedded servers. Nothing is left behind."""

import secrets
import socket
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime
from functools import partial
from pathlib import Path
from zoneinfo import ZoneInfo

import click

from syncd.config import Config, load
from syncd.daemon.process import running
from syncd.daemon.signals import signalled
from syncd.demo.calendar_server import CalendarServer
from syncd.demo.stage import PASSWORDS, Stage
from syncd.demo.week import Week
from syncd.jobs.jobs import Jobs
from syncd.jobs.servers import connect
from syncd.ledger.ledger import Ledger
from syncd.model import Feed, Run
from syncd.plan.links import WAYS
from syncd.transport import HttpClient
from syncd.web.addresses import feed_address, token_key
from syncd.web.feeds import feed_app
from syncd.web.published import PublishedFeeds
from syncd.web.server import RunningServer

CHANGE_SECONDS = 15.0

Clock = Callable[[], datetime]


def show(*, once: bool, clock: Clock, language: str) -> None:
    """Run the demo: one pass with ``once``, else until Ctrl-C or SIGTERM, with a change every 15 seconds."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="syncd-demo-")))
        stage = stack.enter_context(Stage(clock))
        server = stack.enter_context(
            CalendarServer(folder / "calendars", username="alice", password=PASSWORDS["alice"])
        )
        week = Week(stage.opentalk, clock().date(), language)
        calendar = f'url = "{server.url}"\ncalendar = "OpenTalk"'
        path = stage.write_config(
            folder,
            {"team": calendar},
            calendar_password=server.password,
            feeds=f"127.0.0.1:{_free_port()}",
            language=language,
            every="10s",
        )
        config = load(path, {}, WAYS)
        feed = _add_feed(config, clock)
        if once:
            _once(config, clock, server, feed)
        else:
            _watch(config, clock, stage, server, week, feed)


def _once(config: Config, clock: Clock, server: CalendarServer, feed: str) -> None:
    assert config.feeds  # noqa: S101 -- the stage wrote it
    with (
        Ledger.open(config.state) as ledger,
        RunningServer(feed_app(PublishedFeeds(config, ledger)), config.feeds.listen),
    ):
        servers = connect(config, clock)
        runs = Jobs(config, ledger, servers, clock).run_all()
        servers.close()
        click.echo("One pass of syncd between embedded servers on this machine:\n")
        for run in runs:
            click.echo(f"  {_line(run)}")
        click.echo(f"\nIn the calendar of {server.username} on the calendar server (Radicale), and in the feed:\n")
        profile = next(iter(Jobs(config, ledger, servers, clock).profiles.values()))
        for entry in sorted(ledger.entries.of(profile.key).values(), key=lambda each: each.start):
            meeting = ledger.meetings.get(profile.accounts[0], entry.event)
            if meeting and meeting.start:
                local = meeting.start.utc.astimezone(ZoneInfo(meeting.start.zone))
                when = f"{local:%a %d %b}" if meeting.all_day else f"{local:%a %d %b %H:%M}"
                repeats = " (repeats)" if meeting.recurrence else ""
                click.echo(f"  {when:17} {meeting.title}{repeats}")
        web = HttpClient("the feed")
        answer = web.send("GET", feed)
        again = web.send("GET", feed, headers={"If-None-Match": answer.headers["etag"]})
        web.close()
        click.echo(f"\nThe feed answers {answer.status}, {len(answer.body)} bytes; asked again: {again.status}.")
        click.echo(
            "All of it is gone now: `syncd demo` leaves it up, changes it while you watch, and tells you the addresses."
        )


def _line(run: Run) -> str:
    names = {"pull": "OpenTalk account", "mint": "links,", "maker": "links,", "push": "calendar", "feed": "feed"}
    counts = ", ".join(f"{count} {word}" for word, count in run.counts.items() if count)
    return f"{names[run.key.kind]} {run.key.name}: {counts or run.message or 'nothing to do'}"


def _watch(config: Config, clock: Clock, stage: Stage, server: CalendarServer, week: Week, feed: str) -> None:
    with signalled() as ending, running(config, partial(connect, clock=clock), clock):
        click.echo(
            f"""syncd between embedded servers on this machine; nothing is kept. End it with Ctrl-C.

  OpenTalk      {stage.web}  (Alice Adams: alice / {PASSWORDS["alice"]})
  OpenMeetings  {stage.meetings}  (syncd / {PASSWORDS["syncd"]})
  Calendar      {server.url}  ({server.username} / {server.password})
                add it to a calendar program as a CalDAV calendar; syncd writes the one named OpenTalk
  Feed          {feed}
                subscribe to it: Thunderbird, File > New > Calendar > On the Network

Something happens every {CHANGE_SECONDS:.0f} seconds; syncd looks every 10.
"""
        )
        for saying, change in week.changes():
            if ending.wait(CHANGE_SECONDS):
                return
            click.echo(f"* {saying}")
            change()


def _add_feed(config: Config, clock: Clock) -> str:
    """Make a feed for Alice's phone and return its address."""
    token = secrets.token_urlsafe(32)
    with Ledger.open(config.state) as ledger:
        ledger.feeds.add(
            Feed("phone", token_key(token), tuple(config.accounts), "owner", False, "Alice's phone", clock())
        )
    assert config.feeds  # noqa: S101 -- the stage wrote it
    return feed_address(config.feeds.public_url, token)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
