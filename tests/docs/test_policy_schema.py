"""functions/policy.schema.json, which editors and the reference use, says what
functions/core/policy.py takes."""

import copy
import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import yaml

from functions.core.policy import DEFAULT, parse
from functions.errors import PolicyError
from functions.ops.reference.policy import Schema, inner, load, resolved
from tests.docs.pages import ROOT

SCHEMA = load()
POLICIES = [
    DEFAULT,
    *sorted((ROOT / "examples").glob("*.yaml")),
    ROOT / "functions" / "ops" / "demo" / "policy.yaml",
]
FULL: dict[str, Any] = {"clocks": {}, "also": {}, "hooks": {}, "limits": {"create_per_minute": 5}}
"""What the default watch does not have."""


def mappings(one: Schema, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], set[str]]]:
    """Each mapping with fixed keys: its path in a policy, and the keys."""
    properties = {
        name: resolved(value, SCHEMA) for name, value in one.get("properties", {}).items()
    }
    if properties:
        yield path, set(properties)
    for name, value in properties.items():
        for deeper in (value, *value.get("anyOf", ())):
            yield from mappings(deeper, (*path, name))
    if below := inner(one, SCHEMA):
        yield from mappings(below[1], (*path, {"NAME": "tasks", "KIND": "*"}[below[0]]))


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.name)
def test_the_schema_takes_every_policy_that_there_is(path):
    jsonschema.Draft202012Validator(SCHEMA).validate(
        yaml.safe_load(path.read_text(encoding="utf-8"))
    )


@pytest.mark.parametrize(
    ("path", "keys"),
    list(mappings(SCHEMA)),
    ids=lambda one: ".".join(one) if isinstance(one, tuple) else "",
)
def test_the_schema_has_the_keys_that_the_policy_takes(path, keys):
    policy = yaml.safe_load(DEFAULT.read_text(encoding="utf-8"))
    policy["watches"]["tasks"] = {**copy.deepcopy(FULL), **policy["watches"]["tasks"]}
    at = policy
    for step in path:
        at[step] = at[step] if isinstance(at.get(step), dict) else {}
        at = at[step]
    at["no_such_key"] = 1
    with pytest.raises(PolicyError) as refused:
        parse(yaml.safe_dump(policy))
    known = re.search(r"Known are: ([^.]+)\.", str(refused.value))
    assert known, str(refused.value)
    assert set(known[1].split(", ")) == keys


def test_the_schema_refuses_a_slip():
    policy = yaml.safe_load(DEFAULT.read_text(encoding="utf-8"))
    policy["watches"]["tasks"]["rules"]["image"]["run_fro"] = "5m"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(SCHEMA).validate(policy)
