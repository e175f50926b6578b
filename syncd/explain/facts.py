# SPDX-License-Identifier: Apache-2.0
"""The values that an explanation of one event consists of."""

from typing import Literal

from msgspec import Struct

from syncd.model import Decision, Entry, Link, Meeting, Placement, Unreadable, Way, Window
from syncd.plan.calendar import CalendarAction
from syncd.plan.entries import Erase, Render
from syncd.plan.links import MissingLink, Origin


class SeenBy(Struct, frozen=True):
    """An account that has the event as ``meeting``, or had it.

    ``state`` is "disabled", "retired" (not in the configuration any more) or empty. ``unlisted``: listings with a time
    filter lack it. ``unreadable``: the server's version cannot be read, and ``meeting`` is the last one that could.
    """

    account: str
    state: str = ""
    meeting: Meeting | None = None
    unlisted: bool = False
    unreadable: Unreadable | None = None


class LinkUse(Struct, frozen=True):
    """A link, and whether it is the one that entries need now: "valid", "outdated" or "unused"."""

    link: Link
    word: Literal["valid", "outdated", "unused"]


class Pending(Struct, frozen=True):
    """What the next run does: ``links`` that are requested, the ``change`` of the entry, the ``action`` on it.

    ``disabled_links`` are missing links whose accounts are disabled. ``after`` is the entry once it is rendered,
    ``problem`` why it cannot be. ``window`` is what new entries must touch; feeds show everything.
    """

    links: tuple[MissingLink, ...] = ()
    disabled_links: tuple[MissingLink, ...] = ()
    change: Render | Erase | None = None
    after: Entry | None = None
    problem: str = ""
    action: CalendarAction | None = None
    window: Window | None = None


class Destination(Struct, frozen=True, kw_only=True):
    """A calendar (``kind`` "push") or feed ("feed") and what it has of the event.

    ``state`` is "disabled", "retired", "waiting" for the first listing of its accounts, or empty; ``trouble`` is why
    its last run failed. ``shown``: a feed shows the event.
    """

    kind: Literal["push", "feed"]
    name: str
    accounts: tuple[str, ...] = ()
    state: str = ""
    trouble: str = ""
    origin: Origin | None = None
    entry: Entry | None = None
    place: Placement | None = None
    shown: bool = False
    next: Pending = Pending()


class Explanation(Struct, frozen=True):
    """All that the ledger has of an event, and what comes next; ``ways`` are all ways in of the configuration."""

    event: str
    ways: tuple[Way, ...]
    seen_by: tuple[SeenBy, ...]
    links: tuple[LinkUse, ...]
    destinations: tuple[Destination, ...]
    decisions: tuple[Decision, ...]
