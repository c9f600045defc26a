"""explain: where a task is, why, since when, and what will happen next; then its attempts as a
timeline."""

import argparse

from functions.ops.cli import one_task
from functions.ops.cli.out import FINE, print_json, print_line

HELP = "say where a task is, why, and what will happen next"
JSON = {"task_id": (), "state": (), "explanation": (), "attempts": one_task.ATTEMPT}
arguments = one_task.arguments


def run(options: argparse.Namespace) -> int:
    task = one_task.read(options)
    if options.json:
        named = {"task_id": task.status.task_id, "state": task.status.state}
        print_json(named | {"explanation": task.explanation, "attempts": task.attempts})
        return FINE
    print_line(one_task.sentence(task))
    one_task.print_timeline(task.attempts)
    one_task.print_next(task)
    return FINE
