# SPDX-License-Identifier: Apache-2.0
"""The meetings of accounts as OpenTalk has them at this moment; the ledger has no part in it."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from syncd.config import Config
from syncd.errors import SyncdError
from syncd.jobs.servers import connect
from syncd.model import Meeting, Window, overlaps
from syncd.plan.pull import known_as
from syncd.report import Json, event_json
from syncd.sync.ports import Progress, Source


def list_events(
    config: Config,
    accounts: Sequence[str],
    since: datetime | None,
    until: datetime | None,
    clock: Callable[[], datetime],
    progress: Progress,
    problems: list[SyncdError],
) -> list[Json]:
    """All meetings of these accounts between two moments, each once, account by account in the order of starts.

    Time-independent ones are listed where no moment is given. A guest link is shown where one exists; none is
    made. What the servers raise ends in ``problems``, and the other accounts are listed all the same.
    """
    remotes = connect(config, clock)
    listed: dict[str, Json] = {}
    try:
        for account in accounts:
            try:
                for event in _events_of(
                    account, config.accounts[account].url, remotes.sources[account], since, until, progress
                ):
                    listed.setdefault(str(event["id"]), event)
            except SyncdError as problem:
                problems.append(problem)
    finally:
        remotes.close()
    return list(listed.values())


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
    known = known_as(meeting)
    if known.start is None:
        return False
    return overlaps(known.start, known.end, Window(since or known.start, until or known.start))
