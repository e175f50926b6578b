# SPDX-License-Identifier: Apache-2.0
"""One process of the benchmark: polls an account and renders its entries, and prints what that took as JSON."""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path

from syncd.config import load
from syncd.jobs.jobs import Jobs
from syncd.jobs.servers import connect
from syncd.ledger.ledger import Ledger
from syncd.opentalk.client import OpenTalk
from syncd.plan.links import WAYS
from syncd.sync.render import render_entries
from tests.bench.measuring import cpu, memory, read_pages, say, with_calendars


def main() -> None:
    def clock() -> datetime:
        return datetime.now(UTC)

    config = load(Path(sys.argv[1]), {}, WAYS)
    servers = connect(config, clock)
    source = servers.sources["alice"]
    assert isinstance(source, OpenTalk)
    with Ledger.open(config.state) as ledger:
        jobs = Jobs(config, ledger, with_calendars(servers), clock, workers=1)
        source.identity()

        def render() -> None:
            render_entries(ledger, jobs.profiles["alice"], clock(), lambda _name, _done, _total: None)

        told = {"memory idle": memory()}
        told["first poll"] = cpu(lambda: jobs.pull("alice"), times=1)
        told["rendering"] = cpu(render, times=1)
        told["quiet poll"] = cpu(lambda: jobs.pull("alice"))
        told["quiet rendering"] = cpu(render)
        told["memory at most"] = memory()
        told["floor"] = cpu(lambda: read_pages(source, clock()))
    servers.close()
    say(json.dumps(told))


main()
