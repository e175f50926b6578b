# SPDX-License-Identifier: Apache-2.0
"""What became of a job: whether its host was asked, answered or is in trouble."""

from datetime import timedelta

from syncd import config as configuration
from syncd.errors import Unavailable
from syncd.model import Run

DONE = ("created", "updated", "deleted", "adopted", "left", "removed")

WAITING = {"pull": "accounts", "push": "calendars"}


def soonest(config: configuration.Config) -> timedelta:
    """The shortest interval at which an account is asked."""
    return min((account.every for account in config.accounts.values()), default=timedelta(minutes=5))


def is_outage(run: Run) -> bool:
    """Whether a run that came to its end tells of a host that does not answer, rather than of one event."""
    if run.state != Unavailable.state or not run.message:
        return False
    match run.key.kind:
        case "mint" | "maker":
            return True
        case "push":
            return run.next_try is not None or not any(run.counts.get(word) for word in DONE)
    return False


def has_answer(run: Run) -> bool:
    """Whether the host of a run was asked, and answered: a calendar in which nothing is to be done was not."""
    match run.key.kind:
        case "pull":
            return True
        case "push":
            return not is_outage(run) and bool(run.scope or run.done)
        case "mint" | "maker" as kind if run.state == "ok":
            own = "hashes" if kind == "maker" else "invites"
            return own in run.counts or "none" in run.counts
    return False
