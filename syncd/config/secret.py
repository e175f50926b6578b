# SPDX-License-Identifier: Apache-2.0
"""A secret of the configuration: where it is found, and the one method that reads it.

It is read each time it is needed and not stored. Its value must never show: not in a repr, not in a message, and
msgspec cannot encode it.
"""

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from syncd.errors import ConfigError

COMMAND_DEADLINE = 30.0
RUN_SECRETS = Path("/run/secrets")


class Secret:
    """A secret at a ``source`` of this ``kind``: ``file``, ``command``, ``env`` or ``credential``.

    ``key`` is its key path in the configuration ``file``, to whose folder relative paths are relative. ``environ``
    is the environment of the process, and of a command.
    """

    __slots__ = ("_environ", "_file", "_kind", "_source", "key")

    def __init__(
        self, key: str, kind: str, source: str | tuple[str, ...], file: Path, environ: Mapping[str, str]
    ) -> None:
        self.key = key
        self._kind = kind
        self._source = source
        self._file = file
        self._environ = environ

    def __repr__(self) -> str:
        return f"Secret({self.key}: {self._kind})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._place == other._place

    def __hash__(self) -> int:
        return hash(self._place)

    @property
    def _place(self) -> tuple[object, ...]:
        return (self.key, self._kind, self._source, self._file)

    def reveal(self, deadline: float = COMMAND_DEADLINE) -> str:
        """The secret as text, without the newline that editors and commands put at its end.

        Only the one source that is configured is read: trying several in turn would send the wrong password to
        somebody. ``deadline`` bounds a command, in seconds. Raises ConfigError, which never contains the value.
        """
        match self._source:
            case str(source) if self._kind == "env":
                value = self._environment(source)
            case str(source) if self._kind == "credential":
                value = self._credential(source)
            case str(source):
                value = self._read(self._file.parent / source)
            case command:
                value = self._output(command, deadline)
        value = value.removesuffix("\n").removesuffix("\r")
        if not value:
            self._fail(f"the secret from its {self._kind} is empty: put it there")
        return value

    def _environment(self, name: str) -> str:
        if name not in self._environ:
            self._fail(f"the environment variable {name} is not set: set it for this process")
        return self._environ[name]

    def _credential(self, name: str) -> str:
        """Read a credential of systemd, or of a container (/run/secrets).

        ``LoadCredential=syncd:DIRECTORY`` calls a file NAME of that directory ``syncd_NAME``.
        """
        credentials = self._environ.get("CREDENTIALS_DIRECTORY")
        folder = Path(credentials) if credentials else RUN_SECRETS
        for candidate in (folder / name, folder / f"syncd_{name}"):
            if _is_there(candidate):
                return self._read(candidate)
        whence = "$CREDENTIALS_DIRECTORY" if credentials else "$CREDENTIALS_DIRECTORY is not set, and"
        return self._fail(
            f"{whence} {folder} has no {name}: put the secret into /etc/syncd/secrets/{name} and restart the "
            "unit, which hands it over; outside the unit use file, command or env"
        )

    def _read(self, path: Path) -> str:
        try:
            return path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            self._fail(f"{path} is not UTF-8 text: write the secret as UTF-8")
        except FileNotFoundError:
            self._fail(f"there is no file {path}: create it, readable for the user that runs syncd")
        except (OSError, ValueError) as error:
            self._fail(f"{path} cannot be read ({_reason(error)}): let the user that runs syncd read it")

    def _output(self, command: tuple[str, ...], deadline: float) -> str:
        """What a command prints. Its stderr is dropped, because it may contain the secret, too."""
        try:
            done = subprocess.run(  # noqa: S603 -- the operator's own command, run without a shell
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=deadline,
                env=dict(self._environ),
                cwd=self._file.parent,
                check=False,
            )
        except subprocess.TimeoutExpired:
            self._fail(f"the command took more than {deadline:g} s: it must print the secret without asking")
        except (OSError, ValueError) as error:
            self._fail(f"the command cannot be started ({_reason(error)}): give its full path")
        if done.returncode != 0:
            self._fail(f"the command failed with exit code {done.returncode}: run it by hand to see why")
        try:
            return done.stdout.decode("utf-8")
        except UnicodeDecodeError:
            self._fail("the command printed something that is not UTF-8: it must print the secret alone")

    def _fail(self, text: str) -> NoReturn:
        raise ConfigError([f"{self._file}: {self.key}: {text}"]) from None


def _is_there(path: Path) -> bool:
    """Whether a file exists, or may: in a folder that this user may not search, reading it says why."""
    try:
        path.stat()
    except PermissionError:
        return True
    except OSError:
        return False
    return True


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or "not a possible name"
