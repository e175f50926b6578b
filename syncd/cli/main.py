# SPDX-License-Identifier: Apache-2.0
"""The command line: each command calls what the daemon calls.

What was asked for goes to stdout, everything else for people to stderr. Each command's module is imported when the
command is called, so that `syncd --version` and the commands that only read start fast.
"""

import gc
import os
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import click

from syncd import __version__
from syncd.cli.context import Context
from syncd.errors import SyncdError


class Row(NamedTuple):
    """A command in the table: the module that has it, and its line in the help, which is the first of its own."""

    module: str
    summary: str


COMMANDS: Mapping[str, Row] = {
    "check": Row("check", "Is the configuration right; with --online: do all the servers agree."),
    "confirm": Row("confirm", "Let the held deletion of a calendar or feed that `status` showed pass."),
    "demo": Row("run", "All of it on this machine: servers, meetings that change, a calendar, a feed."),
    "events": Row("events", "List the meetings as OpenTalk has them now."),
    "explain": Row("explain", "Why an entry looks as it does: source, links, decisions, history."),
    "feed": Row("feeds", "Subscribed calendars: secret addresses, one for each device."),
    "help": Row("help", "Read the handbook: lists its pages, or prints the one about TOPIC."),
    "login": Row("accounts", "Sign an account in, in any browser: prints an address and a code."),
    "logout": Row("accounts", "Forget an account's sign-in, here and at its identity provider."),
    "run": Row("run", "The daemon, in the foreground."),
    "status": Row(
        "status", "How each account, calendar and feed stands, what needs a person, and what syncd itself fails at."
    ),
    "sync": Row("sync", "Once: pull and push everything now."),
}


class LazyGroup(click.Group):
    """The commands of the table. A command's module is imported when the command is called, and not for the help."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 -- click's signature
        """Their names, in the order of the help."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command of a name; ``None`` if there is none."""
        if cmd_name not in COMMANDS:
            return None
        command = getattr(import_module(f"syncd.cli.{COMMANDS[cmd_name].module}"), cmd_name)
        assert isinstance(command, click.Command)  # noqa: S101 -- the table says so
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the help's list of commands from the table."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name].summary) for name in self.list_commands(ctx)])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="The configuration (TOML).")
@click.option("--log-level", type=click.Choice(["error", "warning", "info", "debug"]), help="How much to say.")
@click.version_option(__version__, prog_name="syncd")
@click.pass_context
def cli(context: click.Context, config: Path | None, log_level: str | None) -> None:
    """Keeps calendars in step with OpenTalk meetings."""
    from syncd.cli.logs import start_logging  # noqa: PLC0415 -- `--version` and `--help` log nothing

    _collect_garbage()
    usual = "info" if context.invoked_subcommand in ("run", "demo") else "warning"
    start_logging(log_level or usual, os.environ)
    context.obj = Context(config)


def _collect_garbage() -> None:
    """Collect garbage again, now that click has imported the command, if ``main`` has switched that off.

    What was imported is never looked at: it stays to the end, and looking at it, again and again, takes an eighth of
    the CPU time of a sync that finds nothing to do.
    """
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


def main() -> None:
    """The entry point: every foreseeable problem is a sentence on stderr and an exit code."""
    gc.disable()  # until the command is imported
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
