# SPDX-License-Identifier: Apache-2.0
"""What can go wrong, drawn first: a class says who must act.

    SyncdError
    ├── ConfigError          the operator: the configuration is wrong; carries every problem
    ├── Unavailable          nobody: it heals itself, try again (after ``retry_after`` seconds)
    │   └── BadAnswer        nobody: the answer was cut, too large, or not what the protocol says
    ├── LoginRefused         the operator: a password, a right or a login is needed
    ├── NeedsYou             the operator: anything else that no retry will heal
    │   └── LedgerError      the operator: the ledger's disk, its file or its version
    ├── LedgerBusy           nobody: another process is syncing
    ├── Conflict             nobody: what we meant to change is not what we thought it is
    │   ├── Changed          the object has another ETag, or is there (or gone) unexpectedly
    │   └── UidTaken         another object of the calendar has this UID
    ├── BadEvent             nobody: one event cannot be read or rendered; the others go on
    ├── Refused              nobody: one object is refused for good; the others go on
    ├── Told                 whoever the daemon says: its problem, as it reaches a command that asked it
    └── Stopped              nobody: syncd is ending; the rest is done when it runs again

A message names what failed and what to do. It never holds a secret, a link, a title, a name or an
address of a person: it is logged and stored.
"""

from collections.abc import Sequence
from datetime import timedelta

LONGEST_RETRY_AFTER = timedelta(days=1)
"""Whoever asks for more is asked after this: some send what no calendar can hold."""


class SyncdError(Exception):
    """The root: every foreseeable problem is one of these.

    ``state`` is the word of ``syncd status`` for it, ``code`` the exit code of a command that could do
    nothing because of it.
    """

    state: str = "needs_you"
    code: int = 1


class ConfigError(SyncdError):
    """The configuration is wrong: one line a problem, ``FILE: key.path: what is wrong (example: ...)``."""

    code = 78

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class Unavailable(SyncdError):
    """A server is not reachable, overloaded or broken; ``retry_after`` is what it asked for, in seconds."""

    state = "retrying"
    code = 69

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class BadAnswer(Unavailable):
    """A server answered what its protocol does not know: HTML for JSON, half a body, a body without end."""


class LoginRefused(SyncdError):
    """A login was refused or is needed."""

    state = "needs_login"
    code = 77


class NeedsYou(SyncdError):
    """No retry heals this: somebody must change something; the message says what."""


class LedgerError(NeedsYou):
    """The ledger cannot be read or written: disk full, damaged, made by a newer syncd."""


class LedgerBusy(SyncdError):
    """Another process is syncing on this ledger."""

    state = "retrying"
    code = 75


class Conflict(SyncdError):
    """A precondition failed: look at what is there, then decide again."""


class Changed(Conflict):
    """The object at an href is not the one we remember (RFC 7232, 412)."""


class UidTaken(Conflict):
    """Another object in this calendar or account has the UID (RFC 4791, 5.3.2.1 no-uid-conflict)."""


class BadEvent(SyncdError):
    """One event cannot be read or rendered; ``event`` is its id."""

    def __init__(self, event: str, message: str) -> None:
        super().__init__(f"event {event}: {message}")
        self.event = event


class Refused(SyncdError):
    """A calendar server refuses one object for good: too large, unreadable for it, not allowed."""


class DaemonError(SyncdError):
    """A problem of the daemon as it reaches a command that asked it: with the words, state and code it has there."""

    def __init__(self, message: str, state: str, code: int) -> None:
        super().__init__(message)
        self.state = state
        self.code = code


class Stopped(SyncdError):
    """Syncd was told to end; what was begun is finished, the rest waits for the next run."""

    state = "retrying"
