"""`python -m tests.board [--only unstuck,pgqueuer] [--fault freeze] [--runs 3] [--json]`: job
systems under faults. A run of all systems and all faults writes docs/board.md and board.svg."""

import argparse
import atexit
import datetime
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping

from functions.ops.postgres.embedded import find_binaries
from tests.board.board import ABSENT, SYSTEMS, Board, system_of
from tests.board.faults import FAULTS
from tests.board.page import Circumstances, Page
from tests.board.stage import kill_all
from tests.board.system import ROOT
from tests.board.verdict import Cell


def main() -> int:
    chosen = _arguments()
    atexit.register(kill_all)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    begun, load = time.monotonic(), os.getloadavg()[0]
    board = Board(chosen.only, chosen.fault, chosen.runs, chosen.at_once, tell=_say)
    cells = board.run()
    minutes = (time.monotonic() - begun) / 60
    if chosen.json:
        print(json.dumps([cell.as_json() for cell in cells], ensure_ascii=False))
    else:
        _print(cells)
    is_whole = len(chosen.only) == len(SYSTEMS) and len(chosen.fault) == len(FAULTS)
    if is_whole or chosen.write:
        _write(cells, chosen, minutes, load)
    return 1 if any(_is_our_red(cell) for cell in cells) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make board", description=__doc__)
    parser.add_argument("--only", type=_names_of(SYSTEMS), default=[*SYSTEMS], metavar="NAMES")
    parser.add_argument("--fault", type=_names_of(FAULTS), default=[*FAULTS], metavar="NAMES")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--at-once", type=int, default=6, help="systems that run at once")
    parser.add_argument("--write", action="store_true", help="the page, even of a part")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def _names_of(known: Mapping[str, object]) -> Callable[[str], list[str]]:
    def read(text: str) -> list[str]:
        names = text.split(",")
        unknown = set(names) - set(known)
        if unknown:
            raise argparse.ArgumentTypeError(
                f"there is no {', '.join(sorted(unknown))}; there are: {', '.join(known)}"
            )
        return [name for name in known if name in names]

    return read


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _print(cells: list[Cell]) -> None:
    for cell in cells:
        mark = "" if cell.is_unanimous else " (not the same in each run)"
        print(f"{cell.system:<16} {cell.fault:<11} {cell.word:<14} {cell.sentence}{mark}")


def _is_our_red(cell: Cell) -> bool:
    return cell.system.startswith("unstuck") and cell.word not in {"held", "not applicable"}


def _write(cells: list[Cell], chosen: argparse.Namespace, minutes: float, load: float) -> None:
    circumstances = Circumstances(
        date=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        machine=f"{os.cpu_count()} cores ({platform.machine()}, Python {sys.version.split()[0]})",
        load=f"load average {load:.1f} at the begin and {os.getloadavg()[0]:.1f} at the end",
        postgres=_postgres_version(),
        commit=_commit(),
        minutes=minutes,
        runs=chosen.runs,
        absent=ABSENT,
    )
    page = Page(cells, {name: system_of(name) for name in chosen.only}, circumstances)
    (ROOT / "docs" / "board.md").write_text(page.markdown(), encoding="utf-8")
    (ROOT / "docs" / "board.svg").write_text(page.picture(), encoding="utf-8")


def _postgres_version() -> str:
    command = [str(find_binaries() / "postgres"), "--version"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[2]


def _commit() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    raise SystemExit(main())
