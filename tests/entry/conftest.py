"""The entry points on a real database: `http` where callers show no token (IAM stands in front),
`api` where each must show one."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
import responses
import yaml
from psycopg.rows import dict_row

from functions.core.policy import DEFAULT
from functions.store import Store
from tests.conftest import copied
from tests.entry import issuers
from tests.entry.steps import (
    DATABASE_PASSWORD,
    EntryPoints,
    RecordedPushes,
    policy_with_test_handlers,
)

TABLES = (
    "tasks",
    "unstuck.attempts",
    "unstuck.sweeps",
    "unstuck.refusals",
    "unstuck.dispatches",
    "unstuck.pauses",
)


@pytest.fixture(scope="module")
def db(postgres, template) -> Iterator[psycopg.Connection]:
    """A connection to the database of `http` and `api`, which are given it with empty tables:
    emptied in 2 ms, copied in 200."""
    with (
        copied(postgres, template) as dsn,
        psycopg.connect(dsn, autocommit=True, row_factory=dict_row) as connection,
    ):
        yield connection


@pytest.fixture(scope="module")
def api_policy(tmp_path_factory):
    policy = yaml.safe_load(DEFAULT.read_text(encoding="utf-8"))
    handler = {"handler": "tests.entry.handlers:returns", "isolation": "thread"}
    policy["watches"]["tasks"]["rules"] |= {
        "returns": handler,
        "alone": handler | {"one_active": True},
    }
    policy["watches"]["tasks"]["limits"] = {"create_per_minute": 50}
    file = tmp_path_factory.mktemp("api") / "policy.yaml"
    file.write_text(yaml.safe_dump(policy), encoding="utf-8")
    return file


@pytest.fixture
def issuing() -> Iterator[responses.RequestsMock]:
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mocked:
        issuers.publish(mocked)
        yield mocked


@pytest.fixture
def pushed():
    """The pushes that were sent."""
    return RecordedPushes()


@pytest.fixture
def served(db, pushed, monkeypatch):
    """The entry points on empty tables, once the environment is set."""
    for table in TABLES:
        db.execute(f"delete from {table}")
    monkeypatch.setenv("DATABASE_URL", db.info.dsn)
    monkeypatch.setenv("FUNCTION_TARGET", "set by the framework")
    monkeypatch.setattr(sys, "path", [*sys.path])  # the framework appends to it
    monkeypatch.setitem(sys.modules, "main", None)
    entry_points = EntryPoints(pushed)
    yield entry_points
    entry_points.stop()


@pytest.fixture
def http(served, policy_file, monkeypatch):
    """The entry points behind IAM."""
    monkeypatch.setenv("UNSTUCK_POLICY", str(policy_file))
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "our-project")
    monkeypatch.setenv("USERS", "none")
    served.restart()
    return served


@pytest.fixture(scope="module")
def policy_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("http") / "policy.yaml"
    file.write_text(yaml.safe_dump(policy_with_test_handlers()), encoding="utf-8")
    return file


@pytest.fixture
def another_policy(http, monkeypatch, tmp_path):
    """Changes the policy for the rest of the test, in a `with` block that is given it."""

    @contextmanager
    def changing():
        policy = policy_with_test_handlers()
        yield policy
        (tmp_path / "another.yaml").write_text(yaml.safe_dump(policy), encoding="utf-8")
        monkeypatch.setenv("UNSTUCK_POLICY", str(tmp_path / "another.yaml"))
        http.restart()

    return changing


@pytest.fixture
def api(served, api_policy, issuing, monkeypatch):
    """The entry points; every caller has to show a token."""
    settings = {
        "UNSTUCK_POLICY": str(api_policy),
        "SUPABASE_URL": issuers.SUPABASE,
        "SUPABASE_JWT_SECRET": issuers.SECRET,
        "OIDC_AUDIENCE": issuers.AUDIENCE,
        "OIDC_ACCOUNTS": f"somebody@else, {issuers.ACCOUNT}",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    return served


@pytest.fixture
def rows(db):
    """Asks the database."""
    return lambda text, *values: db.execute(text, values).fetchall()


@pytest.fixture
def log(capfd):
    """The log lines that were written since the last call, or those of the named events."""

    def lines(*names):
        written = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
        return [line for line in written if not names or line["event"] in names]

    return lines


@pytest.fixture
def store_without_retries(monkeypatch):
    with_retries = Store._verb

    def once(self, function, limit=0, again=None, **values):
        return with_retries(self, function, 0, again, **values)

    monkeypatch.setattr(Store, "_verb", once)


@pytest.fixture
def postgres_down(http, store_without_retries, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", f"postgresql://user:{DATABASE_PASSWORD}@127.0.0.1:1/db")
    http.restart()


@pytest.fixture
def dump(db):
    """All that the tables hold, or only those that are named."""
    return lambda *tables: [
        db.execute(f"select to_jsonb(t) from {table} t order by 1").fetchall()
        for table in tables or TABLES
    ]


@pytest.fixture
def task_of(db):
    """Makes a task of that user."""

    def make(owner, kind="returns"):
        created = db.execute(
            "select unstuck.tasks_create(%s, '{}', %s) as answer", (kind, owner)
        ).fetchone()
        return created["answer"]["task_id"]

    return make
