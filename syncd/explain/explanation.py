# SPDX-License-Identifier: Apache-2.0
"""Explains one event: what the ledger has of it, and what the next run does with it, by the plans of the daemon.

The ledger is only read and no server is asked; an audit of the daemon may find more.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

from syncd.config import Config
from syncd.config.profiles import calendar_profile, calendar_window, feed_profile
from syncd.errors import BadEvent
from syncd.explain.facts import Destination, Explanation, LinkUse, Pending, SeenBy
from syncd.ledger.ledger import Ledger
from syncd.model import Entry, Feed, Link, Meeting, Profile, RunKey, Standing
from syncd.plan.calendar import CalendarAction, calendar_actions
from syncd.plan.deletions import Hold, allowance_start, hold_name
from syncd.plan.entries import Erase, Render, entry_changes
from syncd.plan.feed import Carry, are_listed, feed_actions
from syncd.plan.links import LinkKey, MissingLink, Origin, missing_links
from syncd.sync.render import render_one


class _Facts(Struct, frozen=True):
    """What all calendars and feeds are explained by."""

    config: Config
    ledger: Ledger
    event: str
    now: datetime
    installation: str
    links: Mapping[LinkKey, Link]
    standings: Mapping[RunKey, Standing]


def explanation(config: Config, ledger: Ledger, event: str, now: datetime) -> Explanation:
    """Explain an event of the ledger."""
    where = ledger.whereabouts(event)
    facts = _Facts(
        config, ledger, event, now, ledger.secrets.get("installation"), ledger.links.all(), ledger.history.standings()
    )
    concerned = {*where.accounts, *where.gone}
    needed: list[MissingLink] = []
    found: list[Destination] = []
    for name, calendar in config.calendars.items():
        if name in where.calendars or concerned & {*calendar.accounts}:
            profile = calendar_profile(config, facts.installation, name)
            found.append(_calendar(facts, name, profile))
            needed += _links_needed(facts, profile, found[-1].origin)
    found += [_retired(facts, name) for name in where.calendars if name not in config.calendars]
    for feed in ledger.feeds.all().values():
        if concerned & {*feed.accounts}:
            feeds_profile = feed_profile(config, facts.installation, feed)
            found.append(_feed(facts, feed, feeds_profile))
            needed += _links_needed(facts, feeds_profile, found[-1].origin) if feeds_profile else []
    accounts = sorted(concerned, key=lambda name: (name not in where.accounts, [*config.accounts, name].index(name)))
    return Explanation(
        event,
        config.ways,
        tuple(_seen_by(facts, account, unlisted=where.accounts.get(account, False)) for account in accounts),
        tuple(_link_use(link, needed) for link in _links_of(facts)),
        tuple(found),
        tuple(ledger.history.decisions(event)),
    )


def choices(ledger: Ledger, events: Iterable[str]) -> dict[str, Meeting | None]:
    """Each event's meeting as the first account that has it has it; ``None`` if no account has."""
    found = {}
    for event in events:
        account = next(iter(ledger.whereabouts(event).accounts), None)
        found[event] = ledger.meetings.get(account, event) if account else None
    return found


def _seen_by(facts: _Facts, account: str, *, unlisted: bool) -> SeenBy:
    settings = facts.config.accounts.get(account)
    state = "retired" if settings is None else "" if settings.enabled else "disabled"
    meetings = facts.ledger.meetings
    wrong = next((each for each in meetings.unreadable(account) if each.event == facts.event), None)
    return SeenBy(account, state, meetings.get(account, facts.event), unlisted, wrong)


def _links_of(facts: _Facts) -> list[Link]:
    """The event's links in the order of the ways in; those of a way that is not in the configuration come last."""
    found = [link for link in facts.links.values() if link.event == facts.event]
    kinds = [way.kind for way in facts.config.ways]
    return sorted(found, key=lambda link: ([*kinds, link.kind].index(link.kind), link.whose))


def _links_needed(facts: _Facts, profile: Profile, origin: Origin | None) -> list[MissingLink]:
    """The links that a profile's entry of the event shows, whether they exist or not, even if the meeting is over."""
    if origin is None:
        return []
    return missing_links({facts.event: origin}, {}, profile, min(facts.now, origin.start))


def _link_use(link: Link, needed: Iterable[MissingLink]) -> LinkUse:
    """Whether a link is one that some entry of the event needs now (``needed``)."""
    same = [each for each in needed if each.key == (link.kind, link.event, link.whose)]
    if not same:
        return LinkUse(link, "unused")
    return LinkUse(link, "valid" if any(each.depends == link.depends for each in same) else "outdated")


def _calendar(facts: _Facts, name: str, profile: Profile) -> Destination:
    """A calendar as its next push finds it."""
    settings, ledger, now = facts.config.calendars[name], facts.ledger, facts.now
    origins, placements = ledger.meetings.origins(profile.accounts), ledger.placements.of(name)
    entries = ledger.entries.of(profile.key)
    next_entries, ahead = _entries_ahead(facts, profile, origins, entries)
    window = calendar_window(facts.config, name, now)
    guard = ledger.deletions.guard(name, profile.accounts, allowance_start(now))
    actions = calendar_actions(next_entries, placements, window, now, guard)
    return Destination(
        kind="push",
        name=name,
        accounts=profile.accounts,
        state="" if settings.enabled else "disabled",
        trouble=_trouble(facts, RunKey("push", name)),
        origin=origins.get(facts.event),
        entry=entries.get(facts.event),
        place=placements.get(facts.event),
        next=replace(ahead, action=_action_on(facts.event, actions), window=window),
    )


def _action_on(event: str, actions: Iterable[CalendarAction]) -> CalendarAction | None:
    """The action that concerns an event, which may be one of several in a hold."""
    return next((each for each in actions if event in (each.events if isinstance(each, Hold) else (each.event,))), None)


def _retired(facts: _Facts, name: str) -> Destination:
    place = facts.ledger.placements.of(name)[facts.event]
    return Destination(kind="push", name=name, state="retired", place=place)


def _feed(facts: _Facts, feed: Feed, profile: Profile | None) -> Destination:
    """A feed as its next build finds it."""
    ledger, content = facts.ledger, facts.ledger.feeds.content(feed)
    found = Destination(
        kind="feed",
        name=feed.name,
        accounts=feed.accounts,
        trouble=_trouble(facts, RunKey("feed", feed.name)),
        entry=ledger.entries.of(feed.built).get(facts.event) if feed.built else None,
        shown=facts.event in content,
    )
    if profile is None:
        return replace(found, state="retired")
    origins = ledger.meetings.origins(profile.accounts)
    next_entries, ahead = _entries_ahead(facts, profile, origins, ledger.entries.of(profile.key))
    guard = ledger.deletions.guard(hold_name(feed.name), profile.accounts, allowance_start(facts.now))
    actions = feed_actions(content, next_entries, origins.keys(), facts.now, guard)
    action = _action_on(facts.event, (each for each in actions if not isinstance(each, Carry)))
    state = "" if are_listed(profile.accounts, facts.standings) else "waiting"
    return replace(found, state=state, origin=origins.get(facts.event), next=replace(ahead, action=action))


def _trouble(facts: _Facts, key: RunKey) -> str:
    standing = facts.standings.get(key)
    if standing is None or standing.latest.state in ("ok", "held"):
        return ""
    return f"{standing.latest.state}: {standing.latest.message or 'see `syncd status`'}"


def _entries_ahead(
    facts: _Facts, profile: Profile, origins: Mapping[str, Origin], entries: Mapping[str, Entry]
) -> tuple[dict[str, Entry], Pending]:
    """The entries as they will be after the next rendering, and what that means for the event.

    Only the event is really rendered. Other new entries stand in with a made-up digest, so that they count as shown.
    """
    next_entries, pending = dict(entries), _links_ahead(facts, profile, origins)
    for change in entry_changes(origins, facts.links, entries, profile):
        before = entries.get(change.event)
        if change.event == facts.event:
            pending = replace(pending, change=change)
        if isinstance(change, Erase):
            next_entries[change.event] = replace(entries[change.event], inputs=None, digest="")
        elif change.event == facts.event:
            try:
                next_entries[change.event] = _entry_ahead(facts, change, origins[change.event], profile)
            except BadEvent as error:
                pending = replace(pending, problem=str(error))
        elif before is None or before.inputs is None:
            origin = origins[change.event]
            next_entries[change.event] = Entry(
                change.event, change.inputs, "not rendered yet", 0, origin.start, origin.end
            )
    return next_entries, replace(pending, after=next_entries.get(facts.event))


def _entry_ahead(facts: _Facts, change: Render, origin: Origin, profile: Profile) -> Entry:
    """The entry of the event as the next rendering makes it. Raises BadEvent."""
    meeting = facts.ledger.meetings.get(origin.account, change.event)
    versions = facts.ledger.entries.versions(change.event)
    entry, _ = render_one(change, meeting, origin, facts.links, versions, profile)
    return entry


def _links_ahead(facts: _Facts, profile: Profile, origins: Mapping[str, Origin]) -> Pending:
    """The links that the event lacks: those that will be requested, and those whose accounts are disabled."""
    origin_of_event = {facts.event: origins[facts.event]} if facts.event in origins else {}
    missing = missing_links(origin_of_event, facts.links, profile, facts.now)
    enabled = {name for name, account in facts.config.accounts.items() if account.enabled}
    disabled_links = tuple(each for each in missing if each.way.maker is None and not enabled & {*each.accounts})
    return Pending(links=tuple(each for each in missing if each not in disabled_links), disabled_links=disabled_links)
