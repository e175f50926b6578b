# SPDX-License-Identifier: Apache-2.0
"""What to look at after an audit: what is really in a calendar is compared with what we placed there. Pure.

A look fetches one object; what is then done with it, ``plan.calendar.after_conflict`` decides.
"""

from collections.abc import Mapping

from syncd.model import Placement, Seen
from syncd.plan.calendar import Look
from syncd.plan.deletions import is_wiped

PREFIX = "syncd-"
"""Begins the hrefs of our objects."""


def looks(placements: Mapping[str, Placement], seen: Seen, *, restore: bool, daily: bool) -> list[Look]:
    """The objects that are not as the ledger has them.

    What somebody deleted is put again if ``restore``, or if it is most of what we placed. Somebody else's copies are
    looked at when they change, and ``daily``.
    """
    ours = {event: place for event, place in placements.items() if place.state == "placed"}
    missing = {event for event, place in ours.items() if _is_missing(place, seen)}
    restore = restore or is_wiped(missing, ours)
    found = [Look(event, restore) for event, place in ours.items() if event in missing or _is_changed(place, seen)]
    others = (_look_at_other(place, seen, daily=daily) for place in placements.values())
    return [*found, *filter(None, others)]


def _look_at_other(place: Placement, seen: Seen, *, daily: bool) -> Look | None:
    """Look at somebody else's copy, or at an object of ours that somebody removed and that is there again."""
    if place.state == "left" and (daily or _is_changed(place, seen)):
        return Look(place.event, restore=True)
    if place.state == "removed" and seen.etags.get(place.href) is not None:
        return Look(place.event, restore=False)
    return None


def _is_missing(place: Placement, seen: Seen) -> bool:
    return seen.etags.get(place.href) is None and (seen.complete or place.href in seen.etags)


def _is_changed(place: Placement, seen: Seen) -> bool:
    """Whether the object has another ETag; true also where either has none, because then it may have changed."""
    etag = seen.etags.get(place.href)
    return etag is not None and (etag == "" or place.etag is None or _weak(etag) != _weak(place.etag))


def _weak(etag: str) -> str:
    """An ETag for comparison alone: proxies mark them as weak, and some servers forget the quotes in a listing."""
    return etag.removeprefix("W/").strip('"')


def leftovers(placements: Mapping[str, Placement], seen: Seen) -> list[str]:
    """The hrefs of objects that look like ours and that the ledger does not have."""
    ours = {place.href for place in placements.values()}
    return [
        href for href, etag in seen.etags.items() if etag is not None and href.startswith(PREFIX) and href not in ours
    ]
