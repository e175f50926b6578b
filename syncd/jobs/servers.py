# SPDX-License-Identifier: Apache-2.0
"""The servers of a configuration: what each is made of; all wiring is here."""

from collections.abc import Callable, Mapping
from datetime import datetime

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
    minter: LinkMaker | None
    calendars: Mapping[str, Calendar]
    close: Callable[[], None]


def connect(config: configuration.Config, clock: Clock) -> Servers:
    """The remotes of all accounts and calendars that are enabled."""
    logins = SignIns(config.state)
    sources = {name: _source(account, clock, logins) for name, account in config.accounts.items() if account.enabled}
    calendars = {name: _calendar(each) for name, each in config.calendars.items() if each.enabled}
    openmeetings = config.makers.get("openmeetings")
    minter = _minter(openmeetings, clock) if isinstance(openmeetings, configuration.OpenMeetings) else None

    def close() -> None:
        for source in sources.values():
            source.close()
        for calendar in calendars.values():
            calendar.close()
        if minter is not None:
            minter.close()

    return Servers(sources, minter, calendars, close)


def _source(account: configuration.Account, clock: Clock, logins: Logins) -> OpenTalk:
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


def _minter(openmeetings: configuration.OpenMeetings, clock: Clock) -> OpenMeetings:
    return OpenMeetings(
        url=openmeetings.url,
        username=openmeetings.username,
        password=openmeetings.password.reveal,
        room=None if openmeetings.room == "per-meeting" else openmeetings.room,
        ca_file=openmeetings.ca_file,
        clock=clock,
    )


def _calendar(calendar: configuration.Calendar) -> CalDAVCalendar:
    return CalDAVCalendar(
        calendar.name,
        url=calendar.url,
        calendar=calendar.calendar,
        username=calendar.username,
        password=calendar.password.reveal,
        ca_file=calendar.ca_file,
    )
