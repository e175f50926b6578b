# SPDX-License-Identifier: Apache-2.0
"""A CalDAV calendar: finds or makes it, lists it, and puts, gets and deletes objects under preconditions.

It sends exactly the bytes it gets. It never retries, never overwrites without a precondition, and never takes a
calendar that is gone for one whose entries somebody deleted. Every failure status becomes an exception in ``_send``.
"""

from base64 import b64encode
from collections.abc import Callable, Container, Mapping
from pathlib import Path
from threading import Lock, RLock
from urllib.parse import unquote, urljoin, urlsplit

from syncd.dav.answers import (
    FULL,
    MULTISTATUS,
    OTHER_4XX,
    UNAUTHORIZED,
    Collection,
    etag_of,
    problem,
    read_collection,
    same,
    strong,
    with_inner_status,
)
from syncd.dav.library import Library
from syncd.dav.listing import LIST, changes_since, href_of, read_listing
from syncd.errors import BadAnswer, Changed, LoginRefused, NeedsYou
from syncd.model import Found, Seen, Stored, digest_of
from syncd.transport import Answer, HttpClient

PROPERTIES = (
    b'<?xml version="1.0" encoding="utf-8"?>'
    b'<propfind xmlns="DAV:" xmlns:C="urn:ietf:params:xml:ns:caldav"><prop><resourcetype/>'
    b"<current-user-principal/><current-user-privilege-set/><C:calendar-home-set/>"
    b"<C:supported-calendar-component-set/></prop></propfind>"
)
# The sync token is not requested every time: Radicale reads all objects to make one.
PROPERTIES_AND_CURSOR = PROPERTIES.replace(b"<resourcetype/>", b"<resourcetype/><sync-token/>")
XML = "application/xml; charset=utf-8"
NOT_THERE = (404, 410)
MAYBE_GONE = (404, 405, 409, 410)  # for a missing collection RFC 4918, 9.7.1 has 409; servers send all of these
# Statuses by which servers refuse a sync token, or say that they have none: 403, 409 (RFC 6578), 410 (Google),
# 412 (Xandikos), 500 (Apple's old server), 507 (too many changes). A 503 is none: the server is overloaded.
NO_CHANGES = OTHER_4XX | frozenset(range(500, 600)) - {503}
PAGES = 100
WRITING = frozenset({"all", "write", "write-content", "bind"})
WELL_KNOWN = "/.well-known/caldav"
PLACES = (WELL_KNOWN, "/", "/remote.php/dav/", "/dav/", "/SOGo/dav/", "/caldav/", "/caldav.php/")


class CalDAVCalendar:
    """One calendar on a CalDAV server; safe to share between threads. Constructing it sends nothing.

    ``name`` is its table in the configuration, for messages. ``url`` is the calendar or, where ``calendar`` is given
    (a display name), any address of the server that has it or shall get it. ``password`` is called once, and again
    after a refusal. An ``href`` is the last segment of an object's address, encoded as ``href_of`` does.

    Every method may raise Unavailable, BadAnswer, LoginRefused and NeedsYou. The first one that is called makes sure
    that the calendar exists, because Stalwart creates a calendar for a PUT to any address.
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
        self._client = HttpClient(self._who, ca_file=ca_file, deadline=deadline)
        self._collection: str | None = None
        self._checking = RLock()
        self._authorization: str | None = None
        self._refused: str | None = None
        self._authorizing = Lock()

    @property
    def url(self) -> str:
        """The address of the calendar; before the first request, the configured one."""
        return self._collection or self._url

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def create(self, href: str, body: bytes) -> Stored:
        """Put a new object. Raises Changed if an object has this href already, UidTaken and Refused.

        SOGo, Zimbra and Google ignore ``If-None-Match``, so the href must be one that only syncd uses.
        """
        return self._put(href, body, {"If-None-Match": "*"})

    def update(self, href: str, body: bytes, etag: str | None) -> Stored:
        """Replace an object that has this ETag. Raises Changed if it is gone or has another one, and Refused.

        Without an ETag, or with a weak one (GMX), which If-Match does not allow, the object is fetched and compared
        first: an edit by somebody else can then be overwritten only if it is made between the two requests.
        """
        tag = strong(etag)
        if tag is None:
            found = self.fetch(href)
            if found is None or not _as_remembered(found, etag):
                raise Changed(f"{self._who}: the object is not the one we remember")
            tag = strong(found.etag)
        return self._put(href, body, {"If-Match": tag} if tag else {})

    def delete(self, href: str, etag: str | None) -> None:
        """Delete an object that has this ETag; nothing happens if it is gone. Raises Changed and Refused."""
        tag = strong(etag)
        if etag and tag is None:
            found = self.fetch(href)
            if found is None:
                return
            if not _as_remembered(found, etag):
                raise Changed(f"{self._who}: the object is not the one we remember")
        try:
            self._send("DELETE", self._at(href), {"If-Match": tag} if tag else {}, accept=NOT_THERE)
        except Changed:  # sabre and Radicale answer so to If-Match where no object is
            if self.fetch(href) is not None:
                raise

    def fetch(self, href: str) -> Found | None:
        """The object at an href; ``None`` if there is none and the calendar itself exists."""
        answer = self._send("GET", self._at(href), {"Accept": "text/calendar"}, accept=NOT_THERE)
        if answer.status in NOT_THERE:
            self.check()
            return None
        if b"BEGIN:VCALENDAR" not in answer.body[:1000].upper():
            raise BadAnswer(f"{self._who} answered something else than the object asked for")
        return Found(href, etag_of(answer), answer.body)

    def seen(self, cursor: str | None) -> Seen:
        """List the calendar: what changed since the cursor that an earlier call returned, or everything.

        Everything is listed without a cursor, or where the server refuses it. Hrefs are those that ``create``
        returns; an ETag is empty where the server sends none. A listing that may have left something out raises
        BadAnswer.

        Changes are as good as the server's word: Nextcloud forgets those of some days ago, Bedework forgets
        deletions, and DAViCal and Stalwart accept any cursor. So everything should be listed from time to time.
        """
        return (self._changes(cursor) if cursor else None) or self._all()

    def check(self) -> None:
        """Make sure that the calendar exists, takes events and may be written by this user; else raise NeedsYou.

        A calendar that is given by its name is looked for, and made if it is missing.
        """
        self._check(PROPERTIES)

    def _check(self, question: bytes) -> Collection:
        with self._checking:
            found = self._properties(self._collection or (self._find() if self._calendar else self._url), question)
            if not found.calendar:
                raise self._no_calendar(found)
            if found.components and "VEVENT" not in found.components:
                raise NeedsYou(f"{self._who} takes no events (only tasks?); put the url of one that does")
            if found.privileges is not None and not found.privileges & WRITING:
                raise NeedsYou(f"{self._who} may only be read by this user; let its owner grant writing")
            self._collection = found.url
            return found

    def _changes(self, cursor: str) -> Seen | None:
        """What changed since a cursor; ``None`` if the server refuses it or does not list all changes."""
        self._ensure_checked()
        etags: dict[str, str | None] = {}
        for _ in range(PAGES):
            headers = {"Depth": "0", "Content-Type": XML}  # RFC 6578, 3.2: other depths are a 400
            answer = self._send("REPORT", self.url, headers, changes_since(cursor), accept=NO_CHANGES)
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

        By PROPFIND, which every server answers from its objects. An initial sync-collection is answered from a log
        or not at all: Stalwart cuts it and skips the rest, Cyrus refuses it, Nextcloud may answer 507, Radicale takes
        five times as long. The cursor is requested before the listing, so that what changes in between is listed
        twice rather than never.
        """
        cursor = self._check(PROPERTIES_AND_CURSOR).cursor
        headers = {"Depth": "1", "Content-Type": XML}
        answer = self._send("PROPFIND", self.url, headers, LIST, accept=OTHER_4XX | {FULL})
        if answer.status in NOT_THERE:
            self.check()
        page = read_listing(answer, self._who)
        if page.truncated or not page.responses:
            raise BadAnswer(f"{self._who} does not list all that is in it; has the server a limit for listings?")
        return Seen({href: etag for href, etag in page.etags.items() if etag is not None}, cursor, complete=True)

    def _at(self, href: str) -> str:
        if href in ("", ".", "..") or set(href) & set("/?#"):
            raise ValueError("an href is one segment of a path")
        self._ensure_checked()
        return self.url + href

    def _ensure_checked(self) -> None:
        with self._checking:
            if self._collection is None:
                self.check()

    def _put(self, href: str, body: bytes, condition: Mapping[str, str]) -> Stored:
        url = self._at(href)
        headers = {"Content-Type": "text/calendar; charset=utf-8", **condition}
        answer = self._send("PUT", url, headers, body, accept=MAYBE_GONE)
        if answer.status in MAYBE_GONE:
            self.check()
            raise problem(answer, self._who)
        location = answer.headers.get("location")
        return Stored((_moved_to(location, url) if location else href_of(url)) or href, etag_of(answer))

    def _send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        content: bytes | None = None,
        *,
        accept: Container[int] = (),
    ) -> Answer:
        """Send a request; raise for every status but success and those in ``accept``, which the caller judges."""
        if not (self._is_in_calendar(url) or _may_have_password(url, self._url)):
            raise NeedsYou(
                f"{self._who}: the server says that its calendars are at {urlsplit(url).hostname}, which does "
                "not get the password; put the calendar's address there into url"
            )
        authorization = self._authorize()
        all_headers = {**headers, "Authorization": authorization}
        answer = self._client.send(method, url, headers=all_headers, content=content)
        if answer.status == UNAUTHORIZED:
            raise self._login_refused(authorization, answer)
        if answer.status == MULTISTATUS and method in ("PUT", "DELETE"):
            answer = with_inner_status(answer, self._who)
        if answer.status in accept or 200 <= answer.status < 300:  # noqa: PLR2004
            return answer
        raise problem(answer, self._who)

    def _is_in_calendar(self, url: str) -> bool:
        """Whether an address is below the calendar's, which ends with a slash: then the server is the calendar's."""
        return self._collection is not None and url.startswith(self._collection)

    def _authorize(self) -> str:
        """The Authorization header, in UTF-8 (RFC 7617, 2.1). One that was refused is never sent again.

        After a few wrong passwords servers lock the account, and Nextcloud slows down everybody at our IP address.
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

    def _properties(self, url: str, question: bytes = PROPERTIES) -> Collection:
        headers = {"Depth": "0", "Content-Type": XML}
        return read_collection(self._send("PROPFIND", url, headers, question, accept=OTHER_4XX), self._who)

    def _no_calendar(self, found: Collection) -> NeedsYou:
        if found.status == MULTISTATUS or urlsplit(found.url).path in ("", "/"):
            there = len(self._library().calendars())
            return NeedsYou(
                f"{self._who}: its url is a server, not a calendar; name one of the {there} there, or a new "
                'one: calendar = "..."'
            )
        return NeedsYou(
            f"{self._who} is not there ({found.status}): deleted, moved, or no longer shared with this user. "
            "Nothing was changed; put its address into url and make sure that this user may see it"
        )

    def _find(self) -> str:
        """The address of the calendar whose display name is ``calendar``; it is made if it is missing.

        The last segment of a new one follows from its name, so that a second attempt finds what the first one made,
        also on servers that drop the display name.
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
        if not self._properties(url).calendar:
            raise NeedsYou(f"{self._who}: the server did not let syncd make the calendar; make it there yourself")
        return url

    def _library(self) -> Library:
        return Library(self._who, self._send, self._principal())

    def _principal(self) -> str:
        """The address of the user's principal, found from any address of the server.

        Tried are the address itself, that of RFC 6764, and those that are usual with some servers.
        """
        strange: BadAnswer | None = None
        for place in ("", *PLACES):
            base = urljoin(self._url, place)
            try:
                if place == WELL_KNOWN:  # with GET, because its redirect may be a 302 (GMX), followed for GET
                    base = self._send("GET", base, {}, accept=OTHER_4XX).url
                found = self._properties(base)
            except BadAnswer as error:  # a web page, or a redirect to another host, which the message names
                strange = strange or error
                continue
            if found.principal or found.home:
                return urljoin(found.url, found.principal or "")
        raise strange or NeedsYou(f"{self._who}: there is no CalDAV server at its url")


def _as_remembered(found: Found, etag: str | None) -> bool:
    return not (etag and found.etag) or same(etag, found.etag)


def _moved_to(location: str, url: str) -> str | None:
    """The href of an object whose Location names another one than it was put to; ``None`` if it is in no calendar."""
    try:
        there = urljoin(url, location)
    except ValueError:  # an invalid Location: the object is where it was put
        there = url
    here = unquote(there.rpartition("/")[0]) == unquote(url.rpartition("/")[0])
    return href_of(there) if here else None


def _may_have_password(there: str, here: str) -> bool:
    """Whether the password for ``here`` may be sent to ``there``.

    It may at the same origin and, with TLS, to a host of the same parent domain: caldav.icloud.com redirects to
    p42-caldav.icloud.com.
    """
    one, other = urlsplit(there), urlsplit(here)
    if (one.scheme, one.hostname, one.port) == (other.scheme, other.hostname, other.port):
        return True
    domain = (one.hostname or "").partition(".")[2]
    beside = "." in domain and (other.hostname or "").endswith(f".{domain}")
    return one.scheme == other.scheme == "https" and beside
