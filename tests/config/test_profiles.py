# SPDX-License-Identifier: Apache-2.0
from importlib.metadata import version
from pathlib import Path

import pytest
from msgspec.structs import replace

from syncd.config.profiles import calendar_profile, feed_profile
from syncd.model import VERSION, Feed
from tests.support.configuration import configure
from tests.support.meetings import NOW

FEED = Feed("phone", "0" * 64, ("work",), "owner", False, "", NOW)


def test_a_calendar_has_passwords_and_the_holders_links_and_a_feed_neither(tmp_path: Path) -> None:
    config = configure(tmp_path, openmeetings=False)
    calendar, feed = calendar_profile(config, "i", "team"), feed_profile(config, "i", FEED)
    assert feed is not None
    assert (calendar.audience, calendar.passwords, calendar.moderator) == ("owner", True, True)
    assert (feed.audience, feed.passwords, feed.moderator) == ("owner", False, False)
    asked = feed_profile(config, "i", replace(FEED, passwords=True))
    assert asked is not None
    assert (asked.passwords, asked.moderator) == (True, True)


def test_a_feed_of_an_account_that_left_the_configuration_has_no_profile(tmp_path: Path) -> None:
    assert feed_profile(configure(tmp_path, openmeetings=False), "i", replace(FEED, accounts=("gone",))) is None


def test_entries_are_rendered_again_when_another_tzdata_is_installed(tmp_path: Path) -> None:
    assert calendar_profile(configure(tmp_path), "mark", "team").versions == (VERSION, version("tzdata"))


@pytest.mark.parametrize("field", ["installation", "language", "accounts", "versions"])
def test_whatever_a_profile_says_is_in_its_key(tmp_path: Path, field: str) -> None:
    profile = calendar_profile(configure(tmp_path, openmeetings=False), "i", "team")
    other = ("x",) if field in ("accounts", "versions") else "de"
    assert replace(profile, **{field: other}).key != profile.key
