# SPDX-License-Identifier: Apache-2.0
"""An OpenTalk account over REST: who it is, its events page by page, its guest invites.

The same requests suit controllers from 0.29 to 0.35; comments name what they do differently. A listing is complete or
an exception.
"""

import re
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypedDict
from urllib.parse import parse_qs, urlsplit

from msgspec import Struct

from syncd.errors import BadAnswer, BadEvent, LoginRefused, Unavailable
from syncd.model import Identity, Invite, Meeting, Snapshot, Unreadable, Window
from syncd.opentalk.discovery import Addresses, Endpoints, discover
from syncd.opentalk.oidc import Grant, Logins, PasswordGrant, RefreshGrant
from syncd.opentalk.tokens import Client
from syncd.opentalk.wire import Listing, Me, read_invites
from syncd.transport import Answer, HttpClient, decode, unavailable

MOST_PAGES = 10_000
MOST_INVITE_PAGES = 100
GONE = frozenset({403, 404, 410})
"""The statuses for an event that was deleted or to which the account is no longer invited."""

BAD_REQUEST = frozenset({400})

BAD_TOKEN = frozenset({500})
"""The status of 0.30 for tokens that lack, for example, the controller's audience or the scope ``openid``."""

_LINK = re.compile(r"<([^>]*)>\s*;\s*rel=\"?(\w+)")
_SECOND = timedelta(seconds=1)


class _Common(TypedDict):
    """The arguments of every grant."""

    token_endpoint: str
    login_url: str
    clock: Callable[[], datetime]


class _Session(Struct, frozen=True):
    """The endpoints that discovery found, and a client that sends the grant's tokens to them."""

    endpoints: Endpoints
    grant: Grant
    client: HttpClient


class OpenTalk:
    """One account. ``name`` is its table in the configuration; ``url`` is the web app's address.

    ``controller``, ``issuer`` and ``client_id`` are discovered where they are ``None``. Without ``username`` and
    ``password`` the refresh token of the signed-in account is read from ``logins``. Constructing it sends nothing.
    Safe to share between threads. Every method raises Unavailable, BadAnswer, LoginRefused and NeedsYou.
    """

    def __init__(
        self,
        name: str,
        *,
        url: str,
        controller: str | None = None,
        issuer: str | None = None,
        client_id: str | None = None,
        client_secret: Callable[[], str] | None = None,
        username: str | None = None,
        password: Callable[[], str] | None = None,
        logins: Logins | None = None,
        per_page: int = 100,
        ca_file: Path | None = None,
        clock: Callable[[], datetime],
        remote_options: Mapping[str, Any] = {},
    ) -> None:
        self._account = name
        self._name = f"opentalk.{name}"
        self._addresses = Addresses(web=url, controller=controller, issuer=issuer, client_id=client_id)
        self._client_secret = client_secret
        self._username = username
        self._password = password
        self._logins = logins
        self._per_page = per_page
        self._clock = clock
        self._remote_options = {"ca_file": ca_file, "clock": clock, **remote_options}
        self._lock = threading.Lock()
        self._session: _Session | None = None
        self._identity: Identity | None = None
        self._has_invites = True
        self._seen: set[bytes] = set()
        self._refused: set[frozenset[str]] = set()  # names of the parameters that this server refuses

    def identity(self) -> Identity:
        """Who the account is; requested once."""
        if self._identity is None:
            answer = self._send("GET", "/users/me", expected=BAD_TOKEN)
            if answer.status in BAD_TOKEN:
                raise Unavailable(
                    f"{self._name} is in trouble (500), or does not like the token: the client "
                    f"{self._open().endpoints.client_id!r} needs an audience mapper for the controller's client"
                )
            me = decode(answer, Me, self._name)
            claims = self._open().grant.claims
            self._identity = Identity(
                issuer=claims.issuer if claims else self._open().endpoints.issuer,
                subject=claims.subject if claims else me.id,
                user_id=me.id,
                firstname=me.firstname,
                lastname=me.lastname,
            )
        return self._identity

    def snapshot(self, window: Window | None, have: Mapping[str, str] = {}) -> Snapshot:
        """The complete listing of a window; without one, of everything, time-independent events included.

        Everything is listed as two listings: up to 0.33 a mixed one loses events where a page ends with an event that
        has no time. With a window the server takes the last start of a series for its end and ignores moved
        occurrences, so absence from a window proves nothing.

        ``have`` are digests of the caller's meetings by event. An event that matched once and whose JSON is unchanged
        is not decoded again. If one of these turns out to be a series that now has exceptions, all is listed anew.
        """
        listing = self._listing(window, have)
        if listing.mistaken:
            listing = self._listing(window, {})
        meetings, unreadable = listing.join()
        if window is None and len(self._seen) > 2 * (len(meetings) + len(listing.same)):
            self._seen.clear()  # most of it is about events that have changed or gone since
        wrong = {event: Unreadable(event, reason) for event, reason in unreadable.items()}
        return Snapshot(meetings, window, wrong, listing.same)

    def _listing(self, window: Window | None, have: Mapping[str, str]) -> Listing:
        listing = Listing(self._name, have, self._seen)
        if window is None:
            self._list(listing, {"time_independent": "false"})
            self._list(listing, {"time_independent": "true"})
        else:
            times = {"time_min": _rfc3339(window.since), "time_max": _rfc3339(window.until)}
            self._list(listing, {"time_independent": "false", **times})
        return listing

    def event(self, event_id: str) -> Meeting | None:
        """One event by its id; ``None`` if it is gone for this account. Raises BadEvent if it cannot be read.

        The exceptions of a series are only in listings. So what was created since the series is listed: that contains
        the series with all of its exceptions or, if it went meanwhile or its creator was disabled, not at all. The
        listing has no upper bound, because exceptions are created later than their series and from 0.33 on filtered
        by their own date. Where the filter is refused, and before 0.29, everything is listed.
        """
        answer = self._send("GET", f"/events/{event_id}", expected=GONE)
        if answer.status in GONE:
            return None
        listing = Listing(self._name)
        listing.add(b"[" + answer.body + b"]")
        meeting = _one(listing, event_id)
        if meeting is None:
            raise BadAnswer(f"{self._name} answered another event than the one asked for")
        if not meeting.recurrence:
            return meeting
        listing = Listing(self._name)
        since = _rfc3339(meeting.created - _SECOND)
        self._list(listing, {"time_independent": "false"}, {"created_after": since})
        series = _one(listing, event_id)
        if series is None:  # it was there a moment ago, so this is no proof of a deletion
            raise BadAnswer(f"{self._name} has event {event_id} but does not list it")
        return series

    def find_invite(self, meeting: Meeting) -> Invite | None:
        """A permanent guest invite of the meeting's room, if there is one."""
        return self._look_for_invite(meeting)[0]

    def invite(self, meeting: Meeting) -> Invite | None:
        """A permanent guest invite of the meeting's room, found or made; ``None`` if it can have none.

        Never one that expires: up to 0.30 OpenTalk's own mails use the invite that was changed last.
        """
        found, refused = self._look_for_invite(meeting)
        if found or refused or not meeting.own:
            return found
        path = f"/rooms/{meeting.room}/invites"
        answer = self._send("POST", path, content=b"{}", expected=GONE)
        if self._is_refused(answer):
            return None
        invite = next(read_invites(b"[" + answer.body + b"]", self._name), None)
        if invite is None:
            raise BadAnswer(f"{self._name} answered something else than the invite it made")
        return Invite(invite.invite_code, made=True)

    def _look_for_invite(self, meeting: Meeting) -> tuple[Invite | None, bool]:
        """A permanent invite, if there is one, and whether the meeting can have none.

        Whether the invites of somebody else's event may be read depends on the version (0.30: yes, 0.34: no). 0.35
        has no invites.
        """
        if not self._has_invites or meeting.e2e or meeting.guest_access == "disabled":
            return None, True
        for page in range(1, MOST_INVITE_PAGES + 1):
            path, optional = f"/rooms/{meeting.room}/invites", {"per_page": "100"}
            answer = self._get(path, {"page": str(page)}, optional, first=page == 1, expected=GONE)
            if self._is_refused(answer):
                return None, True
            for invite in read_invites(answer.body, self._name):
                if invite.active and invite.expiration is None:
                    return Invite(invite.invite_code, made=False), False
            if "next" not in _links(answer):
                break
        return None, False

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            if self._session:
                self._session.client.close()
                self._session = None

    def _is_refused(self, answer: Answer) -> bool:
        """Whether the answer says that there can be no invite; 410 means that this server has none at all."""
        if answer.status == 410:  # noqa: PLR2004
            self._has_invites = False
        return answer.status in GONE

    def _list(self, listing: Listing, query: Mapping[str, str], optional: Mapping[str, str] = {}) -> None:
        for page in self._pages(query, {**optional, "per_page": str(self._per_page)}):
            if not listing.add(page):
                return

    def _pages(self, query: Mapping[str, str], optional: Mapping[str, str]) -> Iterator[bytes]:
        """The pages of a listing, until one has no cursor.

        The Link header names the cursor ``after``, not ``next``; up to 0.33 the last page has one, too, and an empty
        page follows. Only the cursor is taken from that address: its scheme, host and path are those that the
        controller sees behind its proxies. Invitees are not requested: by default none are listed, and 0.32 refuses
        ``invitees_max=0``.
        """
        cursors: set[str] = set()
        cursor: Mapping[str, str] = {}
        for _ in range(MOST_PAGES):
            answer = self._get("/events", {**query, **cursor}, optional, first=not cursor)
            yield answer.body
            after = parse_qs(urlsplit(_links(answer).get("after", "")).query).get("after")
            if not after:
                return
            if after[0] in cursors:
                raise BadAnswer(f"{self._name} lists in a circle: it gave the same cursor twice")
            cursors.add(after[0])
            cursor = {"after": after[0]}
        raise BadAnswer(f"{self._name} lists more than {MOST_PAGES} pages")

    def _get(
        self,
        path: str,
        query: Mapping[str, str],
        optional: Mapping[str, str],
        *,
        first: bool,
        expected: frozenset[int] = frozenset(),
    ) -> Answer:
        """Request a page of a listing; if the first one is refused (400), again without the ``optional`` parameters.

        Which values are allowed differs between versions. Optional are parameters without which a listing has the
        same events or more. Later pages are requested with the same parameters as the first.
        """
        names = frozenset(optional)
        if names in self._refused:
            return self._send("GET", path, query, expected=expected)
        answer = self._send("GET", path, {**query, **optional}, expected=expected | BAD_REQUEST if first else expected)
        if answer.status in BAD_REQUEST:
            answer = self._send("GET", path, query, expected=expected)
            self._refused.add(names)
        return answer

    def _open(self) -> _Session:
        with self._lock:
            if self._session is None:
                client = HttpClient(self._name, **self._remote_options)
                try:
                    found = discover(client, self._addresses)
                finally:
                    client.close()
                grant = self._grant(found)
                self._session = _Session(found, grant, HttpClient(self._name, auth=grant, **self._remote_options))
            return self._session

    def _grant(self, endpoints: Endpoints) -> Grant:
        client = Client(self._name, endpoints.client_id, self._client_secret)
        login_url = f"{endpoints.api}/auth/login"
        common = _Common(token_endpoint=endpoints.token_endpoint, login_url=login_url, clock=self._clock)
        if self._username is not None and self._password is not None:
            return PasswordGrant(client, username=self._username, password=self._password, **common)
        if self._logins is None:
            raise LoginRefused(f"{self._name}: there is neither a username nor a place where a sign-in is kept")
        return RefreshGrant(client, account=self._account, logins=self._logins, **common)

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        content: bytes | None = None,
        expected: frozenset[int] = frozenset(),
    ) -> Answer:
        """Send a request; raise for every status that is neither a success nor in ``expected``."""
        session = self._open()
        headers = {"Content-Type": "application/json"} if content is not None else None
        url = session.endpoints.api + path
        answer = session.client.send(method, url, params=query, headers=headers, content=content)
        match answer.status:
            case 200 | 201 | 204:
                return answer
            case status if status in expected:
                return answer
            case 401 | 403:
                raise LoginRefused(
                    f"{self._name}: the login is good, but OpenTalk refuses it ({answer.status}); does the client "
                    f"{session.endpoints.client_id!r} have an audience mapper for the controller's client?"
                )
            case status if status == 429 or status >= 500:  # noqa: PLR2004
                raise unavailable(answer, self._name)
            case status:
                raise BadAnswer(f"{self._name} refuses a request that it should take ({status})")


def _one(listing: Listing, event_id: str) -> Meeting | None:
    meetings, unreadable = listing.join()
    if event_id in unreadable:
        raise BadEvent(event_id, unreadable[event_id])
    return meetings.get(event_id)


def _rfc3339(moment: datetime) -> str:
    """A moment as RFC 3339 with ``Z``: the ``+`` of an offset would reach the server as a space."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _links(answer: Answer) -> dict[str, str]:
    """The addresses of a Link header (RFC 8288) by their relation; the header may be empty."""
    return {rel: address for address, rel in _LINK.findall(answer.headers.get("link", ""))}
