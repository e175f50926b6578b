# SPDX-License-Identifier: Apache-2.0
"""``syncd explain``: what is known of one event, and what the next run does with it, in words.

Nothing is decided here: what comes next are the actions that ``plan`` gave (see ``explain.explanation``).
Titles are shown; codes, links, passwords and tokens never are.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain, repeat
from textwrap import wrap
from zoneinfo import ZoneInfo

import click

from syncd.cli.context import Context, clock, pass_context
from syncd.cli.report import RUNS
from syncd.explain.facts import Destination, Explanation, LinkUse, SeenBy
from syncd.model import GUEST, Decision, Meeting, When, overlaps
from syncd.plan.calendar import CalendarAction, Create, Look, Update
from syncd.plan.deletions import Delete, Forget, Hold
from syncd.plan.timing import link_retry

LISTED = 20
"""How many events are shown where a beginning fits several."""

COLUMNS = 100

FIELDS = {"overrides": "occurrences", "all_day": "whole days", "invite_status": "answer", "e2e": "encryption"}
"""Names of fields for people, where they are others."""


Row = tuple[str, str, str]
"""What it is about, a word, and what is so; both of the first are empty where a line goes on."""


def lines(known: Explanation) -> list[str]:
    """All that ``syncd explain`` prints."""
    names = {way.kind: way.link for way in known.ways}
    titles = [sight.meeting.title for sight in known.seen_by if sight.meeting]
    blocks = [
        [row for sight in known.seen_by for row in _sight_rows(sight, titles, known.decisions)],
        [row for number, each in enumerate(known.links) for row in _link_rows(each, names, "" if number else "links")],
        *(list(_stand_rows(stand, known)) for stand in known.destinations),
        [_decision_row(each, names) for each in known.decisions],
    ]
    head = [titles[0] if titles else "An event that no account has any more", f"event {known.event}"]
    return [line for block in [head, *map(_aligned, filter(None, blocks))] for line in [*block, ""]][:-1]


def choice_lines(found: Mapping[str, Meeting | None]) -> list[str]:
    """Events to choose from, by id; ``None`` where no account has it any more."""
    rows = []
    for event, meeting in found.items():
        when = _moment(meeting.start.utc) if meeting and meeting.start else "any time" if meeting else "gone"
        rows.append(f"{event}  {when:17}  {meeting.title if meeting else ''}".rstrip())
    return rows


def _aligned(rows: Sequence[Row]) -> list[str]:
    """Three columns, the last one wrapped; the first two are equally wide in every block but for long names."""
    first = max(17, *(len(row[0]) for row in rows))
    second = max(7, *(len(row[1]) for row in rows))
    margin = " " * (first + second + 3)
    printed = []
    for title, word, text in rows:
        head = f"{title:{first}} {word:{second}}  "
        wrapped = wrap(text, COLUMNS - len(head), break_long_words=False, break_on_hyphens=False) or [""]
        printed += [(before + line).rstrip() for before, line in zip(chain([head], repeat(margin)), wrapped)]  # noqa: B905
    return printed


def _sight_rows(sight: SeenBy, titles: Sequence[str], decisions: Sequence[Decision]) -> Iterator[Row]:
    name = f"account {sight.account}"
    latest = next((d for d in reversed(decisions) if d.run == ("pull", sight.account)), None)
    meeting = sight.meeting
    if meeting is None:
        told = latest if latest and latest.word == "gone" else None
        yield name, "gone", f"{_moment(told.at)}: {told.why}" if told else ""
        return
    yield name, "sees", _role(meeting) + ("" if meeting.title == titles[0] else f", as {meeting.title}")
    yield "", "when", _when(meeting)
    if meeting.recurrence:
        yield "", "repeats", _repeats(meeting)
    if latest:
        yield "", "last", _told(latest)
    if sight.unlisted:
        yield "", "note", "listings by time lack it; its server says that it is there"
    if sight.unreadable:
        yield "", "note", f"left as it was: {sight.unreadable.reason}"
    if sight.state:
        why = "disabled" if sight.state == "disabled" else "not in the configuration any more"
        yield "", "note", f"the account is {why}; what it had stays"


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
    shown = f"{until:%H:%M}" if until.date() == start.date() else f"{until:%a %Y-%m-%d %H:%M}"
    return f"{start:%a %Y-%m-%d %H:%M} to {shown} {meeting.start.zone}"


def _local(when: When) -> datetime:
    return when.utc.astimezone(ZoneInfo(when.zone))


def _repeats(meeting: Meeting) -> str:
    cancelled = sum(override.cancelled for override in meeting.overrides)
    changed = len(meeting.overrides) - cancelled
    counted = [f"{count} {word}" for count, word in ((changed, "changed"), (cancelled, "cancelled")) if count]
    return "; ".join([*(line.removeprefix("RRULE:") for line in meeting.recurrence), *counted])


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


def _stand_rows(stand: Destination, known: Explanation) -> Iterator[Row]:
    yield RUNS[stand.kind].format(stand.name), "entry", _entry(stand, known)
    if stand.source:
        yield "", "text", f"from {stand.source.account}"
    if stand.place and stand.place.state == "placed" and stand.place.edited:
        yield "", "note", "somebody edited it there; what they added stays"
    latest = next((d for d in reversed(known.decisions) if d.run == (stand.kind, stand.name)), None)
    if latest:
        yield "", "last", _told(latest)
    if stand.trouble:
        yield "", "trouble", stand.trouble
    steps = list(_next(stand, known)) or ["nothing"]
    for number, step in enumerate(steps):
        yield "", "" if number else "next", step


def _entry(stand: Destination, known: Explanation) -> str:
    place = stand.place
    if place:
        words = {
            "placed": f"revision {place.revision}, placed as {place.href}",
            "left": f"left alone: what lies at {place.href} is not ours",
            "placing": f"on its way to {place.href}, and nobody has heard yet whether it arrived",
            "removed": "removed by somebody; it comes back when the meeting changes",
        }
        return words[place.state]
    if stand.shown and stand.entry:
        return f"revision {stand.entry.revision}, shown"
    return "not there" + _absence(stand, known)


def _absence(stand: Destination, known: Explanation) -> str:
    """Why something is not there and does not come."""
    after, window = stand.next.after, stand.next.window
    if stand.state or stand.next.action or stand.next.problem:
        return ""
    if _is_untimed(stand, known):
        return ": it is at no fixed time"
    if stand.source is None:
        return f": {' and '.join(stand.accounts)} {'have' if len(stand.accounts) > 1 else 'has'} it no more"
    if after and not after.digest:
        return ": every occurrence is cancelled"
    if window and not overlaps(stand.source.start, stand.source.end, window):
        return f": outside the window, {window.since:%Y-%m-%d} to {window.until:%Y-%m-%d}"
    return ""


def _next(stand: Destination, known: Explanation) -> Iterator[str]:
    """What the next run does, step by step; nothing if there is nothing to do."""
    it = "it" if stand.kind == "push" else "one of its accounts"
    states = {
        "disabled": "nothing: it is disabled",
        "retired": f"nothing: {it} is not in the configuration any more, and what is there stays",
        "waiting": "nothing before all of its accounts have been listed",
    }
    if stand.state:
        yield states[stand.state]
        return
    for mint in stand.next.mints:
        yield f"the {mint.way.link} for {'guests' if mint.whose == GUEST else mint.whose} is asked for"
    for mint in stand.next.unasked:
        yield f"the {mint.way.link} is not asked for: {', '.join(mint.accounts)} disabled"
    if stand.next.problem:
        yield f"it cannot be rendered and stays as it was: {stand.next.problem}"
    if stand.next.action:
        yield _action(stand.next.action, stand, known)
    elif stand.kind == "feed" and stand.next.after and stand.next.after.digest:
        if not stand.shown:
            yield "it is taken up"
        elif stand.entry is None or stand.next.after.digest != stand.entry.digest:
            yield f"it is written anew because {_reason(stand, known)}"


def _action(action: CalendarAction, stand: Destination, known: Explanation) -> str:
    match action:
        case Create():
            there = {"left": "it is looked at again because ", "removed": "it is put again because "}
            before = there.get(stand.place.state) if stand.place else None
            return before + _reason(stand, known) if before else "it is put there"
        case Update():
            return f"it is written anew because {_reason(stand, known)}"
        case Delete():
            return f"it is deleted: {_loss(stand, known)}"
        case Hold():
            of = f", one of {len(action.events)}" if len(action.events) > 1 else ""
            return f"its deletion is held{of}: waits for `syncd confirm {stand.name}`"
        case Forget():
            return f"our note of it is dropped: {_loss(stand, known)}"
        case Look():
            return "it is looked at"


def _loss(stand: Destination, known: Explanation) -> str:
    """Why there is nothing to show any more."""
    if _is_untimed(stand, known):
        return "it is at no fixed time any more"
    return "every occurrence is cancelled" if stand.source else "the meeting is gone"


def _is_untimed(stand: Destination, known: Explanation) -> bool:
    """Whether an account has the event, which is not among the meetings with a time."""
    return stand.source is None and any(each.meeting for each in known.seen_by if each.account in stand.accounts)


def _reason(stand: Destination, known: Explanation) -> str:
    """What changed since it was last written: fields by the pulls since then, and what entries are made from."""
    last = max((n for n, d in enumerate(known.decisions) if d.run == (stand.kind, stand.name)), default=-1)
    fields = _fields(stand.source.account if stand.source else "", known.decisions[last + 1 :])
    reasons = [f"{fields} changed"] if fields else []
    before = stand.entry.inputs if stand.entry else None
    after = stand.next.after.inputs if stand.next.after else None
    if before and after:
        reasons += [f"{after.account} provides the text"] if before.account != after.account else []
        reasons += [
            f"the {way.link} is another" for way in known.ways if before.codes.get(way.key) != after.codes.get(way.key)
        ]
    if not reasons and not stand.entry and stand.place:
        reasons = ["syncd or its configuration changed"]
    return ", and ".join(reasons) or "its content changed"


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


def _told(decision: Decision) -> str:
    return f"{_moment(decision.at)} {_words(decision, {})}"


def _words(decision: Decision, names: Mapping[str, str]) -> str:
    """What was decided; ``names`` are those of the links by their kinds."""
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
            click.echo("\n".join(choice_lines(choices(ledger, found[:LISTED]))))
            raise click.UsageError(f"{len(found)} events begin with {event}: say more of the one that you mean")
        click.echo("\n".join(lines(explanation(config, ledger, found[0], clock()))))
