"""explain: where a task is, why, since when, and what will happen next; then its attempts as a timeline."""

import argparse

from functions.explain import explain
from functions.ops import target
from functions.ops.out import ERROR, FINE, data, span, table, words

HELP = "say where a task is, why, and what will happen next"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", help="the task's key")
    target.arguments(parser)


def run(options: argparse.Namespace) -> int:
    store, policy, watch = target.target(options)
    status = store.status(watch, options.id, heal=False)
    if status["verdict"] == "missing":
        return words(f"There is no task {options.id} in {watch.table}. `list` shows those that are open.", ERROR)
    text, attempts = explain(policy, watch, status), store.history(watch, options.id)
    if options.json:
        data({"task_id": status["task_id"], "state": status["state"], "explanation": text, "attempts": attempts})
        return FINE
    print(f"{status['kind'] or 'task'} {status['task_id']} is {status['word']}. {text}")
    if attempts:
        rows = [
            [one["number"], one["started_at"][:19], span(one["took"] if one["ended_at"] else one["age"]), one["worker"],
             one["outcome"] or "live", one["cause"] or one["reason"], one["detail"] or one["error"]]
            for one in attempts
        ]  # fmt: skip
        table(("attempt", "started (UTC)", "took", "worker", "outcome", "cause", "detail"), rows)
    return FINE
