"""docs/policy.md and functions/policy.schema.json, from the keys that functions/core reads."""

import json
from collections.abc import Iterator
from typing import Any

from functions.core.durations import SECONDS_BY_UNIT
from functions.core.policy import POLICY
from functions.core.policy_keys import Kind, Mapping
from functions.core.rule import ADDRESS, RULE
from functions.core.watch import WATCH

Schema = dict[str, Any]

MEANING = (
    "Which tables are watched, in which words, and by which clocks and rules. Python and Terraform "
    "read it, and both refuse numbers that do not fit together."
)
_HEAD = """# policy.yaml

*For you if you look up a key of the policy. 1 minute.*

<!-- Made by `make docs` from policy.py, watch.py and rule.py of functions/core. Edit those. -->

`functions/policy.yaml`, or the file that `UNSTUCK_POLICY` names. {meaning} An error names the
line and the next step.

A *watch* is a table that Unstuck watches, with its words, clocks and rules; other words are in the
[glossary](glossary.md).

Times are written as 30s, 5m, 2h, 7d or a number of seconds; sizes as 400MB, 1GiB or a number of
bytes. Editors that know JSON Schema complete and check it: the first line of the file points to the
schema. `examples/` has the policies of four real systems.
"""

BELOW = {"watches": ("NAME", WATCH), "rules": ("KIND", RULE), "addresses": ("NAME", ADDRESS)}
"""The mappings whose names are free: what stands for a name in a path, and what is below it."""
TYPES = {
    "#/$defs/time": "time",
    "#/$defs/size": "size",
    "#/$defs/names": "one or a list",
    "#/$defs/words": "one or a list",
    "object": "mapping",
    "array": "list",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "string": "text",
}


def text() -> str:
    """docs/policy.md."""
    return "\n".join([_HEAD.format(meaning=MEANING), *_tables("", "", POLICY)])


def _tables(path: str, meaning: str, mapping: Mapping) -> Iterator[str]:
    if path:
        yield f"## {path}\n\n{meaning}\n"
    yield "| key | value | required | meaning |\n|---|---|---|---|"
    required = 'in "*"' if mapping is RULE else "yes"
    for name, key in mapping.keys.items():
        description = key.meaning.replace("|", "\\|")
        mark = required if key.required else ""
        yield f"| `{name}` | {_type(key.kind)} | {mark} | {description} |"
    yield ""
    for name, key in mapping.keys.items():
        inner_path = f"{path}.{name}".lstrip(".")
        if isinstance(key.kind, Mapping):
            yield from _tables(inner_path, key.meaning, key.kind)
        elif name in BELOW:
            placeholder, below = BELOW[name]
            yield from _tables(f"{inner_path}.{placeholder}", key.meaning, below)


def _type(kind: Kind | Mapping) -> str:
    if isinstance(kind, Mapping):
        return f"{_type(kind.single)} or mapping" if kind.single else "mapping"
    if "enum" in kind.schema:
        return " \\| ".join(f"`{value}`" for value in kind.schema["enum"])
    if "anyOf" in kind.schema:
        return "text or mapping"
    name = TYPES[kind.schema.get("$ref") or kind.schema["type"]]
    if "maximum" in kind.schema:
        name += f" {kind.schema['minimum']} - {kind.schema['maximum']}"
    return name


def schema_text() -> str:
    """functions/policy.schema.json."""
    return _json(schema()) + "\n"


def schema() -> Schema:
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "policy.yaml",
        "description": MEANING,
        **_schema(POLICY),
        "$defs": {
            "time": {
                "description": "30s, 5m, 2h, 7d, or a number of seconds.",
                "anyOf": [
                    {"type": "number", "minimum": 0},
                    {"type": "string", "pattern": f"^[0-9.]+ *[{''.join(SECONDS_BY_UNIT)}]?$"},
                ],
            },
            "size": {
                "description": "400MB, 1GiB, or a number of bytes.",
                "anyOf": [
                    {"type": "integer", "minimum": 1},
                    {"type": "string", "pattern": "^[0-9.]+ *(B|[KMG]i?B)?$"},
                ],
            },
            "names": _one_or_more("A name, or several.", "string"),
            "words": _one_or_more("A word, or several.", ["string", "integer", "boolean"]),
            "watch": _schema(WATCH),
            "rule": _schema(RULE, whole=False),
            "address": _schema(ADDRESS),
        },
    }


def _one_or_more(description: str, types: str | list[str]) -> Schema:
    several = {"type": "array", "items": {"type": types}}
    return {"description": description, "anyOf": [{"type": types}, several]}


def _schema(kind: Kind | Mapping, *, whole: bool = True) -> Schema:
    """`whole`: whether the required keys must be there."""
    if isinstance(kind, Kind):
        return kind.schema
    mapping: Schema = {"type": "object", "additionalProperties": False}
    required = [name for name, key in kind.keys.items() if key.required]
    if required and whole:
        mapping["required"] = required
    mapping["properties"] = {
        name: {"description": key.meaning, **_schema(key.kind)} for name, key in kind.keys.items()
    }
    return {"anyOf": [kind.single.schema, mapping]} if kind.single else mapping


def _json(value: Any, indent: str = "") -> str:
    """A mapping that fits into a line stands in one."""
    line = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict) or len(indent) + len(line) < 90:
        return line
    inner = indent + "  "
    lines = [f"{inner}{json.dumps(name)}: {_json(item, inner)}" for name, item in value.items()]
    return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
