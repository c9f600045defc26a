"""What is special to the store by Supabase's REST API."""

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from functions.core.answers import Held
from functions.core.policy import load
from functions.core.settings import Settings
from functions.errors import StoreError
from functions.install.migrate import migrate
from functions.store import store_of
from functions.store.supabase import SupabaseStore
from tests.conftest import copied
from tests.supabase.stack import Supabase, bootstrap
from tests.test_cold_start import probe

ROOT = Path(__file__).parents[2]


def test_a_task_lives_and_ends_through_the_rest_api(supabase):
    store, watch = SupabaseStore(supabase.url, supabase.key), load().watch()
    store.create(watch, "image", {"n": 1})
    attempt = store.claim(watch, None, "w")
    assert store.beat(watch, attempt.task_id, attempt.token, {"part": 0.5}) == Held()
    assert (
        store.settle(watch, attempt.task_id, attempt.token, "complete", result={"n": 2}).state
        == "completed"
    )
    assert store.status(watch, attempt.task_id).result == {"n": 2}
    store.close()


OVER_A_FORK = """
import os, sys
from functions.core.answers import Held
from functions.core.policy import load
from functions.store.supabase import SupabaseStore
store, watch = SupabaseStore(*sys.argv[1:]), load().watch()
asked = "00000000-0000-0000-0000-000000000000"

def client():
    assert store.status(watch, asked) is None
    return id(store._client()[0])

before = client()
if not (child := os.fork()):
    print("another" if client() != before else "shared", flush=True)
    store.close()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
print("the same" if client() == before else "another")
store.close()
"""


def test_a_client_is_never_shared_over_a_fork(supabase):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", OVER_A_FORK, supabase.url, supabase.key],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=60,
    )
    assert (done.returncode, done.stdout.split("\n")[:2]) == (0, ["another", "the same"]), (
        done.stderr
    )


@pytest.mark.parametrize(
    ("env", "chosen"),
    [
        ({"DATABASE_URL": "postgresql://h/d"}, "PostgresStore"),
        (
            {"SUPABASE_URL": "https://ref.supabase.co", "SUPABASE_KEY": "sb_secret_x"},
            "SupabaseStore",
        ),
        (
            {"DATABASE_URL": "postgresql://h/d", "SUPABASE_URL": "u", "SUPABASE_KEY": "k"},
            "PostgresStore",
        ),
    ],
)
def test_the_environment_chooses_the_store(env, chosen):
    assert type(store_of(Settings.read(env))).__name__ == chosen


@pytest.mark.parametrize(
    ("env", "says"),
    [
        ({}, "SUPABASE_URL and SUPABASE_KEY"),
        ({"SUPABASE_URL": "https://ref.supabase.co"}, "SUPABASE_KEY is not set"),
        ({"SUPABASE_KEY": "sb_secret_x"}, "SUPABASE_URL is no URL"),
    ],
)
def test_an_environment_that_is_not_whole_is_refused(env, says):
    with pytest.raises(StoreError, match=says):
        store_of(Settings.read(env))


def test_a_cold_start_loads_the_store_that_is_chosen_and_not_the_other(supabase):
    answer = probe(
        "sweep",
        "",
        "POST",
        "/",
        None,
        **{name: value for name, value in supabase.env.items() if value},
    )
    assert answer["status"] == 200, answer["body"]
    loaded = {name.partition(".")[0] for name in answer["loaded"]}
    assert "postgrest._sync.client" in answer["loaded"]
    assert not {"postgrest", "postgrest._async", "asyncio"} & set(answer["loaded"])
    assert not {"psycopg", "psycopg_binary", "grpc"} & loaded
    assert not {"supabase", "supabase_auth", "realtime", "storage3", "supabase_functions"} & loaded


def test_the_commands_work_by_the_rest_api(supabase):
    env = {
        name: value for name, value in os.environ.items() if name != "DATABASE_URL"
    } | supabase.env
    store = SupabaseStore(supabase.url, supabase.key)
    task_id = store.create(load().watch(), "image", {}).task_id
    store.close()
    for command, says in (
        (["explain", task_id], "is pending"),
        (["cancel", "--id", task_id, "--apply"], task_id),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "functions", *command],
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
            env=env,
            timeout=60,
        )
        assert (done.returncode, says in done.stdout + done.stderr) == (0, True), (
            done.stdout + done.stderr
        )


def test_it_finds_the_verbs_in_our_own_schema_when_that_is_exposed(postgres):
    with copied(postgres, None) as dsn:
        bootstrap(dsn)
        migrate(dsn, supabase="unstuck")
        with (
            Supabase(dsn, schemas="public,unstuck") as stack,
            closing(SupabaseStore(stack.url, stack.key)) as store,
        ):
            assert store.create(load().watch(), "image", {}).verdict == "created"
            assert store.overview(load().watch()).open[0].count == 1


def test_where_nothing_is_installed_it_says_what_to_do(postgres):
    with copied(postgres, None) as dsn:
        bootstrap(dsn)
        with Supabase(dsn) as stack, closing(SupabaseStore(stack.url, stack.key)) as store:
            with pytest.raises(StoreError, match="sql --supabase") as refused:
                store.overview(load().watch())
            assert not refused.value.retryable


def test_a_call_that_was_given_up_and_was_done_after_all_does_no_harm_when_it_is_repeated(supabase):
    """A client that goes away does not stop PostgREST: the settle is written when the lock is
    free."""
    watch = load().watch()
    with (
        closing(SupabaseStore(supabase.url, supabase.key)) as store,
        psycopg.connect(supabase.dsn) as other,
    ):
        attempt = store.claim(watch, store.create(watch, "image", {}).task_id, "w")
        other.execute("select from unstuck.attempts for update")
        with pytest.raises(StoreError, match="no answer within") as refused:
            store.settle(
                watch, attempt.task_id, attempt.token, "complete", result={"n": 1}, timeout=0.3
            )
        assert refused.value.retryable
        other.rollback()
        again = store.settle(watch, attempt.task_id, attempt.token, "complete", result={"n": 1})
        assert (again.verdict, again.state) == ("settled", "completed")
        assert other.execute("select count(*) from unstuck.refusals").fetchone() == (0,)
