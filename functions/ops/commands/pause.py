"""pause: hold up the tasks of a kind, of a watch or of all, until a time or until `resume`. What
runs goes on, and the time of a pause does not count as waiting."""

import argparse
import getpass
import shlex

from functions.core.policy import Policy, Watch
from functions.errors import PolicyError
from functions.ops.cli import selection, target
from functions.ops.cli.out import (
    FINE,
    PROGRAM,
    print_json,
    print_line,
    print_message,
    print_table,
    span,
)
from functions.store import Store

HELP = "hold up the tasks of a kind; without a kind say what is paused"
PAUSE = ("watch", "kind", "who", "why", "breaker", "since", "age", "left", "ended_by")
JSON = {"pauses": PAUSE}
EVERY_KIND = "*"


def arguments(parser: argparse.ArgumentParser) -> None:
    scope(parser)
    parser.add_argument(
        "--for", dest="time", type=selection.length, help="30m, 2h, ... (default: until `resume`)"
    )
    parser.add_argument("--why", help="a sentence for whoever meets the pause")
    target.arguments(parser)


def scope(parser: argparse.ArgumentParser) -> None:
    """Adds what is paused or resumed."""
    parser.add_argument("kind", nargs="?", metavar="KIND", help="tasks of this kind")
    parser.add_argument(
        "--all-kinds", action="store_true", help="all kinds of the watch that --in names"
    )
    parser.add_argument("--all", action="store_true", help="all kinds of all watches")


def run(options: argparse.Namespace) -> int:
    store, policy, watch = target.target(options)
    meant = chosen(options, policy, watch)
    for each, kind in meant:
        store.pause(each, kind, who(), options.why, options.time)
        if kind != EVERY_KIND and kind not in each.rules and not _is_open(store, each, kind):
            print_message(
                f"{each.name}: no rule and no open task has the kind {kind!r}. If it is spelt "
                f"otherwise: {PROGRAM} resume {shlex.quote(kind)} --in {each.name}"
            )
    pauses = store.pauses(list(policy.watches))
    if options.json:
        print_json({"pauses": pauses})
        return FINE
    if not pauses:
        print_line("Nothing is paused.")
        return FINE
    print_table(
        ("watch", "kind", "since", "until", "by", "why"),
        [
            [
                pause.watch,
                pause.kind,
                f"{span(pause.age)} ago",
                "resumed" if pause.left is None else f"in {span(pause.left)}",
                pause.who,
                pause.why,
            ]
            for pause in pauses
        ],
    )
    return FINE


def chosen(options: argparse.Namespace, policy: Policy, watch: Watch) -> list[tuple[Watch, str]]:
    """The watches and kinds that the options name. Raises PolicyError for more than one choice."""
    if sum([options.kind is not None, options.all_kinds, options.all]) > 1:
        raise PolicyError("Give a kind, --all-kinds or --all, and only one of them.")
    if options.all:
        return [(each, EVERY_KIND) for each in policy.watches.values()]
    if options.all_kinds:
        return [(watch, EVERY_KIND)]
    return [] if options.kind is None else [(watch, options.kind)]


def _is_open(store: Store, watch: Watch, kind: str) -> bool:
    return any(tasks.kind == kind for tasks in store.overview(watch).open)


def who() -> str:
    """The login of this machine."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without a user
        return "unknown"
