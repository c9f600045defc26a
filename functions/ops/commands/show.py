"""show: one task whole: its fields, what is said of it, and its attempts."""

import argparse
import json
from typing import Any

from functions.core.record import plain
from functions.ops.cli import one_task
from functions.ops.cli.out import FINE, print_json, print_line, print_table

HELP = "show one task whole: its fields and its attempts"
FIELDS = (
    "task_id",
    "kind",
    "state",
    "word",
    "owner",
    "result",
    "error",
    "reason",
    "queued_at",
    "waited",
    "silent",
    "due_in",
    "overdue",
    "attempt",
)
JSON = {"task": FIELDS, "explanation": (), "attempts": one_task.ATTEMPT}
arguments = one_task.arguments


def run(options: argparse.Namespace) -> int:
    task = one_task.read(options)
    fields = {name: plain(value) for name, value in vars(task.status).items() if name in FIELDS}
    if options.json:
        print_json({"task": fields, "explanation": task.explanation, "attempts": task.attempts})
        return FINE
    print_line(one_task.sentence(task))
    print_table(("field", "value"), _rows(fields))
    one_task.print_timeline(task.attempts)
    one_task.print_next(task)
    return FINE


def _rows(fields: dict[str, Any]) -> list[tuple[str, Any]]:
    """The last attempt field by field too, since the timeline shows only some of them."""
    flat = {name: value for name, value in fields.items() if name != "attempt"}
    flat |= {f"attempt.{name}": value for name, value in (fields["attempt"] or {}).items()}
    return [(name, _cell(value)) for name, value in flat.items() if value is not None]


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 3)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list | bool) else value
