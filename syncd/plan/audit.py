# SPDX-License-Identifier: Apache-2.0
"""What an audit finds: what is really in a calendar against what we placed there. Pure.

It decides what is worth a look; what a look means is decided when the object is there (see ``plan.calendar``).
"""

from collections.abc import Mapping

from syncd.model import Placement, Seen
from syncd.plan.calendar import Look
from syncd.plan.deletions import is_wiped

PREFIX = "syncd-"


def looks(placed: Mapping[str, Placement], seen: Seen, *, restore: bool, daily: bool) -> list[Look]:
    """What is not as the ledger has it. What somebody deleted is put again if ``restore``, or if it is most of it.

    What was left to somebody else is looked at when it changes, and ``daily``.
    """
    ours = {event: place for event, place in placed.items() if place.state == "placed"}
    missing = {event for event, place in ours.items() if _is_missing(place, seen)}
    restore = restore or is_wiped(missing, ours)
    found = [Look(event, restore) for event, place in ours.items() if event in missing or _is_changed(place, seen)]
    others = (_look_at_other(place, seen, daily=daily) for place in placed.values())
    return [*found, *filter(None, others)]


def _look_at_other(place: Placement, seen: Seen, *, daily: bool) -> Look | None:
    """What was left to somebody else, or was removed by somebody and is there again."""
    if place.state == "left" and (daily or _is_changed(place, seen)):
        return Look(place.event, restore=True)
    if place.state == "removed" and seen.etags.get(place.href) is not None:
        return Look(place.event, restore=False)
    return None


def _is_missing(place: Placement, seen: Seen) -> bool:
    return seen.etags.get(place.href) is None and (seen.complete or place.href in seen.etags)


def _is_changed(place: Placement, seen: Seen) -> bool:
    """Whether the object bears another ETag. Without one on either side nobody knows: it is looked at."""
    etag = seen.etags.get(place.href)
    return etag is not None and (etag == "" or place.etag is None or _weak(etag) != _weak(place.etag))


def _weak(etag: str) -> str:
    """An ETag for comparison alone: proxies mark them as weak, and some servers forget the quotes in a listing."""
    return etag.removeprefix("W/").strip('"')


def unknown(placed: Mapping[str, Placement], seen: Seen) -> list[str]:
    """The hrefs of objects that look like ours and that we did not place."""
    known = {place.href for place in placed.values()}
    return [
        href for href, etag in seen.etags.items() if etag is not None and href.startswith(PREFIX) and href not in known
    ]
