"""Only an error about the row may end a task. Each class of errors of PostgreSQL's Appendix A, as
psycopg knows them, goes through each verb; and one of each class, raised in a real database by a
trigger, through a settle over each store."""

import inspect
import socket
import time
from typing import Any

import psycopg
import pytest
from psycopg import errors

from functions.core.answers import Held, Lost
from functions.core.dispatch import NoDispatch
from functions.core.policy import Policy, Watch
from functions.core.sqlstates import CLASSES, POSTGREST, Meaning, meaning_of
from functions.core.states import SettleAs
from functions.errors import StoreError
from functions.store import Store
from functions.store.postgres import PostgresStore
from functions.store.verbs import CANCELLED, NO_SUCH_FUNCTION
from functions.worker.settle import AttemptEnd, settle
from tests.sql import pass_time
from tests.store.steps import A_MOMENT, LEASE, NIL, claimed, one
from tests.waiting import eventually

SQLSTATES = sorted(
    {
        error.sqlstate
        for error in vars(errors).values()
        if isinstance(error, type) and isinstance(getattr(error, "sqlstate", None), str)
    }
)
ROW_CLASSES = {"22", "23", "44", "54", "P0"}
SAMPLES = {
    "22": "22P02",
    "23": "23514",
    "25": "25006",
    "28": "28P01",
    "40": "40P01",  # PostgREST before 16 repeats 40001 for ever
    "42": "42883",
    "53": "53300",
    "57": "57P01",
    "P0": "P0001",
}
"""The best known error of a class; of the others, the class itself."""
HOOKS_OWN = ("PT402", "U0001")
DIFFICULT = """
create sequence public.writes;
create function public.refuse_at_first() returns trigger language plpgsql as $$
begin
  if new.result ? 'raise'
    and nextval('public.writes') <= (new.result ->> 'times')::integer  -- which no rollback undoes
  then
    raise exception 'as the test wants' using errcode = new.result ->> 'raise';
  end if;
  return new;
end $$;
create trigger refuse_at_first before update on public.tasks
  for each row execute function public.refuse_at_first();
grant usage on sequence public.writes to service_role
"""
EASY = """
drop trigger refuse_at_first on public.tasks;
drop function public.refuse_at_first;
drop sequence public.writes
"""
SLOW = """
create function public.dawdle() returns trigger language plpgsql as $$
begin
  perform pg_sleep(60);
  return new;
end $$;
create trigger dawdle before update on public.tasks
  for each row when (new.status = 'completed') execute function public.dawdle()
"""
QUICK = "drop trigger dawdle on public.tasks; drop function public.dawdle"


class AskedAgainError(Exception):
    """The second call of a verb."""


class RefusingStore(Store):
    def __init__(self, code: str) -> None:
        self.code, self.calls = code, 0

    def call(self, function: str, arguments: dict[str, Any], timeout: float) -> Any:
        self.calls += 1
        if self.calls > 1:
            raise AskedAgainError
        passing = meaning_of(self.code) is Meaning.WEATHER
        raise StoreError("no", retryable=passing, code=self.code)


VERBS = sorted(
    name
    for name, member in vars(Store).items()
    if callable(member) and not name.startswith("_") and name not in {"call", "close"}
)


def values_for(verb: str, watch: Watch, policy: Policy) -> dict[str, Any]:
    """Something for each parameter that must be given."""
    some = {
        "evidence": [],
        "watch": watch,
        "policy": policy,
        "settle_as": SettleAs.COMPLETE,
        "error": "no",
        "who": "ada",
        "why": "no",
    }
    parameters = list(inspect.signature(getattr(Store, verb)).parameters.values())[1:]
    return {
        parameter.name: some.get(parameter.name, 1)
        for parameter in parameters
        if parameter.default is parameter.empty
    }


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_is_asked_again_after_weather_and_after_nothing_else(
    verb, tasks, policy, monkeypatch
):
    monkeypatch.setattr("functions.store.verbs.time.sleep", lambda _: None)
    for code in SQLSTATES:
        if verb in {"sweep", "lapsed", "tidy"} and code == CANCELLED:
            continue  # asked again by its caller, for fewer tasks or for a part of it
        if verb == "pauses" and code in NO_SUCH_FUNCTION:
            continue  # none is paused where the SQL before an upgrade does not know it
        expected = AskedAgainError if meaning_of(code) is Meaning.WEATHER else StoreError
        with pytest.raises(expected):
            getattr(RefusingStore(code), verb)(**values_for(verb, tasks, policy))


def test_each_class_of_the_appendix_has_a_meaning_and_a_sentence():
    assert {code[:2] for code in SQLSTATES} <= set(CLASSES)
    assert all(sentence.endswith(".") for _, sentence in (CLASSES | POSTGREST).values())


def test_errors_about_the_row_are_these_classes_and_what_a_hook_calls_its_own():
    about_the_row = {name for name, (meaning, _) in CLASSES.items() if meaning is Meaning.ROW}
    assert about_the_row == ROW_CLASSES
    assert {meaning_of(code) for code in HOOKS_OWN} == {Meaning.ROW}


def test_the_database_and_python_agree_on_what_is_weather(db):
    codes = [*SQLSTATES, *HOOKS_OWN]
    query = "select code, unstuck.is_passing(code) as passes from unnest(%s::text[]) code"
    answers = {row["code"]: row["passes"] for row in db.execute(query, (codes,))}
    assert answers == {code: meaning_of(code) is Meaning.WEATHER for code in codes}


@pytest.fixture
def difficult(db):
    db.execute(DIFFICULT)
    yield
    db.execute(EASY)


@pytest.mark.usefixtures("difficult")
def test_a_result_that_met_any_error_once_is_kept_unless_the_error_is_about_the_row(
    store, db, tasks, monkeypatch
):
    monkeypatch.setattr("functions.worker.settle.FIRST_PAUSE_SECONDS", 0.01)
    states, expected = {}, {}
    for name in [*CLASSES, *HOOKS_OWN]:
        if name == "00":
            continue  # plpgsql cannot raise it
        code = SAMPLES.get(name, name.ljust(5, "0"))
        attempt = claimed(store, tasks)
        db.execute("alter sequence public.writes restart")
        end = AttemptEnd(SettleAs.COMPLETE, result={"raise": code, "times": 1})
        answer = settle(store, NoDispatch(), tasks, attempt, end, timeout=5.0)
        states[code] = answer.state
        expected[code] = "failed" if meaning_of(code) is Meaning.ROW else "completed"
    assert states == expected


@pytest.mark.parametrize("code", ["25006", "XX000", "42883"])
@pytest.mark.usefixtures("difficult")
def test_a_result_that_meets_anything_else_until_the_time_is_over_leaves_the_attempt_alive(
    store, db, tasks, code
):
    attempt = claimed(store, tasks)
    end = AttemptEnd(SettleAs.COMPLETE, result={"raise": code, "times": 1000})
    with pytest.raises(StoreError):
        settle(store, NoDispatch(), tasks, attempt, end, timeout=0.7)
    assert one(db, "select status from public.tasks")["status"] == "processing"
    assert store.beat(tasks, attempt.task_id, attempt.token) == Held()


def test_a_warm_connection_to_a_server_that_only_reads_now_costs_no_call(conformance, db, tasks):
    """A demoted primary keeps its sessions. All of them lead to it, so all are dropped."""
    store = PostgresStore(conformance)
    attempt = claimed(store, tasks)
    connections = [store._take(time.monotonic() + 5) for _ in range(3)]
    for connection in connections:
        connection.pgconn.exec_(b"set default_transaction_read_only = on")
        store._give_back(connection)
    assert store.beat(tasks, attempt.task_id, attempt.token) == Held()
    assert not set(connections) & set(store._idle)
    store.close()


def test_a_poll_is_answered_by_a_server_that_only_reads_though_the_task_is_overdue(
    conformance, db, tasks
):
    store = PostgresStore(conformance)
    attempt = claimed(store, tasks)
    pass_time(db, LEASE + A_MOMENT)
    standby = PostgresStore(f"{conformance}?options=-cdefault_transaction_read_only%3Don")
    status = standby.status(tasks, attempt.task_id)
    assert (status.state, status.overdue) == ("running", True)
    assert store.status(tasks, attempt.task_id).state == "pending"
    standby.close()
    store.close()


@pytest.mark.parametrize("silent_hosts", [1, 2, 3])
def test_a_limit_holds_for_all_addresses_together(silent_hosts, tasks):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        hosts = ",".join(["127.0.0.1"] * silent_hosts)
        ports = ",".join([str(port)] * silent_hosts)
        store = PostgresStore(f"host={hosts} port={ports} dbname=none user=postgres")
        begun = time.monotonic()
        with pytest.raises(StoreError):
            store.beat(tasks, NIL, NIL, timeout=1.0)
        assert time.monotonic() - begun < 2.0


def test_an_address_that_hangs_leaves_time_for_the_next_one(conformance, db, tasks):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        database = psycopg.conninfo.conninfo_to_dict(conformance)
        ports = f"{silent.getsockname()[1]},{database['port']}"
        store = PostgresStore(
            f"host=127.0.0.1,127.0.0.1 port={ports} user=postgres dbname={database['dbname']}"
        )
        assert isinstance(store.beat(tasks, NIL, NIL, timeout=2.0), Lost)
        store.close()


def test_a_name_that_is_not_resolved_in_time_ends_with_the_limit(tasks, monkeypatch):
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: time.sleep(3))
    store = PostgresStore("postgresql://postgres@db.example/none")
    begun = time.monotonic()
    with pytest.raises(StoreError) as refused:
        store.beat(tasks, NIL, NIL, timeout=0.5)
    assert refused.value.retryable
    assert time.monotonic() - begun < 1.5


@pytest.mark.parametrize("store", ["postgres", "pooler"], indirect=True)
def test_what_its_caller_gave_up_ends_in_the_server_too(store, db, tasks):
    attempt = claimed(store, tasks)
    db.execute(SLOW)
    try:
        with pytest.raises(StoreError) as refused:
            store.settle(tasks, attempt.task_id, attempt.token, SettleAs.COMPLETE, timeout=0.5)
        assert refused.value.retryable
        working = (
            "select count(*) from pg_stat_activity where datname = current_database() "
            "and state = 'active' and pid <> pg_backend_pid()"
        )
        eventually(lambda: one(db, working)["count"] == 0, message="a statement goes on")
    finally:
        db.execute(QUICK)
    assert store.beat(tasks, attempt.task_id, attempt.token) == Held()
