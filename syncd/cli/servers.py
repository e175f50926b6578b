# SPDX-License-Identifier: Apache-2.0
"""Commands that ask the servers themselves: do they agree, and which meetings are there now."""

import json
from datetime import datetime

import click

from syncd import report
from syncd.cli.context import Context, clock, code_of, collecting, pass_context
from syncd.config import Config
from syncd.errors import SyncdError
from syncd.progress import TerminalProgress


@click.command()
@click.option("--online", is_flag=True, help="Ask all the servers, too.")
@pass_context
def check(context: Context, *, online: bool) -> None:
    """Is the configuration right; with --online: do all the servers agree."""
    config = context.load()
    problems: list[SyncdError] = []
    secrets_asked = [
        *(account.password for account in config.accounts.values() if account.enabled and account.password),
        *(calendar.password for calendar in config.calendars.values() if calendar.enabled),
        *([config.openmeetings.password] if config.openmeetings else []),
    ]
    for secret in secrets_asked:
        with collecting(problems):
            secret.reveal()
    if online and not problems:
        _check_online(config, problems)
    for problem in problems:
        click.echo(str(problem), err=True)
    if problems:
        raise SystemExit(code_of(problems))
    click.echo(f"{config.path}: all is well" + (", all servers agree" if online else ""))


def _check_online(config: Config, problems: list[SyncdError]) -> None:
    from syncd.jobs.servers import connect  # noqa: PLC0415

    remotes = connect(config, clock)
    try:
        for name, source in remotes.sources.items():
            with collecting(problems):
                source.identity()
                click.echo(f"opentalk.{name}: signed in", err=True)
        for name, calendar in remotes.calendars.items():
            with collecting(problems):
                calendar.check()
                click.echo(f"caldav.{name}: a calendar that can be written", err=True)
        if remotes.minter:
            with collecting(problems):
                remotes.minter.check()
                click.echo("openmeetings: account, right, room and a hash", err=True)
    finally:
        remotes.close()


@click.command()
@click.argument("account", required=False)
@click.option("--from", "since", metavar="D", help="Meetings that end after D: 2026-11-22, RFC 3339 or +7d.")
@click.option("--to", "until", metavar="D", help="Meetings that start before D.")
@click.option("--csv", "as_csv", is_flag=True, help="Print a table for spreadsheets.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@pass_context
def events(
    context: Context, account: str | None, since: str | None, until: str | None, *, as_csv: bool, as_json: bool
) -> None:
    """List the meetings as OpenTalk has them now."""
    from syncd.events import list_events  # noqa: PLC0415

    if as_csv and as_json:
        raise click.UsageError("--csv or --json, not both")
    config = context.load()
    enabled = [name for name, settings in config.accounts.items() if settings.enabled]
    if account is not None and account not in enabled:
        raise click.UsageError(f"there is no account {account}; there is {', '.join(enabled)}")
    accounts = [account] if account else enabled
    problems: list[SyncdError] = []
    with TerminalProgress() as progress:
        listed = list_events(config, accounts, _date(since), _date(until), clock, progress.show, problems)
    for problem in problems:
        click.echo(str(problem), err=True)
    if problems and len(problems) == len(accounts):
        raise SystemExit(code_of(problems))
    if as_json:
        click.echo(json.dumps(listed, indent=1, ensure_ascii=False))
    elif as_csv:
        click.echo(report.events_csv(listed), nl=False)
    else:
        click.echo("\n".join(report.event_lines(listed)))
    if problems:
        raise SystemExit(1)


def _date(text: str | None) -> datetime | None:
    try:
        return report.parse_date(text, clock()) if text is not None else None
    except (ValueError, OverflowError):
        raise click.UsageError(f"{text} is no date (example: 2026-11-22, 2026-11-22T09:00:00Z or +7d)") from None
