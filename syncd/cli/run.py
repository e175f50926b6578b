# SPDX-License-Identifier: Apache-2.0
"""Commands that run until they are ended: the daemon and the demo."""

import os

import click

from syncd.cli.context import Context, clock, pass_context


@click.command()
@click.option("--once", is_flag=True, help="One pass; print what is where, and end.")
def demo(*, once: bool) -> None:
    """All of it on this machine: servers, meetings that change, a calendar, a feed. Nothing is kept."""
    from syncd.demo.show import show  # noqa: PLC0415 -- `run`, in this file, needs none of the demo's servers

    language = "de" if os.environ.get("LANG", "").startswith("de") else "en"
    show(once=once, clock=clock, language=language)


@click.command()
@pass_context
def run(context: Context) -> None:
    """The daemon, in the foreground."""
    from syncd.daemon.process import serve  # noqa: PLC0415 -- nor does `demo --help` need the daemon
    from syncd.daemon.systemd import Notifier  # noqa: PLC0415

    if serve(context.load, context.connect, clock, Notifier(os.environ, os.getpid())):
        raise KeyboardInterrupt
