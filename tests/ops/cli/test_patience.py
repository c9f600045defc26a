"""Whoever waits for a database reads why, long before the command gives up."""

import socket
import time

import psycopg
import pytest

from functions.ops.command_line import main
from functions.ops.postgres.embedded import free_port
from functions.store import Store, dsn

SOON_SECONDS = 2.5


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
    """What is said on stderr, with the seconds since the test began."""
    began, said = time.monotonic(), []

    def note(text, code=0):
        said.append((time.monotonic() - began, text))
        return code

    for module in ("patience", "out"):
        monkeypatch.setattr(f"functions.ops.cli.{module}.print_message", note)
    monkeypatch.setattr("functions.ops.command_line.print_message", note)
    return said


@pytest.mark.parametrize("argv", [["list"], ["check", "--table", "jobs"]])
def test_a_server_that_says_nothing(argv, silent_port, messages):
    code = main([*argv, "--dsn", f"postgresql://u@127.0.0.1:{silent_port}/db"])
    assert code == 4
    seconds, text = messages[0]
    assert seconds < SOON_SECONDS
    assert "has not answered yet" in text


def test_a_server_that_is_not_there_is_told_at_once_and_once(messages):
    assert main(["stats", "--dsn", f"postgresql://u@127.0.0.1:{free_port()}/db"]) == 4
    assert messages[0][0] < SOON_SECONDS
    assert sum("It is tried again" in text for _, text in messages) == 1


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
    seconds, text = messages[0]
    assert seconds < SOON_SECONDS
    assert "statement timeout" in text
