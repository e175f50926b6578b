# SPDX-License-Identifier: Apache-2.0
"""``syncd sync``: one run of everything, or a dry run on a copy of the ledger with servers that are only read."""

import json
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime

import click

from syncd.cli import report
from syncd.cli.context import Context, clock, pass_context
from syncd.cli.progress import TerminalProgress
from syncd.config import Config
from syncd.daemon.signals import signalled
from syncd.jobs.dryrun import rehearse
from syncd.jobs.jobs import Jobs
from syncd.jobs.servers import Connect
from syncd.ledger.database import FILE
from syncd.ledger.ledger import Ledger
from syncd.ledger.lock import sync_lock, syncing
from syncd.model import Run

Clock = Callable[[], datetime]


def sync_once(config: Config, connect: Connect, clock: Clock) -> list[Run]:
    """Run every job once. Raises LedgerBusy, and KeyboardInterrupt once the step is finished in which Ctrl-C came."""
    with ExitStack() as stack:
        stop = stack.enter_context(signalled())
        stack.enter_context(sync_lock(config.state, clock()))
        ledger = stack.enter_context(Ledger.open(config.state))
        progress = stack.enter_context(TerminalProgress(stop.check))
        servers = connect(config)
        stack.callback(servers.close)
        runs = Jobs(config, ledger, servers, clock, progress.show).run_all()
    if stop.interrupted:
        raise KeyboardInterrupt
    return runs


def rehearse_once(config: Config, connect: Connect, clock: Clock, say: Callable[[str], None]) -> list[Run]:
    """Run every job once without changing anything; ``say`` gets a line for each write that would be made."""
    titles: dict[str, str] = {}

    def say_write(calendar: str, word: str, event: str) -> None:
        say(f"{calendar}: {word} {titles.get(event, event)}")

    with ExitStack() as stack:
        ledger = stack.enter_context(_copy(config))
        servers = connect(config)
        stack.callback(servers.close)
        jobs = Jobs(config, ledger, rehearse(servers), clock, on_write=say_write, workers=1)
        titles |= _titles(ledger, config)
        runs = [jobs.pull(account) for account in servers.sources]
        titles |= _titles(ledger, config)
        runs += jobs.mint()
        return runs + [jobs.push(calendar) for calendar in servers.calendars]


def _copy(config: Config) -> Ledger:
    if not (config.state / FILE).exists():
        return Ledger.in_memory()
    with Ledger.open(config.state, read_only=True) as original:
        return Ledger.in_memory(original)


def _titles(ledger: Ledger, config: Config) -> dict[str, str]:
    found = {}
    for event, origin in ledger.meetings.origins(tuple(config.accounts)).items():
        meeting = ledger.meetings.get(origin.account, event)
        if meeting and meeting.start:
            found[event] = f"{meeting.start.utc.isoformat(timespec='minutes')[:16]}Z {meeting.title}"
    return found


@click.command()
@click.option("--dry-run", is_flag=True, help="Print the plan and change nothing anywhere.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@pass_context
def sync(context: Context, *, dry_run: bool, as_json: bool) -> None:
    """Once: pull and push everything now.

    A daemon that is running does it.
    """
    from syncd.daemon.client import ControlClient  # noqa: PLC0415

    config = context.load()
    if dry_run:
        runs = rehearse_once(config, context.connect, clock, _hush if as_json else click.echo)
    elif (daemon := syncing(config.state)) and daemon.daemon:
        runs = ControlClient(config.state).sync()
    else:
        runs = sync_once(config, context.connect, clock)
    if as_json:
        click.echo(json.dumps(report.sync_json(config, runs), indent=1))
    else:
        click.echo("\n".join(report.sync_lines(runs)))
    raise SystemExit(report.exit_code(runs))


def _hush(_line: str) -> None:
    return
