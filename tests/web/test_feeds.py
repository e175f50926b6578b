# SPDX-License-Identifier: Apache-2.0
import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager
from email.message import Message
from hashlib import sha256
from http.client import HTTPConnection
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct

from syncd.errors import LedgerBusy, LedgerError, SyncdError, Unavailable
from syncd.web.feeds import FeedState, feed_app
from syncd.web.server import RunningServer

TOKEN = "canary-Zm9vYmFyYmF6cXV4cXV1eA"
PATH = f"/feed/{TOKEN}.ics"
BODY = b"BEGIN:VCALENDAR\r\nEND:VCALENDAR\r\n"
FAULTS = [LedgerError("disk full"), LedgerBusy("busy"), Unavailable("away")]


class Answer(Struct):
    status: int
    headers: Message
    body: bytes


class MemoryFeeds:
    """One feed in memory, with the faults that a ledger has."""

    def __init__(self) -> None:
        self.state: FeedState | None = FeedState("phone", "v1", ready=True)
        self.stored = ("v1", BODY)
        self.lookup_fault: SyncdError | None = None
        self.body_fault: SyncdError | None = None
        self.built = 0

    def feed(self, token_sha256: str) -> FeedState | None:
        if self.lookup_fault:
            raise self.lookup_fault
        return self.state if token_sha256 == sha256(TOKEN.encode()).hexdigest() else None

    def body(self, name: str) -> tuple[str, bytes]:
        assert name == "phone"
        if self.body_fault:
            raise self.body_fault
        self.built += 1
        return self.stored

    def move_on(self, version: str, body: bytes) -> None:
        self.state = FeedState("phone", version, ready=True)
        self.stored = (version, body)


class FeedClient:
    """A real server with the application, and a plain client of it."""

    def __init__(self, url: str, feeds: MemoryFeeds) -> None:
        self._host = url.removeprefix("http://")
        self.feeds = feeds

    def ask(self, path: str = PATH, method: str = "GET", *conditions: str) -> Answer:
        with closing(HTTPConnection(self._host, timeout=60)) as connection:
            connection.putrequest(method, path)
            for condition in conditions:
                connection.putheader("If-None-Match", condition)
            connection.putheader("Accept-Encoding", "gzip")
            connection.endheaders()
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())


@contextmanager
def serving() -> Iterator[FeedClient]:
    feeds = MemoryFeeds()
    with RunningServer(feed_app(feeds)) as served:
        yield FeedClient(served.url, feeds)


@pytest.fixture
def client() -> Iterator[FeedClient]:
    with serving() as client:
        yield client


@pytest.fixture(scope="module")
def shared_client() -> Iterator[FeedClient]:
    with serving() as client:
        yield client


def test_a_feed_is_given_whole_with_its_strong_etag(client: FeedClient) -> None:
    answer = client.ask()
    assert (answer.status, answer.body) == (200, BODY)
    assert dict(answer.headers) == {
        "content-type": "text/calendar; charset=utf-8",
        "content-disposition": 'inline; filename="syncd.ics"',
        "cache-control": "private, max-age=300",
        "referrer-policy": "no-referrer",
        "x-robots-tag": "noindex",
        "etag": '"v1"',
        "content-length": str(len(BODY)),
    }


def test_head_is_get_without_its_body(client: FeedClient) -> None:
    head, get = client.ask(method="HEAD"), client.ask()
    assert head.body == b""
    assert (head.status, dict(head.headers)) == (get.status, dict(get.headers))
    client.feeds.lookup_fault = LedgerError("disk full")
    head, get = client.ask(method="HEAD"), client.ask()
    assert (head.status, dict(head.headers), head.body) == (get.status, dict(get.headers), b"")


@pytest.mark.parametrize(
    "conditions", [['"v1"'], ['W/"v1"'], ['"v0", "v1"'], ['"v0","x,y" , W/"v1"'], ["*"], ['"v0"', '"v1"']]
)
def test_who_has_the_version_gets_304_and_no_body_is_built(client: FeedClient, conditions: list[str]) -> None:
    answer = client.ask(PATH, "GET", *conditions)
    assert (answer.status, answer.body, answer.headers["ETag"]) == (304, b"", '"v1"')
    assert answer.headers["Cache-Control"] == "private, max-age=300"
    assert client.feeds.built == 0


@pytest.mark.parametrize("condition", ['"v0"', "v1", '"v11"', '"V1"', "", '"v1', '"v0, v1"'])
def test_who_has_another_version_gets_the_feed(client: FeedClient, condition: str) -> None:
    assert client.ask(PATH, "GET", condition).body == BODY


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_unknown_revoked_and_malformed_tokens_are_the_same(client: FeedClient, method: str) -> None:
    paths = [
        "/feed/x.ics",
        "/feed/.ics",
        f"/feed/{TOKEN}",
        f"{PATH}/",
        "/feed/%00%ff.ics",
        "/feed/",
        "/",
        "/feed/a/b.ics",
    ]
    answers = [client.ask(path, method) for path in paths]
    client.feeds.state = None
    answers.append(client.ask(PATH, method))
    assert {(answer.status, answer.body, str(answer.headers)) for answer in answers} == {
        (404, b"" if method == "HEAD" else b"Not Found", str(answers[0].headers))
    }


@settings(deadline=None)  # laws count, they do not time
@given(st.text(min_size=1))
def test_no_path_but_a_feeds_finds_anything(shared_client: FeedClient, token: str) -> None:
    assert shared_client.ask(f"/feed/{quote(token, safe='')}.ics").status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PROPFIND"])
def test_a_feed_can_only_be_read(client: FeedClient, method: str) -> None:
    answer = client.ask(PATH, method)
    assert answer.status == 405
    assert {word.strip() for word in answer.headers["Allow"].split(",")} == {"GET", "HEAD"}


def test_a_feed_that_is_not_ready_says_when_to_come_back(client: FeedClient) -> None:
    client.feeds.state = FeedState("phone", "", ready=False)
    answer = client.ask()
    assert (answer.status, answer.headers["Retry-After"]) == (503, "60")
    assert client.feeds.built == 0


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
@pytest.mark.parametrize("where", ["lookup_fault", "body_fault"])
def test_a_failing_ledger_is_no_reason_for_less_than_there_was(
    client: FeedClient, where: str, fault: Exception
) -> None:
    setattr(client.feeds, where, fault)
    answer = client.ask()
    assert (answer.status, answer.headers["Retry-After"]) == (503, "60")
    setattr(client.feeds, where, None)
    assert client.ask().body == BODY
    client.feeds.move_on("v2", b"new")
    setattr(client.feeds, where, fault)
    answer = client.ask()
    assert (answer.status, answer.body, answer.headers["ETag"]) == (200, BODY, '"v1"')
    assert answer.headers["Warning"] == '110 syncd "the last good answer"'
    assert client.ask(PATH, "GET", '"v1"').status == 304
    setattr(client.feeds, where, None)
    answer = client.ask()
    assert (answer.body, answer.headers["ETag"], answer.headers["Warning"]) == (b"new", '"v2"', None)


def test_a_failing_ledger_gives_nobody_the_feed_of_another(client: FeedClient) -> None:
    assert client.ask().status == 200
    client.feeds.lookup_fault = LedgerError("disk full")
    assert client.ask("/feed/other.ics").status == 503


def test_a_revoked_feed_is_forgotten(client: FeedClient) -> None:
    assert client.ask().status == 200
    client.feeds.state = None
    assert client.ask().status == 404
    client.feeds.lookup_fault = LedgerError("disk full")
    assert client.ask().status == 503


def test_etag_and_body_belong_together_when_the_ledger_moves_on_between_them(client: FeedClient) -> None:
    client.feeds.stored = ("v2", b"new")  # what is looked up is still v1
    answer = client.ask()
    assert (answer.headers["ETag"], answer.body) == ('"v2"', b"new")


def test_an_unchanged_feed_is_joined_once(client: FeedClient) -> None:
    assert [client.ask().body for _ in range(3)] == [BODY] * 3
    assert client.feeds.built == 1
    client.feeds.move_on("v2", b"new")
    assert client.ask().body == b"new"


def test_robots_may_fetch_feeds(client: FeedClient) -> None:
    answer = client.ask("/robots.txt")
    assert (answer.status, answer.body) == (200, b"User-agent: *\nDisallow:\n")


class Journal(logging.Handler):
    """What a process logs. pytest's own capture also listens to loggers that are switched off."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture
def journal() -> Iterator[Journal]:
    journal, root = Journal(), logging.getLogger()
    level = root.level
    root.addHandler(journal)
    root.setLevel(logging.DEBUG)
    yield journal
    root.setLevel(level)
    root.removeHandler(journal)


def test_no_token_is_logged(client: FeedClient, journal: Journal) -> None:
    client.ask()
    client.feeds.lookup_fault = LedgerError("disk full")
    client.ask()
    client.ask(method="POST")
    client.ask(f"{PATH}/")
    assert "a feed cannot be read from the ledger (LedgerError): answered with its last good body" in journal.lines
    assert "canary" not in "".join(journal.lines)
