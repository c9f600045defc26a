"""The URL of the database: what is taken, and that nothing of a wrong one is ever shown."""

import socket
import subprocess
import sys
import time

import psycopg
import pytest
import requests

from functions.core.policy import load
from functions.errors import StoreError
from functions.ops.local.servers import Server
from functions.ops.postgres.embedded import Postgres
from functions.store.dsn import readable
from functions.store.postgres import PostgresStore

SECRET = "tulip-Canal-93"
MISTAKES = {
    "% not encoded": (f"postgresql://ada:{SECRET}%zz@db.test/app", "%25"),
    "% at the end": (f"postgresql://ada:{SECRET}%@db.test/app", "%25"),
    "@ not encoded": (f"postgresql://ada:x@{SECRET}@db.test:5432/app", "%40"),
    "/ not encoded": (f"postgresql://ada:x/{SECRET}@db.test/app", "%2F"),
    "? and / not encoded": (f"postgresql://ada:x?{SECRET}/y@db.test/app", "%2F"),
    "a port with letters": (f"postgresql://ada:{SECRET}@db.test:54a/app", "port"),
    "no @ before the host": (f"postgresql://ada:{SECRET}", "port"),
    "a line end": (f"postgresql://ada:{SECRET}\nsecond@db.test/app", "line end"),
    "quotes": (f'"postgresql://ada:{SECRET}@db.test/app"', "quotes"),
    "JDBC": (f"jdbc:postgresql://ada:{SECRET}@db.test/app", "JDBC"),
    "another scheme": (f"mysql://ada:{SECRET}@db.test/app", "scheme"),
    "a misspelt option": (f"postgresql://ada@db.test/app?pasword={SECRET}", "misspelt"),
    "an option that is a secret": (f"postgresql://ada@db.test/app?{SECRET}=1", "misspelt"),
    "an open quote": (f"host=db.test password='{SECRET} port=1", "cannot be read"),
    "a blank without quotes": (f"host=db.test password=a {SECRET}", "cannot be read"),
    "a host with an invisible letter": (f"host=db\u202e.test password={SECRET}", "host"),
    "a host that is too long": (f"postgresql://ada:{SECRET}@{'x' * 70}.test/app", "host"),
    "a host with two dots": (f"postgresql://ada:{SECRET}@db..test/app", "host"),
    "a host with an escape": (f"postgresql://ada:{SECRET}@db%1B.test/app", "host"),
    "the secret alone": (SECRET, "neither"),
    "the placeholder": ("postgresql://ada:[YOUR-PASSWORD]@db.test/app", "YOUR-PASSWORD"),
}


@pytest.mark.parametrize("slip", MISTAKES)
def test_a_mistake_is_named_by_its_kind_and_nothing_of_the_url_is_shown(slip):
    text, hint = MISTAKES[slip]
    with pytest.raises(StoreError) as refusal:
        readable(text, "--dsn")
    assert str(refusal.value).startswith("--dsn is no PostgreSQL URL: ")
    assert hint in str(refusal.value)
    assert SECRET not in str(refusal.value)
    assert not refusal.value.retryable


BASE = f"postgresql://ada:{SECRET}@db.test:5432/app"


@pytest.mark.parametrize(
    ("text", "taken", "ignored"),
    [
        (BASE, BASE, []),
        (f" {BASE}\n", BASE, []),
        (BASE.replace("://", "+psycopg://"), BASE, []),
        (BASE.replace("://", "+asyncpg://"), BASE, []),
        (f"{BASE}?pgbouncer=true&connection_limit=1", BASE, ["connection_limit", "pgbouncer"]),
        (f"{BASE}?schema=public&sslmode=require", f"{BASE}?sslmode=require", ["schema"]),
        (f"{BASE}?options=-c%20a%3Db", f"{BASE}?options=-c%20a%3Db", []),
        ("postgresql://a:b%40%25@h1:1,h2:2/app", "postgresql://a:b%40%25@h1:1,h2:2/app", []),
        ("postgresql:///app?host=/run&port=5433", "postgresql:///app?host=/run&port=5433", []),
        ("host=db.test user=ada password='a b'", "host=db.test user=ada password='a b'", []),
        ("postgresql://a:b@[::1]:5432/app", "postgresql://a:b@[::1]:5432/app", []),
    ],
)
def test_what_other_tools_write_is_taken_and_what_is_ignored_is_told(text, taken, ignored):
    assert readable(text) == (taken, ignored)


@pytest.mark.parametrize("slip", ["% not encoded", "@ not encoded", "quotes"])
def test_neither_a_function_nor_its_log_nor_a_command_shows_the_password(slip, tmp_path):
    text, hint = MISTAKES[slip]
    log = tmp_path / "log"
    with Server("page", {"DATABASE_URL": text}, log=log) as server:
        answer = requests.get(server.url, timeout=30)
    assert answer.status_code == 500
    assert SECRET not in answer.text + log.read_text()
    assert hint in log.read_text()
    command = [sys.executable, "-m", "functions", "list", "--dsn", text]
    printed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert printed.returncode == 2
    assert hint in printed.stderr
    assert SECRET not in printed.stdout + printed.stderr


@pytest.fixture(scope="module")
def server():
    """A PostgreSQL that asks the user `ada` for her password."""
    with Postgres(durable=False) as server:
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute("create role ada login password 'good'")
            row = connection.execute("show hba_file").fetchone()
            assert row
            rule = "host all ada 127.0.0.1/32 scram-sha-256"
            with open(row[0], "r+", encoding="utf-8") as rules:
                rest = rules.read()
                rules.seek(0)
                rules.write(f"{rule}\n{rest}")
            connection.execute("select pg_reload_conf()")
        yield server


def test_a_wrong_password_is_told_at_once_and_as_that(server):
    store = PostgresStore(f"postgresql://ada:{SECRET}@127.0.0.1:{server.port}/postgres")
    begun = time.monotonic()
    with pytest.raises(StoreError, match=r"password is wrong.*DATABASE_URL") as refusal:
        store.status(load().watch(), "00000000-0000-0000-0000-000000000000")
    assert time.monotonic() - begun < 3
    assert SECRET not in str(refusal.value)


def test_a_password_that_was_good_before_is_tried_again(server):
    """It is being changed: a worker that has connected once must not give up its end."""
    store = PostgresStore(f"postgresql://ada:good@127.0.0.1:{server.port}/postgres")
    with pytest.raises(StoreError):  # connected, but nothing is installed there
        store.call("beat", {}, 5.0)
    store.close()
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute("alter role ada password 'new'")
    with pytest.raises(StoreError, match="password is wrong") as refusal:
        store.call("beat", {}, 5.0)
    assert refusal.value.retryable
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute("alter role ada password 'good'")


def test_a_server_that_is_away_may_come_back():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        store = PostgresStore(f"postgresql://ada:{SECRET}@127.0.0.1:{port}/app")
        with pytest.raises(StoreError, match="nothing listens") as refusal:
            store.call("beat", {}, 1.0)
    assert refusal.value.retryable
    assert SECRET not in str(refusal.value)
