# SPDX-License-Identifier: Apache-2.0
"""The command line: each command calls what the daemon calls.

What was asked for goes to stdout, everything else for people to stderr. The one place where the clock,
the environment and randomness come from.
"""

import json
import os
import re
import secrets
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click

from syncd import __version__, report
from syncd.config import Config, find, load
from syncd.errors import ConfigError, LedgerBusy, LedgerError, NeedsYou, SyncdError
from syncd.logs import start_logging
from syncd.model import Feed, Run, Standing
from syncd.progress import TerminalProgress
from syncd.schema import FILE, Syncing, syncing


def clock() -> datetime:
    """Now; nothing else in syncd reads the clock on its own."""
    return datetime.now(UTC)


class Context:
    """What every command gets: where the configuration is asked for."""

    def __init__(self, config: Path | None) -> None:
        self._config = config

    def load(self) -> Config:
        """The configuration. Raises ConfigError with every problem of it."""
        return load(find(self._config, os.environ), os.environ)


pass_context = click.make_pass_decorator(Context)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="The configuration (TOML).")
@click.option("--log-level", type=click.Choice(["error", "warning", "info", "debug"]), help="How much to say.")
@click.version_option(__version__, prog_name="syncd")
@click.pass_context
def cli(context: click.Context, config: Path | None, log_level: str | None) -> None:
    """Keeps calendars in step with OpenTalk meetings."""
    usual = "info" if context.invoked_subcommand in ("run", "demo") else "warning"
    start_logging(log_level or usual, os.environ)
    context.obj = Context(config)


@cli.command()
@click.option("--once", is_flag=True, help="One pass; print what is where, and end.")
def demo(*, once: bool) -> None:
    """All of it on this machine: servers, meetings that change, a calendar, a feed. Nothing is kept."""
    from syncd.demo.show import show  # noqa: PLC0415 -- the demo's servers are not for everybody

    language = "de" if os.environ.get("LANG", "").startswith("de") else "en"
    show(once=once, clock=clock, language=language)


@cli.command()
@pass_context
def run(context: Context) -> None:
    """The daemon, in the foreground."""
    from syncd.daemon import serve  # noqa: PLC0415 -- starts slower than commands should
    from syncd.notify import Notifier  # noqa: PLC0415

    if serve(context.load, clock, Notifier(os.environ, os.getpid())):
        raise KeyboardInterrupt


@cli.command()
@click.option("--dry-run", is_flag=True, help="Print the plan and change nothing anywhere.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@pass_context
def sync(context: Context, *, dry_run: bool, as_json: bool) -> None:
    """Once: pull and push everything now."""
    from syncd.control import Line  # noqa: PLC0415
    from syncd.oneshot import rehearse_once, sync_once  # noqa: PLC0415 -- reading commands need none of the edges

    config = context.load()
    if dry_run:
        runs = rehearse_once(config, clock, _hush if as_json else click.echo)
    elif (daemon := syncing(config.state)) and daemon.daemon:
        runs = Line(config.state).sync()
    else:
        runs = sync_once(config, clock)
    if as_json:
        click.echo(json.dumps(report.sync_json(config, runs), indent=1))
    else:
        click.echo("\n".join(report.sync_lines(runs)))
    raise SystemExit(report.exit_code(runs))


def _hush(_line: str) -> None:
    return


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@pass_context
def status(context: Context, *, as_json: bool) -> None:
    """How each account, calendar and feed stands, and what needs a person."""
    config = context.load()
    shown = read_status(config)
    click.echo(json.dumps(shown, indent=1) if as_json else "\n".join(report.status_lines(shown, clock())))


def read_status(config: Config) -> report.Json:
    """``syncd status --json``, from the ledger; before its first run everything is new."""
    from syncd.profiles import feed_profile  # noqa: PLC0415
    from syncd.store import Ledger  # noqa: PLC0415

    if not (config.state / FILE).exists():
        return report.status_json(config, {}, {}, {}, {}, syncing(config.state))
    daemon = syncing(config.state)
    with Ledger(config.state, read_only=True) as ledger:
        sizes = ledger.sizes()
        feeds = ledger.feeds()
        installation = ledger.secret("installation") if feeds else ""
        profiles = {name: feed_profile(config, installation, feed) for name, feed in feeds.items()}
        return report.status_json(
            config,
            ledger.standings() | _unnoted(config, daemon, ledger.standings()),
            sizes,
            {name: profile.accounts if profile else None for name, profile in profiles.items()},
            {name: sizes.get(("profile", profile.key), 0) for name, profile in profiles.items() if profile},
            daemon,
        )


def _unnoted(
    config: Config, daemon: Syncing | None, standings: Mapping[tuple[str, str], Standing]
) -> dict[tuple[str, str], Standing]:
    """What only the daemon knows while its ledger is locked or full."""
    from syncd.control import Line  # noqa: PLC0415

    if daemon is None or not daemon.daemon:
        return {}
    try:
        runs = Line(config.state).unnoted()
    except LedgerBusy as problem:
        click.echo(str(problem), err=True)
        return {}
    found = {}
    for run in runs:
        noted = standings.get((run.kind, run.name))
        found[run.kind, run.name] = Standing(run, noted.last_success if noted else None)
    return found


@cli.command()
@click.option("--online", is_flag=True, help="Ask all the servers, too.")
@pass_context
def check(context: Context, *, online: bool) -> None:
    """Is the configuration right; with --online: do all the servers agree."""
    config = context.load()
    problems: list[SyncdError] = []
    secrets_asked = [
        *(account.password for account in config.accounts.values() if account.enabled and account.password),
        *(calendar.password for calendar in config.calendars.values() if calendar.enabled),
        *([config.openmeetings.password] if config.openmeetings else []),
    ]
    for secret in secrets_asked:
        with _collecting(problems):
            secret.reveal()
    if online and not problems:
        _check_online(config, problems)
    for problem in problems:
        click.echo(str(problem), err=True)
    if problems:
        raise SystemExit(_code(problems))
    click.echo(f"{config.path}: all is well" + (", all servers agree" if online else ""))


@contextmanager
def _collecting(problems: list[SyncdError]) -> Iterator[None]:
    try:
        yield
    except SyncdError as problem:
        problems.append(problem)


def _code(problems: Iterable[SyncdError]) -> int:
    codes = {problem.code for problem in problems}
    return codes.pop() if len(codes) == 1 else 1


def _check_online(config: Config, problems: list[SyncdError]) -> None:
    from syncd.remotes import connect  # noqa: PLC0415

    remotes = connect(config, clock)
    try:
        for name, source in remotes.sources.items():
            with _collecting(problems):
                source.identity()
                click.echo(f"opentalk.{name}: signed in", err=True)
        for name, calendar in remotes.calendars.items():
            with _collecting(problems):
                calendar.check()
                click.echo(f"caldav.{name}: a calendar that can be written", err=True)
        if remotes.minter:
            with _collecting(problems):
                remotes.minter.check()
                click.echo("openmeetings: account, right, room and a hash", err=True)
    finally:
        remotes.close()


@cli.command()
@click.argument("account", required=False)
@click.option("--from", "since", metavar="D", help="Meetings that end after D: 2026-11-22, RFC 3339 or +7d.")
@click.option("--to", "until", metavar="D", help="Meetings that start before D.")
@click.option("--csv", "as_csv", is_flag=True, help="Print a table for spreadsheets.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@pass_context
def events(
    context: Context, account: str | None, since: str | None, until: str | None, *, as_csv: bool, as_json: bool
) -> None:
    """List the meetings as OpenTalk has them now."""
    from syncd.events import list_events  # noqa: PLC0415

    if as_csv and as_json:
        raise click.UsageError("--csv or --json, not both")
    config = context.load()
    enabled = [name for name, settings in config.accounts.items() if settings.enabled]
    if account is not None and account not in enabled:
        raise click.UsageError(f"there is no account {account}; there is {', '.join(enabled)}")
    accounts = [account] if account else enabled
    problems: list[SyncdError] = []
    with TerminalProgress() as progress:
        listed = list_events(config, accounts, _date(since), _date(until), clock, progress.show, problems)
    for problem in problems:
        click.echo(str(problem), err=True)
    if problems and len(problems) == len(accounts):
        raise SystemExit(_code(problems))
    if as_json:
        click.echo(json.dumps(listed, indent=1, ensure_ascii=False))
    elif as_csv:
        click.echo(report.events_csv(listed), nl=False)
    else:
        click.echo("\n".join(report.event_lines(listed)))
    if problems:
        raise SystemExit(1)


def _date(text: str | None) -> datetime | None:
    try:
        return report.parse_date(text, clock()) if text is not None else None
    except (ValueError, OverflowError):
        raise click.UsageError(f"{text} is no date (example: 2026-11-22, 2026-11-22T09:00:00Z or +7d)") from None


@cli.command()
@click.argument("name")
@pass_context
def confirm(context: Context, name: str) -> None:
    """Let the held deletion of a calendar that `status` showed pass."""
    from syncd.control import Line  # noqa: PLC0415
    from syncd.store import Ledger  # noqa: PLC0415

    config = context.load()
    if name not in config.calendars:
        raise click.UsageError(f"there is no calendar {name}")
    runs: list[Run] = []
    if (daemon := syncing(config.state)) and daemon.daemon:
        count, runs = Line(config.state).confirm(name)
    else:
        with Ledger(config.state) as ledger:
            count = ledger.confirm(name)
    if not count:
        raise NeedsYou(f"{name}: no deletion is held; see `syncd status`")
    if not runs:
        click.echo(f"{name}: {count} deletions pass with the next run", err=True)
        return
    click.echo("\n".join(report.sync_lines(runs)))
    raise SystemExit(report.exit_code(runs))


@cli.command()
@click.argument("account", required=False)
@pass_context
def login(context: Context, account: str | None) -> None:
    """Sign an account in, in any browser: prints an address and a code."""
    from syncd.login import sign_in, sign_out  # noqa: PLC0415
    from syncd.store import Ledger  # noqa: PLC0415

    config = context.load()
    name = _one_account(config, account)
    settings = config.accounts[name]
    if settings.username is not None:
        raise click.UsageError(f"{name} has a username and password in the configuration: there is nothing to sign in")
    claims, token = sign_in(settings, say=_tell, wait=time.sleep, clock=clock)
    with Ledger(config.state) as ledger:
        known = ledger.identity(name)
        if known and (known.issuer, known.subject) != (claims.issuer, claims.subject):
            sign_out(settings, token, clock=clock)
            raise NeedsYou(
                f"opentalk.{name}: another person signed in than before; nothing is changed. Give the table a new "
                "name for a new person, or sign in as the one before"
            )
        ledger.save_refresh_token(name, token)
    click.echo(f"{name}: signed in", err=True)
    if (daemon := syncing(config.state)) and daemon.daemon:
        from syncd.control import Line  # noqa: PLC0415

        click.echo("\n".join(report.sync_lines(Line(config.state).pull(name))))


@cli.command()
@click.argument("account", required=False)
@pass_context
def logout(context: Context, account: str | None) -> None:
    """Forget an account's sign-in, here and at its identity provider."""
    from syncd.login import sign_out  # noqa: PLC0415
    from syncd.store import SignIns  # noqa: PLC0415

    config = context.load()
    name = _one_account(config, account)
    sign_ins = SignIns(config.state)
    token = sign_ins.refresh_token(name)
    if token is None:
        raise NeedsYou(f"{name}: nobody is signed in")
    sign_ins.save_refresh_token(name, None)
    sign_out(config.accounts[name], token, clock=clock)
    click.echo(f"{name}: signed out", err=True)


def _one_account(config: Config, account: str | None) -> str:
    if account is None and len(config.accounts) > 1:
        raise click.UsageError(f"say which account: {', '.join(config.accounts)}")
    name = account or next(iter(config.accounts))
    if name not in config.accounts:
        raise click.UsageError(f"there is no account {name}; there is {', '.join(config.accounts)}")
    return name


def _tell(line: str) -> None:
    click.echo(line, err=True)


@cli.group()
def feed() -> None:
    """Subscribed calendars: secret addresses, one for each device."""


@feed.command("add")
@click.argument("name")
@click.option("--account", "accounts", multiple=True, help="Whose meetings; may be given more than once.")
@click.option("--audience", type=click.Choice(["owner", "guests"]), help="Who reads it.")
@click.option("--passwords", is_flag=True, help="With passwords and PINs: the address travels through other servers.")
@click.option("--label", default="", metavar="DEVICE", help="For whom or what it is.")
@pass_context
def feed_add(
    context: Context, name: str, accounts: tuple[str, ...], audience: str | None, label: str, *, passwords: bool
) -> None:
    """Make a feed; its address is printed now and never again."""
    from syncd.feeds import build_feed  # noqa: PLC0415
    from syncd.profiles import feed_profile  # noqa: PLC0415
    from syncd.store import Ledger  # noqa: PLC0415
    from syncd.web.app import feed_address, token_key  # noqa: PLC0415

    config = context.load()
    if config.feeds is None:
        raise ConfigError([f"{config.path}: feeds: there is no such table (example: [feeds] with public_url)"])
    if not re.fullmatch(r"[a-z0-9-]+", name):
        raise click.UsageError(f"a feed's name is [a-z0-9-]+, not {name}")
    wanted = accounts or tuple(config.accounts)
    if not accounts and len(wanted) > 1:
        raise click.UsageError(f"say whose meetings: --account {' --account '.join(wanted)}")
    if unknown := [account for account in wanted if account not in config.accounts]:
        raise click.UsageError(f"there is no account {unknown[0]}; there is {', '.join(config.accounts)}")
    if audience == "owner" and len(wanted) > 1:
        raise click.UsageError("a feed of several accounts is for guests: an owner's links are one person's")
    readers = audience or ("owner" if len(wanted) == 1 else "guests")
    token = secrets.token_urlsafe(32)
    with Ledger(config.state) as ledger, TerminalProgress() as progress:
        made = Feed(name, token_key(token), wanted, readers, passwords, label, clock())  # type: ignore[arg-type]
        if not ledger.save_feed(made):
            raise click.UsageError(f"there is a feed {name}: give another name, or `syncd feed revoke {name}` first")
        profile = feed_profile(config, ledger.secret("installation"), made)
        if profile and (run := build_feed(made, profile, ledger, clock(), progress.show)):
            ledger.save_run(run)
    click.echo(feed_address(config.feeds.public_url, token))


@feed.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@pass_context
def feed_list(context: Context, *, as_json: bool) -> None:
    """All feeds, without their addresses."""
    from syncd.store import Ledger  # noqa: PLC0415

    config = context.load()
    feeds: list[Feed] = []
    if (config.state / FILE).exists():
        with Ledger(config.state, read_only=True) as ledger:
            feeds = list(ledger.feeds().values())
    if as_json:
        listed = [
            {
                "name": each.name,
                "accounts": each.accounts,
                "audience": each.audience,
                "passwords": each.passwords,
                "label": each.label,
                "made": each.made.isoformat(),
            }
            for each in feeds
        ]
        click.echo(json.dumps(listed, indent=1))
    else:
        for each in feeds:
            click.echo(f"{each.name}  {', '.join(each.accounts)}  for {each.audience}  {each.label}".rstrip())


@feed.command("revoke")
@click.argument("name")
@pass_context
def feed_revoke(context: Context, name: str) -> None:
    """Make a feed's address worthless."""
    from syncd.store import Ledger  # noqa: PLC0415

    config = context.load()
    if not (config.state / FILE).exists():
        raise LedgerError(f"there is no ledger in {config.state} yet, and so no feed")
    with Ledger(config.state) as ledger:
        if not ledger.revoke_feed(name):
            raise click.UsageError(f"there is no feed {name}; see `syncd feed list`")
    click.echo(f"{name}: revoked", err=True)


def main() -> None:
    """The entry point: every foreseeable problem is a sentence on stderr and an exit code."""
    try:
        cli.main(standalone_mode=False)
    except click.ClickException as problem:
        problem.show()
        sys.exit(problem.exit_code)
    except SyncdError as problem:
        click.echo(str(problem), err=True)
        sys.exit(problem.code)
    except (KeyboardInterrupt, click.Abort):
        sys.exit(130)
