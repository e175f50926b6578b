# SPDX-License-Identifier: Apache-2.0
"""The output of ``sync`` and ``status``: turns runs into lines and values for JSON. No I/O, no clock."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from syncd.config import Config
from syncd.errors import Unavailable
from syncd.ledger.lock import Syncing
from syncd.model import Run, RunKey, RunKind, Standing
from syncd.plan.feed import are_listed

TROUBLED = {"retrying", "held", "needs_login", "needs_you"}
WRITES = ("created", "updated", "deleted", "adopted")

RUNS: Mapping[RunKind, str] = {
    "pull": "account {}",
    "mint": "links of {}",
    "push": "calendar {}",
    "feed": "feed {}",
    "maker": "links of {}",
    "links": "links",
    "feeds": "feeds",
    "housekeeping": "housekeeping",
}
"""What each kind of run is about; the field is its name."""

OWN: tuple[RunKind, ...] = ("links", "feeds", "housekeeping")
"""The kinds of run that belong to no table of the configuration."""

Json = dict[str, object]


def exit_code(runs: Iterable[Run]) -> int:
    """The exit code of a sync: 0, 4 for a held deletion, 1 for a partial failure; 77 or 69 if nothing was done."""
    runs = list(runs)
    failed = [run for run in runs if run.state not in ("ok", "held")]
    if not failed:
        return 4 if any(run.state == "held" for run in runs) else 0
    if not any(_did_something(run) for run in runs):
        if any(run.state == "needs_login" for run in failed):
            return 77
        if all(run.state == Unavailable.state for run in failed):
            return Unavailable.code
    return 4 if any(run.state == "held" for run in runs) else 1


def _did_something(run: Run) -> bool:
    if run.key.kind in ("mint", "maker"):
        return bool(run.done)
    return any(run.counts.get(word) for word in WRITES) or (run.key.kind == "pull" and run.state == "ok")


def sync_json(config: Config, runs: Iterable[Run]) -> Json:
    """The output of ``syncd sync --json``."""
    by_key = {run.key: run for run in runs}
    accounts: Json = {}
    for name in config.accounts:
        pull, mint = by_key.get(RunKey("pull", name)), by_key.get(RunKey("mint", name))
        if pull:
            accounts[name] = {
                "state": worst([pull, mint]),
                "meetings": pull.counts.get("meetings", 0),
                **{way.links: mint.counts.get(way.links, 0) if mint else 0 for way in config.ways},
            }
    calendars: Json = {
        name: {"state": run.state, **{word: run.counts.get(word, 0) for word in (*WRITES, "left", "failed")}}
        for name in config.calendars
        if (run := by_key.get(RunKey("push", name)))
    }
    return {"accounts": accounts, "calendars": calendars}


def worst(runs: Sequence[Run | None]) -> str:
    """The worst state of these runs; "new" if there is none."""
    order = ("needs_you", "needs_login", "held", "retrying", "ok")
    states = {run.state for run in runs if run}
    return next((state for state in order if state in states), "new")


def sync_lines(runs: Iterable[Run]) -> list[str]:
    """The output of ``syncd sync``: a line for each account, link maker, calendar and feed."""
    lines = []
    for run in runs:
        counts = ", ".join(f"{count} {word}" for word, count in run.counts.items() if count or word == "meetings")
        what = "; ".join(filter(None, [counts, run.message])) or "nothing to do"
        mark = "" if run.state == "ok" else f"{run.state}: "
        lines.append(f"{RUNS[run.key.kind].format(run.key.name)}: {mark}{what}")
    return lines


def status_json(
    config: Config,
    standings: Mapping[RunKey, Standing],
    meetings: Mapping[str, int],
    entries: Mapping[str, int],
    feeds: Mapping[str, tuple[str, ...] | None],
    feed_sizes: Mapping[str, int],
    daemon: Syncing | None,
) -> Json:
    """The output of ``syncd status --json``.

    ``meetings`` are counted by account, ``entries`` by calendar. ``feeds`` has the accounts of each, ``None`` if one is
    retired; ``feed_sizes`` the number of their entries. Runs of the kinds in ``OWN`` are included, under ``syncd``,
    when they are in trouble.
    """
    running = bool(daemon and daemon.daemon)
    accounts = {name: _account(name, config, standings, meetings.get(name, 0), running) for name in config.accounts}
    retired = meetings.keys() - config.accounts.keys()
    accounts |= {name: _retired("meetings", meetings[name]) for name in sorted(retired)}
    calendars = {name: _calendar(name, config, standings, entries.get(name, 0), running) for name in config.calendars}
    retired = entries.keys() - config.calendars.keys()
    calendars |= {name: _retired("entries", entries[name]) for name in sorted(retired)}
    feeds_json = {name: _feed(name, of, standings, feed_sizes.get(name, 0)) for name, of in feeds.items()}
    makers = {name: _maker(name, standings) if name in config.makers else None for name in maker_labels(config)}
    own = _own(standings, running)
    everything = [*accounts.values(), *calendars.values(), *feeds_json.values(), *filter(None, makers.values())]
    return {
        "ok": not own and not any(thing["state"] in TROUBLED for thing in everything),
        "daemon": {"running": running, "since": _time(daemon.since) if daemon and running else None},
        "accounts": accounts,
        **makers,
        "calendars": calendars,
        "feeds": feeds_json,
        **({"syncd": own} if own else {}),
    }


def _own(standings: Mapping[RunKey, Standing], running: bool) -> Json:
    return {
        kind: {
            "state": standing.latest.state,
            "last_success": _time(standing.last_success),
            "next_try": _time(standing.latest.next_try if running else None),
            "message": standing.latest.message,
        }
        for kind in OWN
        for key, standing in standings.items()
        if key.kind == kind and standing.latest.state in TROUBLED
    }


def _account(
    name: str,
    config: Config,
    standings: Mapping[RunKey, Standing],
    meetings: int,
    running: bool,
) -> Json:
    pull, mint = standings.get(RunKey("pull", name)), standings.get(RunKey("mint", name))
    state = "disabled" if not config.accounts[name].enabled else worst([s.latest if s else None for s in (pull, mint)])
    message = next((s.latest.message for s in (pull, mint) if s and s.latest.message), None)
    next_try = pull.latest.next_try if pull and running and state != "disabled" else None
    return {
        "state": state,
        "meetings": meetings,
        "last_success": _time(pull.last_success) if pull else None,
        "next_try": _time(next_try),
        "message": message,
    }


def _calendar(
    name: str,
    config: Config,
    standings: Mapping[RunKey, Standing],
    entries: int,
    running: bool,
) -> Json:
    push = standings.get(RunKey("push", name))
    state = "disabled" if not config.calendars[name].enabled else push.latest.state if push else "new"
    next_try = push.latest.next_try if push and running and state not in ("disabled", "held") else None
    return {
        "state": state,
        "entries": entries,
        "last_success": _time(push.last_success) if push else None,
        "next_try": _time(next_try),
        "message": push.latest.message if push else None,
    }


def maker_labels(config: Config) -> dict[str, str]:
    """The names of all link makers for people, by their keys in ``syncd status --json``."""
    return {way.maker: way.label for way in config.ways if way.maker}


def _maker(name: str, standings: Mapping[RunKey, Standing]) -> Json:
    mint = standings.get(RunKey("maker", name))
    return {
        "state": mint.latest.state if mint else "new",
        "last_success": _time(mint.last_success) if mint else None,
        "message": mint.latest.message if mint else None,
    }


def _feed(
    name: str,
    accounts: tuple[str, ...] | None,
    standings: Mapping[RunKey, Standing],
    entries: int,
) -> Json:
    build = standings.get(RunKey("feed", name))
    state, message = (build.latest.state, build.latest.message) if build else ("ok", None)
    if accounts is None:
        state, message = "retired", "one of its accounts is not in the configuration any more"
    elif not are_listed(accounts, standings):
        state, message = "new", "its accounts have not been listed yet"
    return {
        "state": state,
        "entries": entries,
        "last_built": _time(build.last_success) if build else None,
        "message": message,
    }


def _retired(word: str, count: int) -> Json:
    message = "not in the configuration any more; its entries stay"
    return {"state": "retired", word: count, "last_success": None, "next_try": None, "message": message}


def status_lines(status: Json, makers: Mapping[str, str], now: datetime) -> list[str]:
    """The output of ``syncd status``: one sentence, then a line for each thing. ``makers`` are ``maker_labels``."""
    rows: list[tuple[str, str, str, str]] = []
    for kind, title in (("accounts", "account"), ("calendars", "calendar"), ("feeds", "feed")):
        things = status[kind]
        assert isinstance(things, dict)  # noqa: S101 -- status_json made it
        rows += [_row(f"{title} {name}", thing, now) for name, thing in things.items()]
    rows += [_row(label, thing, now) for name, label in makers.items() if isinstance(thing := status[name], dict)]
    own = status.get("syncd", {})
    assert isinstance(own, dict)  # noqa: S101 -- status_json made it
    rows += [_row(f"syncd {kind}", thing, now) for kind, thing in own.items()]
    daemon = status["daemon"]
    running = isinstance(daemon, dict) and daemon["running"]
    head = "All is well." if status["ok"] else "Something needs a look:"
    head += " The daemon is running." if running else " The daemon is not running."
    widths = [max(len(row[column]) for row in rows) for column in range(3)] if rows else [0, 0, 0]
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]]) for row in rows
    ]
    return [head, *(line.rstrip() for line in lines)]


def _row(title: str, thing: Json, now: datetime) -> tuple[str, str, str, str]:
    size = next((f"{thing[word]} {word}" for word in ("meetings", "entries") if word in thing), "")
    last = thing.get("last_success") or thing.get("last_built")
    ago = f"{_span(now - datetime.fromisoformat(str(last)))} ago" if last else ""
    return title, str(thing["state"]), size, "  ".join(filter(None, [ago, str(thing["message"] or "")]))


def _span(span: timedelta) -> str:
    seconds = max(0, int(span.total_seconds()))
    for length, word in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * length:
            return f"{seconds // length} {word}"
    return f"{seconds} s"


def _time(moment: datetime | None) -> str | None:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z") if moment else None
