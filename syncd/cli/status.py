# SPDX-License-Identifier: Apache-2.0
"""``syncd status``: the state of each account, link maker, calendar and feed, from the ledger."""

import json
from collections.abc import Mapping

import click

from syncd.cli import report
from syncd.cli.context import Context, clock, pass_context
from syncd.config import Config
from syncd.errors import LedgerBusy
from syncd.ledger.database import FILE
from syncd.ledger.lock import Syncing, syncing
from syncd.model import RunKey, Standing


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@pass_context
def status(context: Context, *, as_json: bool) -> None:
    """How each account, calendar and feed stands, what needs a person, and what syncd itself fails at."""
    config = context.load()
    state = read_status(config)
    if as_json:
        click.echo(json.dumps(state, indent=1))
    else:
        click.echo("\n".join(report.status_lines(state, report.maker_labels(config), clock())))


def read_status(config: Config) -> report.Json:
    """The output of ``syncd status --json``. Without a ledger everything is new."""
    from syncd.config.profiles import feed_profile  # noqa: PLC0415
    from syncd.ledger.ledger import Ledger  # noqa: PLC0415

    if not (config.state / FILE).exists():
        return report.status_json(config, {}, {}, {}, {}, {}, syncing(config.state))
    daemon = syncing(config.state)
    with Ledger.open(config.state, read_only=True) as ledger:
        feeds = ledger.feeds.all()
        installation = ledger.secrets.get("installation") if feeds else ""
        profiles = {name: feed_profile(config, installation, feed) for name, feed in feeds.items()}
        return report.status_json(
            config,
            ledger.history.standings() | _unsaved(config, daemon, ledger.history.standings()),
            ledger.meetings.counts(),
            ledger.placements.counts(),
            {name: profile.accounts if profile else None for name, profile in profiles.items()},
            {name: len(ledger.feeds.content(feed)) for name, feed in feeds.items()},
            daemon,
        )


def _unsaved(config: Config, daemon: Syncing | None, standings: Mapping[RunKey, Standing]) -> dict[RunKey, Standing]:
    """The runs that the daemon could not save in its ledger, because that is locked or the disk is full."""
    if daemon is None or not daemon.daemon:
        return {}
    from syncd.daemon.client import ControlClient  # noqa: PLC0415

    try:
        runs = ControlClient(config.state).unsaved_runs()
    except LedgerBusy as problem:
        click.echo(str(problem), err=True)
        return {}
    found = {}
    for run in runs:
        standing = standings.get(run.key)
        found[run.key] = Standing(run, standing.last_success if standing else None)
    return found
