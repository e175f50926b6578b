# SPDX-License-Identifier: Apache-2.0
"""An OpenTalk account over REST: who it is, its events page by page, guest invites.

Controllers from 0.29 to 0.35 are spoken to alike; what they do differently is told where it matters. A
listing is complete or it is an exception. Nothing is asked before the first method needs it.
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
from syncd.model import Identity, Invite, Meeting, Snapshot, Window
from syncd.opentalk.discovery import Addresses, Places, discover
from syncd.opentalk.oidc import Grant, Logins, PasswordGrant, RefreshGrant
from syncd.opentalk.tokens import Client
from syncd.opentalk.wire import Listing, Me, read_invites
from syncd.transport import Answer, HttpClient, decode, unavailable

MOST_PAGES = 10_000
MOST_INVITE_PAGES = 100
GONE = frozenset({403, 404, 410})
"""What a controller answers for an event that was deleted or that one is not invited to any more."""

BAD_REQUEST = frozenset({400})

ILL_TOKEN = frozenset({500})
"""What 0.30 answers to tokens that lack the controller's audience or the scope ``openid``, among others."""

_LINK = re.compile(r"<([^>]*)>\s*;\s*rel=\"?(\w+)")
_SECOND = timedelta(seconds=1)


class _Common(TypedDict):
    """What every grant takes."""

    token_endpoint: str
    login_url: str
    clock: Callable[[], datetime]


class _Session(Struct, frozen=True):
    """What discovery found, and the way to it with a login."""

    places: Places
    grant: Grant
    remote: HttpClient


class OpenTalk:
    """One account. ``name`` is that of the configuration; ``url`` is the web app's address.

    ``controller``, ``issuer`` and ``client_id`` are found where they are ``None``. Without ``username`` and
    ``password`` the account is the one that signed in, of which ``logins`` keeps the refresh token. Safe to
    share between threads. Every method raises Unavailable, BadAnswer, LoginRefused and NeedsYou.
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
        self._known = Addresses(web=url, controller=controller, issuer=issuer, client_id=client_id)
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
        self._refused: set[frozenset[str]] = set()  # names of parameters that this server does not take

    def identity(self) -> Identity:
        """Who the account is; asked for once."""
        if self._identity is None:
            answer = self._send("GET", "/users/me", expected=ILL_TOKEN)
            if answer.status in ILL_TOKEN:
                raise Unavailable(
                    f"{self._name} is in trouble (500), or does not like the token: the client "
                    f"{self._open().places.client_id!r} needs an audience mapper for the controller's client"
                )
            me = decode(answer, Me, self._name)
            claims = self._open().grant.claims
            self._identity = Identity(
                issuer=claims.issuer if claims else self._open().places.issuer,
                subject=claims.subject if claims else me.id,
                user_id=me.id,
                firstname=me.firstname,
                lastname=me.lastname,
            )
        return self._identity

    def snapshot(self, window: Window | None, have: Mapping[str, str] = {}) -> Snapshot:
        """The complete listing of a window, or of everything, time-independent events too.

        Everything is two listings: up to 0.33 one of both kinds loses events where a page ends with an event
        that has no time. The server takes a series' last start for its end and passes over its moved
        occurrences, so absence from a window proves nothing.

        ``have`` are the digests of the asker's meetings: what was found to be so, and comes as it came then, is not
        read again. If one of these turns out to be a series that now has exceptions, all is listed once more.
        """
        listing = self._listing(window, have)
        if listing.mistaken:
            listing = self._listing(window, {})
        meetings, unreadable = listing.join()
        if window is None and len(self._seen) > 2 * (len(meetings) + len(listing.same)):
            self._seen.clear()  # most of it is of events that have changed or gone since
        return Snapshot(meetings, window, unreadable, listing.same)

    def _listing(self, window: Window | None, have: Mapping[str, str]) -> Listing:
        listing = Listing(self._name, have, self._seen)
        if window is None:
            self._list(listing, {"time_independent": "false"})
            self._list(listing, {"time_independent": "true"})
        else:
            times = {"time_min": _stamp(window.since), "time_max": _stamp(window.until)}
            self._list(listing, {"time_independent": "false", **times})
        return listing

    def event(self, event_id: str) -> Meeting | None:
        """One event by its id; ``None`` if it is gone for this account. Raises BadEvent if it cannot be read.

        The exceptions of a series are only in listings, so what was created since it was is listed again, which
        holds the series with all of them or, if it went meanwhile or its creator was disabled, not at all. There
        is no upper bound, because exceptions are younger than their series and from 0.33 on filtered for
        themselves. Before 0.29 that filter does not exist, and everything is listed, as where it is refused.
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
        since = _stamp(meeting.created - _SECOND)
        self._list(listing, {"time_independent": "false"}, {"created_after": since})
        series = _one(listing, event_id)
        if series is None:  # it was there a moment ago: a question, never a deletion
            raise BadAnswer(f"{self._name} has event {event_id} but does not list it")
        return series

    def find_invite(self, meeting: Meeting) -> Invite | None:
        """A permanent guest invite of the meeting's room, if there is one."""
        return self._look_for_invite(meeting)[0]

    def invite(self, meeting: Meeting) -> Invite | None:
        """A permanent guest invite of the meeting's room, found or made; ``None`` if there is none to be had.

        Never one that expires: up to 0.30 OpenTalk's own mails take the invite that was touched last.
        """
        found, refused = self._look_for_invite(meeting)
        if found or refused or not meeting.own:
            return found
        path = f"/rooms/{meeting.room}/invites"
        answer = self._send("POST", path, content=b"{}", expected=GONE)
        if self._is_refused(answer):
            return None
        made = next(read_invites(b"[" + answer.body + b"]", self._name), None)
        if made is None:
            raise BadAnswer(f"{self._name} answered something else than the invite it made")
        return Invite(made.invite_code, made=True)

    def _look_for_invite(self, meeting: Meeting) -> tuple[Invite | None, bool]:
        """A permanent invite, or whether there can be none.

        Whether a foreign event's invites may be read depends on the version (0.30 yes, 0.34 no). 0.35 has no
        invites.
        """
        if not self._has_invites or meeting.e2e or meeting.guest_access == "disabled":
            return None, True
        for page in range(1, MOST_INVITE_PAGES + 1):
            path, spare = f"/rooms/{meeting.room}/invites", {"per_page": "100"}
            answer = self._get(path, {"page": str(page)}, spare, first=page == 1, expected=GONE)
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
                self._session.remote.close()
                self._session = None

    def _is_refused(self, answer: Answer) -> bool:
        """Whether there is no invite to be had; 410 means that this server has none at all."""
        if answer.status == 410:  # noqa: PLR2004
            self._has_invites = False
        return answer.status in GONE

    def _list(self, listing: Listing, query: Mapping[str, str], spare: Mapping[str, str] = {}) -> None:
        for page in self._pages(query, {**spare, "per_page": str(self._per_page)}):
            if not listing.add(page):
                return

    def _pages(self, query: Mapping[str, str], spare: Mapping[str, str]) -> Iterator[bytes]:
        """The pages of a listing, until one has no cursor.

        The cursor is also on the last page, which an empty one follows (until 0.33), and says ``after``, not
        ``next``. Of its address only the cursor is of use: scheme, host and path are those the controller
        sees behind its proxies. Invitees are not asked for: by default none are listed, and 0.32 refuses
        ``invitees_max=0``.
        """
        cursors: set[str] = set()
        cursor: Mapping[str, str] = {}
        for _ in range(MOST_PAGES):
            answer = self._get("/events", {**query, **cursor}, spare, first=not cursor)
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
        spare: Mapping[str, str],
        *,
        first: bool,
        expected: frozenset[int] = frozenset(),
    ) -> Answer:
        """A page of a listing, asked for once more without the ``spare`` parameters if the first one is refused (400).

        Which values are allowed changes from version to version. Spare is a parameter without which a listing has
        the same events in it, or more; the others are never left out. A later page is asked for as the first was.
        """
        names = frozenset(spare)
        if names in self._refused:
            return self._send("GET", path, query, expected=expected)
        answer = self._send("GET", path, {**query, **spare}, expected=expected | BAD_REQUEST if first else expected)
        if answer.status in BAD_REQUEST:
            answer = self._send("GET", path, query, expected=expected)
            self._refused.add(names)
        return answer

    def _open(self) -> _Session:
        with self._lock:
            if self._session is None:
                remote = HttpClient(self._name, **self._remote_options)
                try:
                    places = discover(remote, self._known)
                finally:
                    remote.close()
                grant = self._grant(places)
                self._session = _Session(places, grant, HttpClient(self._name, auth=grant, **self._remote_options))
            return self._session

    def _grant(self, places: Places) -> Grant:
        client = Client(self._name, places.client_id, self._client_secret)
        common = _Common(token_endpoint=places.token_endpoint, login_url=f"{places.api}/auth/login", clock=self._clock)
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
        """The one door: what is neither a success nor ``expected`` becomes an exception."""
        session = self._open()
        headers = {"Content-Type": "application/json"} if content is not None else None
        url = session.places.api + path
        answer = session.remote.send(method, url, params=query, headers=headers, content=content)
        match answer.status:
            case 200 | 201 | 204:
                return answer
            case status if status in expected:
                return answer
            case 401 | 403:
                raise LoginRefused(
                    f"{self._name}: the login is good, but OpenTalk refuses it ({answer.status}); does the client "
                    f"{session.places.client_id!r} have an audience mapper for the controller's client?"
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


def _stamp(moment: datetime) -> str:
    """RFC 3339 with ``Z``: the ``+`` of an offset would reach the server as a space."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _links(answer: Answer) -> dict[str, str]:
    """The addresses of a Link header (RFC 8288) by their relation; the header may be there and empty."""
    return {rel: address for address, rel in _LINK.findall(answer.headers.get("link", ""))}
