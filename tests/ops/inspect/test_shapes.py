"""What check makes of tables that nobody described to it, in shapes that are not in the corpus:
shapes.yaml lists them."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from functions.core.states import State
from tests.ops.inspect.world import World

SHAPES = yaml.safe_load(Path(__file__).with_name("shapes.yaml").read_text(encoding="utf-8"))
OLD = "now() - interval '1 day'"


def create_table(world: World, shape: dict[str, Any]) -> None:
    world.run(*shape["ddl"].split(";\n"))


@pytest.mark.parametrize("name", SHAPES["tasks"])
def test_it_infers_the_mapping_of(name: str, world: World) -> None:
    shape = SHAPES["tasks"][name]
    create_table(world, shape)
    answer = world.check(table=shape.get("table", "jobs"))
    answer_json = answer.json
    inferred = answer_json["inferred"]
    assert answer_json["refused"] is None
    assert (inferred["key"], inferred["status"]) == (
        shape.get("key", "id"),
        shape.get("status", "status"),
    )
    for state in State:
        assert sorted(inferred["words"][state], key=str) == sorted(
            shape["words"].get(state, []), key=str
        ), state
    for clock, column in shape.get("clocks", {}).items():
        assert inferred["clocks"][clock] == column, clock
    for role, column in shape.get("columns", {}).items():
        assert inferred[role] == column, role
    for text in shape.get("unsure", []):
        assert answer.names(text), f"{text} is not in {answer_json['unsure']}"
    assert all("--" in sentence for sentence in answer_json["unsure"]), (
        "each doubt names the option to give"
    )


@pytest.mark.parametrize("name", SHAPES["refused"])
def test_it_refuses(name: str, world: World) -> None:
    shape = SHAPES["refused"][name]
    create_table(world, shape)
    answer = world.check(table=shape.get("table", "jobs"))
    assert answer.code == 1
    assert shape["why"] in answer.json["refused"]
    assert answer.json["stuck"] == []
    assert "--" in answer.json["refused"], "it names the option to give"


def test_a_person_who_gives_the_words_overrules_the_refusal(world: World) -> None:
    create_table(world, SHAPES["refused"]["payments with the words of a queue"])
    world.run(
        "alter table payments add updated_at timestamptz",
        "insert into payments (id, status, updated_at) values (gen_random_uuid(), "
        f"'processing', {OLD})",
    )
    words = {
        "pending": ["pending"],
        "running": ["processing"],
        "completed": ["succeeded"],
        "failed": ["failed"],
    }
    answer = world.check("--map", world.map(words=words), table="payments")
    assert (answer.code, len(answer.ids())) == (3, 1)


@pytest.mark.parametrize(
    ("kind", "running", "failed"), [("integer", "2", "3"), ("boolean", "true", "false")]
)
def test_it_asks_what_numbers_mean_and_then_knows(
    kind: str, running: str, failed: str, world: World
) -> None:
    world.run(
        f"create table jobs (id serial primary key, status {kind}, "
        "error text, created_at timestamptz)",
        f"insert into jobs (status, created_at) values ({running}, {OLD})",
    )
    answer = world.check()
    assert answer.code == 1
    assert answer.json["refused"] is None
    assert answer.names("--map FILE")
    file = world.map(words={"running": [running], "failed": [failed]})
    assert world.fix("--map", file).json["fixed"] == ["1"]
    assert str(world.value("select status from jobs")).lower() == failed


@pytest.mark.parametrize(
    "status",
    [
        "char(1) not null default 'Q' check (status in ('Q', 'R', 'D', 'F'))",
        "text default '0'",
        "varchar(2) default 'N'",
    ],
)
def test_it_asks_what_letters_and_codes_mean(status: str, world: World) -> None:
    world.run(
        f"create table jobs (id serial primary key, status {status}, "
        "error text, created_at timestamptz)"
    )
    answer = world.check()
    assert (answer.code, answer.json["refused"], answer.json["stuck"]) == (1, None, [])
    assert answer.names("nothing tells what they mean")
    assert "nothing tells what they mean" in answer.err, (
        "the sentence that matters, not the last one"
    )


def test_a_time_that_is_infinite_tells_no_age(world: World) -> None:
    world.run(
        "create table jobs (id serial primary key, status text "
        "check (status in ('queued', 'running', 'done', 'failed')), "
        "lease_until timestamptz, created_at timestamptz)",
        "insert into jobs (status, lease_until, created_at) "
        "values ('running', 'infinity', '-infinity'), "
        "('running', '-infinity', '-infinity'), ('queued', null, '-infinity')",
    )
    stuck = {task["id"]: task["age_seconds"] for task in world.check().json["stuck"]}
    assert stuck == {"2": None, "3": None}
    assert sorted(world.fix().json["fixed"]) == ["2", "3"]


def test_what_is_born_running_is_not_said_to_be_put_back(world: World) -> None:
    world.run(
        "create table jobs (id serial primary key, "
        "status text default 'running', started_at timestamptz, "
        "check (status in ('running', 'done', 'failed')))",
        f"insert into jobs (started_at) values ({OLD})",
    )
    assert [task["action"] for task in world.check("--action", "requeue").json["stuck"]] == ["fail"]
    assert world.fix().json["fixed"] == ["1"]


def test_a_flag_that_is_stuck_is_lowered_and_its_own_answer_is_a_map(world: World) -> None:
    world.run(
        "create table jobs (id serial primary key, processing boolean, "
        "last_error text, updated_at timestamptz)",
        f"insert into jobs (processing, updated_at) values (true, {OLD}), (true, now()), "
        f"(false, {OLD}), (null, {OLD})",
    )
    seen = world.check()
    assert (seen.code, seen.ids(), seen.json["open"]) == (3, ["1"], 2)
    file = world.folder / "said.json"
    file.write_text(seen.out, encoding="utf-8")
    assert world.fix("--map", str(file)).json["fixed"] == ["1"]
    assert world.rows("select processing from jobs order by id") == [
        (False,),
        (True,),
        (False,),
        (None,),
    ]
    assert world.value("select last_error from jobs where id = 1").startswith("stale:")
