# SPDX-License-Identifier: Apache-2.0
"""``syncd events``: the meetings as OpenTalk has them at this moment. The ledger is not used."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import click

from syncd.cli.context import Context, clock, code_of, pass_context
from syncd.cli.progress import TerminalProgress
from syncd.cli.report import Json
from syncd.config import Config
from syncd.errors import SyncdError
from syncd.jobs.servers import Servers
from syncd.model import Meeting, When, Window, overlaps
from syncd.plan.addresses import guest_address, room_address
from syncd.plan.pull import row_of
from syncd.sync.ports import Progress, Source

COLUMNS = (
    "number", "title", "room_link", "start", "end", "sip", "password", "guest_link", "account", "id", "timezone",
    "recurrence",
)  # fmt: skip


def list_events(
    config: Config,
    accounts: Sequence[str],
    since: datetime | None,
    until: datetime | None,
    servers: Servers,
    progress: Progress,
    problems: list[SyncdError],
) -> list[Json]:
    """The meetings of these accounts between two moments, each once, account by account in the order of starts.

    Without moments time-independent ones are included. A guest link is included where one exists; none is made.
    An account's exception is appended to ``problems``, and the other accounts are listed.
    """
    found: dict[str, Json] = {}
    for account in accounts:
        try:
            for event in _events_of(
                account, config.accounts[account].url, servers.sources[account], since, until, progress
            ):
                found.setdefault(str(event["id"]), event)
        except SyncdError as problem:
            problems.append(problem)
    return list(found.values())


def _events_of(
    account: str, url: str, source: Source, since: datetime | None, until: datetime | None, progress: Progress
) -> Iterator[Json]:
    meetings = [meeting for meeting in source.snapshot(None).meetings.values() if _between(meeting, since, until)]
    meetings.sort(key=lambda meeting: (meeting.start.utc.timestamp() if meeting.start else 0.0, meeting.id))
    with ThreadPoolExecutor(4, thread_name_prefix="invites") as pool:
        for done, (meeting, invite) in enumerate(zip(meetings, pool.map(source.find_invite, meetings), strict=True), 1):
            progress(account, done, len(meetings))
            yield event_json(account, url, meeting, invite.code if invite else None)


def _between(meeting: Meeting, since: datetime | None, until: datetime | None) -> bool:
    if since is None and until is None:
        return True
    span = row_of(meeting)
    if span.start is None:
        return False
    return overlaps(span.start, span.end, Window(since or span.start, until or span.start))


@click.command()
@click.argument("account", required=False)
@click.option("--from", "since", metavar="D", help="Meetings that end after D: 2026-11-22, RFC 3339 or +7d.")
@click.option("--to", "until", metavar="D", help="Meetings that start before D.")
@click.option("--csv", "as_csv", is_flag=True, help="Print a table for spreadsheets.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@pass_context
def events(
    context: Context, account: str | None, since: str | None, until: str | None, *, as_csv: bool, as_json: bool
) -> None:
    """List the meetings as OpenTalk has them now."""
    if as_csv and as_json:
        raise click.UsageError("--csv or --json, not both")
    config = context.load()
    accounts = _accounts(config, account)
    problems: list[SyncdError] = []
    since_date, until_date = _date(since), _date(until)
    with TerminalProgress() as progress, closing(context.connect(config)) as servers:
        found = list_events(config, accounts, since_date, until_date, servers, progress.show, problems)
    for problem in problems:
        click.echo(str(problem), err=True)
    if problems and len(problems) == len(accounts):
        raise SystemExit(code_of(problems))
    click.echo(_output(found, as_csv=as_csv, as_json=as_json), nl=not as_csv)
    if problems:
        raise SystemExit(1)


def _accounts(config: Config, account: str | None) -> list[str]:
    """The enabled accounts, or only the one that is named. Raises UsageError."""
    enabled = [name for name, settings in config.accounts.items() if settings.enabled]
    if account is not None and account not in enabled:
        raise click.UsageError(f"there is no account {account}; there is {', '.join(enabled)}")
    return [account] if account else enabled


def _output(found: list[Json], *, as_csv: bool, as_json: bool) -> str:
    if as_json:
        return json.dumps(found, indent=1, ensure_ascii=False)
    return events_csv(found) if as_csv else "\n".join(event_lines(found))


def _date(text: str | None) -> datetime | None:
    try:
        return parse_date(text, clock()) if text is not None else None
    except (ValueError, OverflowError):
        raise click.UsageError(f"{text} is no date (example: 2026-11-22, 2026-11-22T09:00:00Z or +7d)") from None


def event_json(account: str, url: str, meeting: Meeting, guest: str | None) -> Json:
    """A meeting as ``syncd events --json`` prints it; ``guest`` is the code of its guest invite, if it has one."""
    return {
        "account": account,
        "id": meeting.id,
        "title": meeting.title,
        "description": meeting.description,
        "start": _local(meeting.start, meeting.all_day),
        "end": _local(meeting.end, meeting.all_day),
        "timezone": meeting.start.zone if meeting.start else None,
        "all_day": meeting.all_day,
        "recurrence": list(meeting.recurrence),
        "exceptions": [
            {
                "occurrence": _local(override.original, meeting.all_day),
                "cancelled": override.cancelled,
                "start": _local(override.start, meeting.all_day),
                "end": _local(override.end, meeting.all_day),
                "title": override.title,
            }
            for override in meeting.overrides
        ],
        "room": meeting.room,
        "join": room_address(url, meeting.room),
        "guest": guest_address(url, meeting.room, guest) if guest else None,
        "password": meeting.password,
        "call_in": {"tel": meeting.call_in.tel, "id": meeting.call_in.id, "pin": meeting.call_in.pin}
        if meeting.call_in
        else None,
        "invite_status": meeting.invite_status,
        "adhoc": meeting.adhoc,
    }


def _local(when: When | None, all_day: bool) -> str | None:
    if when is None:
        return None
    if all_day:
        return when.utc.date().isoformat()
    return when.utc.astimezone(ZoneInfo(when.zone)).isoformat()


def events_csv(events: Sequence[Json]) -> str:
    """The output of ``syncd events --csv``: first the columns of OpenTalk's bash client; quoted as in RFC 4180."""
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(COLUMNS)
    for number, event in enumerate(events, 1):
        call_in, recurrence = event["call_in"], event["recurrence"]
        sip = f"{call_in['tel']},,{call_in['id']},,{call_in['pin']}" if isinstance(call_in, dict) else ""
        lines = "\n".join(recurrence) if isinstance(recurrence, list) else ""
        values = (
            event["title"], event["join"], event["start"], event["end"], sip, event["password"], event["guest"],
            event["account"], event["id"], event["timezone"], lines,
        )  # fmt: skip
        rows.writerow([number, *("" if value is None else value for value in values)])
    return text.getvalue()


def event_lines(events: Iterable[Json]) -> list[str]:
    """The output of ``syncd events``: a line for each meeting with its start, title and address."""
    lines = []
    for event in events:
        start = str(event["start"] or "any time")[:16].replace("T", " ")
        repeats = " (repeats)" if event["recurrence"] else ""
        lines.append(f"{start:16}  {event['title']}{repeats}  {event['join']}")
    return lines


def parse_date(text: str, now: datetime) -> datetime:
    """Read ``2026-11-22``, RFC 3339 or ``+7d`` (from ``now``). Raises ValueError."""
    if text[:1] in "+-" and text[-1:] == "d" and text[1:-1].isdigit():
        return now + timedelta(days=int(text[:-1]))
    if len(text) == len("2026-11-22"):
        return datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC)
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
