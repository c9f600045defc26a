"""One run: tasks come, faults strike, the storm ends, and all tasks must reach their end."""

import json
import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import requests

from functions.errors import StoreError
from tests.chaos.observer import Evidence, Observer, lines
from tests.chaos.plan import plan
from tests.chaos.world import World

SECONDS_EACH = 0.045
"""Between two tasks: 2,000 take a minute and a half."""
CALM_SECONDS = 90.0
"""After the storm all tasks have so long to end."""
POLL_SECONDS = 0.2
KINDS = {
    "works": 30,
    "steps": 22,
    "mail": 15,
    "mail_steps": 6,
    "fragile": 10,
    "dies_once": 5,
    "refuses": 4,
    "comes_back": 6,
    "hangs": 1.5,
    "poison": 0.3,
}
STALL_SECONDS = 0.5
"""A thread that sleeps for a moment and wakes so much later has seen the machine stand still."""


class Run:
    def __init__(
        self, world: World, seed: int, tasks: int, seconds_each: float = SECONDS_EACH
    ) -> None:
        self._world, self._seed, self._tasks = world, seed, tasks
        self._seconds_each = seconds_each
        self._over = threading.Event()
        self._stalls: list[tuple[float, float]] = []
        self._created: list[str] = []
        self._refused = 0

    def go(self) -> dict[str, Any]:
        """The figures, and what was violated."""
        started = time.monotonic()
        threads = [
            threading.Thread(target=part, daemon=True)
            for part in (self._create, self._poll, self._notice_stalls)
        ]
        for thread in threads:
            thread.start()
        self._storm(started)
        threads[0].join()
        self._world.calm()
        self._wait_for_ends()
        self._over.set()
        threads[1].join()
        return self._figures(time.monotonic() - started)

    def _storm(self, started: float) -> None:
        with ThreadPoolExecutor(16) as strikes:
            futures = []
            for strike in plan(self._seed, self._tasks * self._seconds_each):
                time.sleep(max(0.0, started + strike.seconds - time.monotonic()))
                futures.append(strikes.submit(self._world.strike, strike))
            for future in futures:
                future.result()

    def _create(self) -> None:
        draw, world = random.Random(f"tasks of {self._seed}"), self._world
        store, watch = world.store(), world.policy.watch()
        started = time.monotonic()
        for number in range(self._tasks):
            time.sleep(max(0.0, started + number * self._seconds_each - time.monotonic()))
            (kind,) = draw.choices(list(KINDS), list(KINDS.values()))
            task_input = {"seconds": draw.choice([0.0, 0.0, 0.2, 0.5, 1.5])}
            try:
                answer = store.create(watch, kind, task_input)
            except StoreError:
                self._refused += 1
                continue
            self._created.append(answer.task_id)
            with suppress(requests.RequestException):
                push = {"watch": watch.name, "task_id": answer.task_id, "number": 1}
                requests.post(world.queue.url, json=push, timeout=5)
        store.close()

    def _poll(self) -> None:
        """Users who ask how far their tasks are: a poll of an overdue task rescues it."""
        draw, world = random.Random(f"polls of {self._seed}"), self._world
        store = world.store()
        while not self._over.wait(POLL_SECONDS):
            if self._created:
                with suppress(StoreError):
                    store.status(
                        world.policy.watch(), draw.choice(self._created[-200:]), pushes=True
                    )
        store.close()

    def _notice_stalls(self) -> None:
        while not self._over.is_set():
            before = time.time()
            time.sleep(0.05)
            if (after := time.time()) - before > STALL_SECONDS:
                self._stalls.append((before, after))

    def _wait_for_ends(self) -> None:
        until = time.monotonic() + CALM_SECONDS
        while time.monotonic() < until:
            (row,) = self._world.rows(
                "select count(*) from tasks where status in ('pending', 'processing')"
            )
            if not row["count"]:
                return
            time.sleep(0.5)

    def _figures(self, seconds: float) -> dict[str, Any]:
        world = self._world
        evidence = Evidence(
            policy=world.policy,
            journal=lines(world.journal.read_text()),
            tasks=world.rows("select * from tasks"),
            attempts=world.rows("select * from unstuck.attempts order by task_id, number"),
            changes=world.rows("select * from chaos.changes order by at"),
            struck=world.struck,
            stalls=self._stalls,
        )
        with (world.folder / "struck").open("w") as file:
            file.writelines(f"{json.dumps(vars(struck))}\n" for struck in world.struck)
        observer = Observer(evidence)
        violations = observer.judge()
        rescues = observer.rescue_seconds()
        tasks = evidence.tasks
        return {
            "seed": self._seed,
            "through": world.through,
            "seconds": round(seconds, 1),
            "tasks": len(tasks),
            "not_created": self._refused,
            "states": _counted(task["status"] for task in tasks),
            "reasons": _counted(task["reason"] for task in tasks if task["reason"]),
            "attempts": len(evidence.attempts),
            "ended_by": _counted(a["cause"] or a["outcome"] for a in evidence.attempts),
            "faults": _counted(struck.fault for struck in evidence.struck),
            "stalled_seconds": round(sum(end - begin for begin, end in self._stalls), 1),
            "rescues": len(rescues),
            "rescue_seconds": {
                name: percentile(rescues, share)
                for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0))
            },
            "violations": {name: len(sentences) for name, sentences in violations.items()},
            "examples": {
                name: sentences[:5] for name, sentences in violations.items() if sentences
            },
        }


def percentile(values: list[float], share: float) -> float | None:
    return round(values[min(len(values) - 1, int(share * len(values)))], 2) if values else None


def _counted(words: Any) -> dict[str, int]:
    return dict(Counter(words).most_common())
