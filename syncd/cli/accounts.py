# SPDX-License-Identifier: Apache-2.0
"""Commands for accounts: sign in and out."""

import time

import click

from syncd.cli import report
from syncd.cli.context import Context, clock, pass_context, tell
from syncd.config import Config
from syncd.errors import NeedsYou
from syncd.ledger.lock import syncing


@click.command()
@click.argument("account", required=False)
@pass_context
def login(context: Context, account: str | None) -> None:
    """Sign an account in, in any browser: prints an address and a code.

    ACCOUNT may be left out if there is only one.
    """
    from syncd.ledger.ledger import Ledger  # noqa: PLC0415
    from syncd.opentalk.login import sign_in, sign_out  # noqa: PLC0415

    config = context.load()
    name = _one_account(config, account)
    settings = config.accounts[name]
    if settings.username is not None:
        raise click.UsageError(f"{name} has a username and password in the configuration: there is nothing to sign in")
    claims, token = sign_in(settings, say=tell, wait=time.sleep, clock=clock)
    with Ledger.open(config.state) as ledger:
        before = ledger.accounts.identity(name)
        if before and (before.issuer, before.subject) != (claims.issuer, claims.subject):
            sign_out(settings, token, clock=clock)
            raise NeedsYou(
                f"opentalk.{name}: another person signed in than before; nothing is changed. Give the table a new "
                "name for a new person, or sign in as the one before"
            )
        ledger.accounts.save_refresh_token(name, token)
    click.echo(f"{name}: signed in", err=True)
    if (daemon := syncing(config.state)) and daemon.daemon:
        from syncd.daemon.client import ControlClient  # noqa: PLC0415

        click.echo("\n".join(report.sync_lines(ControlClient(config.state).pull(name))))


@click.command()
@click.argument("account", required=False)
@pass_context
def logout(context: Context, account: str | None) -> None:
    """Forget an account's sign-in, here and at its identity provider.

    ACCOUNT may be left out if there is only one.
    """
    from syncd.ledger.accounts import SignIns  # noqa: PLC0415
    from syncd.opentalk.login import sign_out  # noqa: PLC0415

    config = context.load()
    name = _one_account(config, account)
    sign_ins = SignIns(config.state)
    token = sign_ins.refresh_token(name)
    if token is None:
        raise NeedsYou(f"{name}: nobody is signed in")
    sign_ins.save_refresh_token(name, None)
    sign_out(config.accounts[name], token, clock=clock)
    click.echo(f"{name}: signed out", err=True)


def _one_account(config: Config, account: str | None) -> str:
    if account is None and len(config.accounts) > 1:
        raise click.UsageError(f"say which account: {', '.join(config.accounts)}")
    name = account or next(iter(config.accounts))
    if name not in config.accounts:
        raise click.UsageError(f"there is no account {name}; there is {', '.join(config.accounts)}")
    return name
