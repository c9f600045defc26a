"""`python -m tests.chaos`: tasks in bad weather, drawn from a seed. Exit code 1 when anything was
violated; then the seed is printed, and the evidence can be kept with `--keep FOLDER`."""

import argparse
import json
import random
import shutil
import sys
from pathlib import Path
from typing import Any

from tests.chaos.run import Run
from tests.chaos.world import World

MEANS = ("postgres", "pgbouncer", "supabase")
RED_ONCE = [(26, "supabase", 1000)]
"""Seeds, means and numbers of tasks that were red before something was mended: 26, because the
pushes of a queue that was slow for once made it slower for ever."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--tasks", type=int, default=2000, help="2,000 take about two minutes")
    parser.add_argument("--seed", type=int, help="of an earlier run; without: a new one")
    parser.add_argument("--through", choices=MEANS, default="postgres", help="how workers reach it")
    parser.add_argument("--keep", type=Path, help="a folder for the logs and the journal")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--red", action="store_true", help="the seeds that were red once")
    options = parser.parse_args()
    if options.red:
        runs = [play(*run, options) for run in RED_ONCE]
        return max(runs)
    seed = options.seed if options.seed is not None else random.randrange(1_000_000)
    return play(seed, options.through, options.tasks, options)


def play(seed: int, through: str, tasks: int, options: argparse.Namespace) -> int:
    """The exit code."""
    print(f"seed {seed}, through {through}", file=sys.stderr)
    with World(through) as world:
        figures = Run(world, seed, tasks).go()
        if options.keep:
            shutil.copytree(world.folder, options.keep, dirs_exist_ok=True)
    if options.json:
        print(json.dumps(figures))
    else:
        show(figures)
    return 1 if any(figures["violations"].values()) else 0


def show(figures: dict[str, Any]) -> None:
    for name, figure in figures.items():
        if not isinstance(figure, dict):
            print(f"{name}: {figure}")
        elif name == "examples":
            for sentences in figure.values():
                print("\n".join(f"  {sentence}" for sentence in sentences))
        else:
            print(f"{name}: {', '.join(f'{count} {word}' for word, count in figure.items())}")


if __name__ == "__main__":
    sys.exit(main())
