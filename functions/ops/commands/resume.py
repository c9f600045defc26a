"""resume: end the pause of a kind, of a watch or of all. What waits is taken again: by workers that
pull at once, and by a push where this command knows the queue or the worker; the sweep sends the
other pushes."""

import argparse

from functions.core.dispatch import HttpDispatch
from functions.ops.cli import target
from functions.ops.cli.out import FINE, counted, print_json, print_line
from functions.ops.commands.pause import PAUSE, chosen, scope, who

HELP = "end the pause of a kind"
JSON = {"resumed": PAUSE, "pushed": (), "error": ()}
POSTS_SECONDS = 3.0


def arguments(parser: argparse.ArgumentParser) -> None:
    scope(parser)
    target.arguments(parser)


def run(options: argparse.Namespace) -> int:
    from functions.sweep.wake import wake

    store, policy, watch = target.target(options)
    dispatcher = options.app.dispatcher
    resumed, woken = [], []
    for each, kind in chosen(options, policy, watch):
        ended = store.resume(each, kind, who())
        resumed += ended
        woken.append(wake(store, dispatcher, each, ended))
    if isinstance(dispatcher, HttpDispatch):
        dispatcher.flush(POSTS_SECONDS)
    pushed = sum(each.pushed for each in woken)
    error = "; ".join(each.error for each in woken if each.error) or None
    if options.json:
        print_json({"resumed": resumed, "pushed": pushed, "error": error})
        return FINE
    for pause in resumed:
        print_line(f"resumed: {pause.watch} {pause.kind}")
    if not resumed:
        print_line("Nothing of it was paused.")
    if pushed:
        print_line(f"{counted(pushed, 'task')} pushed; the sweep pushes the others")
    if error:
        print_line(f"{error}: the next sweep pushes them")
    return FINE
