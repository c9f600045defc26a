"""`python -m tests.scale [--tasks 1000000] [--only live|month]`: what one PostgreSQL carries."""

import argparse
import sys

from tests.bench.figures import Figure, table
from tests.bench.server import bench_server
from tests.scale import live, month


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.scale", description=__doc__)
    parser.add_argument("--tasks", type=int, default=1_000_000, help="of the month")
    parser.add_argument("--days", type=int, default=month.DAYS, help="of the month")
    parser.add_argument("--scale", type=float, default=1.0, help="of heartbeats")
    parser.add_argument("--only", choices=("live", "month"), help="one of the two parts")
    arguments = parser.parse_args()
    missed = 0
    if arguments.only != "month":
        with bench_server() as server:
            missed += _shown(live.run(server, arguments.scale))
    if arguments.only != "live":
        try:
            for figures in month.run(arguments.tasks, arguments.days):
                missed += _shown(figures)
        except month.NoFakeClockError as missing:
            print(missing, file=sys.stderr)
            return 1
    return int(missed > 0)


def _shown(figures: list[Figure]) -> int:
    """How many of them missed their aim."""
    print(table(figures), flush=True)
    return sum(figure.met is False for figure in figures)


if __name__ == "__main__":
    sys.exit(main())
