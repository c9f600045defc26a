"""work: a worker that pulls tasks and runs them in the guard, for machines that nothing can push
to.

Runs until SIGTERM or Ctrl-C; the task in hand is then released without burning a try. Its log lines
go to stdout. Run as many as there are tasks to do at once, and the sweep from cron or pg_cron where
there is no Cloud Scheduler."""

import argparse
import contextlib
import sys

from functions.ops.cli import target
from functions.ops.cli.out import FINE, print_json, print_message

HELP = "pull tasks and run them in the guard"
JSON: dict[str, tuple[str, ...]] = {"ran": ()}


def arguments(parser: argparse.ArgumentParser) -> None:
    target.arguments(parser)
    parser.add_argument(
        "--kind", action="append", metavar="KIND", help="only this kind; may be given again"
    )
    parser.add_argument("--once", action="store_true", help="end when nothing is due")


def run(options: argparse.Namespace) -> int:
    from functions.worker.kinds import kinds_here, where_to_write
    from functions.worker.pull import pull, stop_on_signals

    store, policy, watch = target.target(options)
    watches = [watch] if options.name else list(policy.watches.values())
    names = [watch.name for watch in watches]
    for watch in watches:
        if options.kind is None and kinds_here(watch) == []:
            print_message(f"{watch.name}: {where_to_write(watch, '')}")
    stop_on_signals()
    print_message(f"pulling tasks of {', '.join(names)}; Ctrl-C ends it")
    with contextlib.redirect_stdout(sys.stderr) if options.json else contextlib.nullcontext():
        ran = pull(
            store,
            policy,
            options.app.dispatcher,
            watches,
            options.kind or kinds_here,
            worker=options.app.worker,
            once=options.once,
        )
    if options.json:
        print_json({"ran": ran})
    return print_message(f"{ran} attempts were run", FINE)
