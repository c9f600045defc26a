"""The entry points with users and machines that show tokens. Those without are in
test_entry_points.py."""

import sys
from collections.abc import Iterator

import psycopg
import pytest
import responses
import yaml
from psycopg.rows import dict_row

from functions.core import dispatch
from functions.core.policy import DEFAULT
from tests.conftest import copied
from tests.entry import issuers

TABLES = ("tasks", "unstuck.attempts", "unstuck.sweeps", "unstuck.refusals", "unstuck.dispatches")


@pytest.fixture(scope="module")
def db(postgres, template) -> Iterator[psycopg.Connection]:
    """A connection to the database of `api`."""
    with (
        copied(postgres, template) as dsn,
        psycopg.connect(dsn, autocommit=True, row_factory=dict_row) as connection,
    ):
        yield connection


@pytest.fixture(scope="module")
def api_policy(tmp_path_factory):
    policy = yaml.safe_load(DEFAULT.read_text(encoding="utf-8"))
    handler = {"handler": "tests.entry.test_entry_points:returns", "isolation": "thread"}
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
def api(db, api_policy, issuing, monkeypatch):
    """The entry points; every caller has to show a token. All tables are empty."""
    from tests.entry.test_entry_points import Entry, Pushes

    for table in TABLES:
        db.execute(f"delete from {table}")
    monkeypatch.setattr(dispatch, "dispatcher", Pushes)
    settings = {
        "DATABASE_URL": db.info.dsn,
        "UNSTUCK_POLICY": str(api_policy),
        "FUNCTION_TARGET": "set by the framework",
        "SUPABASE_URL": issuers.SUPABASE,
        "SUPABASE_JWT_SECRET": issuers.SECRET,
        "OIDC_AUDIENCE": issuers.AUDIENCE,
        "OIDC_ACCOUNTS": f"somebody@else, {issuers.ACCOUNT}",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "path", [*sys.path])  # the framework appends to it
    monkeypatch.setitem(sys.modules, "main", None)
    forget_all()
    yield Entry()
    forget_all()


def forget_all():
    """What a process keeps from its environment, the keys of issuers with it."""
    from functions.entry.public_keys import keys
    from tests.entry.test_entry_points import forget

    keys.cache_clear()
    forget()


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
