"""The schema of a kind's input: `KIND.schema.json` beside its handler, JSON Schema draft-07. A
file, so that create_task need not import the handler to know what it takes."""

import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from functions.core.policy import Watch
from functions.errors import BadRequestError

ROOT = Path(__file__).parents[2]


def check(watch: Watch, kind: str, task_input: dict[str, Any]) -> None:
    """Raises BadRequestError (422), which says where the input is not what the handler takes."""
    accepts = _of(watch.handler(kind).partition(":")[0], kind)
    if accepts is None:
        return
    import fastjsonschema  # 4 ms of CPU; jsonschema took 70, a third of a cold start

    try:
        accepts(task_input)
    except fastjsonschema.JsonSchemaValueException as error:
        path = "/".join(["", *(str(step) for step in error.path[1:])])
        why = error.message.removeprefix(error.name or "").strip()
        text = f"`input{path}` is not what {kind} takes: it {why}."
        raise BadRequestError(text[:500], status=422, code="invalid_input", path=path) from None
    except RecursionError:
        raise BadRequestError(
            "`input` is nested too deeply.", status=422, code="invalid_input", path=""
        ) from None


@lru_cache
def _of(module: str, kind: str) -> Any:
    """Checks an input, or None where the kind has no schema."""
    file = file_of(module, kind)
    if not re.fullmatch(r"\w[\w.-]*", kind):  # it comes from a row: it must name no other folder
        return None
    if not file.is_file():
        return None
    import fastjsonschema

    return fastjsonschema.compile(json.loads(file.read_text(encoding="utf-8")), use_default=False)


def file_of(module: str, kind: str) -> Path:
    """Where the schema of the kind would be. Found without an import: a handler's package may be
    heavy."""
    return ROOT.joinpath(*module.split(".")[:-1], f"{kind}.schema.json")
