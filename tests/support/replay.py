# SPDX-License-Identifier: Apache-2.0
"""Recorded requests, sent again to an embedded server, and what must be the same in its answers."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx

RECORDINGS = Path(__file__).parent.parent / "recordings"
HEADERS = ("content-type", "www-authenticate")
NAMED = re.compile(r"JWT-\d+|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
TRANSLATED = re.compile(NAMED.pattern + r"|(?<=after=)[\w-]+|(?<=device_code=)[\w-]+|https://\w+\.example\.org")
# Times and numbers that differ from run to run: of these only the type is compared.
VOLATILE = (
    *("created", "created_at", "updated", "updated_at", "session_state", "language"),
    *("device_code", "user_code", "verification_uri_complete"),
)
CALL_IN = ("tel", "id", "password")
PLACE = re.compile(r" at line \d+ column \d+")  # where serde found an error in a request


def recorded(name: str) -> list[dict[str, Any]]:
    with (RECORDINGS / name).open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


class Replay:
    """Sends recorded requests with our ids, tokens and cursors in place of theirs, which it learns as it goes."""

    def __init__(self, hosts: Mapping[str, str], origin: str) -> None:
        self._ours = dict(hosts)
        self._origin = origin
        self._client = httpx.Client()

    def close(self) -> None:
        self._client.close()

    def send(self, exchange: Mapping[str, Any]) -> httpx.Response:
        request = exchange["request"]
        url = self._translated(request["url"])
        answer = self._client.request(
            request["method"],
            url if url.startswith("http") else self._origin + url,
            headers={name: self._translated(value) for name, value in request["headers"].items()},
            content=self._translated(request["body"]).encode(),
        )
        self._learn(_json(exchange["response"]["body"]), _json(answer.text))
        for theirs, ours in zip(_links(exchange["response"]["headers"]), _links(answer.headers), strict=False):
            self._learn_name(theirs["after"], ours["after"])
        return answer

    def differences(self, exchange: Mapping[str, Any], answer: httpx.Response) -> Iterator[str]:
        response = exchange["response"]
        if answer.status_code != response["status"]:
            yield f"status {answer.status_code}, recorded {response['status']}"
        for name in HEADERS:
            if answer.headers.get(name) != response["headers"].get(name):
                yield f"{name}: {answer.headers.get(name)}, recorded {response['headers'].get(name)}"
        if ("link" in answer.headers) != ("link" in response["headers"]):
            yield "a Link header on one side only"
        theirs = {name: self._translated(value) for name, value in response["headers"].items()}
        if sorted(map(str, _links(answer.headers))) != sorted(map(str, _links(theirs))):
            yield f"Link: {answer.headers['link']}, recorded {theirs['link']}"
        yield from _different(_json(answer.text), _json(self._translated(response["body"])), "")

    def _translated(self, text: str) -> str:
        return TRANSLATED.sub(lambda match: self._ours.get(match[0], match[0]), text)

    def _learn(self, theirs: Any, ours: Any) -> None:
        match theirs, ours:
            case dict(), dict():
                if "device_code" in theirs:
                    self._learn_name(theirs["device_code"], ours["device_code"])
                for name in theirs.keys() & ours.keys():
                    self._learn(theirs[name], ours[name])
            case list(), list():
                for one, other in zip(theirs, ours, strict=False):
                    self._learn(one, other)
            case str(), str() if NAMED.fullmatch(theirs):
                self._learn_name(theirs, ours)

    def _learn_name(self, theirs: str, ours: str) -> None:
        if theirs:
            self._ours.setdefault(theirs, ours)


def _json(text: str) -> Any:
    try:
        return json.loads(PLACE.sub("", text))
    except ValueError:
        return text


def _links(headers: Mapping[str, str]) -> list[dict[str, Any]]:
    """Relation, address without its query, and query of each link; the query's order means nothing."""
    found = re.findall(r'<([^>]*)>; rel="([a-z]+)"', headers.get("link", ""))
    return [
        {"rel": rel, "at": url.partition("?")[0], "after": query.get("after", [""])[0], "query": sorted(query.items())}
        for url, rel in found
        for query in [parse_qs(urlsplit(url).query, keep_blank_values=True)]
    ]


def _different(ours: Any, theirs: Any, where: str) -> Iterator[str]:
    match ours, theirs:
        case dict(), dict():
            yield from _different_members(ours, theirs, where)
        case list(), list():
            if len(ours) != len(theirs):
                yield f"{where}: {len(ours)} items, recorded {len(theirs)}"
            for place, (one, other) in enumerate(zip(ours, theirs, strict=False)):
                yield from _different(one, other, f"{where}[{place}]")
        case _:
            if ours != theirs:
                yield f"{where}: {ours!r}, recorded {theirs!r}"


def _different_members(ours: dict[str, Any], theirs: dict[str, Any], where: str) -> Iterator[str]:
    if ours.keys() != theirs.keys():
        yield f"{where}: members {sorted(ours.keys() ^ theirs.keys())} on one side only"
    if _is_touched(ours) != _is_touched(theirs):
        yield f"{where}: updated on one side only"
    for name in ours.keys() & theirs.keys():
        volatile = name in VOLATILE or (set(theirs) == set(CALL_IN) and name in CALL_IN)
        one, other = (type(ours[name]), type(theirs[name])) if volatile else (ours[name], theirs[name])
        yield from _different(one, other, f"{where}.{name}")


def _is_touched(value: Mapping[str, Any]) -> bool:
    """Whether something has changed since it was made, or rather whether the server says so."""
    return any(value.get(new) != value.get(old) for new, old in (("updated_at", "created_at"), ("updated", "created")))
