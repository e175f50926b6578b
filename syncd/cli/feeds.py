# SPDX-License-Identifier: Apache-2.0
"""Commands for feeds: subscribed calendars, whose addresses are secrets."""

import json
import re
import secrets

import click

from syncd.cli.context import Context, clock, pass_context
from syncd.cli.progress import TerminalProgress
from syncd.config import Config
from syncd.errors import ConfigError, LedgerError
from syncd.ledger.database import FILE
from syncd.model import Feed


@click.group()
def feed() -> None:
    """Subscribed calendars: secret addresses, one for each device."""


@feed.command("add")
@click.argument("name")
@click.option("--account", "accounts", multiple=True, help="Whose meetings; may be given more than once.")
@click.option("--audience", type=click.Choice(["owner", "guests"]), help="Who reads it.")
@click.option("--passwords", is_flag=True, help="With passwords and PINs: the address travels through other servers.")
@click.option("--label", default="", metavar="DEVICE", help="For whom or what it is.")
@pass_context
def feed_add(
    context: Context, name: str, accounts: tuple[str, ...], audience: str | None, label: str, *, passwords: bool
) -> None:
    """Make a feed; its address is printed now and never again."""
    from syncd.config.profiles import feed_profile  # noqa: PLC0415
    from syncd.ledger.ledger import Ledger  # noqa: PLC0415
    from syncd.sync.feed import build_feed  # noqa: PLC0415
    from syncd.web.addresses import feed_address, token_key  # noqa: PLC0415

    config = context.load()
    if config.feeds is None:
        raise ConfigError([f"{config.path}: feeds: there is no such table (example: [feeds] with public_url)"])
    if not re.fullmatch(r"[a-z0-9-]+", name):
        raise click.UsageError(f"a feed's name is [a-z0-9-]+, not {name}")
    account_names = _accounts(config, accounts)
    if audience == "owner" and len(account_names) > 1:
        raise click.UsageError("a feed of several accounts is for guests: an owner's links are one person's")
    readers = audience or ("owner" if len(account_names) == 1 else "guests")
    token = secrets.token_urlsafe(32)
    with Ledger.open(config.state) as ledger, TerminalProgress() as progress:
        new_feed = Feed(name, token_key(token), account_names, readers, passwords, label, clock())  # type: ignore[arg-type]
        if not ledger.feeds.add(new_feed):
            raise click.UsageError(f"there is a feed {name}: give another name, or `syncd feed revoke {name}` first")
        profile = feed_profile(config, ledger.secrets.get("installation"), new_feed)
        if profile and (run := build_feed(new_feed, profile, ledger, clock(), progress.show)):
            ledger.history.save(run)
    click.echo(feed_address(config.feeds.public_url, token))


def _accounts(config: Config, names: tuple[str, ...]) -> tuple[str, ...]:
    """The accounts that are named, or the only one of the configuration. Raises UsageError."""
    if not names and len(config.accounts) > 1:
        raise click.UsageError(f"say whose meetings: --account {' --account '.join(config.accounts)}")
    if unknown := [account for account in names if account not in config.accounts]:
        raise click.UsageError(f"there is no account {unknown[0]}; there is {', '.join(config.accounts)}")
    return names or tuple(config.accounts)


@feed.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@pass_context
def feed_list(context: Context, *, as_json: bool) -> None:
    """All feeds, without their addresses."""
    from syncd.ledger.ledger import Ledger  # noqa: PLC0415

    config = context.load()
    feeds: list[Feed] = []
    if (config.state / FILE).exists():
        with Ledger.open(config.state, read_only=True) as ledger:
            feeds = list(ledger.feeds.all().values())
    if as_json:
        rows = [
            {
                "name": each.name,
                "accounts": each.accounts,
                "audience": each.audience,
                "passwords": each.passwords,
                "label": each.label,
                "made": each.made.isoformat(),
            }
            for each in feeds
        ]
        click.echo(json.dumps(rows, indent=1))
    else:
        for each in feeds:
            click.echo(f"{each.name}  {', '.join(each.accounts)}  for {each.audience}  {each.label}".rstrip())


@feed.command("revoke")
@click.argument("name")
@pass_context
def feed_revoke(context: Context, name: str) -> None:
    """Make a feed's address worthless."""
    from syncd.ledger.ledger import Ledger  # noqa: PLC0415

    config = context.load()
    if not (config.state / FILE).exists():
        raise LedgerError(f"there is no ledger in {config.state} yet, and so no feed")
    with Ledger.open(config.state) as ledger:
        if not ledger.feeds.revoke(name):
            raise click.UsageError(f"there is no feed {name}; see `syncd feed list`")
    click.echo(f"{name}: revoked", err=True)
