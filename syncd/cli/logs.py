# SPDX-License-Identifier: Apache-2.0
"""Where log lines go, and who is kept from telling too much. No line holds a secret, a link, a title or a name."""

import logging
import sys
from collections.abc import Mapping

TALKATIVE = ("httpx", "httpcore", "caldav", "apscheduler", "uvicorn", "niquests", "urllib3")
"""Libraries that tell whole addresses at INFO, or what was in an object."""


def start_logging(level: str, environ: Mapping[str, str]) -> None:
    """Log to stderr; for journald with its priority prefixes instead of the time."""
    plain = logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Journal("%(message)s") if environ.get("JOURNAL_STREAM") else plain)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)


class _Journal(logging.Formatter):
    """sd-daemon(3): every line begins with its priority."""

    def format(self, record: logging.LogRecord) -> str:
        priority = {"ERROR": 3, "CRITICAL": 2, "WARNING": 4, "INFO": 6}.get(record.levelname, 7)
        return "\n".join(f"<{priority}>{line}" for line in super().format(record).splitlines())
