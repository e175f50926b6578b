# SPDX-License-Identifier: Apache-2.0
"""The command line: each command calls what the daemon calls.

What was asked for goes to stdout, everything else for people to stderr. Commands import what they need when they
run: a reading one starts fast.
"""

import os
import sys
from pathlib import Path

import click

from syncd import __version__
from syncd.cli.accounts import login, logout
from syncd.cli.context import Context, clock
from syncd.cli.feeds import feed
from syncd.cli.runs import confirm, demo, run, sync
from syncd.cli.servers import check, events
from syncd.cli.status import explain, read_status, status
from syncd.errors import SyncdError
from syncd.logs import start_logging

__all__ = ["cli", "clock", "main", "read_status"]


@click.group(
    commands=[demo, run, sync, status, explain, check, events, confirm, login, logout, feed],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="The configuration (TOML).")
@click.option("--log-level", type=click.Choice(["error", "warning", "info", "debug"]), help="How much to say.")
@click.version_option(__version__, prog_name="syncd")
@click.pass_context
def cli(context: click.Context, config: Path | None, log_level: str | None) -> None:
    """Keeps calendars in step with OpenTalk meetings."""
    usual = "info" if context.invoked_subcommand in ("run", "demo") else "warning"
    start_logging(log_level or usual, os.environ)
    context.obj = Context(config)


def main() -> None:
    """The entry point: every foreseeable problem is a sentence on stderr and an exit code."""
    try:
        cli.main(standalone_mode=False)
    except click.ClickException as problem:
        problem.show()
        sys.exit(problem.exit_code)
    except SyncdError as problem:
        click.echo(str(problem), err=True)
        sys.exit(problem.code)
    except (KeyboardInterrupt, click.Abort):
        sys.exit(130)
