"""`python -m tests.bench [a b c ...] [--json] [--scale 0.1]`: all benchmarks, or those that are
named."""

import argparse
import importlib
import json
import sys
import time

from tests.bench.figures import table
from tests.bench.server import bench_server

BENCHMARKS = {
    "a": "idle_sweep",
    "b": "mass_sweep",
    "c": "claim_settle",
    "d": "cold_start",
    "e": "guard_cost",
    "f": "beat_cost",
    "g": "zombie",
    "h": "store_cost",
    "i": "page_reads",
    "j": "idle_adopted",
    "k": "idle_kept",
    "l": "idle_waiting",
    "m": "rest_sweep",
    "n": "claim_choice",
    "o": "mass_rescue",
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="a..o", help="which ones; all without")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    parser.add_argument(
        "--scale", type=float, default=1.0, help="of rows and rounds: 0.1 for a quick look"
    )
    given = parser.parse_args()
    if unknown := set(given.names) - set(BENCHMARKS):
        parser.error(
            f"there is no benchmark {', '.join(sorted(unknown))}: "
            f"name some of {' '.join(BENCHMARKS)}"
        )
    found = {}
    with bench_server() as server:
        for letter in given.names or BENCHMARKS:
            module = importlib.import_module(f"tests.bench.{BENCHMARKS[letter]}")
            print(
                f"{letter}: {module.__doc__.partition(': ')[2].splitlines()[0]}",
                file=sys.stderr if given.json else None,
            )
            begun = time.monotonic()
            found[letter] = module.run(server, given.scale)
            if not given.json:
                print(f"{table(found[letter])}\n  ({time.monotonic() - begun:.0f} s)\n", flush=True)
    if given.json:
        print(
            json.dumps(
                {
                    letter: [figure.as_json() for figure in figures]
                    for letter, figures in found.items()
                }
            )
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
