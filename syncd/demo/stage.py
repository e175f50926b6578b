# SPDX-License-Identifier: Apache-2.0
"""All embedded servers together, with two people in them, and a configuration for them."""

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Self

from syncd.demo.identity import IdentityProvider
from syncd.demo.openmeetings import CONTEXT, OpenMeetings
from syncd.demo.opentalk import OpenTalk
from syncd.demo.serve import RunningServer
from syncd.demo.signin import Version

PASSWORDS = {"alice": "alice-pw", "bob": "bob-pw", "syncd": "syncd-pw"}


class Stage:
    """An OpenTalk with its identity provider and an OpenMeetings, served on this machine until ``close()``.

    Alice Adams and Bob Burton have OpenTalk accounts, ``syncd`` has one in OpenMeetings with the rights that it
    needs. ``web`` is OpenTalk's address, ``meetings`` is OpenMeetings'.
    """

    def __init__(self, clock: Callable[[], datetime], version: Version = "0.30", openmeetings: str = "9.0.0") -> None:
        self.identity = IdentityProvider(clock)
        self.opentalk = OpenTalk(self.identity, clock, version)
        self.openmeetings = OpenMeetings(clock, openmeetings)
        self._stack = ExitStack()
        self.identity.add_user("alice", PASSWORDS["alice"], "Alice", "Adams", "alice@example.org")
        self.identity.add_user("bob", PASSWORDS["bob"], "Bob", "Burton", "bob@example.org")
        self.openmeetings.add_user("syncd", PASSWORDS["syncd"])
        self.identity.url = self._stack.enter_context(RunningServer(self.identity.app)).url
        self.web = self._stack.enter_context(RunningServer(self.opentalk.app)).url
        self.meetings = self._stack.enter_context(RunningServer(self.openmeetings.app)).url + CONTEXT

    def close(self) -> None:
        """Stop serving."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write_config(
        self,
        folder: Path,
        calendars: Mapping[str, str],
        *,
        calendar_password: str = "",
        accounts: tuple[str, ...] = ("alice",),
        openmeetings: bool = True,
        feeds: str = "127.0.0.1:8080",
        language: str = "en",
        every: str = "5m",
        extra: str = "",
    ) -> Path:
        """Write a configuration for these servers, its passwords in files beside it, and return its path.

        ``calendars`` maps names to addresses, or to lines of TOML (recognised by a ``=``). ``extra`` is appended.
        """
        lines = ["[syncd]", f'state = "{folder / "state"}"', f'language = "{language}"']
        for name in accounts:
            lines += [f"[opentalk.{name}]", f'url = "{self.web}"', f'username = "{name}"']
            lines += [
                f"password = {{ file = '{_write_password(folder, name, PASSWORDS[name])}' }}",
                f'every = "{every}"',
            ]
        if openmeetings:
            lines += ["[openmeetings]", f'url = "{self.meetings}"', 'username = "syncd"']
            lines += [f"password = {{ file = '{_write_password(folder, 'openmeetings', PASSWORDS['syncd'])}' }}"]
        for name, calendar in calendars.items():
            password = _write_password(folder, "calendar", calendar_password)
            lines += [f"[caldav.{name}]", 'username = "alice"', f"password = {{ file = '{password}' }}"]
            lines += [calendar if "=" in calendar else f'url = "{calendar}"']
        lines += ["[feeds]", f'listen = "{feeds}"', f'public_url = "http://{feeds}"', extra]
        path = folder / "config.toml"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path


def _write_password(folder: Path, name: str, password: str) -> str:
    path = folder / f"{name}.password"
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(password)
    return path.name
