# SPDX-License-Identifier: Apache-2.0
"""Configurations as a person writes them, read as syncd reads them; nothing is served at their addresses."""

from collections.abc import Mapping
from pathlib import Path

from syncd.config import Config, load
from syncd.plan.links import WAYS

PASSWORD = 'password = { env = "PASSWORD" }'
WORK, TEAM = {"work": ""}, {"team": ""}


def configuration_text(
    accounts: Mapping[str, str] = WORK,
    calendars: Mapping[str, str] = TEAM,
    *,
    openmeetings: bool = True,
    feeds: bool = True,
) -> str:
    """TOML with a table for each of these accounts and calendars, of which the values are further lines."""
    lines = []
    for name, more in accounts.items():
        lines += [f"[opentalk.{name}]", *_url("https://meet.example.org", more), f'username = "{name}"', PASSWORD, more]
    if openmeetings:
        lines += ["[openmeetings]", 'url = "https://om.example.org/openmeetings"', 'username = "syncd"', PASSWORD]
    for name, more in calendars.items():
        url = _url(f"https://dav-{name}.example.org/calendar/", more)
        lines += [f"[caldav.{name}]", *url, 'username = "alice"', PASSWORD, more]
    if feeds:
        lines += ["[feeds]", 'listen = "127.0.0.1:0"', 'public_url = "https://syncd.example.org"']
    return "\n".join(lines) + "\n"


def configure(
    folder: Path,
    accounts: Mapping[str, str] = WORK,
    calendars: Mapping[str, str] = TEAM,
    *,
    openmeetings: bool = True,
    feeds: bool = True,
) -> Config:
    """The same, read from a file in ``folder``, in which the ledger will lie as well."""
    return read_configuration(folder, configuration_text(accounts, calendars, openmeetings=openmeetings, feeds=feeds))


def read_configuration(folder: Path, text: str) -> Config:
    """Write this text into ``folder`` and read it."""
    path = folder / "config.toml"
    path.write_text(text, encoding="utf-8")
    return load(path, {"PASSWORD": "pw", "HOME": str(folder)}, WAYS)


def _url(usual: str, more: str) -> list[str]:
    return [] if "url =" in more else [f'url = "{usual}"']
