# SPDX-License-Identifier: Apache-2.0
"""Builds the servers of a configuration: the only place where clients are chosen and wired."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Protocol

from msgspec import Struct

from syncd import config as configuration
from syncd.dav.calendar import CalDAVCalendar
from syncd.ledger.accounts import SignIns
from syncd.openmeetings.client import OpenMeetings
from syncd.opentalk.client import OpenTalk
from syncd.opentalk.oidc import Logins
from syncd.sync.ports import Calendar, LinkMaker, Source

Clock = Callable[[], datetime]


class Servers(Struct, frozen=True):
    """The servers of a configuration, as the jobs need them; nothing is asked until a job asks."""

    sources: Mapping[str, Source]
    makers: Mapping[str, LinkMaker]
    calendars: Mapping[str, Calendar]
    close: Callable[[], None]


Connect = Callable[[configuration.Config], Servers]
"""Makes the servers of a configuration."""


class Connected(Protocol):
    """What every server of a configuration does besides its Protocol in ``sync.ports``: who made it closes it."""

    def close(self) -> None:
        """Close all connections."""


class ConnectedSource(Source, Connected, Protocol):
    """An OpenTalk account, over connections."""


class ConnectedLinkMaker(LinkMaker, Connected, Protocol):
    """A link maker, over connections."""


class ConnectedCalendar(Calendar, Connected, Protocol):
    """A calendar, over connections."""


def _openmeetings(table: configuration.Maker, clock: Clock) -> OpenMeetings:
    assert isinstance(table, configuration.OpenMeetings)  # noqa: S101 -- MAKERS of the configuration says so
    return OpenMeetings(
        url=table.url,
        username=table.username,
        password=table.password.reveal,
        room=None if table.room == "per-meeting" else table.room,
        ca_file=table.ca_file,
        clock=clock,
    )


Builder = Callable[[configuration.Maker, Clock], ConnectedLinkMaker]
BUILDERS: Mapping[str, Builder] = {"openmeetings": _openmeetings}
"""How each link maker is made of its table, by the table's name."""


def connect(config: configuration.Config, clock: Clock, builders: Mapping[str, Builder] = BUILDERS) -> Servers:
    """The servers of all accounts and calendars that are enabled, and all link makers."""
    logins = SignIns(config.state)
    sources = {name: _source(account, clock, logins) for name, account in config.accounts.items() if account.enabled}
    calendars = {name: _calendar(each) for name, each in config.calendars.items() if each.enabled}
    makers = {name: builders[name](table, clock) for name, table in config.makers.items()}

    def close() -> None:
        servers: tuple[Connected, ...] = (*sources.values(), *calendars.values(), *makers.values())
        for server in servers:
            server.close()

    return Servers(sources, makers, calendars, close)


def _source(account: configuration.Account, clock: Clock, logins: Logins) -> ConnectedSource:
    return OpenTalk(
        account.name,
        url=account.url,
        controller=account.controller,
        issuer=account.issuer,
        client_id=account.client_id,
        client_secret=account.client_secret.reveal if account.client_secret else None,
        username=account.username,
        password=account.password.reveal if account.password else None,
        logins=logins,
        per_page=account.per_page,
        ca_file=account.ca_file,
        clock=clock,
    )


def _calendar(calendar: configuration.Calendar) -> ConnectedCalendar:
    return CalDAVCalendar(
        calendar.name,
        url=calendar.url,
        calendar=calendar.calendar,
        username=calendar.username,
        password=calendar.password.reveal,
        ca_file=calendar.ca_file,
    )
