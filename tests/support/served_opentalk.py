# SPDX-License-Identifier: Apache-2.0
"""The embedded OpenTalk with its identity provider, both served on this machine, and syncd's accounts there."""

from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from starlette.types import ASGIApp

from syncd.demo.identity import IdentityProvider
from syncd.demo.opentalk import OpenTalk as EmbeddedOpenTalk
from syncd.demo.serve import RunningServer
from syncd.demo.signin import Version
from syncd.opentalk.client import OpenTalk
from tests.support.opentalk_json import time_json

NOW = datetime(2026, 11, 22, 8, tzinfo=UTC)
PEOPLE = {"alice": ("Alice", "Adams"), "bob": ("Bob", "Burton"), "dave": ("Dave", "Dahl")}


class ServedOpenTalk:
    """A controller and a provider on a clock that begins at ``now``; the password of ``alice`` is ``alice-pw``.

    ``before`` wraps the controller's application; ``options`` are the provider's.
    """

    def __init__(
        self,
        version: Version = "0.30",
        now: datetime = NOW,
        before: Callable[[ASGIApp], ASGIApp] = lambda app: app,
        **options: Any,
    ) -> None:
        self.now = now
        self.stack = ExitStack()
        self.identity = IdentityProvider(lambda: self.now, **options)
        for name, (first, last) in PEOPLE.items():
            self.identity.add_user(name, f"{name}-pw", first, last, f"{name}@example.org")
        self.opentalk = EmbeddedOpenTalk(self.identity, lambda: self.now, version)
        self.identity.url = self.stack.enter_context(RunningServer(self.identity.app)).url
        self.url = self.stack.enter_context(RunningServer(before(self.opentalk.app))).url

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def account(self, username: str | None = "alice", **options: Any) -> OpenTalk:
        """A fresh client of a person; it is closed with the servers."""
        usual = {
            "url": self.url,
            "client_id": "Frontend",
            "username": username,
            "password": lambda: f"{username}-pw",
            "clock": lambda: self.now,
        }
        account = OpenTalk("work", **{**usual, **options})
        self.stack.callback(account.close)
        return account

    def create(self, username: str = "alice", *, days: float = 1, **fields: Any) -> str:
        """A meeting of an hour, so many days from ``NOW``; returns its id."""
        start = NOW + timedelta(days=days)
        event = self.opentalk.create(
            username, **{"starts_at": time_json(start), "ends_at": time_json(start + timedelta(hours=1)), **fields}
        )
        return str(event["id"])

    def queries(self, prefix: str, method: str = "GET") -> list[dict[str, str]]:
        """The parameters of each request whose path begins with ``prefix``."""
        return [dict(r.query) for r in self.opentalk.app.log if r.path.startswith(prefix) and r.method == method]
