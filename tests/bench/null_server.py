# SPDX-License-Identifier: Apache-2.0
"""A CalDAV server that keeps nothing and takes next to no time; ``python -m tests.bench.null_server`` serves it.

It answers every PUT with 201 and an ETag, every PROPFIND with an empty calendar, and ``GET /puts`` with the number of
PUTs so far that were sent with ``If-None-Match: *``. It prints its port, and ends when its standard input does.
"""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.bench.measuring import say

CALENDAR = b"""<?xml version="1.0" encoding="utf-8"?>
<multistatus xmlns="DAV:" xmlns:C="urn:ietf:params:xml:ns:caldav"><response><href>/calendar/</href><propstat><prop>
<resourcetype><collection/><C:calendar/></resourcetype></prop><status>HTTP/1.1 200 OK</status></propstat></response>
</multistatus>"""
HEAD_END = b"\r\n\r\n"


class Connection(asyncio.Protocol):
    """One keep-alive connection; ``puts`` counts for all of them."""

    puts = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._received = b""

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(HEAD_END)) >= 0:
            head = self._received[:end].lower()
            _, _, after = head.partition(b"content-length:")
            request_end = end + len(HEAD_END) + int(after.partition(b"\r\n")[0] or b"0")
            if len(self._received) < request_end:
                return
            self._received = self._received[request_end:]
            self._transport.write(self._answer(head))

    def _answer(self, head: bytes) -> bytes:
        if head.startswith(b"put "):
            Connection.puts += b"\r\nif-none-match: *" in head
            return b'HTTP/1.1 201 Created\r\nETag: "%d"\r\nContent-Length: 0\r\n\r\n' % Connection.puts
        if head.startswith(b"propfind "):
            return b"HTTP/1.1 207 Multi-Status\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n\r\n%b" % (
                len(CALENDAR),
                CALENDAR,
            )
        count = b"%d" % Connection.puts
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(count), count)


@contextmanager
def null_server() -> Iterator[str]:
    """The server in a process of its own; gives its address."""
    command = [sys.executable, "-m", "tests.bench.null_server"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Connection, "127.0.0.1", 0)
    say(str(server.sockets[0].getsockname()[1]))
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(_serve())
