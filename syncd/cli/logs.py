# SPDX-License-Identifier: Apache-2.0
"""Where log lines go, and which libraries must not log all they would: no line has a secret, link, title or name."""

import logging
import sys
from collections.abc import Mapping

TALKATIVE = ("httpx", "httpcore", "caldav", "apscheduler", "uvicorn", "niquests", "urllib3")
"""Libraries whose INFO lines have whole addresses, or the content of objects."""


def start_logging(level: str, environ: Mapping[str, str]) -> None:
    """Log to stderr from ``level`` on; for journald with its priority prefixes instead of the time."""
    plain = logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Journal("%(message)s") if environ.get("JOURNAL_STREAM") else plain)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)


class _Journal(logging.Formatter):
    """Every line begins with its priority (sd-daemon(3))."""

    def format(self, record: logging.LogRecord) -> str:
        priority = {"ERROR": 3, "CRITICAL": 2, "WARNING": 4, "INFO": 6}.get(record.levelname, 7)
        return "\n".join(f"<{priority}>{line}" for line in super().format(record).splitlines())
