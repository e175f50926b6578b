# SPDX-License-Identifier: Apache-2.0
"""The forms in which OpenTalk answers over HTTP: JSON, its two kinds of Link header, its errors."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from syncd.decoding import decode
from syncd.demo.events import JSON, Refusal
from syncd.demo.listing import numbered_page


def read_json(request: Request, body: bytes) -> JSON:
    """The JSON object of a request."""
    if not request.headers.get("content-type", "").startswith("application/json"):
        raise Refusal(400, "invalid_content_type", "Content type error")
    try:
        return decode(body, dict[str, Any])
    except msgspec.MsgspecError as error:
        raise Refusal(400, "invalid_json", f"Json deserialize error: {error}") from None


def json_answer(value: Any, headers: Mapping[str, str] | None = None) -> Response:
    """A successful answer."""
    return Response(msgspec.json.encode(value), 200, headers, "application/json")


def after_link(request: Request, cursor: str | None) -> dict[str, str]:
    """The Link header of a page of events: its rel is ``after``, not ``next``, its address begins with Host."""
    if cursor is None:
        return {}
    query = dict(parse_qsl(request.url.query, keep_blank_values=True)) | {"after": cursor}
    return {"link": f'<{request.url.replace(query="")}?{urlencode(query)}>; rel="after"'}


def numbered_answer(request: Request, items: list[JSON]) -> Response:
    """The requested page of a listing that has page numbers."""
    page, link = numbered_page(items, request.query_params, str(request.url.replace(query="")))
    return json_answer(page, {"link": link})


def refused_answer(refusal: Refusal) -> Response:
    """An error: ``text/json``; plain text about a query; without a body where access is denied."""
    headers = {"www-authenticate": refusal.challenge} if refusal.challenge else {}
    if not refusal.code:
        return Response(status_code=refusal.status, headers=headers)
    if refusal.code == "query":
        return Response(refusal.message, refusal.status, headers, "text/plain")
    error = msgspec.json.encode({"code": refusal.code, "message": refusal.message})
    return Response(error, refusal.status, headers, "text/json")
