"""functions/policy.schema.json, by which editors check a policy, says what functions/core takes."""

import copy
import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import yaml

from functions.core.policy import DEFAULT, parse
from functions.errors import PolicyError
from functions.ops.reference.policy import Schema, schema
from tests.docs.pages import ROOT

SCHEMA = schema()
POLICIES = [
    DEFAULT,
    *sorted((ROOT / "examples").glob("*.yaml")),
    ROOT / "functions" / "ops" / "demo" / "policy.yaml",
]
FULL: dict[str, Any] = {"clocks": {}, "also": {}, "hooks": {}, "limits": {"create_per_minute": 5}}
"""What the default watch does not have."""


def resolved(part: Schema) -> Schema:
    """A part of the schema, with what its $ref points to."""
    return SCHEMA["$defs"][part["$ref"].rpartition("/")[2]] if "$ref" in part else part


def mappings(
    part: Schema, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], set[str]]]:
    """Each mapping with fixed keys: its path in a policy, and the keys."""
    part = resolved(part)
    properties = part.get("properties", {})
    if properties:
        yield path, set(properties)
    for name, value in properties.items():
        for deeper in (value, *value.get("anyOf", ())):
            yield from mappings(deeper, (*path, name))
    for below in part.get("patternProperties", {}).values():
        yield from mappings(below, (*path, "tasks"))
    if isinstance(part.get("additionalProperties"), dict) and "required" in part:
        yield from mappings(part["additionalProperties"], (*path, "*"))


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.name)
def test_the_schema_takes_every_policy_that_there_is(path):
    jsonschema.Draft202012Validator(SCHEMA).validate(
        yaml.safe_load(path.read_text(encoding="utf-8"))
    )


@pytest.mark.parametrize(
    ("path", "keys"),
    list(mappings(SCHEMA)),
    ids=lambda value: ".".join(value) if isinstance(value, tuple) else "",
)
def test_the_schema_has_the_keys_that_the_policy_takes(path, keys):
    policy = yaml.safe_load(DEFAULT.read_text(encoding="utf-8"))
    policy["watches"]["tasks"] = {**copy.deepcopy(FULL), **policy["watches"]["tasks"]}
    mapping = policy
    for step in path:
        if not isinstance(mapping.get(step), dict):
            mapping[step] = {}
        mapping = mapping[step]
    mapping["no_such_key"] = 1
    with pytest.raises(PolicyError) as refused:
        parse(yaml.safe_dump(policy))
    listed = re.search(r"Known are: ([^.]+)\.", str(refused.value))
    assert listed, str(refused.value)
    assert set(listed[1].split(", ")) == keys


def test_the_schema_refuses_a_slip():
    policy = yaml.safe_load(DEFAULT.read_text(encoding="utf-8"))
    policy["watches"]["tasks"]["rules"]["image"]["run_fro"] = "5m"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(SCHEMA).validate(policy)
