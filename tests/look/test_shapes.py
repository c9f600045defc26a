"""What check makes of tables that nobody described to it, in shapes that are not in the corpus: shapes.yaml lists them."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from functions.states import State
from tests.look.looking import World

SHAPES = yaml.safe_load(Path(__file__).with_name("shapes.yaml").read_text(encoding="utf-8"))
OLD = "now() - interval '1 day'"


def made(world: World, shape: dict[str, Any]) -> None:
    world.run(*shape["ddl"].split(";\n"))


@pytest.mark.parametrize("name", SHAPES["tasks"])
def test_it_infers_the_mapping_of(name: str, world: World) -> None:
    shape = SHAPES["tasks"][name]
    made(world, shape)
    answer = world.check(table=shape.get("table", "jobs"))
    told = answer.json
    inferred = told["inferred"]
    assert told["refused"] is None
    assert (inferred["key"], inferred["status"]) == (shape.get("key", "id"), shape.get("status", "status"))
    for state in State:
        assert sorted(inferred["words"][state], key=str) == sorted(shape["words"].get(state, []), key=str), state
    for clock, column in shape.get("clocks", {}).items():
        assert inferred["clocks"][clock] == column, clock
    for role, column in shape.get("columns", {}).items():
        assert inferred[role] == column, role
    for text in shape.get("unsure", []):
        assert answer.names(text), f"{text} is not in {told['unsure']}"
    assert all("--" in one for one in told["unsure"]), "each doubt names the option to give"


@pytest.mark.parametrize("name", SHAPES["refused"])
def test_it_refuses(name: str, world: World) -> None:
    shape = SHAPES["refused"][name]
    made(world, shape)
    answer = world.check(table=shape.get("table", "jobs"))
    assert answer.code == 1
    assert shape["why"] in answer.json["refused"]
    assert answer.json["stuck"] == []
    assert "--" in answer.json["refused"], "it names the option to give"


def test_a_person_who_gives_the_words_overrules_the_refusal(world: World) -> None:
    made(world, SHAPES["refused"]["payments with the words of a queue"])
    world.run(
        "alter table payments add updated_at timestamptz",
        f"insert into payments (id, status, updated_at) values (gen_random_uuid(), 'processing', {OLD})",
    )
    given = {"pending": ["pending"], "running": ["processing"], "completed": ["succeeded"], "failed": ["failed"]}
    answer = world.check("--map", world.map(words=given), table="payments")
    assert (answer.code, len(answer.ids())) == (3, 1)


@pytest.mark.parametrize(("kind", "running", "failed"), [("integer", "2", "3"), ("boolean", "true", "false")])
def test_it_asks_what_numbers_mean_and_then_knows(kind: str, running: str, failed: str, world: World) -> None:
    world.run(
        f"create table jobs (id serial primary key, status {kind}, error text, created_at timestamptz)",
        f"insert into jobs (status, created_at) values ({running}, {OLD})",
    )
    answer = world.check()
    assert answer.code == 1
    assert answer.json["refused"] is None
    assert answer.names("--map FILE")
    file = world.map(words={"running": [running], "failed": [failed]})
    assert world.fix("--map", file).json["fixed"] == ["1"]
    assert str(world.one("select status from jobs")).lower() == failed
