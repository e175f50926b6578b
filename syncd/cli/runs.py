# SPDX-License-Identifier: Apache-2.0
"""Commands that make syncd work: the daemon, one sync, a confirmed deletion, the demo."""

import json
import os

import click

from syncd import report
from syncd.cli.context import Context, clock, pass_context, tell
from syncd.config import Config
from syncd.errors import NeedsYou
from syncd.ledger.database import FILE
from syncd.ledger.lock import syncing
from syncd.model import Run


@click.command()
@click.option("--once", is_flag=True, help="One pass; print what is where, and end.")
def demo(*, once: bool) -> None:
    """All of it on this machine: servers, meetings that change, a calendar, a feed. Nothing is kept."""
    from syncd.demo.show import show  # noqa: PLC0415 -- the demo's servers are not for everybody

    language = "de" if os.environ.get("LANG", "").startswith("de") else "en"
    show(once=once, clock=clock, language=language)


@click.command()
@pass_context
def run(context: Context) -> None:
    """The daemon, in the foreground."""
    from syncd.daemon import serve  # noqa: PLC0415 -- starts slower than commands should
    from syncd.notify import Notifier  # noqa: PLC0415

    if serve(context.load, clock, Notifier(os.environ, os.getpid())):
        raise KeyboardInterrupt


@click.command()
@click.option("--dry-run", is_flag=True, help="Print the plan and change nothing anywhere.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@pass_context
def sync(context: Context, *, dry_run: bool, as_json: bool) -> None:
    """Once: pull and push everything now."""
    from syncd.control import Line  # noqa: PLC0415
    from syncd.oneshot import rehearse_once, sync_once  # noqa: PLC0415 -- reading commands need none of the edges

    config = context.load()
    if dry_run:
        runs = rehearse_once(config, clock, _hush if as_json else click.echo)
    elif (daemon := syncing(config.state)) and daemon.daemon:
        runs = Line(config.state).sync()
    else:
        runs = sync_once(config, clock)
    if as_json:
        click.echo(json.dumps(report.sync_json(config, runs), indent=1))
    else:
        click.echo("\n".join(report.sync_lines(runs)))
    raise SystemExit(report.exit_code(runs))


def _hush(_line: str) -> None:
    return


@click.command()
@click.argument("name")
@pass_context
def confirm(context: Context, name: str) -> None:
    """Let the held deletion of a calendar or feed that `status` showed pass."""
    from syncd.control import Line  # noqa: PLC0415

    config = context.load()
    stored = _names_of_holds(config, name)
    runs: list[Run] = []
    if (daemon := syncing(config.state)) and daemon.daemon:
        count, runs = Line(config.state).confirm(name)
    else:
        count = _confirmed(config, stored)
    if not count:
        raise NeedsYou(f"{name}: no deletion is held; see `syncd status`")
    if not runs:
        tell(f"{name}: {count} deletion{'s pass' if count > 1 else ' passes'} with the next run")
        return
    click.echo("\n".join(report.sync_lines(runs)))
    raise SystemExit(report.exit_code(runs))


def _names_of_holds(config: Config, name: str) -> list[str]:
    """How the ledger calls what a name may mean: a calendar of the configuration, a feed of the ledger, or both."""
    from syncd.ledger.ledger import Ledger  # noqa: PLC0415

    feeds: list[str] = []
    if (config.state / FILE).exists():
        with Ledger(config.state, read_only=True) as ledger:
            feeds = list(ledger.feeds())
    names = [*([name] if name in config.calendars else []), *([f"feed/{name}"] if name in feeds else [])]
    if not names:
        there = ", ".join([*config.calendars, *feeds]) or "none"
        raise click.UsageError(f"there is no calendar and no feed {name}; there is {there}")
    return names


def _confirmed(config: Config, names: list[str]) -> int:
    """Confirm what is held under these names; how many deletions that is."""
    from syncd.ledger.ledger import Ledger  # noqa: PLC0415

    if not (config.state / FILE).exists():
        return 0
    with Ledger(config.state) as ledger:
        return sum(ledger.confirm(name) for name in names)
