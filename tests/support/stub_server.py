# SPDX-License-Identifier: Apache-2.0
"""A server of a few lines, with TLS if wanted, for faults that only a socket has."""

import ssl
import subprocess
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self


class Certificate:
    """A self-signed certificate for a name, made by openssl; ``path`` is its PEM file."""

    def __init__(self, folder: Path, name: str, alternatives: str | None = None) -> None:
        self.path, self.key = folder / f"{name}.pem", folder / f"{name}.key"
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        command += ["-days", "2", "-subj", f"/CN={name}", "-keyout", str(self.key), "-out", str(self.path)]
        if alternatives:
            command += ["-addext", f"subjectAltName={alternatives}"]
        subprocess.run(command, check=True, capture_output=True)


class Call(BaseHTTPRequestHandler):
    """A request with its body."""

    protocol_version = "HTTP/1.1"
    body = b""

    def log_message(self, *_: object) -> None:
        return

    def answer(self, status: int = 200, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"content-length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)


class StubServer(ThreadingHTTPServer):
    """Serves ``answer`` on a free port of this machine; ``calls`` are method, path and body of each request."""

    daemon_threads = True

    def __init__(self, answer: Callable[[Call], None], certificate: Certificate | None = None) -> None:
        self.calls: list[tuple[str, str, bytes]] = []

        def handle(call: Call) -> None:
            call.body = call.rfile.read(int(call.headers.get("content-length", 0)))
            self.calls.append((call.command, call.path, call.body))
            answer(call)

        super().__init__(("127.0.0.1", 0), type("Handler", (Call,), {"do_GET": handle, "do_POST": handle}))
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate.path, certificate.key)
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.url = f"http{'s' if certificate else ''}://127.0.0.1:{self.server_port}"
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True)

    def handle_error(self, *_: object) -> None:
        """Say nothing: in some tests the client hangs up."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()
