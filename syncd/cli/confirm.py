# SPDX-License-Identifier: Apache-2.0
"""``syncd confirm``: let a held deletion pass."""

import click

from syncd.cli import report
from syncd.cli.context import Context, pass_context, tell
from syncd.config import Config
from syncd.errors import NeedsYou
from syncd.ledger.database import FILE
from syncd.ledger.lock import syncing
from syncd.model import Run
from syncd.plan.deletions import hold_name


@click.command()
@click.argument("name")
@pass_context
def confirm(context: Context, name: str) -> None:
    """Let the held deletion of a calendar or feed that `status` showed pass."""
    config = context.load()
    hold_names = _names_of_holds(config, name)
    runs: list[Run] = []
    if (daemon := syncing(config.state)) and daemon.daemon:
        from syncd.daemon.client import ControlClient  # noqa: PLC0415

        count, runs = ControlClient(config.state).confirm(name)
    else:
        count = _confirm_holds(config, hold_names)
    if not count:
        raise NeedsYou(f"{name}: no deletion is held; see `syncd status`")
    if not runs:
        tell(f"{name}: {count} deletion{'s pass' if count > 1 else ' passes'} with the next run")
        return
    click.echo("\n".join(report.sync_lines(runs)))
    raise SystemExit(report.exit_code(runs))


def _names_of_holds(config: Config, name: str) -> list[str]:
    """The ledger's names of the holds that a name may mean: a calendar's, a feed's, or both. Raises UsageError."""
    from syncd.ledger.ledger import Ledger  # noqa: PLC0415

    feeds: list[str] = []
    if (config.state / FILE).exists():
        with Ledger.open(config.state, read_only=True) as ledger:
            feeds = list(ledger.feeds.all())
    names = [*([name] if name in config.calendars else []), *([hold_name(name)] if name in feeds else [])]
    if not names:
        there = ", ".join([*config.calendars, *feeds]) or "none"
        raise click.UsageError(f"there is no calendar and no feed {name}; there is {there}")
    return names


def _confirm_holds(config: Config, names: list[str]) -> int:
    """Confirm the holds of these names and return the number of deletions."""
    from syncd.ledger.ledger import Ledger  # noqa: PLC0415

    if not (config.state / FILE).exists():
        return 0
    with Ledger.open(config.state) as ledger:
        return sum(ledger.deletions.confirm(name) for name in names)
