# SPDX-License-Identifier: Apache-2.0
"""One process of the benchmark: a whole daemon that is watched for a while; prints its share of a CPU as JSON."""

import json
import sys
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from syncd.config import load
from syncd.daemon.process import running
from syncd.jobs.servers import connect
from syncd.plan.links import WAYS
from tests.bench.measuring import say

SETTLED = 20.0


def clock() -> datetime:
    return datetime.now(UTC)


def main() -> None:
    config, seconds = load(Path(sys.argv[1]), {}, WAYS), float(sys.argv[2])
    with running(config, partial(connect, clock=clock), clock) as house:
        time.sleep(SETTLED)
        begun, cpu = datetime.now(UTC), time.process_time()
        time.sleep(seconds)
        spent = time.process_time() - cpu
        standings = house._ledger.history.standings()
        pulled = [each for (kind, _), each in standings.items() if kind == "pull" and each.latest.ended > begun]
    say(json.dumps({"cpu": spent / seconds * 100, "accounts": len(pulled)}))


main()
