# SPDX-License-Identifier: Apache-2.0
"""The exceptions; a class says who must act.

    SyncdError
    ├── ConfigError          the operator: the configuration is wrong; carries every problem
    ├── Unavailable          nobody: it heals itself, try again (after ``retry_after`` seconds)
    │   └── BadAnswer        nobody: the answer was cut, too large, or not what the protocol says
    ├── LoginRefused         the operator: a password, a right or a login is needed
    ├── NeedsYou             the operator: anything else that no retry will heal
    │   └── LedgerError      the operator: the ledger's disk, its file or its version
    ├── LedgerBusy           nobody: another process is syncing
    ├── Conflict             nobody: a precondition failed; look at the object and decide again
    │   ├── Changed          the object has another ETag, or exists (or is gone) unexpectedly
    │   └── UidTaken         another object of the calendar has this UID
    ├── BadEvent             nobody: one event cannot be read or rendered; the others go on
    ├── Refused              nobody: one object is refused for good; the others go on
    ├── DaemonError          a problem of the daemon, as a command that sent it a request gets it
    └── Stopped              nobody: syncd is ending; the rest is done when it runs again

A message names what failed and what to do. It never contains a secret, a link, a title, a name or an
address of a person, because it is logged and stored.
"""

from collections.abc import Sequence
from datetime import timedelta

LONGEST_RETRY_AFTER = timedelta(days=1)
"""A longer Retry-After counts as this; some servers send one that no date can represent."""


class SyncdError(Exception):
    """The root of all foreseeable problems.

    ``state`` is the state that ``syncd status`` shows for it, ``code`` the exit code of a command that could do
    nothing because of it.
    """

    state: str = "needs_you"
    code: int = 1


class ConfigError(SyncdError):
    """The configuration is wrong. ``problems`` are lines ``FILE: key.path: what is wrong (example: ...)``."""

    code = 78

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class Unavailable(SyncdError):
    """A server is not reachable, overloaded or broken; ``retry_after`` is its Retry-After in seconds."""

    state = "retrying"
    code = 69

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class BadAnswer(Unavailable):
    """An answer that the protocol does not allow: HTML instead of JSON, half a body, a body beyond the size limit."""


class LoginRefused(SyncdError):
    """A login was refused or is needed."""

    state = "needs_login"
    code = 77


class NeedsYou(SyncdError):
    """No retry heals this: a person must change something, and the message says what."""


class LedgerError(NeedsYou):
    """The ledger cannot be read or written: disk full, damaged, made by a newer syncd."""


class LedgerBusy(SyncdError):
    """Another process is syncing on this ledger."""

    state = "retrying"
    code = 75


class Conflict(SyncdError):
    """A precondition failed: look at the object that is there, then decide again."""


class Changed(Conflict):
    """The object at an href is not the one that the ledger records (RFC 9110, 15.5.13: 412)."""


class UidTaken(Conflict):
    """Another object in this calendar or account has the UID (RFC 4791, 5.3.2.1 no-uid-conflict)."""


class BadEvent(SyncdError):
    """One event cannot be read or rendered; ``event`` is its id."""

    def __init__(self, event: str, message: str) -> None:
        super().__init__(f"event {event}: {message}")
        self.event = event


class Refused(SyncdError):
    """A server refuses one object for good: it is too large, invalid to that server, or not allowed."""


class DaemonError(SyncdError):
    """A problem of the daemon, as a command that sent it a request gets it: same message, state and code."""

    def __init__(self, message: str, state: str, code: int) -> None:
        super().__init__(message)
        self.state = state
        self.code = code


class Stopped(SyncdError):
    """Syncd is ending: the step in hand is finished, the rest waits for the next run."""

    state = "retrying"
