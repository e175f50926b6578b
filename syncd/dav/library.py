# SPDX-License-Identifier: Apache-2.0
"""Lists a user's calendars and makes one, with the caldav library, which knows how servers differ in both.

The library sends through our transport; nothing of its own reaches the network or the log. It is not imported at the
top of a module, because it brings niquests: start-up time and memory that only a calendar given by its name needs.
"""

import logging
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any
from urllib.parse import urljoin

from syncd.dav.answers import DAV, OTHER_4XX, parse
from syncd.errors import BadAnswer, NeedsYou
from syncd.transport import Answer


class Library:
    """The calendars of the user whose principal is at an address; ``who`` begins a message."""

    def __init__(self, who: str, send: Callable[..., Answer], principal: str) -> None:
        from caldav.collection import Principal  # noqa: PLC0415 -- see above
        from caldav.davclient import DAVClient  # noqa: PLC0415

        # caldav logs display names and whole answers.
        logging.getLogger("caldav").setLevel(logging.CRITICAL + 1)
        self._who = who
        client: Any = DAVClient(principal, enable_rfc6764=False)
        client.session.close()
        client.session = _Session(send)
        self._principal: Any = Principal(client, url=principal)

    def calendars(self) -> list[tuple[str, str | None]]:
        """The address and display name of each calendar. Raises BadAnswer and NeedsYou."""
        from caldav.lib.error import DAVError  # noqa: PLC0415

        try:
            found = self._principal.get_calendars()
        except DAVError:  # its text quotes the server
            raise NeedsYou(
                f"{self._who}: the server does not list this user's calendars; put the address of one into url"
            ) from None
        except ValueError:  # from addresses that are none
            raise BadAnswer(f"{self._who} lists its calendars in a way that is not CalDAV") from None
        return [(str(each.url), each.props.get(f"{DAV}displayname")) for each in found]

    def make(self, name: str, last: str) -> str:
        """Make a calendar for events and return its address, whose last segment is ``last``.

        If the server refuses (Google and Posteo always do, Nextcloud after ten an hour), the address at which the
        calendar would be is returned: one that an earlier attempt made is there.
        """
        from caldav.lib.error import DAVError  # noqa: PLC0415

        try:
            made = self._principal.make_calendar(name=name, cal_id=last, supported_calendar_component_set=["VEVENT"])
        except DAVError:
            return urljoin(str(self._principal.calendar_home_set.url).rstrip("/") + "/", f"{last}/")
        return str(made.url)


class _Session:
    """Replaces the library's HTTP session: requests are sent by ``send``, through our transport."""

    def __init__(self, send: Callable[..., Answer]) -> None:
        self._send = send

    def request(
        self,
        method: str,
        url: str,
        *,
        data: bytes | str | None = None,
        headers: Mapping[str, str] | None = None,
        **_: object,
    ) -> SimpleNamespace:
        """Send a request. A body that is no XML is dropped: the library would write it to the root logger."""
        ours = {name: value for name, value in (headers or {}).items() if name.lower() != "user-agent"}
        content = data.encode() if isinstance(data, str) else data
        answer = self._send(method, url, ours, content, accept=OTHER_4XX)
        body = b"" if parse(answer.body) is None else answer.body
        return SimpleNamespace(
            status_code=answer.status,
            headers={"Content-Type": "application/xml" if body else "text/plain"},
            content=body,
            text="",
            reason="",
            url=answer.url,
        )

    def close(self) -> None:
        """Nothing to close: the connections belong to the calendar."""
