# SPDX-License-Identifier: Apache-2.0
"""What is known of one event, and what the next run does with it: found by what the daemon calls, nothing else.

The ledger is only read. What servers would say is not foreseen: an audit may find more.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

from syncd.config import Config
from syncd.config.profiles import calendar_profile, feed_profile
from syncd.errors import BadEvent
from syncd.explain.facts import Destination, Explanation, LinkUse, Pending, SeenBy
from syncd.ledger.ledger import Ledger
from syncd.model import Entry, Feed, Link, Meeting, Profile, RunKey, Standing
from syncd.plan.calendar import CalendarAction, calendar_actions
from syncd.plan.deletions import LATELY, Delete, Hold, deletions
from syncd.plan.entries import Erase, Render, entry_changes
from syncd.plan.links import LinkKey, MissingLink, Origin, missing_links
from syncd.sync.pull import ListingSettings
from syncd.sync.render import render_one


class _Facts(Struct, frozen=True):
    """What all calendars and feeds are judged by."""

    config: Config
    ledger: Ledger
    event: str
    now: datetime
    installation: str
    links: Mapping[LinkKey, Link]
    standings: Mapping[RunKey, Standing]


def explanation(config: Config, ledger: Ledger, event: str, now: datetime) -> Explanation:
    """All that is known of an event of the ledger."""
    where = ledger.whereabouts(event)
    facts = _Facts(
        config, ledger, event, now, ledger.secrets.get("installation"), ledger.links.all(), ledger.history.standings()
    )
    concerned = {*where.accounts, *where.gone}
    wishes: list[MissingLink] = []
    stands: list[Destination] = []
    for name, calendar in config.calendars.items():
        if name in where.calendars or concerned & {*calendar.accounts}:
            profile = calendar_profile(config, facts.installation, name)
            stands.append(_calendar(facts, name, profile))
            wishes += _wishes(facts, profile, stands[-1].source)
    stands += [_retired(facts, name) for name in where.calendars if name not in config.calendars]
    for feed in ledger.feeds.all().values():
        if concerned & {*feed.accounts}:
            known = feed_profile(config, facts.installation, feed)
            stands.append(_feed(facts, feed, known))
            wishes += _wishes(facts, known, stands[-1].source) if known else []
    accounts = sorted(concerned, key=lambda name: (name not in where.accounts, [*config.accounts, name].index(name)))
    return Explanation(
        event,
        tuple(_sight(facts, account, unlisted=where.accounts.get(account, False)) for account in accounts),
        tuple(_validity(link, wishes) for link in _links_of(facts)),
        tuple(stands),
        tuple(ledger.history.decisions(event)),
    )


def choices(ledger: Ledger, events: Iterable[str]) -> dict[str, Meeting | None]:
    """Each event as the first account has it that has it at all."""
    found = {}
    for event in events:
        account = next(iter(ledger.whereabouts(event).accounts), None)
        found[event] = ledger.meetings.get(account, event) if account else None
    return found


def _sight(facts: _Facts, account: str, *, unlisted: bool) -> SeenBy:
    settings = facts.config.accounts.get(account)
    state = "retired" if settings is None else "" if settings.enabled else "disabled"
    meetings = facts.ledger.meetings
    wrong = next((each for each in meetings.unreadable(account) if each.event == facts.event), None)
    return SeenBy(account, state, meetings.get(account, facts.event), unlisted, wrong)


def _links_of(facts: _Facts) -> list[Link]:
    """The event's links, guest links first."""
    found = [link for link in facts.links.values() if link.event == facts.event]
    return sorted(found, key=lambda link: (link.kind != "invite", link.whose))


def _wishes(facts: _Facts, profile: Profile, source: Origin | None) -> list[MissingLink]:
    """The links that a profile would ask for if there were none and the meeting were to come."""
    if source is None:
        return []
    return missing_links({facts.event: source}, {}, profile, min(facts.now, source.start))


def _validity(link: Link, wishes: Iterable[MissingLink]) -> LinkUse:
    """Whether a link is the one that somebody would ask for."""
    same = [wish for wish in wishes if wish.key == (link.kind, link.event, link.whose)]
    if not same:
        return LinkUse(link, "unused")
    return LinkUse(link, "valid" if any(wish.depends == link.depends for wish in same) else "outdated")


def _calendar(facts: _Facts, name: str, profile: Profile) -> Destination:
    """As ``push`` finds it."""
    settings, ledger, now = facts.config.calendars[name], facts.ledger, facts.now
    sources, placed = ledger.meetings.origins(profile.accounts), ledger.placements.of(name)
    entries = ledger.entries.of(profile.key)
    wanted, ahead = _rendered(facts, profile, sources, entries)
    window = _window(facts.config, profile)
    actions = calendar_actions(
        wanted, placed, window.window(now), now, ledger.deletions.guard(name, profile.accounts, now - LATELY)
    )
    action = next((each for each in actions if facts.event in _events(each)), None)
    return Destination(
        kind="push",
        name=name,
        accounts=profile.accounts,
        state="" if settings.enabled else "disabled",
        trouble=_trouble(facts, RunKey("push", name)),
        source=sources.get(facts.event),
        entry=entries.get(facts.event),
        place=placed.get(facts.event),
        next=replace(ahead, action=action, window=window.window(now)),
    )


def _events(action: CalendarAction) -> tuple[str, ...]:
    return action.events if isinstance(action, Hold) else (action.event,)


def _window(config: Config, profile: Profile) -> ListingSettings:
    accounts = [config.accounts[account] for account in profile.accounts]
    return ListingSettings(max(each.past for each in accounts), max(each.ahead for each in accounts))


def _retired(facts: _Facts, name: str) -> Destination:
    place = facts.ledger.placements.of(name)[facts.event]
    return Destination(kind="push", name=name, state="retired", place=place)


def _feed(facts: _Facts, feed: Feed, profile: Profile | None) -> Destination:
    """As ``build_feed`` finds it."""
    key = feed.built or (profile.key if profile else "")
    shown = facts.ledger.feeds.content(replace(feed, built=key))
    entry = facts.ledger.entries.of(key).get(facts.event)
    stand = Destination(
        kind="feed",
        name=feed.name,
        accounts=feed.accounts,
        trouble=_trouble(facts, RunKey("feed", feed.name)),
        entry=entry,
        shown=facts.event in shown,
    )
    if profile is None:
        return replace(stand, state="retired")
    sources, entries = facts.ledger.meetings.origins(profile.accounts), facts.ledger.entries.of(profile.key)
    wanted, ahead = _rendered(facts, profile, sources, entries)
    ends = {event: end for event, (end, _) in shown.items()}
    lost = {event: ends[event] for event, (_, erased) in shown.items() if erased or event not in sources}
    if ahead.after and ahead.after.digest:
        lost.pop(facts.event, None)
    elif facts.event in shown and ahead.after:
        lost[facts.event] = ends[facts.event]
    there = {event: entry.end for event, entry in wanted.items() if entry.digest} | ends
    guard = facts.ledger.deletions.guard(f"feed/{feed.name}", profile.accounts, facts.now - LATELY)
    judged: list[Delete | Hold] = deletions(lost, there, facts.now, guard)
    action = next((each for each in judged if facts.event in _events(each)), None)
    listed = (facts.standings.get(RunKey("pull", account)) for account in profile.accounts)
    state = "" if all(each and each.last_success for each in listed) else "waiting"
    return replace(stand, state=state, source=sources.get(facts.event), next=replace(ahead, action=action))


def _trouble(facts: _Facts, key: RunKey) -> str:
    standing = facts.standings.get(key)
    if standing is None or standing.latest.state in ("ok", "held"):
        return ""
    return f"{standing.latest.state}: {standing.latest.message or 'see `syncd status`'}"


def _rendered(
    facts: _Facts, profile: Profile, sources: Mapping[str, Origin], entries: Mapping[str, Entry]
) -> tuple[dict[str, Entry], Pending]:
    """A profile's entries as they are after the next rendering, the event's in truth; and what that does to it."""
    event, wanted = facts.event, dict(entries)
    changes = entry_changes(sources, facts.links, entries, profile)
    for each in changes:
        if isinstance(each, Erase):
            wanted[each.event] = replace(entries[each.event], inputs=None, digest="")
    change = next((each for each in changes if each.event == event), None)
    problem = ""
    if isinstance(change, Render):
        meeting, versions = (
            facts.ledger.meetings.get(sources[event].account, event),
            facts.ledger.entries.versions(event),
        )
        try:
            wanted[event], _ = render_one(change, meeting, sources[event], facts.links, versions, profile)
        except BadEvent as error:
            problem = str(error)
    alone = {event: sources[event]} if event in sources else {}
    mints = missing_links(alone, facts.links, profile, facts.now)
    enabled = {name for name, account in facts.config.accounts.items() if account.enabled}
    unasked = tuple(mint for mint in mints if mint.way.maker is None and not enabled & {*mint.accounts})
    asked = tuple(mint for mint in mints if mint not in unasked)
    return wanted, Pending(mints=asked, unasked=unasked, change=change, after=wanted.get(event), problem=problem)
