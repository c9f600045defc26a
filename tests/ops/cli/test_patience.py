"""Whoever waits for a database reads why, long before the command gives up."""

import socket
import subprocess
import sys
import time
from threading import Timer

import psycopg
import pytest

from functions.errors import StoreError
from functions.ops.cli import patience
from functions.ops.command_line import main
from functions.ops.commands import NAMES
from functions.ops.commands.migrate import as_store_errors
from functions.store import Store, dsn
from functions.store.postgres import PostgresStore

SLOW_SECONDS = patience.SLOW_SECONDS


def test_nobody_waits_for_two_seconds_without_a_word():
    assert SLOW_SECONDS < 2


@pytest.mark.parametrize(
    ("is_first", "started", "limit"), [(True, 0.4, 0.6), (True, 30.0, 0.5), (False, 30.0, 1.0)]
)
def test_the_time_of_a_slow_start_counts_for_whoever_waits(is_first, started, limit, monkeypatch):
    limits = []
    monkeypatch.setattr(patience, "SLOW_SECONDS", SLOW_SECONDS)
    monkeypatch.setattr(patience, "STARTED", 100.0)
    monkeypatch.setattr(patience.time, "monotonic", lambda: 100.0 + started)
    monkeypatch.setattr(
        patience.threading, "Timer", lambda seconds, *_: limits.append(seconds) or Timer(600, int)
    )
    with patience.said_when_slow(is_first=is_first):
        pass
    assert limits == [pytest.approx(limit)]


def test_a_command_imports_no_other():
    code = (
        "import sys; from functions.ops import command_line; "
        "command_line._options(['explain', '1']); "
        "print([name for name in sys.modules if name.startswith('functions.ops.commands.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['functions.ops.commands.explain']\n"


@pytest.fixture
def silent_port(monkeypatch):
    """A server that takes a connection and never says a word, as behind a broken network."""
    monkeypatch.setattr(patience, "SLOW_SECONDS", SLOW_SECONDS)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(8)
        yield server.getsockname()[1]


@pytest.fixture(autouse=True)
def give_up_soon(monkeypatch):
    """After 2.5 seconds, so that the tests cost no time."""
    patient = Store._verb

    def briefly(self, function, timeout=2.5, *more, **values):
        return patient(self, function, 2.5, *more, **values)

    monkeypatch.setattr(Store, "_verb", briefly)
    monkeypatch.setattr(dsn, "CONNECT_SECONDS", 2)


@pytest.fixture
def messages(monkeypatch):
    """What is said of the database on stderr, in its order: what comes before the last is said
    while the command still waits."""
    said = []

    def note(text, code=0):
        said.append(text)
        return code

    for module in ("cli.patience", "cli.many_tasks", "command_line"):
        monkeypatch.setattr(f"functions.ops.{module}.print_message", note)
    return said


@pytest.mark.parametrize("argv", [["list"], ["check", "--table", "jobs"], ["migrate"]])
def test_a_server_that_says_nothing(argv, silent_port, messages):
    code = main([*argv, "--dsn", f"postgresql://u@127.0.0.1:{silent_port}/db"])
    assert code == 4
    assert "has not answered yet" in messages[0]
    assert "no answer in time" in messages[-1]


CALLS = [
    ["check"],
    ["check", "--table", "jobs"],
    ["check", "--table", "jobs", "--fix", "--yes"],
    ["adopt", "--table", "jobs"],
    ["list"],
    ["show", "1"],
    ["watch"],
    ["explain", "1"],
    ["stats"],
    ["stats", "--prometheus"],
    ["sweep"],
    ["sweep", "--dry-run"],
    ["retry"],
    ["requeue", "--apply"],
    ["cancel", "--apply"],
    ["fail", "--apply"],
    ["undo", "1"],
    ["pause", "image"],
    ["resume", "image"],
    ["work", "--once"],
    ["migrate"],
    ["migrate", "--apply"],
    ["doctor"],
    ["dev", "--port", "0"],
    ["dev", "--port", "0", "--apply"],
]
WITHOUT_DATABASE = {"sql", "logs", "completion", "demo"}


def test_all_commands_that_use_a_database_are_called_here():
    assert {argv[0] for argv in CALLS} == set(NAMES) - WITHOUT_DATABASE


@pytest.fixture
def closed_port():
    """Nothing listens there, and nobody else takes it."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@pytest.mark.parametrize("argv", CALLS, ids=" ".join)
def test_a_server_that_is_not_there_is_told_once_and_ends_the_command(
    argv, closed_port, messages, capsys, monkeypatch
):
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("it asks again"))
    assert main([*argv, "--dsn", f"postgresql://u@127.0.0.1:{closed_port}/db"]) == 4
    seen = "\n".join(messages) + capsys.readouterr().out
    sentences = [line for line in seen.splitlines() if not line.startswith('{"severity"')]
    assert sum("nothing listens at this host and port" in line for line in sentences) == 1
    assert "See that it runs, and check --dsn." in seen


def test_a_worker_goes_on_asking_and_says_so(closed_port, messages):
    store = PostgresStore(f"postgresql://u@127.0.0.1:{closed_port}/db")
    worker = patience.TalkingStore(store, goes_on=True)
    with pytest.raises(StoreError):
        worker._verb("pauses", 0.3)
    [text] = messages
    assert text.endswith("check DATABASE_URL. It is tried again; Ctrl-C ends that.")


class Weather(Store):
    """A store that answers as the list says, in turn."""

    def __init__(self, *answers):
        self._answers = list(answers)

    def call(self, function, arguments, timeout):
        answer = self._answers.pop(0)
        if isinstance(answer, StoreError):
            raise answer
        return answer


def test_once_it_has_answered_it_is_asked_again_and_each_outage_is_said(messages):
    away = StoreError("the network is away", retryable=True)
    store = patience.TalkingStore(Weather(1, away, away, 2, away, 3))
    assert [store._verb("pauses") for _ in range(3)] == [1, 2, 3]
    assert messages == ["the network is away. It is tried again; Ctrl-C ends that."] * 2


@pytest.mark.parametrize("code", [patience.CANCELLED, patience.READ_ONLY])
def test_what_stays_as_it_is_is_not_asked_again(code, messages):
    store = patience.TalkingStore(Weather(1, StoreError("no", retryable=True, code=code)))
    store._verb("pauses")
    with pytest.raises(StoreError):
        store._verb("pauses")
    assert messages == []


def test_a_role_that_may_not_is_told_who_may_grant_it(database, messages):
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("drop role if exists visitor")
        connection.execute("create role visitor login password 'v'")
    visitor = psycopg.conninfo.make_conninfo(database, user="visitor", password="v")
    assert main(["list", "--dsn", visitor]) == 1
    [text] = messages
    assert "permission denied for schema unstuck" in text
    assert "its owner grants by `unstuck migrate --apply --role ROLE`" in text


def test_what_refuses_dev_to_migrate_is_told_as_migrate_does():
    with (
        pytest.raises(StoreError, match=r"dev: .*connect as the tables' owner"),
        as_store_errors("dev"),
    ):
        raise psycopg.errors.InsufficientPrivilege("permission denied for database orders")


def test_a_session_that_only_reads_is_told_at_once_and_once(database, messages):
    options = "-c default_transaction_read_only=on"
    reading = psycopg.conninfo.make_conninfo(database, options=options)
    assert main(["pause", "image", "--dsn", reading]) == 4
    [text] = messages
    messages.clear()
    assert "Give the --dsn of one that writes." in text
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "insert into public.tasks (kind) select 'image' from generate_series(1, 9)"
        )
    assert main(["cancel", "--apply", "--dsn", reading]) == 1
    refusals = [text for text in messages if "read-only transaction" in text]
    assert len(refusals) == 1
    assert " and 6 more: tasks_operate: cannot execute" in refusals[0]


def test_a_time_limit_that_is_too_short_is_told_with_what_raises_it(database, messages):
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "create or replace function unstuck.tasks_overview(p_rules jsonb) returns jsonb "
            "language plpgsql as 'begin perform pg_sleep(1); return null; end'"
        )
    assert main(["stats", "--dsn", f"{database}?options=-c%20statement_timeout%3D50ms"]) == 4
    assert "alter role ROLE set statement_timeout" in messages[-1]


def test_a_time_limit_of_the_database_is_named_before_the_sweep_gives_up(database, messages):
    with psycopg.connect(database, autocommit=True) as connection:
        name = connection.info.dbname
        connection.execute(f'alter database "{name}" set statement_timeout = 1')
        connection.execute(
            "create function public.slow() returns trigger language plpgsql as "
            "'begin perform pg_sleep(1); return null; end'"
        )
        connection.execute(
            "create trigger slow before insert on unstuck.sweeps "
            "for each statement execute function public.slow()"
        )
    assert main(["sweep", "--dsn", database, "--apply"]) == 4
    assert "statement timeout" in messages[0]
