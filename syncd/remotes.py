# SPDX-License-Identifier: Apache-2.0
"""The servers of a configuration: real, or rehearsed for a dry run, which changes nothing anywhere."""

from collections.abc import Callable, Mapping
from datetime import datetime

from msgspec import Struct

from syncd import config as configuration
from syncd.dav.calendar import CalDAVCalendar
from syncd.ledger.ledger import SignIns
from syncd.model import Found, Identity, Invite, Meeting, Seen, Snapshot, Stored, Visitor, Window
from syncd.openmeetings.client import OpenMeetings
from syncd.opentalk.client import OpenTalk
from syncd.opentalk.oidc import Logins
from syncd.sync.ports import Calendar, LinkMinter, Source

Clock = Callable[[], datetime]


class Remotes(Struct, frozen=True):
    """The servers of a configuration, as the jobs need them; nothing is asked until a job asks."""

    sources: Mapping[str, Source]
    minter: LinkMinter | None
    calendars: Mapping[str, Calendar]
    close: Callable[[], None]


def connect(config: configuration.Config, clock: Clock) -> Remotes:
    """The remotes of all accounts and calendars that are enabled."""
    logins = SignIns(config.state)
    sources = {name: _source(account, clock, logins) for name, account in config.accounts.items() if account.enabled}
    calendars = {name: _calendar(each) for name, each in config.calendars.items() if each.enabled}
    minter = _minter(config.openmeetings, clock) if config.openmeetings else None

    def close() -> None:
        for source in sources.values():
            source.close()
        for calendar in calendars.values():
            calendar.close()
        if minter is not None:
            minter.close()

    return Remotes(sources, minter, calendars, close)


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


class _Rehearsed(Source):
    """An account that is read but makes no invites."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def identity(self) -> Identity:
        return self._source.identity()

    def snapshot(self, window: Window | None, have: Mapping[str, str] = {}) -> Snapshot:
        return self._source.snapshot(window, have)

    def event(self, event_id: str) -> Meeting | None:
        return self._source.event(event_id)

    def find_invite(self, meeting: Meeting) -> Invite | None:
        return self._source.find_invite(meeting)

    def invite(self, meeting: Meeting) -> Invite | None:
        return Invite(f"planned-{meeting.id}", made=True) if meeting.own else None


class _RehearsedMinter(LinkMinter):
    def hash(self, event: str, name: str, visitor: Visitor) -> str:  # noqa: ARG002 -- nothing is asked
        return f"planned-{event}"

    def check(self) -> None:
        return


class _RehearsedCalendar(Calendar):
    """A calendar that is read, says yes to everything else and does nothing."""

    def __init__(self, calendar: Calendar) -> None:
        self._calendar = calendar

    @property
    def url(self) -> str:
        return self._calendar.url

    def check(self) -> None:
        return

    def seen(self, cursor: str | None) -> Seen:
        return self._calendar.seen(cursor)

    def create(self, href: str, body: bytes) -> Stored:  # noqa: ARG002
        return Stored(href, None)

    def update(self, href: str, body: bytes, etag: str | None) -> Stored:  # noqa: ARG002
        return Stored(href, None)

    def delete(self, href: str, etag: str | None) -> None:  # noqa: ARG002
        return

    def fetch(self, href: str) -> Found | None:
        return self._calendar.fetch(href)


def rehearse(remotes: Remotes) -> Remotes:
    """Remotes that are read where that changes nothing, and otherwise only play along."""
    return Remotes(
        sources={name: _Rehearsed(source) for name, source in remotes.sources.items()},
        minter=_RehearsedMinter() if remotes.minter else None,
        calendars={name: _RehearsedCalendar(each) for name, each in remotes.calendars.items()},
        close=remotes.close,
    )
