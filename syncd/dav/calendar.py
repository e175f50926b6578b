# SPDX-License-Identifier: Apache-2.0
"""A CalDAV calendar: finds or makes it, tells what is in it, and puts, gets and deletes objects under preconditions.

It sends exactly the bytes it is given. It never retries, never overwrites blindly, and never takes a
calendar that is gone for one whose entries somebody deleted. Every status becomes an exception in ``_send``.
"""

from base64 import b64encode
from collections.abc import Callable, Container, Mapping
from pathlib import Path
from threading import Lock, RLock
from urllib.parse import unquote, urljoin, urlsplit

from syncd.dav.answers import (
    FULL,
    MULTISTATUS,
    NO_LOGIN,
    OTHER_4XX,
    Collection,
    collection,
    etag_of,
    inner,
    problem,
    same,
    strong,
)
from syncd.dav.library import Library
from syncd.dav.listing import LIST, changes_since, href_of, read_listing
from syncd.errors import BadAnswer, Changed, LoginRefused, NeedsYou
from syncd.model import Found, Seen, Stored, digest_of
from syncd.transport import Answer, HttpClient

LOOK = (
    b'<?xml version="1.0" encoding="utf-8"?>'
    b'<propfind xmlns="DAV:" xmlns:C="urn:ietf:params:xml:ns:caldav"><prop><resourcetype/>'
    b"<current-user-principal/><current-user-privilege-set/><C:calendar-home-set/>"
    b"<C:supported-calendar-component-set/></prop></propfind>"
)
# Not asked for with every look: Radicale reads all objects to make a sync token.
LOOK_FOR_CURSOR = LOOK.replace(b"<resourcetype/>", b"<resourcetype/><sync-token/>")
XML = "application/xml; charset=utf-8"
NOT_THERE = (404, 410)
MAYBE_GONE = (404, 405, 409, 410)  # RFC 4918, 9.7.1 says 409 for a missing collection, servers all of these
# How servers refuse a sync token, or have none: 403, 409 (RFC 6578), 410 (Google), 412 (Xandikos), 500 (Apple's
# old one), 507 (too many changes). A 503 is no such answer: it asks to come later.
NO_CHANGES = OTHER_4XX | frozenset(range(500, 600)) - {503}
PAGES = 100
WRITING = frozenset({"all", "write", "write-content", "bind"})
WELL_KNOWN = "/.well-known/caldav"
PLACES = (WELL_KNOWN, "/", "/remote.php/dav/", "/dav/", "/SOGo/dav/", "/caldav/", "/caldav.php/")


class CalDAVCalendar:
    """One calendar on a CalDAV server; safe to share between threads. Constructing it asks nothing.

    ``name`` is what messages call it. ``url`` is a calendar, or, where ``calendar`` names one by its display
    name, any address of a server that has it or is to get it. ``password`` is called once, and again after
    a refusal. An ``href`` is the last segment of an object's address, encoded as ``href_of`` does.

    Every method may raise Unavailable, BadAnswer, LoginRefused and NeedsYou. The first of them to be called
    looks at the calendar before all else, since Stalwart makes a calendar of every typo that is PUT to.
    """

    def __init__(
        self,
        name: str,
        url: str,
        *,
        username: str,
        password: Callable[[], str],
        calendar: str | None = None,
        ca_file: Path | None = None,
        deadline: float = 60.0,
    ) -> None:
        self.name = name
        self._who = f"calendar {name}"
        self._url = url
        self._calendar = calendar
        self._username = username
        self._password = password
        self._remote = HttpClient(self._who, ca_file=ca_file, deadline=deadline)
        self._collection: str | None = None
        self._checking = RLock()
        self._authorization: str | None = None
        self._refused: str | None = None
        self._authorizing = Lock()

    @property
    def url(self) -> str:
        """Where the calendar is; before the first request, what was given."""
        return self._collection or self._url

    def close(self) -> None:
        """Close all connections."""
        self._remote.close()

    def create(self, href: str, body: bytes) -> Stored:
        """Put a new object. Raises Changed if the href is taken, UidTaken and Refused.

        SOGo, Zimbra and Google ignore ``If-None-Match``, so the href has to be one that only we use.
        """
        return self._put(href, body, {"If-None-Match": "*"})

    def update(self, href: str, body: bytes, etag: str | None) -> Stored:
        """Put another version of an object. Raises Changed if it is gone or has another ETag; Refused.

        Without an ETag, or with a weak one (GMX), which If-Match cannot have, the object is fetched first:
        an edit by somebody else can then be lost only in the time of one request.
        """
        tag = strong(etag)
        if tag is None:
            found = self.fetch(href)
            if found is None or not _as_remembered(found, etag):
                raise Changed(f"{self._who}: the object is not the one we remember")
            tag = strong(found.etag)
        return self._put(href, body, {"If-Match": tag} if tag else {})

    def delete(self, href: str, etag: str | None) -> None:
        """Delete an object; one that is gone already is fine. Raises Changed and Refused."""
        tag = strong(etag)
        if etag and tag is None:
            found = self.fetch(href)
            if found is None:
                return
            if not _as_remembered(found, etag):
                raise Changed(f"{self._who}: the object is not the one we remember")
        try:
            self._send("DELETE", self._at(href), {"If-Match": tag} if tag else {}, takes=NOT_THERE)
        except Changed:  # also what sabre and Radicale say of If-Match where nothing is
            if self.fetch(href) is not None:
                raise

    def fetch(self, href: str) -> Found | None:
        """What lies at an href; ``None`` if nothing does while the calendar itself is there."""
        answer = self._send("GET", self._at(href), {"Accept": "text/calendar"}, takes=NOT_THERE)
        if answer.status in NOT_THERE:
            self.check()
            return None
        if b"BEGIN:VCALENDAR" not in answer.body[:1000].upper():
            raise BadAnswer(f"{self._who} answered something else than the object asked for")
        return Found(href, etag_of(answer), answer.body)

    def seen(self, cursor: str | None) -> Seen:
        """What is in the calendar: all of it, or what changed since a cursor that an earlier call gave.

        All of it is told where there is no cursor or the server does not take it any more. Hrefs are those
        that ``create`` gives; an ETag is empty where the server tells none: then only ``fetch`` knows. A
        listing that may have left something out is a BadAnswer.

        What changed is what the server says: Nextcloud loses changes of some days ago, Bedework deletions,
        and DAViCal and Stalwart take any cursor. So all of it should be asked for from time to time.
        """
        return (self._changes(cursor) if cursor else None) or self._all()

    def check(self) -> None:
        """Ask the server whether the calendar is there, takes events and may be written by this user.

        Finds, or makes, a calendar that was given by its name. Raises NeedsYou where a person has to act.
        """
        self._check(LOOK)

    def _check(self, question: bytes) -> Collection:
        with self._checking:
            seen = self._look(self._collection or (self._find() if self._calendar else self._url), question)
            if not seen.calendar:
                raise self._no_calendar(seen)
            if seen.components and "VEVENT" not in seen.components:
                raise NeedsYou(f"{self._who} takes no events (only tasks?); put the url of one that does")
            if seen.privileges is not None and not seen.privileges & WRITING:
                raise NeedsYou(f"{self._who} may only be read by this user; let its owner grant writing")
            self._collection = seen.url
            return seen

    def _changes(self, cursor: str) -> Seen | None:
        """What changed since a cursor; ``None`` if the server does not tell, or not all of it."""
        self._ready()
        etags: dict[str, str | None] = {}
        for _ in range(PAGES):
            headers = {"Depth": "0", "Content-Type": XML}  # RFC 6578, 3.2: other depths are a 400
            answer = self._send("REPORT", self.url, headers, changes_since(cursor), takes=NO_CHANGES)
            try:
                page = read_listing(answer, self._who)
            except BadAnswer:
                return None
            if page.cursor is None or (page.truncated and page.cursor == cursor):
                return None
            etags |= page.etags
            cursor = page.cursor
            if not page.truncated:
                return Seen(etags, cursor, complete=False)
        return None

    def _all(self) -> Seen:
        """A complete listing.

        By PROPFIND, which every server answers from what it has. An initial sync-collection is answered from
        a log or not at all: Stalwart cuts it and skips the rest, Cyrus refused it, Nextcloud may answer 507,
        Radicale takes five times as long. The cursor is asked for before, not with it: so what changes
        meanwhile is told twice rather than never.
        """
        cursor = self._check(LOOK_FOR_CURSOR).cursor
        headers = {"Depth": "1", "Content-Type": XML}
        answer = self._send("PROPFIND", self.url, headers, LIST, takes=OTHER_4XX | {FULL})
        if answer.status in NOT_THERE:
            self.check()
        page = read_listing(answer, self._who)
        if page.truncated or not page.told:
            raise BadAnswer(f"{self._who} does not list all that is in it; has the server a limit for listings?")
        return Seen({href: etag for href, etag in page.etags.items() if etag is not None}, cursor, complete=True)

    def _at(self, href: str) -> str:
        if href in ("", ".", "..") or set(href) & set("/?#"):
            raise ValueError("an href is one segment of a path")
        self._ready()
        return self.url + href

    def _ready(self) -> None:
        with self._checking:
            if self._collection is None:
                self.check()

    def _put(self, href: str, body: bytes, condition: Mapping[str, str]) -> Stored:
        url = self._at(href)
        headers = {"Content-Type": "text/calendar; charset=utf-8", **condition}
        answer = self._send("PUT", url, headers, body, takes=MAYBE_GONE)
        if answer.status in MAYBE_GONE:
            self.check()
            raise problem(answer, self._who)
        try:
            there = urljoin(url, answer.headers.get("location", url))
        except ValueError:  # no address at all: it lies where it was put
            there = url
        here = unquote(there.rpartition("/")[0]) == unquote(url.rpartition("/")[0])
        return Stored((here and href_of(there)) or href, etag_of(answer))

    def _send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        content: bytes | None = None,
        *,
        takes: Container[int] = (),
    ) -> Answer:
        """The door: send, and raise for every status but success and those that the caller takes."""
        if not _same_house(url, self._url):
            raise NeedsYou(
                f"{self._who}: the server says that its calendars are at {urlsplit(url).hostname}, which does "
                "not get the password; put the calendar's address there into url"
            )
        authorization = self._authorize()
        all_headers = {**headers, "Authorization": authorization}
        answer = self._remote.send(method, url, headers=all_headers, content=content)
        if answer.status == NO_LOGIN:
            raise self._login_refused(authorization, answer)
        if answer.status == MULTISTATUS and method in ("PUT", "DELETE"):
            answer = inner(answer, self._who)
        if answer.status in takes or 200 <= answer.status < 300:  # noqa: PLR2004
            return answer
        raise problem(answer, self._who)

    def _authorize(self) -> str:
        """The Authorization header, in UTF-8 (RFC 7617, 2.1); one that was refused is never sent again.

        Servers lock an account, and Nextcloud slows down the whole address, after a few wrong passwords.
        """
        with self._authorizing:
            if self._authorization is None:
                pair = f"{self._username}:{self._password()}".encode()
                authorization = "Basic " + b64encode(pair).decode("ascii")
                if authorization == self._refused:
                    raise LoginRefused(f"{self._who}: user name or password was refused before; change it")
                self._authorization = authorization
            return self._authorization

    def _login_refused(self, authorization: str, answer: Answer) -> LoginRefused:
        with self._authorizing:
            self._refused = authorization
            if self._authorization == authorization:
                self._authorization = None
        if "basic" not in answer.headers.get("www-authenticate", "Basic").lower():
            return LoginRefused(f"{self._who}: the server has no Basic login; switch it on there (Baikal)")
        return LoginRefused(
            f"{self._who}: user name or password refused (401); iCloud, Fastmail and Nextcloud with "
            "two-factor login want an app password made for syncd"
        )

    def _look(self, url: str, question: bytes = LOOK) -> Collection:
        headers = {"Depth": "0", "Content-Type": XML}
        return collection(self._send("PROPFIND", url, headers, question, takes=OTHER_4XX), self._who)

    def _no_calendar(self, seen: Collection) -> NeedsYou:
        if seen.status == MULTISTATUS or urlsplit(seen.url).path in ("", "/"):
            there = len(self._library().calendars())
            return NeedsYou(
                f"{self._who}: its url is a server, not a calendar; name one of the {there} there, or a new "
                'one: calendar = "..."'
            )
        return NeedsYou(
            f"{self._who} is not there ({seen.status}): deleted, moved, or no longer shared with this user. "
            "Nothing was changed; put its address into url and make sure that this user may see it"
        )

    def _find(self) -> str:
        """The address of the calendar that ``calendar`` names; made if it is missing.

        Its own id comes from its name, so that a second try finds what the first one made, also on servers
        that drop the display name.
        """
        own = f"syncd-{digest_of(self._calendar)[:8]}"
        library = self._library()
        calendars = library.calendars()
        named = [url for url, name in calendars if name == self._calendar]
        named = named or [url for url, _ in calendars if url.rstrip("/").endswith(f"/{own}")]
        if len(named) > 1:
            raise NeedsYou(f"{self._who}: {len(named)} calendars have this name; put the address of one into url")
        if named:
            return named[0]
        url = library.make(str(self._calendar), own)
        if not self._look(url).calendar:
            raise NeedsYou(f"{self._who}: the server did not let syncd make the calendar; make it there yourself")
        return url

    def _library(self) -> Library:
        return Library(self._who, self._send, self._principal())

    def _principal(self) -> str:
        """The address of the user's principal, from any address of the server (RFC 6764, then habit)."""
        strange: BadAnswer | None = None
        for place in ("", *PLACES):
            base = urljoin(self._url, place)
            try:
                if place == WELL_KNOWN:  # with GET: its redirect is followed if it is a 302, too (GMX)
                    base = self._send("GET", base, {}, takes=OTHER_4XX).url
                seen = self._look(base)
            except BadAnswer as error:  # a web page, or a redirect to another host that it names
                strange = strange or error
                continue
            if seen.principal or seen.home:
                return urljoin(seen.url, seen.principal or "")
        raise strange or NeedsYou(f"{self._who}: there is no CalDAV server at its url")


def _as_remembered(found: Found, etag: str | None) -> bool:
    return not (etag and found.etag) or same(etag, found.etag)


def _same_house(there: str, here: str) -> bool:
    """Whether ``there`` may have the password for ``here``.

    It may at the same origin, and, with TLS, beside it: caldav.icloud.com sends to p42-caldav.icloud.com.
    """
    one, other = urlsplit(there), urlsplit(here)
    if (one.scheme, one.hostname, one.port) == (other.scheme, other.hostname, other.port):
        return True
    house = (one.hostname or "").partition(".")[2]
    beside = "." in house and (other.hostname or "").endswith(f".{house}")
    return one.scheme == other.scheme == "https" and beside
