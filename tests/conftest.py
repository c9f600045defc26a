"""What all tests share: one embedded PostgreSQL for the session, and a fresh database for each test
that asks for one.

A database is a copy of a template that is migrated once, so a test pays for a copy and not for the
migrations. A test that kills the server starts its own with `Postgres(...)`: this one belongs to
all. Where pytest-xdist runs the tests in several processes, each has a server and a template of its
own: no port, no folder and no database is shared."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import hypothesis
import psycopg
import pytest

from functions.ops.postgres.embedded import Postgres, create_database, drop_database
from tests.browser import chromium, tab  # noqa: F401 - fixtures of all tests
from tests.missing import skipped_by_reason
from tests.supabase.stack import Supabase, bootstrap, postgrest_binary

os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
"""Some tests serve gRPC. With its fork handlers a child that was only to start PostgreSQL died now
and then (seen)."""
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
"""Many containers set it. Then each of the hundreds of Pythons that the tests start, and each
process of pytest-xdist, would compile the code anew: 7 s of CPU for the tests alone."""

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    """A shell lets what it starts in the background ignore it, and so would all that tests start:
    those that interrupt it would wait for ever."""

hypothesis.settings.register_profile("anew", database=None)
hypothesis.settings.register_profile("same", derandomize=True, database=None)
hypothesis.settings.load_profile("same")
"""Each run draws the same examples, so that none fails by luck: `--hypothesis-profile=anew` draws
others."""

TEMPLATE = "unstuck_template"
WHOLE = {"tests/faults": "faults", "tests/chaos": "faults", "tests/infra": "infra"}
"""Folders whose tests run in one process, one after the other; those of the same word in the same
one."""

LONG = ("tests/faults/", "tests/worker/", "tests/sweep/test_order.py")
"""What takes long because it waits begins first. Begun last, it would be waited for alone. (Not
tests/infra/ and tests/page/: beside what takes both processors, a fault's short clocks run out.)"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.nodeid.startswith(LONG))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file runs in one process, which pays for its fixtures once. All faults run in one, one
    after the other: their leases are short, and a fault of one must not starve the workers of
    another; and so does what shares runs of terraform. (`--dist loadgroup` does nothing with pytest
    9.2: xdist 3.8 writes the group where pytest does not read it any more.)"""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return next((WHOLE[name] for name in WHOLE if file.startswith(f"{name}/")), file)

    return ByFile(config, log)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for line in skipped_by_reason(terminalreporter.stats.get("skipped", [])):
        terminalreporter.write_line(line)


def prepare(dsn: str) -> None:
    from functions.install.migrate import migrate

    migrate(dsn)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with Postgres(durable=False) as server:
        yield server


@pytest.fixture(scope="session")
def template(postgres: Postgres) -> str:
    create_database(postgres.dsn(), TEMPLATE)
    prepare(postgres.dsn(TEMPLATE))
    return TEMPLATE


@pytest.fixture
def database(postgres: Postgres, template: str) -> Iterator[str]:
    """The DSN of a database with the ledger and the functions of the default policy, and nothing in
    it."""
    with copied(postgres, template) as dsn:
        yield dsn


@pytest.fixture
def empty_database(postgres: Postgres) -> Iterator[str]:
    """The DSN of a database as it is before Unstuck comes."""
    with copied(postgres, None) as dsn:
        yield dsn


@pytest.fixture(scope="session")
def supabase_template(postgres: Postgres) -> str:
    """A database as Supabase makes it, with the file of `sql --supabase` pushed."""
    from functions.install.migrate import file

    postgrest_binary()
    name = "supabase_template"
    create_database(postgres.dsn(), name)
    bootstrap(postgres.dsn(name))
    with psycopg.connect(postgres.dsn(name), autocommit=True) as connection:
        connection.execute(file(None, "public").encode())
    return name


@pytest.fixture
def supabase(postgres: Postgres, supabase_template: str) -> Iterator[Supabase]:
    """A Supabase of the test's own: `.dsn` is its database, `.url` and `.key` its REST API, `.env`
    for functions."""
    with copied(postgres, supabase_template) as dsn, Supabase(dsn) as stack:
        yield stack


@contextmanager
def copied(postgres: Postgres, template: str | None) -> Iterator[str]:
    name = f"test_{uuid4().hex}"
    create_database(postgres.dsn(), name, template, by_files=True)
    yield postgres.dsn(name)
    drop_database(postgres.dsn(), name)
