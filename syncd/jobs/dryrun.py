# SPDX-License-Identifier: Apache-2.0
"""The servers of a dry run: reads go to the real servers, writes succeed and do nothing."""

from collections.abc import Mapping

from syncd.jobs.servers import Servers
from syncd.model import Found, Identity, Invite, Meeting, Seen, Snapshot, Stored, Visitor, Window
from syncd.sync.ports import Calendar, LinkMaker, Source


class _DryRunSource(Source):
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


class _DryRunMaker(LinkMaker):
    """A link maker whose links are made up."""

    def make(self, event: str, title: str, visitor: Visitor) -> str:  # noqa: ARG002
        return f"planned-{event}"

    def check(self) -> str:
        return ""


class _DryRunCalendar(Calendar):
    """A calendar that is read; every write succeeds and does nothing."""

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


def rehearse(servers: Servers) -> Servers:
    """Servers for a dry run: reads go to the real servers, writes succeed and do nothing."""
    return Servers(
        sources={name: _DryRunSource(source) for name, source in servers.sources.items()},
        makers=dict.fromkeys(servers.makers, _DryRunMaker()),
        calendars={name: _DryRunCalendar(each) for name, each in servers.calendars.items()},
        close=servers.close,
    )
