"""explain: where a task is, why, since when, and what will happen next; then its attempts as a timeline."""

import argparse

from functions.ops import one
from functions.ops.out import FINE, data

HELP = "say where a task is, why, and what will happen next"
JSON = {"task_id": (), "state": (), "explanation": (), "attempts": one.ATTEMPT}
arguments = one.arguments


def run(options: argparse.Namespace) -> int:
    task = one.one(options)
    if options.json:
        named = {name: task.status[name] for name in ("task_id", "state")}
        data(named | {"explanation": task.explanation, "attempts": task.attempts})
        return FINE
    print(one.sentence(task))
    one.timeline(task.attempts)
    return FINE
