# SPDX-License-Identifier: Apache-2.0
"""``syncd check``: is the configuration right, and do the servers agree."""

import click

from syncd.cli.context import Context, clock, code_of, collecting, pass_context
from syncd.config import Config
from syncd.config.secret import Secret
from syncd.errors import SyncdError


@click.command()
@click.option("--online", is_flag=True, help="Ask all the servers, too.")
@pass_context
def check(context: Context, *, online: bool) -> None:
    """Is the configuration right; with --online: do all the servers agree."""
    config = context.load()
    problems: list[SyncdError] = []
    for secret in _secrets(config):
        with collecting(problems):
            secret.reveal()
    if online and not problems:
        _check_online(context, config, problems)
    for problem in problems:
        click.echo(str(problem), err=True)
    if problems:
        raise SystemExit(code_of(problems))
    click.echo(f"{config.path}: all is well" + (", all servers agree" if online else ""))


def _secrets(config: Config) -> list[Secret]:
    """The secrets of all tables that are enabled; none is read here."""
    return [
        *(account.password for account in config.accounts.values() if account.enabled and account.password),
        *(calendar.password for calendar in config.calendars.values() if calendar.enabled),
        *(secret for maker in config.makers.values() for secret in maker.secrets),
    ]


def _check_online(context: Context, config: Config, problems: list[SyncdError]) -> None:
    from syncd.sync.pull import ListingSettings, probe  # noqa: PLC0415

    servers = context.connect(config)
    try:
        for name, source in servers.sources.items():
            with collecting(problems):
                settings = config.accounts[name]
                count = probe(source, ListingSettings(settings.past, settings.ahead), clock())
                click.echo(f"opentalk.{name}: signed in, {count} meetings", err=True)
        for name, calendar in servers.calendars.items():
            with collecting(problems):
                calendar.check()
                click.echo(f"caldav.{name}: a calendar that can be written", err=True)
        for name, maker in servers.makers.items():
            with collecting(problems):
                click.echo(f"{name}: {maker.check()}", err=True)
    finally:
        servers.close()
