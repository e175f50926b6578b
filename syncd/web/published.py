# SPDX-License-Identifier: Apache-2.0
"""Reads the feeds that are served from the ledger. Stored entries are joined; nothing is rendered, no server asked."""

from collections.abc import Iterable

from syncd.config import Config
from syncd.config.profiles import feed_profile
from syncd.errors import Refused
from syncd.ical.feed import join_feed
from syncd.ledger.ledger import Ledger
from syncd.model import Feed, digest_of
from syncd.web.feeds import FeedState


class PublishedFeeds:
    """The feeds of a ledger in a configuration."""

    def __init__(self, config: Config, ledger: Ledger) -> None:
        self._config = config
        self._ledger = ledger
        self._installation = ledger.secrets.get("installation")

    def configure(self, config: Config) -> None:
        """Use another configuration from now on."""
        self._config = config

    def feed(self, token_sha256: str) -> FeedState | None:
        """The feed whose token has this SHA-256; ``None`` if there is none.

        It is ready once it was built, which needs a complete listing of all of its accounts.
        """
        feed = next((each for each in self._ledger.feeds.all().values() if each.token_sha256 == token_sha256), None)
        if feed is None:
            return None
        if feed.built is None or feed_profile(self._config, self._installation, feed) is None:
            return FeedState(feed.name, "", ready=False)
        return FeedState(feed.name, _version(feed, self._ledger.feeds.edition(feed)), ready=True)

    def body(self, name: str) -> tuple[str, bytes]:
        """A feed's version and its iCalendar text, from one read. Raises Refused if the feed was revoked meanwhile."""
        feed = self._ledger.feeds.all().get(name)
        if feed is None:
            raise Refused("the feed was revoked this moment")
        rows = self._ledger.feeds.edition_bodies(feed)
        version = _version(feed, [(digest, revision) for digest, revision, _ in rows])
        return version, join_feed((body for *_, body in rows), name=_title(feed))


def _title(feed: Feed) -> str:
    return feed.label or "OpenTalk"


def _version(feed: Feed, edition: Iterable[tuple[str, int]]) -> str:
    return digest_of(_title(feed), list(edition))
