# SPDX-License-Identifier: Apache-2.0
"""What every command gets: the configuration, the clock, and the few words that commands share.

The one place where the clock and the environment come from.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from syncd.errors import SyncdError

if TYPE_CHECKING:
    from syncd.config import Config
    from syncd.jobs.servers import Clock, Servers


def clock() -> datetime:
    """Now; nothing else in syncd reads the clock on its own."""
    return datetime.now(UTC)


class Context:
    """What every command gets: the configuration and its servers.

    ``read`` reads a configuration and ``connect`` makes its servers where those of syncd alone are not enough, as with
    a link maker that it does not have.
    """

    def __init__(
        self,
        config: Path | None,
        read: "Callable[[Path, Mapping[str, str]], Config] | None" = None,
        connect: "Callable[[Config, Clock], Servers] | None" = None,
    ) -> None:
        self._config = config
        self._read = read
        self._connect = connect

    def load(self) -> "Config":
        """Read the configuration. Raises ConfigError with every problem of it."""
        from syncd.config import find, load  # noqa: PLC0415 -- `--version` and `--help` read none
        from syncd.plan.links import WAYS  # noqa: PLC0415

        path = find(self._config, os.environ)
        return self._read(path, os.environ) if self._read else load(path, os.environ, WAYS)

    def connect(self, config: "Config") -> "Servers":
        """Make the servers of a configuration; nothing is asked yet. Close them afterwards."""
        from syncd.jobs.servers import connect  # noqa: PLC0415 -- many commands ask no server

        return (self._connect or connect)(config, clock)


pass_context = click.make_pass_decorator(Context)


def tell(line: str) -> None:
    """Say something that is for people alone."""
    click.echo(line, err=True)


@contextmanager
def collecting(problems: list[SyncdError]) -> Iterator[None]:
    """Go on after a problem, which is kept."""
    try:
        yield
    except SyncdError as problem:
        problems.append(problem)


def code_of(problems: Iterable[SyncdError]) -> int:
    """The exit code of a command that could do nothing because of these."""
    codes = {problem.code for problem in problems}
    return codes.pop() if len(codes) == 1 else 1
