"""Whoever waits for a database reads why, long before the command gives up."""

import socket

import psycopg
import pytest

from functions.ops.cli import patience
from functions.ops.command_line import main
from functions.ops.postgres.embedded import free_port
from functions.store import Store, dsn


def test_nobody_waits_for_two_seconds_without_a_word():
    assert patience.SLOW_SECONDS < 2


@pytest.fixture
def silent_port():
    """A server that takes a connection and never says a word, as behind a broken network."""
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
    """What is said on stderr, in its order: what comes before the last is said while the command
    still waits."""
    said = []

    def note(text, code=0):
        said.append(text)
        return code

    for module in ("patience", "out"):
        monkeypatch.setattr(f"functions.ops.cli.{module}.print_message", note)
    monkeypatch.setattr("functions.ops.command_line.print_message", note)
    return said


@pytest.mark.parametrize("argv", [["list"], ["check", "--table", "jobs"], ["migrate"]])
def test_a_server_that_says_nothing(argv, silent_port, messages):
    code = main([*argv, "--dsn", f"postgresql://u@127.0.0.1:{silent_port}/db"])
    assert code == 4
    assert "has not answered yet" in messages[0]
    assert "no answer in time" in messages[-1]


def test_a_server_that_is_not_there_is_told_at_once_and_once(messages):
    assert main(["stats", "--dsn", f"postgresql://u@127.0.0.1:{free_port()}/db"]) == 4
    assert "It is tried again" in messages[0]
    assert sum("It is tried again" in text for text in messages) == 1
    assert not any(".." in text for text in messages)


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
    assert main(["sweep", "--dsn", database, "--apply"]) in {1, 4}
    assert len(messages) > 1
    assert "statement timeout" in messages[0]
