# SPDX-License-Identifier: Apache-2.0
import json
import math
import os
import re
import tomllib
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncd.config import Account, Calendar, Config, Feeds, OpenMeetings, Secret, _General, find, load
from syncd.config.keys import keys_of
from syncd.errors import ConfigError
from syncd.plan.links import WAYS

EXAMPLE = Path(__file__).parent.parent.parent / "config.example.toml"
CANARY = "S3CRET-canary"
HOME = {"HOME": "/home/alice"}
TABLES: dict[str, type[msgspec.Struct]] = {
    "syncd": _General,
    "opentalk.work": Account,
    "openmeetings": OpenMeetings,
    "caldav.team": Calendar,
    "feeds": Feeds,
}
KEYS = [(table, key) for table, kind in TABLES.items() for key in keys_of(kind)]
ACCOUNT = """
[opentalk.work]
url = "https://meet.example.org"
username = "alice"
password = { env = "WORK" }
"""
CALENDAR = """
[caldav.team]
url = "https://dav.example.org/alice/opentalk/"
username = "alice"
password = { env = "TEAM" }
"""
MEETINGS = """
[openmeetings]
url = "https://om.example.org/openmeetings/"
username = "syncd"
password = { env = "OM" }
"""
FEEDS = """
[feeds]
listen = "127.0.0.1:8080"
public_url = "https://syncd.example.org/"
"""
PEM = """-----BEGIN CERTIFICATE-----
MIIBgjCCASegAwIBAgIUWIACNjLck4EAHmtT5j59ZpjbWhkwCgYIKoZIzj0EAwIw
FTETMBEGA1UEAwwKc3luY2QgdGVzdDAgFw0yNjExMjMyMjE3MjNaGA8yMTI2MTAz
MDIyMTcyM1owFTETMBEGA1UEAwwKc3luY2QgdGVzdDBZMBMGByqGSM49AgEGCCqG
SM49AwEHA0IABLQEGpgqwb9gzgFHyoKsPmpUh47Rx3QfiHUgezNvOrArLKeI2PtS
EH80X5ZOWcUp+2EaPbeMJ6QhLNkWH13Y+qujUzBRMB0GA1UdDgQWBBSTrzA8OU2G
L3eOMD2yKO9wNbAsmzAfBgNVHSMEGDAWgBSTrzA8OU2GL3eOMD2yKO9wNbAsmzAP
BgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA0kAMEYCIQDNV7BMAEssn5LTaus5
gfWZtMQ9PSokZeQD3tO3N6OtbQIhAJCZCZ0954ac6bkaEBAr37vacZRPGoNqDpKn
BhIcjNBL
-----END CERTIFICATE-----
"""


def write(folder: Path, text: str) -> Path:
    file = folder / "config.toml"
    file.write_text(text, encoding="utf-8")
    return file


def read(folder: Path, text: str, environ: Mapping[str, str] = HOME) -> Config:
    return load(write(folder, text), environ, WAYS)


def password_of(account: Account) -> Secret:
    assert account.password is not None
    return account.password


def problems(folder: Path, text: str, environ: Mapping[str, str] = HOME) -> list[str]:
    """The problems of a configuration, without the file's name in front."""
    file = write(folder, text)
    with pytest.raises(ConfigError) as caught:
        load(file, environ, WAYS)
    assert all(problem.startswith(f"{file}: ") and "\n" not in problem for problem in caught.value.problems)
    return [problem.removeprefix(f"{file}: ") for problem in caught.value.problems]


def attempt(folder: Path, text: str, environ: Mapping[str, str]) -> tuple[str, ...] | None:
    """The problems of a configuration, ``None`` if it has none."""
    file = write(folder, text)
    try:
        load(file, environ, WAYS)
    except ConfigError as error:
        return error.problems
    return None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("config")


def one_of_each() -> dict[str, dict[str, str]]:
    """Every table with every key, the values as TOML."""
    tables = {name: {key: note.example for key, note in keys_of(kind).items()} for name, kind in TABLES.items()}
    for table in tables.values():
        table.pop("ca_file", None)
    return tables


def as_toml(tables: Mapping[str, Mapping[str, str]]) -> str:
    return "\n".join(
        f"[{name}]\n" + "\n".join(f"{key} = {value}" for key, value in table.items()) for name, table in tables.items()
    )


# TOML that no key takes, whatever it is about
never_right = st.one_of(
    st.floats(allow_nan=True).map(lambda number: f"{number!r}" if math.isfinite(number) else "nan"),
    st.sampled_from(['""', "1979-05-27", "07:32:00", "{}", "[[]]", "[{}]", "-1", "[1.5]", "0", '"a\\nb"', "[true]"]),
    st.dictionaries(st.sampled_from("abc"), st.integers(), min_size=1).map(
        lambda table: "{" + ", ".join(f"{key} = {value}" for key, value in table.items()) + "}"
    ),
)
anything = st.one_of(
    never_right,
    st.text(st.characters(codec="utf-8"))
    .map(lambda text: json.dumps(text, ensure_ascii=True))
    .filter(lambda text: "\\ud" not in text and "\\u007f" not in text),
    st.integers(-(2**63), 2**63 - 1).map(str),
    st.booleans().map(lambda value: str(value).lower()),
    st.from_regex(r"https?://[a-z\[\]:@.0-9]{1,12}(/[ -~]{0,5})?", fullmatch=True).map(json.dumps),
    st.lists(st.text("ab-./:", max_size=5)).map(json.dumps),
    st.fixed_dictionaries(
        {}, optional={word: st.text("a/.", max_size=3) for word in ("file", "command", "env", "credential", "x")}
    ).map(lambda table: "{" + ", ".join(f"{key} = {json.dumps(value)}" for key, value in table.items()) + "}"),
)


@settings(deadline=None)  # laws count, they do not time
@given(st.sampled_from(KEYS), never_right)
def test_a_wrong_value_is_a_problem_that_names_its_key(folder: Path, at: tuple[str, str], value: str) -> None:
    table, key = at
    tables = one_of_each()
    tables[table][key] = value
    assert any(problem.startswith(f"{table}.{key}: ") for problem in problems(folder, as_toml(tables)))


@settings(deadline=None)  # laws count, they do not time
@given(st.sampled_from(KEYS), anything)
def test_no_value_ends_in_anything_but_a_configuration_or_its_problems(
    folder: Path, at: tuple[str, str], value: str
) -> None:
    table, key = at
    tables = one_of_each()
    tables[table][key] = value
    found = attempt(folder, as_toml(tables), HOME)
    assert found is None or any(f"{table}.{key}: " in problem for problem in found)


steps = st.sampled_from(
    ["OPENTALK", "WORK", "MY_TEAM", "CALDAV", "TEAM", "FEEDS", "SYNCD", "URL", "PASSWORD", "FILE", "ENV", "X", "_", ""]
)
variables = st.lists(st.one_of(steps, st.text("Aa_-. \n", max_size=3)), min_size=1, max_size=5).map(
    lambda path: "SYNCD_" + "__".join(path)
)


@settings(deadline=None)  # laws count, they do not time
@given(st.dictionaries(variables, st.one_of(anything, st.text()), min_size=1))
def test_no_environment_ends_in_anything_but_a_configuration_or_its_problems(
    folder: Path, environ: dict[str, str]
) -> None:
    found = attempt(folder, as_toml(one_of_each()), {**HOME, **environ})
    assert found is None or all(found)


@pytest.mark.parametrize("form", ['"{}"', '["{}"]', '{{ x = "{}" }}', '"https://a:{}@x/"', '"http://{}/"', '"{}\\n"'])
def test_no_value_stands_in_a_message_or_a_repr(tmp_path: Path, form: str) -> None:
    for table, key in KEYS:
        if key not in ("ca_file", "state"):  # a path must be shown to be mended
            tables = one_of_each()
            tables[table][key] = form.format(CANARY)
            try:
                shown = repr(read(tmp_path, as_toml(tables)))
            except ConfigError as error:
                shown = str(error)
            assert CANARY not in shown, f"{table}.{key}"


@settings(deadline=None)  # laws count, they do not time
@given(st.sets(st.sampled_from(KEYS), min_size=1))
def test_all_problems_are_reported_at_once(folder: Path, wrong: set[tuple[str, str]]) -> None:
    tables = one_of_each()
    for table, key in wrong:
        tables[table][key] = "1.5"
    found = problems(folder, as_toml(tables))
    assert {problem.split(": ")[0] for problem in found} == {f"{table}.{key}" for table, key in wrong}


@settings(deadline=None)  # laws count, they do not time
@given(st.sampled_from([(table, key) for table, key in KEYS if key not in ("ca_file", "password", "client_secret")]))
def test_a_variable_is_worth_the_same_as_the_line_it_overrides(folder: Path, at: tuple[str, str]) -> None:
    table, key = at
    tables = one_of_each()
    right = read(folder, as_toml(tables))
    variable = f"SYNCD_{table}.{key}".replace(".", "__").upper()
    value = tables[table][key]
    tables[table][key] = "1.5"
    assert (
        read(folder, as_toml(tables), {**HOME, variable: value}) == read(folder, as_toml(one_of_each()), HOME) == right
    )


def test_the_least_configuration_has_the_defaults_of_the_example(tmp_path: Path) -> None:
    config = read(tmp_path, ACCOUNT + CALENDAR + MEETINGS + FEEDS)
    lines = re.sub(r"(?m)^# (?=\w+ = )", "", EXAMPLE.read_text(encoding="utf-8"))
    pem = tmp_path / "ca.pem"
    pem.write_text(PEM, encoding="ascii")
    lines = re.sub(r'(?m)^ca_file = "[^"]*"', f'ca_file = "{pem}"', lines)
    full = read(tmp_path, lines)
    pairs = [
        (config.accounts["work"], full.accounts["work"]),
        (config.makers["openmeetings"], full.makers["openmeetings"]),
        (config.calendars["team"], full.calendars["team"]),
        (config.feeds, full.feeds),
    ]
    for least, shown in pairs:
        assert least is not None
        for field in msgspec.structs.fields(least):
            if not field.required and field.default is not None:
                assert getattr(least, field.name) == getattr(shown, field.name) == field.default, field.name
    assert config.language == full.language == "en"
    assert config.feeds is not None
    assert config.feeds.trusted_proxies == ("127.0.0.1",)
    team, shown_team = config.calendars["team"], full.calendars["team"]
    for derived in ("accounts", "ways_in", "audience", "passwords"):
        assert getattr(team, derived) == getattr(shown_team, derived), derived


def test_the_example_shows_every_key_of_every_table_and_no_other() -> None:
    shown = tomllib.loads(re.sub(r"(?m)^# (?=\w+ = )", "", EXAMPLE.read_text(encoding="utf-8")))
    tables = {
        "syncd": shown["syncd"],
        "opentalk.work": shown["opentalk"]["work"],
        "openmeetings": shown["openmeetings"],
        "caldav.team": shown["caldav"]["team"],
        "feeds": shown["feeds"],
    }
    assert len(shown) == len(tables)
    for name, kind in TABLES.items():
        assert tables[name].keys() == keys_of(kind).keys(), name


def test_the_example_needs_nothing_but_its_secrets(tmp_path: Path) -> None:
    (tmp_path / "work.password").write_text("one\n", encoding="utf-8")
    (tmp_path / "syncd_team").write_text("two", encoding="utf-8")
    environ = {**HOME, "CREDENTIALS_DIRECTORY": str(tmp_path)}
    config = read(tmp_path, EXAMPLE.read_text(encoding="utf-8"), environ)
    assert password_of(config.accounts["work"]).reveal() == "one"
    assert config.calendars["team"].password.reveal() == "two"
    assert isinstance(config.makers["openmeetings"], OpenMeetings)
    assert isinstance(config.makers["openmeetings"].password, Secret)


MISTAKES = [
    ("", "opentalk: there is no account (example: [opentalk.work])"),
    ("[opentalk]", "opentalk: there is no account (example: [opentalk.work])"),
    (
        '[opentalk]\nurl = "https://meet.example.org"',
        "opentalk.url: must stand in a table with a name of your choice, [opentalk.NAME] (example: [opentalk.work])",
    ),
    ("opentalk = 1", "opentalk: must be a table with a name of your choice (example: [opentalk.work])"),
    (
        ACCOUNT.replace("work", "my_work"),
        "opentalk.my_work: a name is made of a to z, 0 to 9 and - (example: [opentalk.work])",
    ),
    (
        ACCOUNT.replace("work", '"a\\nb"'),
        'opentalk."a\\nb": a name is made of a to z, 0 to 9 and - (example: [opentalk.work])',
    ),
    (ACCOUNT + "evry = 1", 'opentalk.work.evry: unknown key, did you mean "every"? (example: every = "5m")'),
    (
        ACCOUNT + FEEDS + "zzz = 1",
        "feeds.zzz: unknown key, known are listen, public_url, trusted_proxies, plain_http "
        '(example: listen = "127.0.0.1:8080")',
    ),
    (ACCOUNT + "[caldev]", 'caldev: unknown table, did you mean "caldav"? (example: [opentalk.work])'),
    (
        ACCOUNT.replace('username = "alice"\n', ""),
        "opentalk.work.username: is missing: give username and password, or neither and run `syncd login work` "
        '(example: username = "alice")',
    ),
    (
        ACCOUNT.replace('password = { env = "WORK" }', ""),
        "opentalk.work.password: is missing: give username and password, or neither and run `syncd login work` "
        '(example: password = { file = "work.password" })',
    ),
    (
        ACCOUNT + "every = 5",
        'opentalk.work.every: must be a number with s, m, h or d, in quotes (example: every = "5m")',
    ),
    (ACCOUNT + 'every = "9s"', 'opentalk.work.every: must be at least 10s (example: every = "5m")'),
    (ACCOUNT + 'past = "3651d"', 'opentalk.work.past: must be at most 3650d (example: past = "30d")'),
    (ACCOUNT + "per_page = 101", "opentalk.work.per_page: must be from 1 to 100 (example: per_page = 100)"),
    (
        ACCOUNT + 'per_page = "5"',
        "opentalk.work.per_page: must be a whole number from 1 to 100, without quotes (example: per_page = 100)",
    ),
    (
        ACCOUNT + 'adhoc = "false"',
        "opentalk.work.adhoc: must be true or false, without quotes (example: adhoc = true)",
    ),
    (ACCOUNT + '[syncd]\nlanguage = "fr"', 'syncd.language: must be "de" or "en" (example: language = "de")'),
    (
        ACCOUNT.replace('{ env = "WORK" }', '"S3CRET"'),
        "opentalk.work.password: a secret does not stand in this file: say where it is "
        '(example: password = { file = "work.password" })',
    ),
    (
        ACCOUNT.replace('env = "WORK"', 'env = "WORK", file = "x"'),
        "opentalk.work.password: must have exactly one of file, command, env and credential "
        '(example: password = { file = "work.password" })',
    ),
    (
        ACCOUNT.replace('env = "WORK"', 'command = "pass show x"'),
        "opentalk.work.password: command must be a list: the program and each argument in quotes of its own "
        '(example: password = { file = "work.password" })',
    ),
    (
        ACCOUNT.replace('env = "WORK"', 'credential = "a/b"'),
        "opentalk.work.password: credential must be the name of a file, without a folder "
        '(example: password = { file = "work.password" })',
    ),
    (
        ACCOUNT.replace("https:", "http:"),
        "opentalk.work.url: must begin with https://: http:// is for this machine itself; where everybody on the way "
        'may read along, write plain_http = true beside it (example: url = "https://meet.example.org")',
    ),
    (
        ACCOUNT.replace("https://", ""),
        'opentalk.work.url: must be a whole address that begins with https:// (example: url = "https://meet.example.org")',
    ),
    (
        ACCOUNT.replace("https://", "https://alice:S3CRET@"),
        "opentalk.work.url: must not hold a login: write it into username and password "
        '(example: url = "https://meet.example.org")',
    ),
    (
        ACCOUNT.replace("example.org", "example.org/?a=b"),
        'opentalk.work.url: must end with its path, without ? and # (example: url = "https://meet.example.org")',
    ),
    (
        ACCOUNT + FEEDS.replace("127.0.0.1:8080", ":8080"),
        'feeds.listen: must be HOST:PORT, the port from 0 to 65535, or unix:/PATH (example: listen = "127.0.0.1:8080")',
    ),
    (
        ACCOUNT + FEEDS + 'trusted_proxies = ["proxy"]',
        "feeds.trusted_proxies: must hold IP addresses or networks such as 10.0.0.0/8 "
        '(example: trusted_proxies = ["127.0.0.1"])',
    ),
    (
        ACCOUNT + MEETINGS + 'room = "7"',
        'openmeetings.room: must be "per-meeting" or the number of a room, without quotes '
        '(example: room = "per-meeting")',
    ),
    (
        ACCOUNT + MEETINGS + "room = true",
        'openmeetings.room: must be "per-meeting" or the number of a room, without quotes '
        '(example: room = "per-meeting")',
    ),
    (
        ACCOUNT.replace("example.org", "example.org:65536"),
        "opentalk.work.url: must be a whole address that begins with https:// "
        '(example: url = "https://meet.example.org")',
    ),
    (ACCOUNT + MEETINGS + 'link = "join"', 'openmeetings.link: must be "hash" (example: link = "hash")'),
    (
        ACCOUNT + CALENDAR + 'accounts = ["wrok"]',
        'caldav.team.accounts: there is no account wrok, did you mean "work"? (example: accounts = ["work"])',
    ),
    (ACCOUNT + CALENDAR + "accounts = []", 'caldav.team.accounts: is an empty list (example: accounts = ["work"])'),
    (
        ACCOUNT + CALENDAR + 'ways_in = ["opentalk", "opentalk"]',
        'caldav.team.ways_in: names something twice (example: ways_in = ["opentalk"])',
    ),
    (
        ACCOUNT + ACCOUNT.replace("work", "home") + CALENDAR,
        'caldav.team.accounts: is missing: there are several accounts, work, home (example: accounts = ["work"])',
    ),
    (
        ACCOUNT + ACCOUNT.replace("work", "home") + CALENDAR + 'accounts = ["home", "work"]\naudience = "owner"',
        'caldav.team.audience: "owner" is for one account: the links of several owners do not fit into one calendar '
        '(example: audience = "guests")',
    ),
    (
        ACCOUNT + CALENDAR + 'ways_in = ["openmeetings"]',
        "caldav.team.ways_in: names openmeetings, but there is no table [openmeetings] "
        '(example: ways_in = ["opentalk"])',
    ),
    (
        ACCOUNT + CALENDAR + 'ways_in = ["opentalks"]',
        'caldav.team.ways_in: there is no way in opentalks, did you mean "opentalk"? (example: ways_in = ["opentalk"])',
    ),
    (
        ACCOUNT + CALENDAR + 'ways_in = ["window"]',
        "caldav.team.ways_in: there is no way in window, there are opentalk, openmeetings "
        '(example: ways_in = ["opentalk"])',
    ),
    ("x = s3cret", 'line 1, column 5: Invalid value (example: url = "https://meet.example.org")'),
    ("x = " + "[" * 5000, 'holds a number or a nesting beyond all measure (example: url = "https://meet.example.org")'),
    ("x = " + "1" * 5000, 'holds a number or a nesting beyond all measure (example: url = "https://meet.example.org")'),
]


@pytest.mark.parametrize(("text", "problem"), MISTAKES, ids=range(len(MISTAKES)))
def test_a_mistake_is_reported_in_one_sentence_that_says_how_to_mend_it(
    tmp_path: Path, text: str, problem: str
) -> None:
    assert problems(tmp_path, text) == [problem]


@pytest.mark.parametrize("key", ["people", "invite_cleanup", "keep_past", "reminder"])
def test_a_key_of_another_version_is_an_unknown_key(tmp_path: Path, key: str) -> None:
    (problem,) = problems(tmp_path, ACCOUNT + f"{key} = 1")
    assert problem.startswith(f"opentalk.work.{key}: unknown key, ")


def test_a_certificate_file_must_be_there_and_hold_a_certificate(tmp_path: Path) -> None:
    pem = tmp_path / "ca.pem"
    text = ACCOUNT + 'ca_file = "ca.pem"'
    example = '(example: ca_file = "/etc/ssl/certs/our-ca.pem")'
    assert problems(tmp_path, text) == [
        f"opentalk.work.ca_file: {pem} cannot be read: No such file or directory {example}"
    ]
    pem.write_text("hello", encoding="ascii")
    assert problems(tmp_path, text) == [
        f"opentalk.work.ca_file: {pem} holds no certificate in PEM form (-----BEGIN CERTIFICATE-----) {example}"
    ]
    pem.write_text(PEM, encoding="ascii")
    assert read(tmp_path, text).accounts["work"].ca_file == pem


def test_a_file_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    hint = "let this user read it, or name another with --config FILE"
    for path, reason in [(tmp_path, "Is a directory"), (tmp_path / "x", "No such file or directory")]:
        with pytest.raises(ConfigError) as caught:
            load(path, HOME, WAYS)
        assert str(caught.value) == f"{path}: cannot be read: {reason}; {hint}"


def test_a_file_that_is_not_utf_8_is_a_problem_and_a_byte_order_mark_is_none(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_bytes(b"\xef\xbb\xbf" + ACCOUNT.encode())
    assert list(load(file, HOME, WAYS).accounts) == ["work"]
    file.write_bytes(b"# a\n# Gr\xfc\xdfe\n")
    with pytest.raises(ConfigError) as caught:
        load(file, HOME, WAYS)
    assert str(caught.value) == f"{file}: line 2: is not UTF-8: save the file as UTF-8"


@pytest.mark.parametrize(
    "url", ["http://localhost:8000", "http://127.0.0.1", "http://[::1]:80", "http://a.localhost", "https://x"]
)
def test_plain_http_is_for_this_machine(tmp_path: Path, url: str) -> None:
    assert read(tmp_path, ACCOUNT.replace("https://meet.example.org", url)).accounts["work"].url == url


def test_plain_http_elsewhere_must_be_asked_for(tmp_path: Path) -> None:
    text = (ACCOUNT + CALENDAR + MEETINGS + FEEDS).replace("https:", "http:")
    assert len(problems(tmp_path, text)) == 4
    assert read(tmp_path, re.sub(r"(?m)^(\[.*)$", r"\1\nplain_http = true", text)).accounts["work"].plain_http


def test_an_account_may_have_neither_username_nor_password(tmp_path: Path) -> None:
    account = read(tmp_path, '[opentalk.work]\nurl = "https://meet.example.org"').accounts["work"]
    assert (account.username, account.password) == (None, None)


def test_addresses_lose_their_last_slash_but_for_calendars(tmp_path: Path) -> None:
    config = read(tmp_path, (ACCOUNT + CALENDAR + MEETINGS + FEEDS).replace('example.org"', 'example.org/"'))
    assert config.accounts["work"].url == "https://meet.example.org"
    assert config.calendars["team"].url == "https://dav.example.org/alice/opentalk/"
    maker = config.makers["openmeetings"]
    assert maker.url == maker.public_url == "https://om.example.org/openmeetings"
    assert config.feeds is not None
    assert config.feeds.public_url == "https://syncd.example.org"


def test_what_is_left_out_follows_from_the_rest(tmp_path: Path) -> None:
    one = read(tmp_path, ACCOUNT + CALENDAR).calendars["team"]
    assert (one.accounts, one.audience, one.passwords, one.ways_in) == (("work",), "owner", True, ("opentalk",))
    guests = read(tmp_path, ACCOUNT + CALENDAR + 'audience = "guests"' + MEETINGS).calendars["team"]
    assert (guests.passwords, guests.ways_in) == (False, ("opentalk", "openmeetings"))
    two = ACCOUNT.replace("work", "zoo") + ACCOUNT + CALENDAR + 'accounts = ["work", "zoo"]\n'
    config = read(tmp_path, two)
    assert list(config.accounts) == ["zoo", "work"]
    assert config.calendars["team"].accounts == ("work", "zoo")
    assert config.calendars["team"].audience == "guests"
    assert not config.calendars["team"].passwords
    assert read(tmp_path, two + "passwords = true").calendars["team"].passwords


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("90s", timedelta(seconds=90)),
        ("5m", timedelta(minutes=5)),
        ("12h", timedelta(hours=12)),
        ("30d", timedelta(30)),
    ],
)
def test_durations_have_four_units(tmp_path: Path, text: str, span: timedelta) -> None:
    assert read(tmp_path, ACCOUNT + f'past = "{text}"').accounts["work"].past == span


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "[::1]:65535", "localhost:80", "unix:/run/syncd/http.sock"])
def test_feeds_listen_on_addresses_and_sockets(tmp_path: Path, listen: str) -> None:
    feeds = read(tmp_path, ACCOUNT + FEEDS.replace("127.0.0.1:8080", listen)).feeds
    assert feeds is not None
    assert feeds.listen == listen


def test_a_room_is_a_number_or_made_for_each_meeting(tmp_path: Path) -> None:
    maker = read(tmp_path, ACCOUNT + MEETINGS + "room = 7").makers["openmeetings"]
    assert isinstance(maker, OpenMeetings)
    assert maker.room == 7


def test_a_relative_path_is_made_absolute(tmp_path: Path) -> None:
    file = write(tmp_path, ACCOUNT)
    assert load(Path(os.path.relpath(file)), HOME, WAYS).path == file


def test_the_ledger_of_a_system_is_not_in_a_home(tmp_path: Path) -> None:
    file = write(tmp_path, ACCOUNT)
    assert load(file, HOME, WAYS, etc=tmp_path).state == Path("/var/lib/syncd")
    assert load(file, {}, WAYS, etc=tmp_path).state == Path("/var/lib/syncd")


def test_the_ledger_lies_by_the_configuration(tmp_path: Path) -> None:
    below = tmp_path / "state"
    assert read(tmp_path, ACCOUNT).state == Path("/home/alice/.local/state/syncd")
    assert read(tmp_path, ACCOUNT, {"XDG_STATE_HOME": str(below)}).state == below / "syncd"
    assert read(tmp_path, ACCOUNT, {**HOME, "XDG_STATE_HOME": "not/absolute"}).state.parts[1] == "home"
    assert read(tmp_path, '[syncd]\nstate = "state"' + ACCOUNT).state == below
    assert problems(tmp_path, ACCOUNT, {}) == [
        'syncd.state: is missing, and neither $XDG_STATE_HOME nor $HOME is set (example: state = "/var/lib/syncd")'
    ]


def test_the_configuration_is_looked_for_in_this_order(tmp_path: Path) -> None:
    etc, home = tmp_path / "etc", tmp_path / "home"
    environ = {"XDG_CONFIG_HOME": str(home), "SYNCD_CONFIG": "named.toml"}
    for place in (etc, home):
        (place / "syncd").mkdir(parents=True)
        (place / "syncd/config.toml").touch()
    assert find(Path("asked.toml"), environ, etc) == Path("asked.toml")
    assert find(None, environ, etc) == Path("named.toml")
    del environ["SYNCD_CONFIG"]
    assert find(None, environ, etc) == etc / "syncd/config.toml"
    (etc / "syncd/config.toml").unlink()
    assert find(None, environ, etc) == home / "syncd/config.toml"
    (home / "syncd/config.toml").unlink()
    with pytest.raises(ConfigError) as caught:
        find(None, environ, etc)
    closed = "(not there, or closed to this user)"
    assert str(caught.value) == (
        f"no configuration: looked at $SYNCD_CONFIG (not set), {etc}/syncd/config.toml {closed}, "
        f"{home}/syncd/config.toml {closed}; write one of them or name one with --config FILE; "
        "`syncd demo` needs none"
    )


def test_an_override_makes_what_the_file_does_not_have(tmp_path: Path) -> None:
    environ = {
        **HOME,
        "SYNCD_OPENTALK__MY_TEAM__URL": "https://meet.example.org",
        "SYNCD_OPENTALK__MY_TEAM__USERNAME": "12345",
        "SYNCD_OPENTALK__MY_TEAM__PASSWORD__ENV": "TEAM",
        "SYNCD_OPENTALK__MY_TEAM__PER_PAGE": "7",
        "SYNCD_CONFIG": "x",
        "SYNCD_DEBUG": "x",
        "TEAM": CANARY,
    }
    account = read(tmp_path, "", environ).accounts["my-team"]
    assert (account.username, account.per_page, password_of(account).reveal()) == ("12345", 7, CANARY)


def test_an_override_finds_the_table_that_the_file_has(tmp_path: Path) -> None:
    text = ACCOUNT.replace("work", "a--b")
    config = read(tmp_path, text, {**HOME, "SYNCD_OPENTALK__A__B__EVERY": "1h"})
    assert config.accounts["a--b"].every == timedelta(hours=1)


def test_an_override_of_a_secret_replaces_it_as_a_whole(tmp_path: Path) -> None:
    for variable, value in [("PASSWORD__ENV", "NEW"), ("PASSWORD", '{ env = "NEW" }')]:
        environ = {**HOME, f"SYNCD_OPENTALK__WORK__{variable}": value, "NEW": "new"}
        text = ACCOUNT.replace('env = "WORK"', 'file = "x"')
        assert password_of(read(tmp_path, text, environ).accounts["work"]).reveal() == "new"


@pytest.mark.parametrize(
    ("variable", "value", "problem"),
    [
        (
            "SYNCD_OPENTALK__WORK__EVRY",
            "1",
            'opentalk.work.evry (from $SYNCD_OPENTALK__WORK__EVRY): unknown key, did you mean "every"? '
            '(example: every = "5m")',
        ),
        (
            "SYNCD_OPENTALK__WORK__PASSWORD",
            CANARY,
            "opentalk.work.password (from $SYNCD_OPENTALK__WORK__PASSWORD): a secret does not stand in this file: "
            'say where it is (example: password = { file = "work.password" })',
        ),
        (
            "SYNCD_OPENTALK__WORK__PER_PAGE",
            "500",
            "opentalk.work.per_page (from $SYNCD_OPENTALK__WORK__PER_PAGE): must be from 1 to 100 "
            "(example: per_page = 100)",
        ),
        (
            "SYNCD_FEED__LISTEN",
            "x",
            'feed (from $SYNCD_FEED__LISTEN): unknown table, did you mean "feeds"? (example: [opentalk.work])',
        ),
    ],
)
def test_a_wrong_override_is_a_problem_that_names_the_variable(
    tmp_path: Path, variable: str, value: str, problem: str
) -> None:
    assert problems(tmp_path, ACCOUNT, {**HOME, variable: value}) == [problem]


def secret(folder: Path, source: str, environ: Mapping[str, str] = HOME) -> Secret:
    return password_of(read(folder, ACCOUNT.replace('{ env = "WORK" }', source), environ).accounts["work"])


def refusal(folder: Path, source: str, environ: Mapping[str, str] = HOME, **options: Any) -> str:
    """Why a secret cannot be revealed."""
    with pytest.raises(ConfigError) as caught:
        secret(folder, source, environ).reveal(**options)
    assert CANARY not in str(caught.value)
    return str(caught.value).removeprefix(f"{folder / 'config.toml'}: opentalk.work.password: ")


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_secret_comes_from_its_one_source(tmp_path: Path, end: str) -> None:
    (tmp_path / "team").write_text(f" $p%{{}}ä {end}", encoding="utf-8", newline="")
    credentials = {**HOME, "CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert secret(tmp_path, '{ file = "team" }').reveal() == " $p%{}ä "
    assert secret(tmp_path, '{ command = ["cat", "team"] }').reveal() == " $p%{}ä "
    assert secret(tmp_path, '{ credential = "team" }', credentials).reveal() == " $p%{}ä "
    assert secret(tmp_path, '{ env = "WORK" }', {**HOME, "WORK": f" $p%{{}}ä {end}"}).reveal() == " $p%{}ä "


def test_only_the_last_newline_of_a_secret_is_cut(tmp_path: Path) -> None:
    assert secret(tmp_path, '{ env = "WORK" }', {**HOME, "WORK": "a\n\n"}).reveal() == "a\n"


def test_a_command_is_no_shell_and_has_the_environment_it_was_given(tmp_path: Path) -> None:
    assert secret(tmp_path, '{ command = ["echo", "$HOME;id"] }').reveal() == "$HOME;id"
    assert secret(tmp_path, '{ command = ["printenv", "HOME"] }').reveal() == "/home/alice"


def test_a_secret_that_cannot_be_had_says_why_and_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n", encoding="utf-8")
    (tmp_path / "latin").write_bytes(b"\xfc" + CANARY.encode())
    credentials = {**HOME, "CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert refusal(tmp_path, '{ file = "x" }') == (
        f"there is no file {tmp_path}/x: create it, readable for the user that runs syncd"
    )
    assert refusal(tmp_path, '{ file = "." }') == (
        f"{tmp_path} cannot be read (Is a directory): let the user that runs syncd read it"
    )
    assert refusal(tmp_path, '{ file = "empty" }') == "the secret from its file is empty: put it there"
    assert refusal(tmp_path, '{ file = "latin" }') == f"{tmp_path}/latin is not UTF-8 text: write the secret as UTF-8"
    assert refusal(tmp_path, '{ env = "WORK" }') == (
        "the environment variable WORK is not set: set it for this process"
    )
    hint = (
        "put the secret into /etc/syncd/secrets/x and restart the unit, which hands it over; "
        "outside the unit use file, command or env"
    )
    assert (
        refusal(tmp_path, '{ credential = "x" }', credentials) == f"$CREDENTIALS_DIRECTORY {tmp_path} has no x: {hint}"
    )
    assert refusal(tmp_path, '{ credential = "x" }') == (
        f"$CREDENTIALS_DIRECTORY is not set, and /run/secrets has no x: {hint}"
    )


def test_a_command_that_fails_shows_nothing_of_what_it_said(tmp_path: Path) -> None:
    failing = f'{{ command = ["sh", "-c", "echo {CANARY}; echo {CANARY} >&2; exit 3"] }}'
    assert refusal(tmp_path, failing) == "the command failed with exit code 3: run it by hand to see why"
    assert refusal(tmp_path, '{ command = ["/does/not/exist"] }') == (
        "the command cannot be started (No such file or directory): give its full path"
    )
    assert refusal(tmp_path, '{ command = ["sleep", "60"] }', deadline=0.05) == (
        "the command took more than 0.05 s: it must print the secret without asking"
    )
    assert refusal(tmp_path, '{ command = ["printf", "\\\\374"] }') == (
        "the command printed something that is not UTF-8: it must print the secret alone"
    )


def test_a_secret_does_not_show_itself(tmp_path: Path) -> None:
    environ = {**HOME, "WORK": CANARY}
    config = read(tmp_path, ACCOUNT, environ)
    account = config.accounts["work"]
    assert password_of(account).reveal() == CANARY
    assert repr(account.password) == "Secret(opentalk.work.password: env)"
    assert repr(account) == "Account(work)"
    assert CANARY not in repr(config)
    with pytest.raises(TypeError):
        msgspec.json.encode(account)


def test_equal_configurations_are_equal_and_a_secret_moved_is_a_change(tmp_path: Path) -> None:
    assert read(tmp_path, ACCOUNT) == read(tmp_path, ACCOUNT)
    assert read(tmp_path, ACCOUNT) != read(tmp_path, ACCOUNT.replace('"WORK"', '"OTHER"'))
    assert len({secret(tmp_path, '{ env = "A" }'), secret(tmp_path, '{ env = "A" }')}) == 1


def test_two_tables_for_one_calendar_are_a_problem(tmp_path: Path) -> None:
    table = (
        '[caldav.{}]\nurl = "https://dav.example.org/alice/opentalk{}"\nusername = "a"\npassword = {{ env = "X" }}\n'
    )
    account = '[opentalk.work]\nurl = "https://meet.example.org"\nusername = "a"\npassword = { env = "X" }\n'
    found = problems(tmp_path, account + table.format("one", "/") + table.format("two", ""), {**HOME, "X": "pw"})
    assert [problem for problem in found if "caldav.two.url: is the calendar of caldav.one already" in problem]
    assert len(found) == 1
