"""One system without the rest of the board: `python -m tests.board.use_NAME --dsn DSN --fault
freeze`. Needs the library of that system, psycopg and psutil, and a server on which a database may
be made. Nothing of Unstuck is imported."""

import argparse
import json
from collections.abc import Callable

from tests.board.faults import FAULTS
from tests.board.stage import Stage
from tests.board.system import System
from tests.board.verdict import judge


def main(
    system: System,
    work: Callable[[str], None] | None = None,
    install: Callable[[str], None] | None = None,
) -> None:
    """`work` and `install` run in processes of their own, which the board starts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dsn", help="of a server on which a database may be made")
    parser.add_argument("--fault", choices=[*FAULTS], default="killed")
    parser.add_argument("--work", metavar="DSN", help=argparse.SUPPRESS)
    parser.add_argument("--install", metavar="DSN", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.work and work:
        work(chosen.work)
    elif chosen.install and install:
        install(chosen.install)
    elif chosen.dsn:
        show(system, chosen.dsn, chosen.fault)
    else:
        parser.error("say where: --dsn postgresql://...")


def show(system: System, dsn: str, fault: str) -> None:
    print(f"{system.title} {system.version()}: {(FAULTS[fault].__doc__ or '').strip()}")
    for setting in system.settings:
        print(f"  set: {setting}")
    with Stage(system, dsn) as stage:
        sight = FAULTS[fault](stage)
        print(f"  journal: {stage.place.folder}/journal (kept when BOARD_KEEP is set)")
    print(f"  seen: {json.dumps(vars(sight))}")
    verdict = judge(fault, sight, system.timeout_seconds)
    print(f"  {verdict.word}: {verdict.sentence}")
