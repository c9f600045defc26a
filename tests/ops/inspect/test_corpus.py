"""Real tables: what is inferred of them alone, and what is ended when a person says what they
mean."""

import json
from typing import Any

import psycopg
import pytest

from tests.ops.inspect import corpus
from tests.ops.inspect.corpus import Real
from tests.ops.inspect.world import Answer, World

TABLES = corpus.tables()

pytestmark = corpus.needs_corpus
each = pytest.mark.parametrize("real", TABLES, ids=lambda real: real.name)


def wrong(real: Real, answer: Answer) -> dict[str, Any]:
    """What was inferred otherwise than the JSON says, with the words that a doubt would hold."""
    inferred = answer.json["inferred"]
    differences = {}
    for state in corpus.STATES:
        differ = set(map(str, inferred["words"][state])) ^ set(map(str, real.words[state]))
        if differ:
            differences[f"words.{state}"] = differ
    if inferred["key"] != real.description["id"]["column"][0]:
        differences["key"] = {str(inferred["key"])}
    if inferred["status"] != real.description["status"]["column"]:
        differences["status"] = {str(inferred["status"])}
    clocks = {
        "queued": ["created"],
        "started": ["started", "lock_at"],
        "alive": ["heartbeat", "updated"],
        "finished": ["completed"],
    }
    for clock, roles in clocks.items():
        column = next((column for role in roles if (column := real.column(role))), None)
        if inferred["clocks"][clock] not in (column, None):
            differences[f"clocks.{clock}"] = {inferred["clocks"][clock]}
    for name, role in {"error": "error", "kind": "type", "attempts": "attempts"}.items():
        if inferred[name] not in (real.column(role), None):
            differences[name] = {inferred[name]}
    return differences


@each
def test_nothing_is_inferred_wrong_in_silence(real: Real, world: World) -> None:
    corpus.load(world.dsn, real)
    answer = world.check(table=real.table)
    if not real.has_known_words or answer.json["refused"]:
        assert answer.json["refused"] or answer.names("--map FILE")
        return
    for key, names in wrong(real, answer).items():
        assert any(answer.names(name) for name in (key, *names)), (
            f"{key} is wrong ({names}) and nothing says that it is unsure"
        )


@each
def test_it_is_refused_when_it_is_not_for_workers(real: Real, world: World) -> None:
    corpus.load(world.dsn, real)
    answer = world.check(table=real.table)
    assert bool(answer.json["refused"]) == (
        real.description["adoption_test"]["adopt"] == "not adoptable"
    )


def test_nine_in_ten_of_those_with_a_closed_list_are_inferred_right(world: World) -> None:
    listed = [real for real in TABLES if real.closed and real.adoptable]
    right = 0
    for at, real in enumerate(listed):
        world.run(
            "drop schema if exists auth cascade; drop schema public cascade; "
            f"create schema public -- {at}"
        )
        corpus.load(world.dsn, real)
        right += not wrong(real, world.check(table=real.table))
    assert right >= 0.9 * len(listed), f"{right} of {len(listed)}"


def rows(connection: psycopg.Connection[Any], real: Real) -> dict[str, dict[str, Any]]:
    key = real.description["id"]["column"][0]
    cursor = connection.execute(f'select "{key}"::text, to_jsonb(t) from {real.table} t'.encode())
    return dict(cursor.fetchall())


ADOPTABLE = [real for real in TABLES if real.adoptable]
adopted = pytest.mark.parametrize("real", ADOPTABLE, ids=lambda real: real.name)


def mapped(real: Real, world: World) -> str:
    return world.map(**json.loads(json.dumps(real.mapping)))


@adopted
def test_with_the_mapping_given_what_is_stuck_is_failed_and_nothing_else_is_touched(
    real: Real, world: World
) -> None:
    corpus.load(world.dsn, real)
    stuck, others = {}, []
    with psycopg.connect(world.dsn, autocommit=True) as connection:
        connection.execute("set time zone 'UTC'")
        for state in ("running", "pending"):
            for word in real.words[state]:
                stuck[corpus.insert(connection, real, word, "3 hours", state)] = state
                others.append(corpus.insert(connection, real, word, "0 hours", state))
        for state in ("completed", "failed", "cancelled", "resting"):
            others += [
                corpus.insert(connection, real, word, "3 hours", state)
                for word in real.words[state]
            ]
        before = rows(connection, real)
        file = mapped(real, world)
        fixed = world.fix("--map", file, table=real.table)
        ended = list(fixed.json["fixed"])
        if not dated(real):
            assert fixed.names("clocks.queued"), (
                "it says that no clock dates a pending row; a person can name the task"
            )
            named = [key for key, state in stuck.items() if state == "pending"]
            ended += [
                task
                for key in named
                for task in world.fix("--map", file, "--job-id", key, table=real.table).json[
                    "fixed"
                ]
            ]
        assert sorted(ended) == sorted(stuck), fixed.json
        assert fixed.code == 0
        assert fixed.json["unsweepable"] == []
        after = rows(connection, real)
    status = real.description["status"]["column"]
    assert {key: after[key][status] for key in stuck} == dict.fromkeys(
        stuck, real.words["failed"][0]
    )
    assert {key: after[key] for key in others} == {key: before[key] for key in others}
    for key in stuck:
        unchanged(real, before[key], after[key])


def dated(real: Real) -> bool:
    """Whether a clock tells since when a task waits. A started_at that can't be NULL really means
    created."""
    started = real.column("started")
    born = bool(started and real.description["all_columns"][started]["notnull"])
    return born or any(real.column(role) for role in ("created", "schedule"))


def unchanged(real: Real, before: dict[str, Any], after: dict[str, Any], *more: str) -> None:
    """All but the status, the error, the clocks and what optimistic writers compare; JSON has all
    that it had."""
    ours = {
        real.description["status"]["column"],
        real.column("error"),
        real.column("updated"),
        real.column("completed"),
        "version",
        *more,
    }
    ours |= {real.column("failed_at")}
    for name, value in before.items():
        if name not in ours:
            assert after[name] == value, name
        if isinstance(value, dict):
            assert value.items() <= after[name].items()
        if isinstance(value, list):
            assert after[name][: len(value)] == value


@adopted
def test_with_the_mapping_given_a_running_row_is_put_back(real: Real, world: World) -> None:
    if not real.words["pending"]:
        pytest.skip("its rows are born running: there is nothing to be put back to")
    corpus.load(world.dsn, real)
    with psycopg.connect(world.dsn, autocommit=True) as connection:
        connection.execute("set time zone 'UTC'")
        keys = [
            corpus.insert(connection, real, word, "3 hours", "running")
            for word in real.words["running"]
        ]
        fresh = corpus.insert(connection, real, real.words["running"][0], "0 hours", "running")
        before = rows(connection, real)
        fixed = world.fix("--map", mapped(real, world), "--action", "requeue", table=real.table)
        assert sorted(fixed.json["fixed"]) == sorted(keys), fixed.json
        after = rows(connection, real)
    assert {after[key][real.description["status"]["column"]] for key in keys} == {
        real.words["pending"][0]
    }
    assert after[fresh] == before[fresh]
    cleared = [
        real.column(role)
        for role in ("started", "heartbeat", "lock_at", "lock_until", "worker", "attempts")
    ]
    for key in keys:
        unchanged(real, before[key], after[key], *filter(None, cleared))
