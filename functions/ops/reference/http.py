"""docs/http-api.md, from docs/openapi.yaml."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

DOCUMENT = Path(__file__).parents[3] / "docs" / "openapi.yaml"
Part = dict[str, Any]

_HEAD = """# The HTTP API

*For you if you call the functions from a program of yours. 5 minutes.*

<!-- Made by `make docs` from docs/openapi.yaml. Edit that instead. -->

{description} An error is `{{"error": {{"code", "message"}}}}`: the code is for programs, the
message says the next step. The full specification: [OpenAPI](openapi.yaml).

Every call may also be answered by 400 (the request cannot be read, or is nested deeper than 200
levels), 401 or 403 (the caller is not accepted; see below), 408 (the body did not come within
10 s), 413 (the body is larger than 1,000,000 bytes), 503 with Retry-After (the database cannot be
reached) or 500 (a fault of the functions; the log has the details).

**Who may call.** {supabase} {google}

The service role may name an `owner`. If no user tokens are configured, every caller may. The `anon`
key is refused. Behind IAM the app puts its own token into `X-Serverless-Authorization`, so that the
user's token stays in `Authorization`.

`create_task` is only for the table that Unstuck makes, and so are the limits for each user. A table
that you adopted gets its tasks from your own application. The field `watch` names the table, by its
name under `watches` in [policy.yaml](policy.md); other words are in the [glossary](glossary.md).

**The codes of 401.** {unauthorized}
"""
COMMON = {"400", "401", "408", "413", "500", "503"}


def text() -> str:
    document = load()
    schemes = document["components"]["securitySchemes"]
    head = _HEAD.format(
        description=document["info"]["description"],
        supabase=f"Users: {schemes['supabase']['description']}",
        google=f"Workers and schedulers: {schemes['google']['description']}",
        unauthorized=document["components"]["responses"]["Unauthorized"]["description"],
    )
    return "\n".join(
        [head, *(line for tag in document["tags"] for line in _section(document, tag))]
    )


def load() -> Part:
    document: Part = yaml.safe_load(DOCUMENT.read_text(encoding="utf-8"))
    return document


def _section(document: Part, tag: Part) -> Iterator[str]:
    yield f"## {tag['name'].capitalize()}\n\n{tag['description']}\n"
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if tag["name"] in operation["tags"]:
                yield f"### {path.strip('/')}\n"
                yield from _operation(document, method, operation)


def _operation(document: Part, method: str, operation: Part) -> Iterator[str]:
    meaning = f"{operation['summary']} {operation.get('description', '')}".rstrip()
    yield f"`{method.upper()}`: {meaning}\n"
    if fields := list(_fields(document, operation)):
        yield "| field | type | meaning |\n|---|---|---|\n" + "\n".join(fields) + "\n"
    yield "| answer | meaning |\n|---|---|"
    for status, answer in operation["responses"].items():
        full = _resolved(document, answer)
        if status not in COMMON or answer is full:
            yield f"| {status} {_shown(document, full)}| {full['description']} |"
    yield ""


def _fields(document: Part, operation: Part) -> Iterator[str]:
    for parameter in operation.get("parameters", ()):
        yield _row(
            parameter["name"],
            parameter["schema"],
            parameter.get("required", False),
            parameter["description"],
        )
    if "requestBody" in operation:
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        for name, value in schema["properties"].items():
            field = _resolved(document, value)
            yield _row(name, field, name in schema["required"], field["description"])


def _row(name: str, schema: Part, required: bool, description: str) -> str:
    types = schema.get("type", "any JSON")
    if isinstance(types, list):
        types = " or ".join(kind for kind in types if kind != "null")
    mark = ", required" if required else ""
    return f"| `{name}` | {schema.get('format', types)}{mark} | {description} |"


def _shown(document: Part, answer: Part) -> str:
    """The names of what is answered. Errors have their own form."""
    schema = _resolved(document, answer["content"]["application/json"]["schema"])
    names = ", ".join(schema["properties"])
    return "" if names == "error" else f"`{{{names}}}` "


def _resolved(document: Part, part: Part) -> Part:
    """A part of the document, or what its $ref points to."""
    if "$ref" not in part:
        return part
    target = document
    for name in part["$ref"].removeprefix("#/").split("/"):
        target = target[name]
    return target
