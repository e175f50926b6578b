# SPDX-License-Identifier: Apache-2.0
import socket
import threading
from collections.abc import Callable, Generator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.responses import PlainTextResponse

from syncd.errors import BadAnswer, Unavailable
from syncd.transport import Answer, HttpClient, _context, decode, unavailable
from syncd.web.server import RunningServer, unix_socket
from tests.support.stub_server import Call, Certificate, StubServer

NOW = datetime(2026, 11, 22, 8, tzinfo=UTC)
SECRET = "s3cret-token"


def ask(url: str, method: str = "GET", *, options: dict[str, Any] | None = None, **request: Any) -> Answer:
    remote = HttpClient("team", clock=lambda: NOW, **(options or {}))
    try:
        return remote.send(method, url, **request)
    finally:
        remote.close()


def trickle(pause: float) -> Callable[[Call], None]:
    def answer(call: Call) -> None:
        call.send_response(200)
        call.send_header("content-length", "1000")
        call.end_headers()
        for _ in range(1000):
            call.wfile.write(b".")
            call.wfile.flush()
            stopped.wait(pause)

    stopped = threading.Event()
    return answer


def test_a_whole_answer_comes_back_whatever_its_status() -> None:
    with StubServer(lambda call: call.answer(404, b"none", X_Request_Id="7")) as server:
        answer = ask(server.url + "/x", params={"a": "b c"})
    assert (answer.status, answer.body, answer.headers["x-request-id"]) == (404, b"none", "7")
    assert answer.url == server.url + "/x?a=b%20c" or answer.url == server.url + "/x?a=b+c"


def test_an_answer_has_a_greatest_length() -> None:
    with StubServer(lambda call: call.answer(200, b"." * 1001)) as server:
        assert len(ask(server.url, options={"limit": 1001}).body) == 1001
        with pytest.raises(BadAnswer, match=r"team \(127\.0\.0\.1:\d+\)"):
            ask(server.url, options={"limit": 1000})


def test_an_answer_that_trickles_ends_at_the_deadline_for_the_whole() -> None:
    with StubServer(trickle(0.02)) as server, pytest.raises(Unavailable, match="in time"):
        ask(server.url, options={"deadline": 0.3})


def test_a_server_that_says_nothing_is_left_at_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(Unavailable, match="in time"):
        ask(f"http://127.0.0.1:{silent.getsockname()[1]}", options={"deadline": 0.2})


@pytest.mark.parametrize("status", [307, 308, 301])
def test_a_redirect_of_the_same_origin_keeps_method_and_body(status: int) -> None:
    def answer(call: Call) -> None:
        if call.path == "/old?q=1":
            call.answer(status, location="/new")
        else:
            call.answer(200, b"done")

    with StubServer(answer) as server:
        assert ask(server.url + "/old", "POST", params={"q": "1"}, content=b"body").body == b"done"
    assert server.calls == [("POST", "/old?q=1", b"body"), ("POST", "/new", b"body")]


@pytest.mark.parametrize("status", [302, 303])
def test_a_redirect_that_would_turn_a_post_into_a_get_is_not_followed(status: int) -> None:
    with StubServer(lambda call: call.answer(status, location="/new")) as server:
        with pytest.raises(BadAnswer, match="not followed"):
            ask(server.url, "POST", content=b"body")
        assert len(server.calls) == 1


def test_a_redirect_to_another_host_is_refused_and_names_both() -> None:
    with (
        StubServer(lambda call: call.answer()) as other,
        StubServer(lambda call: call.answer(302, location=f"{other.url}/?t={SECRET}")) as server,
    ):
        with pytest.raises(BadAnswer) as caught:
            ask(server.url)
        assert str(caught.value).count("http://127.0.0.1") == 2
        assert SECRET not in str(caught.value)
        assert other.calls == []


@pytest.mark.parametrize("location", ["http://[", "http://x:y/"])
def test_a_redirect_to_no_address_is_a_bad_answer(location: str) -> None:
    with StubServer(lambda call: call.answer(302, location=location)) as server, pytest.raises(BadAnswer):
        ask(server.url)


def test_redirects_in_a_circle_come_to_an_end() -> None:
    with StubServer(lambda call: call.answer(302, location="/")) as server, pytest.raises(BadAnswer, match="redirects"):
        ask(server.url)


def test_an_address_that_is_none_is_a_bad_answer() -> None:
    with pytest.raises(BadAnswer, match="address"):
        ask("http://x:y/")
    with pytest.raises(Unavailable):
        ask("gopher://127.0.0.1/x")


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("17", 17),
        ("Sun, 22 Nov 2026 08:01:30 GMT", 90),
        ("Sun, 22 Nov 2026 07:00:00 GMT", 0),
        ("soon", None),
        ("", None),
    ],
)
def test_retry_after_may_be_seconds_or_a_date(header: str, seconds: float | None) -> None:
    with StubServer(lambda call: call.answer(503, retry_after=header)) as server:
        answer = ask(server.url)
    assert answer.retry_after == seconds
    assert unavailable(answer, "team").retry_after == seconds


def test_a_body_that_is_cut_is_a_bad_answer() -> None:
    def answer(call: Call) -> None:
        call.answer(200, b"half", content_length="8")
        call.close_connection = True

    with StubServer(answer) as server, pytest.raises(BadAnswer, match="broke off"):
        ask(server.url)


def test_a_compressed_answer_is_refused_because_it_may_be_a_bomb() -> None:
    with StubServer(lambda call: call.answer(200, b"x", content_encoding="gzip")) as server, pytest.raises(BadAnswer):
        ask(server.url)


def test_a_port_that_nobody_serves_is_unavailable_and_the_message_lacks_the_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(Unavailable, match=rf"team \(127\.0\.0\.1:{port}\) cannot be reached") as caught:
        ask(f"http://user:{SECRET}@127.0.0.1:{port}/{SECRET}", params={"t": SECRET})
    assert SECRET not in repr(caught.value)
    assert caught.value.__suppress_context__


class TwoStops(httpx.Auth):
    """Asks ``token_url`` first, as a grant does."""

    def __init__(self, token_url: str) -> None:
        self._token_url = token_url

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        yield httpx.Request("POST", self._token_url)
        yield request


def test_requests_of_an_auth_are_bounded_too_and_named_by_their_own_host() -> None:
    with StubServer(lambda call: call.answer()) as server, socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        options = {"auth": TwoStops(f"http://127.0.0.1:{port}"), "deadline": 0.2}
        with pytest.raises(Unavailable, match=rf"127\.0\.0\.1:{port}\) does not answer in time"):
            ask(server.url, options=options)
        assert server.calls == []


def test_json_is_read_whatever_its_type_and_no_message_quotes_it() -> None:
    assert decode(Answer(200, {"content-type": "text/json"}, b'{"a":1}', "u"), dict[str, int], "team") == {"a": 1}
    for body in (b"<html>" + SECRET.encode(), b'{"a":"' + SECRET.encode() + b'"}', b"", b"\xff"):
        with pytest.raises(BadAnswer, match="team answered") as caught:
            decode(Answer(200, {}, body, "u"), dict[str, int], "team")
        assert SECRET not in str(caught.value)


def refused(url: str, ca_file: Path | None) -> str:
    with pytest.raises(Unavailable, match="cannot be reached") as caught:
        ask(url, options={"ca_file": ca_file})
    return str(caught.value)


def test_a_server_is_known_by_its_very_certificate_though_it_names_another_host(tmp_path: Path) -> None:
    own, other = Certificate(tmp_path, "openmeetings"), Certificate(tmp_path, "other")
    with StubServer(lambda call: call.answer(200, b"here"), own) as server:
        assert ask(server.url, options={"ca_file": own.path}).body == b"here"
        assert "ca_file" in refused(server.url, other.path)
        assert "ca_file" in refused(server.url, None)
        both = tmp_path / "both.pem"
        both.write_bytes(other.path.read_bytes() + own.path.read_bytes())
        assert ask(server.url, options={"ca_file": both}).body == b"here"
    with StubServer(lambda call: call.answer(), other) as impostor:
        assert "ca_file" in refused(impostor.url, own.path)


def test_a_certificate_that_names_the_host_is_checked_as_usual(tmp_path: Path) -> None:
    own = Certificate(tmp_path, "usual", "IP:127.0.0.1")
    with StubServer(lambda call: call.answer(200, b"here"), own) as server:
        assert ask(server.url, options={"ca_file": own.path}).body == b"here"


def test_the_systems_certificates_are_read_for_https_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = Certificate(tmp_path, "system", "IP:127.0.0.1")
    monkeypatch.setenv("SSL_CERT_FILE", str(own.path))  # OpenSSL's own variable
    _context.cache_clear()
    try:
        with (
            StubServer(lambda call: call.answer(200, b"plain")) as plain,
            StubServer(lambda call: call.answer(200), own) as tls,
        ):
            remote = HttpClient("team")
            assert remote.send("GET", plain.url).body == b"plain"
            assert _context.cache_info().misses == 0
            for _ in range(2):
                assert remote.send("GET", tls.url).status == 200
                assert ask(tls.url).status == 200
            assert _context.cache_info().misses == 1
            remote.close()
    finally:
        _context.cache_clear()


def test_hosts_with_usual_and_with_pinned_certificates_take_turns_in_any_thread(tmp_path: Path) -> None:
    usual, pinned = Certificate(tmp_path, "usual", "IP:127.0.0.1"), Certificate(tmp_path, "pinned")
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(usual.path.read_bytes() + pinned.path.read_bytes())
    stranger = Certificate(tmp_path, "stranger")
    with (
        StubServer(lambda call: call.answer(200, b"here"), usual) as one,
        StubServer(lambda call: call.answer(200, b"here"), pinned) as two,
        StubServer(lambda call: call.answer(), stranger) as three,
    ):
        remote = HttpClient("team", ca_file=bundle)
        bodies: list[bytes] = []

        def run() -> None:
            for url in (one.url, two.url, one.url):
                bodies.append(remote.send("GET", url).body)  # noqa: PERF401 -- kept if the next one fails

        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert bodies == [b"here"] * 12
        with pytest.raises(Unavailable):
            remote.send("GET", three.url)
        assert remote.send("GET", one.url).body == b"here"
        remote.close()
        assert three.calls == []


def test_a_unix_socket_is_asked_directly_whatever_the_address_and_the_proxies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s"
    with (
        StubServer(lambda call: call.answer(502)) as proxy,
        RunningServer(PlainTextResponse("here"), unix_socket(path, 0o600)),
    ):
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("all_proxy", proxy.url)
        assert ask("http://meet.example.org/", options={"unix": path}).body == b"here"
        assert ask("http://meet.example.org/").status == 502
        assert len(proxy.calls) == 1


def test_a_unix_socket_that_nobody_serves_is_unavailable_and_says_why(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"team \(meet\.example\.org\) cannot be reached: .*No such file"):
        ask("http://meet.example.org/", options={"unix": tmp_path / "s"})


def test_a_server_gets_back_the_cookies_that_it_set_and_no_other_does() -> None:
    received: list[str | None] = []

    def answer(call: Call) -> None:
        received.append(call.headers["cookie"])
        if call.path == "/sign-in":
            call.answer(200, Set_Cookie="session=1")
        else:
            call.answer(200)

    with StubServer(answer) as server:
        remote = HttpClient("team")
        for path in ("/", "/sign-in", "/", "/"):
            remote.send("GET", server.url + path)
        remote.send("GET", server.url.replace("127.0.0.1", "localhost"))
        remote.close()
    assert received == [None, None, "session=1", "session=1", None]


def test_silence_is_borne_as_long_as_was_asked_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(Unavailable, match="in time"):
        ask(f"http://127.0.0.1:{silent.getsockname()[1]}", options={"deadline": 600, "patience": 0.2})
