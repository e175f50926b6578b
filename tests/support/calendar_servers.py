# SPDX-License-Identifier: Apache-2.0
"""Real calendar servers for tests, each started once a test process and ended with it.

``radicale()`` and ``xandikos()`` give a running one; ``fresh_calendar()`` an address that no other test has.
"""

import atexit
import socket
import tempfile
from base64 import b64encode
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from itertools import count
from pathlib import Path
from random import SystemRandom

from msgspec import Struct

from syncd.dav.calendar import CalDAVCalendar
from syncd.demo.calendar_server import CalendarServer, Child
from syncd.transport import HttpClient

USERNAME = "alice"
PASSWORD = "pässwörd:€"

_numbers = count(1)


class Server(Struct, frozen=True):
    """A running server: its root, and the collection that holds the user's calendars. Xandikos has no login."""

    url: str
    home: str
    username: str = USERNAME
    password: str = PASSWORD

    def calendar(self, url: str | None = None, *, calendar: str | None = None) -> CalDAVCalendar:
        return CalDAVCalendar(
            "team", url or self.url, username=self.username, password=lambda: self.password, calendar=calendar
        )

    def fresh_calendar(self, components: Sequence[str] = ("VEVENT",)) -> str:
        url = f"{self.home}test-{next(_numbers)}/"
        names = "".join(f'<C:comp name="{name}"/>' for name in components)
        body = (
            '<C:mkcalendar xmlns="DAV:" xmlns:C="urn:ietf:params:xml:ns:caldav"><set><prop>'
            f"<C:supported-calendar-component-set>{names}</C:supported-calendar-component-set>"
            "</prop></set></C:mkcalendar>"
        )
        assert self.send("MKCALENDAR", url, body.encode()) == 201
        return url

    def send(self, method: str, url: str, body: bytes | None = None) -> int:
        pair = b64encode(f"{self.username}:{self.password}".encode()).decode()
        headers = {"Authorization": f"Basic {pair}", "Content-Type": "application/xml; charset=utf-8"}
        return _remote().send(method, url, headers=headers, content=body).status


@cache
def radicale() -> Server:
    server = CalendarServer(_folder(), username=USERNAME, password=PASSWORD)
    atexit.register(server.close)
    return Server(server.url, server.home)


@cache
def xandikos() -> Server:
    folder = _folder()

    def arguments(port: int) -> Sequence[str]:
        folders = [f"--directory={folder / 'data'}", f"--state-dir={folder / 'state'}"]
        user = ["--defaults", f"--current-user-principal=/{USERNAME}/"]
        return ["serve", *folders, *user, "--listen-address=127.0.0.1", f"--port={port}"]

    child = Child("xandikos", arguments, folder / "log")
    atexit.register(child.close)
    url = f"http://127.0.0.1:{child.port}/"
    return Server(url, f"{url}{USERNAME}/calendars/")


def free_port() -> int:
    """A port of 127.0.0.1 at which nobody listens, none of those that the kernel gives to who connects (ip(7)).

    Tests run in parallel, and their servers are connected to all the time.
    """
    while True:
        port = SystemRandom().randrange(10_000, 32_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


@cache
def _remote() -> HttpClient:
    remote = HttpClient("test")
    atexit.register(remote.close)
    return remote


def _folder() -> Path:
    folder = tempfile.TemporaryDirectory(prefix="syncd-test-")
    atexit.register(folder.cleanup)
    return Path(folder.name)
