# SPDX-License-Identifier: Apache-2.0
"""The calendars of a person, through the caldav library, which knows the servers' ways of listing and making.

The library is given our transport and nothing of its own reaches the network or the log. It must not be
imported at the top of a module: it brings niquests, which costs start-up time and memory that only those who
name a calendar should pay.
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
    """The calendars of the principal at an address; ``who`` is what messages call the calendar sought."""

    def __init__(self, who: str, send: Callable[..., Answer], principal: str) -> None:
        from caldav.collection import Principal  # noqa: PLC0415 -- see above
        from caldav.davclient import DAVClient  # noqa: PLC0415

        # It logs display names and whole answers.
        logging.getLogger("caldav").setLevel(logging.CRITICAL + 1)
        self._who = who
        client: Any = DAVClient(principal, enable_rfc6764=False)
        client.session.close()
        client.session = _Session(send)
        self._principal: Any = Principal(client, url=principal)

    def calendars(self) -> list[tuple[str, str | None]]:
        """Address and display name of each calendar. Raises BadAnswer and NeedsYou."""
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
        """Make a calendar for events; ``last`` is the last segment of its address, which is returned.

        If the server does not make it (Google and Posteo never do, Nextcloud not more than ten an hour),
        it is where it would be: one that was made in an earlier try lies there.
        """
        from caldav.lib.error import DAVError  # noqa: PLC0415

        try:
            made = self._principal.make_calendar(name=name, cal_id=last, supported_calendar_component_set=["VEVENT"])
        except DAVError:
            return urljoin(str(self._principal.calendar_home_set.url).rstrip("/") + "/", f"{last}/")
        return str(made.url)


class _Session:
    """Stands in for the HTTP session of the library: its requests are sent as ours."""

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
        """Answer with XML or nothing: it writes all else to the root logger."""
        kept = {name: value for name, value in (headers or {}).items() if name.lower() != "user-agent"}
        content = data.encode() if isinstance(data, str) else data
        answer = self._send(method, url, kept, content, takes=OTHER_4XX)
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
