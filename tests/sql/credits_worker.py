"""A worker of the credits run, until it is killed: claims, and then completes, fails, asks again,
or falls silent; and says its end twice at the same moment, now and then."""

import os
import random
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from functions.core.answers import Claimed
from functions.core.policy import Watch, parse
from functions.errors import StoreError
from functions.store.postgres import PostgresStore

ENDS = ["complete"] * 11 + ["fail"] * 3 + ["retry"] * 3 + ["release", "silence", "silence"]
TWICE = 0.2


def end(store: PostgresStore, watch: Watch, claimed: Claimed, outcome: str) -> None:
    with suppress(StoreError):
        store.settle(
            watch,
            claimed.task_id,
            claimed.token,
            outcome,
            result={"url": claimed.task_id},
            reason="transient",
            after=0,
        )


def die_with_the_run() -> None:
    sys.stdin.read()
    os._exit(0)


def main(dsn: str, file: str, seed: str) -> None:
    watch, store, dice = (
        parse(Path(file).read_text(encoding="utf-8")).watch(),
        PostgresStore(dsn),
        random.Random(seed),
    )
    threading.Thread(target=die_with_the_run, daemon=True).start()
    with ThreadPoolExecutor(2) as threads:
        while True:
            try:
                claimed = store.claim(watch, None, f"worker-{seed}")
            except StoreError:
                continue
            if claimed.verdict != "claimed":
                time.sleep(0.02)
                continue
            outcome = dice.choice(ENDS)
            for _ in range(0 if outcome == "silence" else 1 + (dice.random() < TWICE)):
                threads.submit(end, store, watch, claimed, outcome)


if __name__ == "__main__":
    main(*sys.argv[1:])
