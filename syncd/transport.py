# SPDX-License-Identifier: Apache-2.0
"""The HTTP client of all edges: every request that syncd sends goes through a ``HttpClient``.

Only here are the deadline of a whole answer, its size limit, Retry-After, redirects, proxies (from the usual
environment variables), certificates, and the redaction of httpx's messages. What a status means is the caller's
to know. Nothing is retried.
"""

import logging
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import httpx
import msgspec
from msgspec import Struct

from syncd import __version__, decoding
from syncd.errors import LONGEST_RETRY_AFTER, BadAnswer, Unavailable

T = TypeVar("T")

USER_AGENT = f"syncd/{__version__}"
REDIRECTS = 5
PATIENCE = 20.0
"""Seconds without a byte after which a request is given up: some servers send none for 15 after a wrong password."""


class Answer(Struct, frozen=True):
    """An HTTP answer, read to its end.

    ``headers`` have lower-case names. ``url`` is the address that answered, after redirects.
    ``retry_after`` is in seconds, from either form of the header (RFC 9110, 10.2.3).
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str
    retry_after: float | None = None


class HttpClient:
    """A client of one server, which messages call ``name``. Safe to share between threads.

    ``deadline`` bounds a whole answer in seconds, ``patience`` the seconds without a byte, ``limit`` the bytes of a
    body; at most ``connections`` are open. ``ca_file`` replaces the system's certificates; if it contains the server's
    own certificate, exactly that one is accepted, whatever host it names. With ``unix`` every request goes through
    that socket of this machine, whatever host its address names, and through no proxy. ``clock`` is read to turn a
    date in Retry-After into seconds.
    """

    def __init__(
        self,
        name: str,
        *,
        ca_file: Path | None = None,
        auth: httpx.Auth | None = None,
        unix: Path | None = None,
        deadline: float = 60.0,
        patience: float = PATIENCE,
        limit: int = 32 << 20,
        connections: int = 4,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        logging.getLogger("httpx").setLevel(logging.WARNING)  # its INFO lines have whole URLs, with codes and passwords
        self.name = name
        self._ca_file = ca_file
        self._auth = auth
        self._unix = unix
        self._deadline = deadline
        self._timeout = httpx.Timeout(min(deadline, patience), connect=min(deadline, 5.0))
        self._limit = limit
        self._connections = connections
        self._clock = clock
        self._usual = self._client = self._open(
            _context(ca_file) if ca_file else _SystemContext(ssl.PROTOCOL_TLS_CLIENT)
        )
        self._pinned = self._open(_pinned_context(ca_file)) if ca_file else None

    def _open(self, context: ssl.SSLContext) -> httpx.Client:
        limits = httpx.Limits(max_connections=self._connections, max_keepalive_connections=self._connections)
        transport = httpx.HTTPTransport(uds=str(self._unix), verify=context) if self._unix else None
        client = httpx.Client(
            verify=context,
            transport=transport,
            trust_env=transport is None,
            auth=self._auth,
            limits=limits,
            follow_redirects=False,
            timeout=self._timeout,
            headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
        )
        client._cookies = _Cookies()  # noqa: SLF001 -- the constructor takes no subclass
        for pattern, proxy in client._mounts.items():  # noqa: SLF001 -- proxies from the environment
            if proxy is not None:
                client._mounts[pattern] = self._bounded(proxy)  # noqa: SLF001
        client._transport = self._bounded(client._transport)  # noqa: SLF001
        return client

    def _bounded(self, transport: httpx.BaseTransport) -> "_Bounded":
        return _Bounded(transport, self._deadline, self._timeout, self._limit)

    def send(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        form: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request and read the whole answer, whatever its status.

        Redirects within the origin are followed with the same method and body: 301, 307 and 308 for every method, 302
        for all but POST (GMX sends it to a PROPFIND), 303 for GET and HEAD. Any other raises BadAnswer, which names
        both hosts. Raises Unavailable and BadAnswer.
        """
        for _ in range(REDIRECTS):
            try:
                request = self._client.build_request(
                    method, url, params=params, headers=headers, content=content, data=form
                )
            except httpx.InvalidURL:
                raise BadAnswer(f"{self.name}: what was given or found as its address is none") from None
            answer = self._send_once(request)
            target = self._redirect(method, answer)
            if target is None:
                return answer
            url, params = target, None
        raise BadAnswer(f"{self.name}: more than {REDIRECTS} redirects; look at the url in the configuration")

    def _send_once(self, request: httpx.Request, *, other: bool = True) -> Answer:
        client = self._client
        try:
            if self._unix:
                _probe(self._unix)
            response = client.send(request)
        except httpx.ConnectError as error:
            if other and self._pinned and "CERTIFICATE_VERIFY_FAILED" in str(error):
                self._client = self._usual if client is self._pinned else self._pinned
                return self._send_once(request, other=False)
            raise Unavailable(f"{self._where(error, request)} cannot be reached: {_reason(error)}") from None
        except httpx.TimeoutException as error:
            raise Unavailable(f"{self._where(error, request)} does not answer in time") from None
        except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError, httpx.DecodingError) as error:
            where = self._where(error, request)
            raise BadAnswer(f"{where} broke off its answer: {type(error).__name__}") from None
        except httpx.TransportError as error:
            where = self._where(error, request)
            raise Unavailable(f"{where} cannot be reached: {type(error).__name__}") from None
        return read(response, self._clock())

    def _where(self, error: httpx.RequestError, request: httpx.Request) -> str:
        """The server's name and the host that failed, which with ``auth`` may be the identity provider's."""
        with suppress(RuntimeError):  # raised if the error does not know its request
            request = error.request
        return f"{self.name} ({request.url.netloc.decode()})"

    def _redirect(self, method: str, answer: Answer) -> str | None:
        followed = (301, 307, 308, *{"GET": (302, 303), "HEAD": (302, 303), "POST": ()}.get(method, (302,)))
        location = answer.headers.get("location")
        if location is None or not 300 < answer.status < 309 or answer.status == 304:  # noqa: PLR2004
            return None
        here = httpx.URL(answer.url)
        try:
            there = here.join(location)
        except httpx.InvalidURL:
            raise BadAnswer(f"{self.name}: {here.scheme}://{here.host} redirects to no address") from None
        same_origin = (here.scheme, here.host, here.port) == (there.scheme, there.host, there.port)
        if answer.status not in followed or not same_origin:
            raise BadAnswer(
                f"{self.name}: {here.scheme}://{here.host} redirects to {there.scheme}://{there.host}, which "
                "is not followed; put the right address into the configuration"
            )
        return str(there)

    def close(self) -> None:
        """Close all connections."""
        self._usual.close()
        if self._pinned:
            self._pinned.close()


def read(response: httpx.Response, now: datetime) -> Answer:
    """Make an Answer of a response whose body was read; ``now`` turns a date in Retry-After into seconds."""
    return Answer(
        status=response.status_code,
        headers={name.lower(): value for name, value in response.headers.items()},
        body=response.content,
        url=str(response.url),
        retry_after=_retry_after(response.headers.get("retry-after"), now),
    )


def decode(answer: Answer, kind: type[T], name: str) -> T:
    """Decode an answer's JSON as ``kind``, whatever its content type (OpenTalk sends ``text/json``).

    Raises BadAnswer, whose message says where the JSON is wrong and nothing of what it contains.
    """
    try:
        return decoding.decode(answer.body, kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        looks = "HTML" if answer.body.lstrip()[:1] == b"<" else "other"
        where = str(error).rpartition(" - at ")[2] if " - at " in str(error) else "the top"
        raise BadAnswer(f"{name} answered {looks} instead of the JSON expected (at {where})") from None


def unavailable(answer: Answer, name: str) -> Unavailable:
    """The exception for 429 and 5xx, with the answer's Retry-After."""
    if answer.status == 429:  # noqa: PLR2004
        return Unavailable(f"{name} asks for fewer requests (429)", answer.retry_after)
    return Unavailable(f"{name} is in trouble ({answer.status})", answer.retry_after)


def _retry_after(value: str | None, now: datetime) -> float | None:
    if not value:
        return None
    longest = LONGEST_RETRY_AFTER.total_seconds()
    if re.fullmatch(r"[0-9]+", value.strip()):
        return min(float(value), longest)
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return None
    return min(max(0.0, (when.replace(tzinfo=when.tzinfo or UTC) - now).total_seconds()), longest)


def _reason(error: httpx.ConnectError) -> str:
    text = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in text:
        detail = text.partition("CERTIFICATE_VERIFY_FAILED] ")[2].partition(" (_ssl")[0]
        return f"{detail or 'its certificate is not trusted'}; give its CA, or this very certificate, as ca_file"
    return text or type(error).__name__


def _probe(path: Path) -> None:
    """Connect once, and raise what httpx would if nobody listens; httpcore 1.0 would leave its own socket open then."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(5.0)
        try:
            probe.connect(str(path))
        except OSError as error:
            raise httpx.ConnectError(str(error)) from None


class _Cookies(httpx.Cookies):
    """httpx's, which take a twentieth of a request's CPU time to find that an answer sets none."""

    def extract_cookies(self, response: httpx.Response) -> None:
        if "set-cookie" in response.headers:
            super().extract_cookies(response)


class _Bounded(httpx.BaseTransport):
    """Reads every answer, those of an ``httpx.Auth`` too, within the deadline and the size limit."""

    def __init__(self, inner: httpx.BaseTransport, deadline: float, timeout: httpx.Timeout, limit: int) -> None:
        self._inner = inner
        self._deadline = deadline
        self._timeout = timeout
        self._limit = limit

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        end = time.monotonic() + self._deadline
        request.extensions.setdefault("timeout", self._timeout.as_dict())  # the requests of an Auth have none
        response = self._inner.handle_request(request)
        if response.headers.get("content-encoding", "identity") != "identity":
            response.close()
            raise httpx.DecodingError("compressed though not asked for")
        assert isinstance(response.stream, httpx.SyncByteStream)  # noqa: S101 -- a sync transport's is
        response.stream = _BoundedStream(response.stream, end, self._limit)
        return response

    def close(self) -> None:
        self._inner.close()


class _BoundedStream(httpx.SyncByteStream):
    def __init__(self, inner: httpx.SyncByteStream, end: float, limit: int) -> None:
        self._inner = inner
        self._end = end
        self._left = limit

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._inner:
            self._left -= len(chunk)
            if self._left < 0:
                raise httpx.RemoteProtocolError("more bytes than an answer may have")
            if time.monotonic() > self._end:
                raise httpx.ReadTimeout("the answer as a whole takes too long")
            yield chunk

    def close(self) -> None:
        self._inner.close()


@lru_cache(maxsize=8)
def _context(ca_file: Path | None) -> ssl.SSLContext:
    """One context for all clients with the same certificates: reading the system's takes 60 ms."""
    return ssl.create_default_context(cafile=str(ca_file) if ca_file else None)


class _SystemContext(ssl.SSLContext):
    """The context with the system's certificates, read when the first connection needs them: none by http does."""

    def set_alpn_protocols(self, alpn_protocols: Iterable[str]) -> None:
        _context(None).set_alpn_protocols(alpn_protocols)

    def wrap_socket(self, *args: Any, **kwargs: Any) -> ssl.SSLSocket:
        return _context(None).wrap_socket(*args, **kwargs)

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        return _context(None).wrap_bio(*args, **kwargs)


def _pinned_context(ca_file: Path) -> ssl.SSLContext:
    """A context that accepts exactly the certificates of a file (a server's default one may name no host)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(str(ca_file))
    pinned = set(context.get_ca_certs(binary_form=True)) | {ssl.PEM_cert_to_DER_cert(pem) for pem in _pems(ca_file)}

    class PinnedSocket(ssl.SSLSocket):
        def do_handshake(self, *args: Any, **kwargs: Any) -> None:
            super().do_handshake(*args, **kwargs)
            if self.getpeercert(binary_form=True) not in pinned:
                raise ssl.SSLCertVerificationError("CERTIFICATE_VERIFY_FAILED] not the certificate in ca_file")

    context.sslsocket_class = PinnedSocket
    return context


def _pems(ca_file: Path) -> Iterator[str]:
    mark = "-----END CERTIFICATE-----"
    for block in ca_file.read_text(encoding="ascii", errors="replace").split(mark)[:-1]:
        yield block[block.index("-----BEGIN CERTIFICATE-----") :] + mark
