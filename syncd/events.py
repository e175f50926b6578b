# SPDX-License-Identifier: Apache-2.0
"""The meetings of accounts as OpenTalk has them at this moment; the ledger has no part in it."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from syncd.config import Config
from syncd.model import Meeting, Window
from syncd.plan import known_as, overlaps
from syncd.remotes import connect
from syncd.report import Json, event_json
from syncd.sync import Progress


def list_events(
    config: Config,
    accounts: Sequence[str],
    since: datetime | None,
    until: datetime | None,
    clock: Callable[[], datetime],
    progress: Progress,
) -> list[Json]:
    """All meetings of these accounts between two moments, each once an account, in the order of their starts.

    Time-independent ones are listed where no moment is given. A guest link is shown where one exists;
    none is made. Raises what the servers raise.
    """
    remotes = connect(config, clock)
    listed: list[Json] = []
    try:
        for account in accounts:
            source = remotes.sources[account]
            meetings = [m for m in source.snapshot(None).meetings.values() if _between(m, since, until)]
            meetings.sort(key=lambda m: (m.start.utc.timestamp() if m.start else 0.0, m.id))
            with ThreadPoolExecutor(4, thread_name_prefix="invites") as pool:
                invites = pool.map(source.find_invite, meetings)
                for done, (meeting, invite) in enumerate(zip(meetings, invites, strict=True), 1):
                    progress(account, done, len(meetings))
                    code = invite.code if invite else None
                    listed.append(event_json(account, config.accounts[account].url, meeting, code))
    finally:
        remotes.close()
    return listed


def _between(meeting: Meeting, since: datetime | None, until: datetime | None) -> bool:
    if since is None and until is None:
        return True
    known = known_as(meeting)
    if known.start is None:
        return False
    return overlaps(known.start, known.end, Window(since or known.start, until or known.start))
