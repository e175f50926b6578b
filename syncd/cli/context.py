# SPDX-License-Identifier: Apache-2.0
"""What all commands share: the configuration, the servers, the clock, and how problems end.

Only here are the clock and the environment read.
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
    """The current time; everything else in syncd gets the clock as an argument."""
    return datetime.now(UTC)


class Context:
    """The configuration at ``config`` (``None``: at the first usual place) and its servers.

    ``read`` and ``connect`` replace the functions that read a configuration and make its servers, for a program that
    adds a link maker which syncd does not have.
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
        """Read the configuration. Raises ConfigError with all of its problems."""
        from syncd.config import find, load  # noqa: PLC0415 -- `--version` and `--help` read none
        from syncd.plan.links import WAYS  # noqa: PLC0415

        path = find(self._config, os.environ)
        return self._read(path, os.environ) if self._read else load(path, os.environ, WAYS)

    def connect(self, config: "Config") -> "Servers":
        """Make the servers of a configuration, without a request. The caller closes them."""
        from syncd.jobs.servers import connect  # noqa: PLC0415 -- many commands need no server

        return (self._connect or connect)(config, clock)


pass_context = click.make_pass_decorator(Context)


def tell(line: str) -> None:
    """Print a line for people, on stderr."""
    click.echo(line, err=True)


@contextmanager
def collecting(problems: list[SyncdError]) -> Iterator[None]:
    """Append a problem that ends the block to ``problems``, and go on."""
    try:
        yield
    except SyncdError as problem:
        problems.append(problem)


def code_of(problems: Iterable[SyncdError]) -> int:
    """The exit code of a command that could do nothing because of these: theirs if they agree, else 1."""
    codes = {problem.code for problem in problems}
    return codes.pop() if len(codes) == 1 else 1
