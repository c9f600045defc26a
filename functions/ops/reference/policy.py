"""docs/policy.md, from functions/policy.schema.json."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SCHEMA = Path(__file__).parents[2] / "policy.schema.json"
Schema = dict[str, Any]

_HEAD = """# policy.yaml

<!-- Made by `make docs` from functions/policy.schema.json. Edit that instead. -->

`functions/policy.yaml`, or the file that `UNSTUCK_POLICY` names. {description} An error names the
line and the next step.

A *watch* is a table that Unstuck looks after; other words are in the [glossary](glossary.md).

Times are written as 30s, 5m, 2h, 7d or a number of seconds; sizes as 400MB, 1GiB or a number of
bytes. Editors that know JSON Schema complete and check it: the first line of the file points to the
schema. `examples/` has the policies of four real systems.
"""


def text() -> str:
    schema = load()
    return "\n".join([_HEAD.format(**schema), *_section("", schema, schema)])


def load() -> Schema:
    found: Schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    return found


def resolved(one: Schema, schema: Schema) -> Schema:
    """With what its $ref points to; its own description wins."""
    if "$ref" not in one:
        return one
    name = one["$ref"].rpartition("/")[2]
    return {**schema["$defs"][name], **{key: value for key, value in one.items() if key != "$ref"}}


def inner(one: Schema, schema: Schema) -> tuple[str, Schema] | None:
    """The objects within a mapping of names, and what stands for the name."""
    for found, name in (
        (one.get("patternProperties", {}).values(), "NAME"),
        ([one.get("additionalProperties")], "KIND"),
    ):
        for value in found:
            if isinstance(value, dict) and "properties" in resolved(value, schema):
                return name, resolved(value, schema)
    return None


def _section(path: str, one: Schema, schema: Schema) -> Iterator[str]:
    properties = {
        name: resolved(value, schema) for name, value in one.get("properties", {}).items()
    }
    if properties:
        if path:
            yield f"## {path}\n\n{one.get('description', '')}\n"
        needed = set(one.get("required", ()))
        yield "| key | value | required | meaning |\n|---|---|---|---|"
        for name, value in properties.items():
            told = value.get("description", "").replace("|", "\\|")
            yield f"| `{name}` | {_kind(value)} | {'yes' if name in needed else ''} | {told} |"
        yield ""
    for name, value in properties.items():
        deeper = (
            value
            if "properties" in value or inner(value, schema)
            else next(iter(_objects(value)), None)
        )
        if deeper:
            yield from _section(f"{path}.{name}".lstrip("."), deeper, schema)
    if below := inner(one, schema):
        yield from _section(f"{path}.{below[0]}".lstrip("."), below[1], schema)


def _objects(value: Schema) -> Iterator[Schema]:
    return (one for one in value.get("anyOf", ()) if "properties" in one)


def _kind(value: Schema) -> str:
    if "enum" in value:
        return " \\| ".join(f"`{one}`" for one in value["enum"])
    if "anyOf" in value:
        return _either(value)
    bounds = f" {value['minimum']} - {value['maximum']}" if "maximum" in value else ""
    return _KINDS.get(str(value["type"]), str(value["type"])) + bounds


_KINDS = {
    "object": "mapping",
    "array": "list",
    "integer": "whole number",
    "boolean": "true or false",
    "string": "text",
}


def _either(value: Schema) -> str:
    patterns = [one["pattern"] for one in value["anyOf"] if "pattern" in one]
    if patterns:
        return "time" if "smhd" in patterns[0] else "size"
    if any("properties" in one for one in value["anyOf"]):
        return "number or mapping"
    return "one or a list"
