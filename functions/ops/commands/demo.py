"""demo: the main job with workers that are killed, frozen, hungry and late."""

import argparse

HELP = "play the main job with workers that are killed, frozen, hungry and late"
JSON = {
    "tasks": (),
    "completed": (),
    "failed": (),
    "stuck": (),
    "overwritten": (),
    "zombie_writes_refused": (),
    "foreign_writes_refused": (),
    "rescue_seconds": ("p50", "p99", "max"),
    "rescues": (),
    "by_reason": (),
    "attempts": (),
    "attempts_by_cause": (),
    "pause": ("waiting", "started"),
    "limit": ("running", "most_at_once"),
    "urgent_started_at_place": (),
    "seconds": (),
    "problems": (),
}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object instead of the table"
    )


def run(options: argparse.Namespace) -> int:
    from functions.ops import demo

    return demo.run(as_json=options.json)
