"""resume: end the pause of a kind, of a watch or of all. What waits is taken again: by workers that
pull at once, and by pushes with the next sweep."""

import argparse

from functions.ops.cli import target
from functions.ops.cli.out import FINE, print_json, print_line
from functions.ops.commands.pause import PAUSE, chosen, scope, who

HELP = "end the pause of a kind"
JSON = {"resumed": PAUSE}


def arguments(parser: argparse.ArgumentParser) -> None:
    scope(parser)
    target.arguments(parser)


def run(options: argparse.Namespace) -> int:
    store, policy, watch = target.target(options)
    ended = []
    for each, kind in chosen(options, policy, watch):
        ended += store.resume(each, kind, who())
    if options.json:
        print_json({"resumed": ended})
        return FINE
    for pause in ended:
        print_line(f"resumed: {pause.watch} {pause.kind}")
    if not ended:
        print_line("Nothing of it was paused.")
    return FINE
