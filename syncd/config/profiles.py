# SPDX-License-Identifier: Apache-2.0
"""The profiles of a configuration: what the entries of each calendar and feed are made with. Pure."""

from datetime import datetime

from msgspec.structs import replace
from tzdata import __version__ as zones_version

from syncd.config import Config
from syncd.model import VERSION, Audience, Feed, Profile, Window


def calendar_profile(config: Config, installation: str, name: str) -> Profile:
    """The profile of a calendar of the configuration."""
    calendar = config.calendars[name]
    return _profile(
        config, installation, calendar.accounts, calendar.audience, calendar.ways_in, passwords=calendar.passwords
    )


def calendar_window(config: Config, name: str, now: datetime) -> Window:
    """What new entries of a calendar must touch: as far back and ahead as any of its accounts looks."""
    accounts = [config.accounts[account] for account in config.calendars[name].accounts]
    now = now.replace(microsecond=0)  # as the windows in which the accounts are listed
    return Window(now - max(each.past for each in accounts), now + max(each.ahead for each in accounts))


def feed_profile(config: Config, installation: str, feed: Feed) -> Profile | None:
    """The profile of a feed; ``None`` if one of its accounts is not in the configuration any more.

    A feed's address travels through other people's servers. So its links give no moderator's rights, unless the feed
    was made with passwords.
    """
    if not all(account in config.accounts for account in feed.accounts):
        return None
    profile = _profile(config, installation, feed.accounts, feed.audience, config.ways_in, passwords=feed.passwords)
    return replace(profile, moderator=feed.passwords)


def _profile(
    config: Config,
    installation: str,
    accounts: tuple[str, ...],
    audience: Audience,
    ways_in: tuple[str, ...],
    *,
    passwords: bool,
) -> Profile:
    by_key = {way.key: way for way in config.ways}
    ways = tuple(by_key[key] for key in ways_in)
    return Profile(
        accounts=accounts,
        urls=tuple(config.accounts[account].url for account in accounts),
        makers={way.maker: config.makers[way.maker].public_url for way in ways if way.maker},
        audience=audience,
        passwords=passwords,
        ways_in=ways,
        language=config.language,
        installation=installation,
        versions=(VERSION, zones_version),
    )
