# SPDX-License-Identifier: Apache-2.0
"""``syncd explain``: an Explanation in words.

Nothing is decided here: the next steps are the actions that ``plan`` returned (see ``explain.explanation``). Titles are
printed; codes, links, passwords and tokens never are.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain, repeat
from textwrap import wrap
from zoneinfo import ZoneInfo

import click

from syncd.cli.context import Context, clock, pass_context
from syncd.cli.report import RUNS
from syncd.explain.facts import Destination, Explanation, LinkUse, Pending, SeenBy
from syncd.model import GUEST, Decision, EntryInputs, Meeting, RunKind, Way, When, overlaps
from syncd.plan.calendar import CalendarAction, Create, Look, Update
from syncd.plan.deletions import Delete, Forget, Hold
from syncd.plan.timing import link_retry

MATCHES = 20
"""Matches printed when the beginning of an id is ambiguous."""

COLUMNS = 100

FIELDS = {"overrides": "occurrences", "all_day": "whole days", "invite_status": "answer", "e2e": "encryption"}
"""Words for the fields of a meeting that people would not recognise by their names."""


Row = tuple[str, str, str]
"""A subject, a word and a statement. Subject and word are empty if they are those of the row above."""


def lines(facts: Explanation) -> list[str]:
    """All lines that ``syncd explain`` prints."""
    names = {way.kind: way.link for way in facts.ways}
    titles = [view.meeting.title for view in facts.seen_by if view.meeting]
    blocks = [
        [row for view in facts.seen_by for row in _account_rows(view, titles, facts.decisions)],
        [row for number, each in enumerate(facts.links) for row in _link_rows(each, names, "" if number else "links")],
        *(list(_destination_rows(destination, facts)) for destination in facts.destinations),
        [_decision_row(each, names) for each in facts.decisions],
    ]
    head = [titles[0] if titles else "An event that no account has any more", f"event {facts.event}"]
    return [line for block in [head, *map(_aligned, filter(None, blocks))] for line in [*block, ""]][:-1]


def choice_lines(found: Mapping[str, Meeting | None]) -> list[str]:
    """A line for each event to choose from; ``found`` has ``None`` for one that no account has any more."""
    rows = []
    for event, meeting in found.items():
        when = _moment(meeting.start.utc) if meeting and meeting.start else "any time" if meeting else "gone"
        rows.append(f"{event}  {when:17}  {meeting.title if meeting else ''}".rstrip())
    return rows


def _aligned(rows: Sequence[Row]) -> list[str]:
    """Print rows in three columns and wrap the last. The first two have the same width in all blocks, if names fit."""
    first = max(17, *(len(row[0]) for row in rows))
    second = max(7, *(len(row[1]) for row in rows))
    margin = " " * (first + second + 3)
    printed = []
    for title, word, text in rows:
        head = f"{title:{first}} {word:{second}}  "
        wrapped = wrap(text, COLUMNS - len(head), break_long_words=False, break_on_hyphens=False) or [""]
        printed += [(before + line).rstrip() for before, line in zip(chain([head], repeat(margin)), wrapped)]  # noqa: B905
    return printed


def _account_rows(view: SeenBy, titles: Sequence[str], decisions: Sequence[Decision]) -> Iterator[Row]:
    name, latest = f"account {view.account}", _latest(decisions, "pull", view.account)
    if view.meeting:
        title = "" if view.meeting.title == titles[0] else f", as {view.meeting.title}"
        yield name, "sees", _role(view.meeting) + title
        yield from _meeting_rows(view.meeting, latest)
        yield from (("", "note", note) for note in _notes(view))
    else:
        loss = latest if latest and latest.word == "gone" else None
        yield name, "gone", f"{_moment(loss.at)}: {loss.why}" if loss else ""


def _meeting_rows(meeting: Meeting, latest: Decision | None) -> Iterator[Row]:
    yield "", "when", _when(meeting)
    if meeting.recurrence:
        yield "", "repeats", _repeats(meeting)
    if latest:
        yield "", "last", _dated(latest)


def _notes(view: SeenBy) -> Iterator[str]:
    if view.unlisted:
        yield "listings by time lack it; its server says that it is there"
    if view.unreadable:
        yield f"left as it was: {view.unreadable.reason}"
    if view.state:
        why = "disabled" if view.state == "disabled" else "not in the configuration any more"
        yield f"the account is {why}; what it had stays"


def _latest(decisions: Sequence[Decision], kind: RunKind, name: str) -> Decision | None:
    return next((each for each in reversed(decisions) if each.run == (kind, name)), None)


def _role(meeting: Meeting) -> str:
    role = "its own meeting" if meeting.own else f"an invitation, {meeting.invite_status}"
    return role + (", instant" if meeting.adhoc else "")


def _when(meeting: Meeting) -> str:
    if meeting.start is None:
        return "at no fixed time"
    end = meeting.end or meeting.start
    if meeting.all_day:
        first, last = f"{meeting.start.utc:%a %Y-%m-%d}", f"{end.utc:%a %Y-%m-%d}"
        return f"{first}, all day" if first == last else f"{first} to {last}, all day"
    start, until = _local(meeting.start), _local(end)
    ends = f"{until:%H:%M}" if until.date() == start.date() else f"{until:%a %Y-%m-%d %H:%M}"
    return f"{start:%a %Y-%m-%d %H:%M} to {ends} {meeting.start.zone}"


def _local(when: When) -> datetime:
    return when.utc.astimezone(ZoneInfo(when.zone))


def _repeats(meeting: Meeting) -> str:
    cancelled = sum(override.cancelled for override in meeting.overrides)
    changed = len(meeting.overrides) - cancelled
    counts = [f"{count} {word}" for count, word in ((changed, "changed"), (cancelled, "cancelled")) if count]
    return "; ".join([*(line.removeprefix("RRULE:") for line in meeting.recurrence), *counts])


def _link_rows(each: LinkUse, names: Mapping[str, str], title: str) -> Iterator[Row]:
    link = each.link
    name = names.get(link.kind, f"{link.kind} link")
    reader = "guests" if link.whose == GUEST else link.whose
    if link.code is None:
        again = f"asked for again after {_moment(link_retry(link))}"
        yield title, reader, f"no {name} was to be had {_moment(link.at)}; {again}"
        return
    words = {
        "valid": "",
        "outdated": "; outdated: another is asked for",
        "unused": "; no entry shows it now",
    }
    yield title, reader, f"{name} {'made' if link.made else 'found'} {_moment(link.at)}{words[each.word]}"


def _destination_rows(destination: Destination, facts: Explanation) -> Iterator[Row]:
    yield RUNS[destination.kind].format(destination.name), "entry", _entry(destination, facts)
    if destination.origin:
        yield "", "text", f"from {destination.origin.account}"
    if destination.place and destination.place.state == "placed" and destination.place.edited:
        yield "", "note", "somebody edited it there; what they added stays"
    if latest := _latest(facts.decisions, destination.kind, destination.name):
        yield "", "last", _dated(latest)
    if destination.trouble:
        yield "", "trouble", destination.trouble
    steps = list(_next(destination, facts)) or ["nothing"]
    for number, step in enumerate(steps):
        yield "", "" if number else "next", step


def _entry(destination: Destination, facts: Explanation) -> str:
    place = destination.place
    if place:
        words = {
            "placed": f"revision {place.revision}, placed as {place.href}",
            "left": f"left alone: what lies at {place.href} is not ours",
            "placing": f"on its way to {place.href}, and nobody has heard yet whether it arrived",
            "removed": "removed by somebody; it comes back when the meeting changes",
        }
        return words[place.state]
    if destination.shown and destination.entry:
        return f"revision {destination.entry.revision}, shown"
    return "not there" + _absence(destination, facts)


def _absence(destination: Destination, facts: Explanation) -> str:
    """Why an entry is not there and will not come; empty if nothing explains it or it will come."""
    after, window = destination.next.after, destination.next.window
    if destination.state or destination.next.action or destination.next.problem:
        return ""
    if _is_untimed(destination, facts):
        return ": it is at no fixed time"
    if destination.origin is None:
        return f": {_have(destination.accounts)} it no more"
    if after and not after.digest:
        return ": every occurrence is cancelled"
    if window and not overlaps(destination.origin.start, destination.origin.end, window):
        return f": outside the window, {window.since:%Y-%m-%d} to {window.until:%Y-%m-%d}"
    return ""


def _have(accounts: Sequence[str]) -> str:
    return f"{' and '.join(accounts)} {'have' if len(accounts) > 1 else 'has'}"


def _next(destination: Destination, facts: Explanation) -> Iterator[str]:
    """The steps of the next run; none if there is nothing to do."""
    it = "it" if destination.kind == "push" else "one of its accounts"
    states = {
        "disabled": "nothing: it is disabled",
        "retired": f"nothing: {it} is not in the configuration any more, and what is there stays",
        "waiting": "nothing before all of its accounts have been listed",
    }
    if destination.state:
        yield states[destination.state]
        return
    yield from _link_steps(destination.next)
    if destination.next.problem:
        yield f"it cannot be rendered and stays as it was: {destination.next.problem}"
    if destination.next.action:
        yield _action(destination.next.action, destination, facts)
    elif destination.kind == "feed":
        yield from _feed_steps(destination, facts)


def _link_steps(pending: Pending) -> Iterator[str]:
    for missing in pending.links:
        yield f"the {missing.way.link} for {'guests' if missing.whose == GUEST else missing.whose} is asked for"
    for missing in pending.disabled_links:
        yield f"the {missing.way.link} is not asked for: {', '.join(missing.accounts)} disabled"


def _feed_steps(feed: Destination, facts: Explanation) -> Iterator[str]:
    before, after = feed.entry, feed.next.after
    if after is None or not after.digest:
        return
    if not feed.shown:
        yield "it is taken up"
    elif before is None or after.digest != before.digest:
        yield f"it is written anew because {_reason(feed, facts)}"


def _action(action: CalendarAction, destination: Destination, facts: Explanation) -> str:
    match action:
        case Create():
            there = {"left": "it is looked at again because ", "removed": "it is put again because "}
            before = there.get(destination.place.state) if destination.place else None
            return before + _reason(destination, facts) if before else "it is put there"
        case Update():
            return f"it is written anew because {_reason(destination, facts)}"
        case Delete():
            return f"it is deleted: {_loss(destination, facts)}"
        case Hold():
            of = f", one of {len(action.events)}" if len(action.events) > 1 else ""
            return f"its deletion is held{of}: waits for `syncd confirm {destination.name}`"
        case Forget():
            return f"our note of it is dropped: {_loss(destination, facts)}"
        case Look():
            return "it is looked at"


def _loss(destination: Destination, facts: Explanation) -> str:
    """Why there is nothing to show in the entry any more."""
    if _is_untimed(destination, facts):
        return "it is at no fixed time any more"
    return "every occurrence is cancelled" if destination.origin else "the meeting is gone"


def _is_untimed(destination: Destination, facts: Explanation) -> bool:
    """Whether an account has the event and it has no time."""
    views = (view for view in facts.seen_by if view.account in destination.accounts)
    return destination.origin is None and any(view.meeting for view in views)


def _reason(destination: Destination, facts: Explanation) -> str:
    """What changed since the entry was last written: the fields in the pulls since then, its account, its links."""
    fields = _changed_fields(destination, facts.decisions)
    reasons = [f"{fields} changed"] if fields else []
    before, after = destination.entry, destination.next.after
    if before and before.inputs and after and after.inputs:
        reasons += _changed_inputs(before.inputs, after.inputs, facts.ways)
    if not reasons and not before and destination.place:
        reasons = ["syncd or its configuration changed"]
    return ", and ".join(reasons) or "its content changed"


def _changed_fields(destination: Destination, decisions: Sequence[Decision]) -> str:
    """The fields of the meeting that changed since the last decision about this calendar or feed."""
    own = (number for number, each in enumerate(decisions) if each.run == (destination.kind, destination.name))
    later = decisions[max(own, default=-1) + 1 :]
    return _fields(destination.origin.account, later) if destination.origin else ""


def _changed_inputs(before: EntryInputs, after: EntryInputs, ways: Iterable[Way]) -> list[str]:
    changes = [f"{after.account} provides the text"] if before.account != after.account else []
    changes += [f"the {way.link} is another" for way in ways if before.codes.get(way.key) != after.codes.get(way.key)]
    return changes


def _fields(account: str, decisions: Iterable[Decision]) -> str:
    names = [
        name
        for each in decisions
        if (*each.run, each.word) == ("pull", account, "changed")
        for name in each.why.split(", ")
    ]
    return ", ".join(dict.fromkeys(FIELDS.get(name, name.replace("_", " ")) for name in names))


def _decision_row(decision: Decision, names: Mapping[str, str]) -> Row:
    run = decision.run
    return _moment(decision.at), RUNS[run.kind].format(run.name), _words(decision, names)


def _dated(decision: Decision) -> str:
    return f"{_moment(decision.at)} {_words(decision, {})}"


def _words(decision: Decision, names: Mapping[str, str]) -> str:
    """A decision in words; ``names`` are the words for links by their kinds."""
    if decision.run.kind in ("mint", "maker"):
        return f"{names.get(decision.word, '')} {decision.why}".strip()
    why = decision.why
    if (decision.run.kind, decision.word) == ("pull", "changed"):
        why = _fields(decision.run.name, [decision])
    return f"{decision.word}: {why}" if why else decision.word


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%MZ}"


@click.command()
@click.argument("event")
@pass_context
def explain(context: Context, event: str) -> None:
    """Why an entry looks as it does: source, links, decisions, history. EVENT is an id or a beginning of one."""
    from syncd.explain.explanation import choices, explanation  # noqa: PLC0415
    from syncd.ledger.ledger import Ledger  # noqa: PLC0415

    config = context.load()
    with Ledger.open(config.state, read_only=True) as ledger:
        found = ledger.find_events(event.lower())
        if not found:
            raise click.UsageError(
                f"the ledger has no event {event}; those that were declined, instant or outside the window at first "
                "sight are not in it"
            )
        if len(found) > 1:
            click.echo("\n".join(choice_lines(choices(ledger, found[:MATCHES]))))
            raise click.UsageError(f"{len(found)} events begin with {event}: say more of the one that you mean")
        click.echo("\n".join(lines(explanation(config, ledger, found[0], clock()))))
