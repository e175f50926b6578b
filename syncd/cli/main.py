# SPDX-License-Identifier: Apache-2.0
"""The command line: each command calls what the daemon calls.

What was asked for goes to stdout, everything else for people to stderr. A command is imported when it is called
for: a reading one starts fast.
"""

import os
import sys
from importlib import import_module
from pathlib import Path

import click

from syncd import __version__
from syncd.cli.context import Context
from syncd.cli.logs import start_logging
from syncd.errors import SyncdError

COMMANDS = {
    "check": "check",
    "confirm": "confirm",
    "demo": "run",
    "events": "events",
    "explain": "explain",
    "feed": "feeds",
    "login": "accounts",
    "logout": "accounts",
    "run": "run",
    "status": "status",
    "sync": "sync",
}
"""Each command and the module that has it."""


class Commands(click.Group):
    """All commands, none of which is imported before it is called for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 -- click's way to ask
        """Their names, in the order of the help."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command of a name, if there is one."""
        if cmd_name not in COMMANDS:
            return None
        command = getattr(import_module(f"syncd.cli.{COMMANDS[cmd_name]}"), cmd_name)
        assert isinstance(command, click.Command)  # noqa: S101 -- the table says so
        return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
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
