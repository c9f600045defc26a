"""The credits run: many tasks that cost, under all that can go wrong at once, and the account of
it.

At the same time: creates that are repeated, workers that fall silent or are killed (SIGKILL),
connections that are cut in the middle of a statement, ends said twice, two sweepers, a person who
cancels, fails and starts again, and somebody else who writes to the table and deletes from it."""

import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import yaml
from psycopg.rows import dict_row

from functions.core.policy import DEFAULT, Policy, parse
from functions.errors import StoreError
from functions.install.migrate import migrate
from functions.store import Store
from functions.store.postgres import PostgresStore
from tests.sweep.steps import sweep
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
OWNERS = 40
DEAREST = 50
"""Cents that a task costs at most."""
CREATORS, WORKERS = 2, 2
MUST_HAPPEN = (
    "workers killed",
    "connections cut",
    "creates: exists",
    "creates: refused with PT402",
    "retry by hand",
)


def policy_text() -> str:
    text = yaml.safe_load(DEFAULT.read_text(encoding="utf-8"))
    text["lease"] = {"beat": "0.2s", "for": "0.6s"}
    watch = text["watches"]["tasks"]
    watch["optional"] = ["credits", "generations"]
    watch["rules"] = {
        "*": watch["rules"]["*"] | {"backoff": {"first": "0.05s", "factor": 1, "max": "0.05s"}}
    }
    return yaml.safe_dump(text, sort_keys=False)


class Run:
    def __init__(self, dsn: str, folder: Path, tasks: int, seed: int = 0) -> None:
        self.dsn, self.tasks, self.dice = dsn, tasks, random.Random(seed)
        self.file = folder / "policy.yaml"
        self.file.write_text(policy_text(), encoding="utf-8")
        self.policy: Policy = parse(policy_text())
        self.watch = self.policy.watch()
        self.happened: Counter[str] = Counter()
        self.workers: list[subprocess.Popen[bytes]] = []
        migrate(dsn, self.policy)

    def __call__(self) -> dict[str, Any]:
        """All of it, to the end. Returns what happened, by name."""
        started = time.monotonic()
        with psycopg.connect(self.dsn, autocommit=True, row_factory=dict_row) as db:
            for owner in range(OWNERS):
                self._grant(db, f"owner-{owner}", self.tasks * DEAREST // OWNERS // 3)
            with ExitStack() as stack:
                stack.callback(self._stop_workers)
                self.workers = [self._worker(number) for number in range(WORKERS)]
                stack.enter_context(self._again_and_again(self._sweep, 0.2))
                stack.enter_context(self._again_and_again(self._sweep_a_batch, 0.15))
                with ExitStack() as chaos:
                    chaos.enter_context(self._again_and_again(self._by_hand, 0.1))
                    chaos.enter_context(self._again_and_again(self._by_others, 0.2))
                    chaos.enter_context(self._again_and_again(self._cut, 0.05))
                    chaos.enter_context(self._again_and_again(self._kill, 1.0))
                    self._create_all()
                    eventually(
                        lambda: all(map(self.happened.get, MUST_HAPPEN)), 60, "not all has happened"
                    )
                eventually(
                    lambda: not self._open(db),
                    timeout=60 + self.tasks / 20,
                    message="a task has no end",
                )
            self._orphans(db)
            return {"seconds": round(time.monotonic() - started, 1)} | self.happened | account(db)

    # -- what happens at once

    def _create_all(self) -> None:
        numbers = iter(range(self.tasks))
        lock = threading.Lock()

        def create(seed: int) -> None:
            dice, store = random.Random(seed), PostgresStore(self.dsn)
            while (number := self._next(numbers, lock)) is not None:
                again = 1 + (dice.random() < 0.2)
                twins = [
                    threading.Thread(
                        target=self._create, args=(store, number, dice.randint(0, DEAREST))
                    )
                    for _ in range(again)
                ]
                for twin in twins:
                    twin.start()
                for twin in twins:
                    twin.join()
            store.close()

        threads = [threading.Thread(target=create, args=(seed,)) for seed in range(CREATORS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    @staticmethod
    def _next(numbers: Iterator[int], lock: Any) -> int | None:
        with lock:
            return next(numbers, None)

    def _create(self, store: Store, number: int, cost: int) -> None:
        while True:
            try:
                answer = store.create(
                    self.watch,
                    "image",
                    {},
                    owner=f"owner-{number % OWNERS}",
                    key=str(number),
                    metadata={"cost": cost},
                )
                self.happened[f"creates: {answer.verdict}"] += 1
            except StoreError as error:
                if error.retryable:
                    continue
                self.happened[f"creates: refused with {error.code}"] += 1
            return

    def _sweep(self, db: psycopg.Connection[dict[str, Any]], store: Store) -> None:
        answer = sweep(store, self.policy)
        self.happened[f"sweeps: {answer.verdict}"] += 1

    def _sweep_a_batch(self, db: psycopg.Connection[dict[str, Any]], store: Store) -> None:
        self.happened["rescued by the other sweeper"] += len(store.sweep(self.watch, 50).rescued)
        store.orphans(self.watch, 0)

    def _by_hand(self, db: psycopg.Connection[dict[str, Any]], store: Store) -> None:
        action = self.dice.choice(["cancel", "fail", "retry", "retry", "requeue"])
        states = ("failed", "cancelled") if action == "retry" else ("pending", "processing")
        ids = self._some(db, states, 5)
        try:
            self.happened[f"{action} by hand"] += len(store.operate(self.watch, action, ids))
        except StoreError as error:
            self.happened[f"{action} by hand refused with 402"] += error.code == "PT402"

    def _by_others(self, db: psycopg.Connection[dict[str, Any]], store: Store) -> None:
        ids = self._some(db, ("pending",), 2)
        write = self.dice.choice(
            [
                "delete from tasks",
                "update tasks set status = 'cancelled'",
                "update tasks set status = 'completed'",
            ]
        )
        cursor = db.execute(f"{write} where id = any (%s) and status = 'pending'".encode(), (ids,))
        self.happened[f"{write.split(' ', 1)[0]} by others"] += cursor.rowcount

    def _cut(self, db: psycopg.Connection[dict[str, Any]], store: Store) -> None:
        cursor = db.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where application_name = 'unstuck' and datname = current_database() "
            "order by state = 'active' desc, random() limit 1"
        )
        self.happened["connections cut"] += cursor.rowcount

    def _kill(self, db: psycopg.Connection[dict[str, Any]], store: Store) -> None:
        number = self.dice.randrange(WORKERS)
        self._end(self.workers[number])
        self.workers[number] = self._worker(number)
        self.happened["workers killed"] += 1

    # -- how

    @contextmanager
    def _again_and_again(self, work: Callable[..., None], pause: float) -> Iterator[None]:
        """In a thread of its own, until the block ends. What the database refuses now is done
        later."""
        over = threading.Event()
        bug: list[BaseException] = []

        def repeat() -> None:
            store = PostgresStore(self.dsn)
            with psycopg.connect(self.dsn, autocommit=True, row_factory=dict_row) as db:
                while not over.wait(pause):
                    try:
                        with suppress(
                            StoreError,
                            psycopg.errors.QueryCanceled,
                            psycopg.errors.DeadlockDetected,
                        ):
                            work(db, store)
                    except BaseException as error:  # noqa: BLE001 - told to the test
                        bug.append(error)
                        return
            store.close()

        thread = threading.Thread(target=repeat)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
        assert not bug, bug

    def _worker(self, number: int) -> subprocess.Popen[bytes]:
        command = [
            sys.executable,
            "-m",
            "tests.sql.credits_worker",
            self.dsn,
            str(self.file),
            f"{number}-{uuid4().hex}",
        ]
        return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE)  # its end is our death

    def _stop_workers(self) -> None:
        for worker in self.workers:
            self._end(worker)

    @staticmethod
    def _end(worker: subprocess.Popen[bytes]) -> None:
        worker.kill()
        worker.communicate()

    def _orphans(self, db: psycopg.Connection[dict[str, Any]]) -> None:
        """The hook of the next sweep."""
        db.execute("select unstuck.tasks_orphans(null)")

    @staticmethod
    def _grant(db: psycopg.Connection[dict[str, Any]], owner: str, amount: int) -> None:
        for _ in range(2):
            db.execute(
                "select public.unstuck_credits_grant(%s, %s, %s)",
                (owner, amount, f"welcome-{owner}"),
            )

    @staticmethod
    def _some(
        db: psycopg.Connection[dict[str, Any]], states: tuple[str, ...], count: int
    ) -> list[str]:
        rows = db.execute(
            "select id from tasks where status = any (%s) order by random() limit %s",
            (list(states), count),
        )
        return [str(row["id"]) for row in rows]

    @staticmethod
    def _open(db: psycopg.Connection[dict[str, Any]]) -> int:
        row = db.execute(
            "select count(*) as open from tasks where status in ('pending', 'processing')"
        ).fetchone()
        assert row is not None
        return int(row["open"])


# -- the account of it, made anew from the tasks and the entries


def account(db: psycopg.Connection[dict[str, Any]]) -> dict[str, Any]:
    tasks = {
        str(row["id"]): row for row in db.execute("select id, owner, status, metadata from tasks")
    }
    accounts = {row["owner"]: row for row in db.execute("select * from public.unstuck_credits")}
    entries = db.execute("select * from public.unstuck_credit_entries order by id").fetchall()
    cents: Counter[str] = Counter()
    for entry in entries:
        cents[entry["entry"]] += entry["amount"]
    states = Counter(task["status"] for task in tasks.values())
    wrong = [*_wrong_accounts(accounts, entries), *_wrong_tasks(tasks, entries)]
    outputs = Counter(
        row["task_id"] for row in db.execute("select task_id from public.unstuck_generations")
    )
    wrong += [
        f"{task_id} outputs its output {count} times"
        for task_id, count in outputs.items()
        if count > 1
    ]
    completed = {task_id for task_id, task in tasks.items() if task["status"] == "completed"}
    wrong += [
        f"{task_id} outputs something and is not completed"
        for task_id in outputs.keys() - completed
    ]
    return {"tasks": dict(states), "entries": len(entries), "cents": dict(cents), "wrong": wrong}


def _wrong_accounts(accounts: dict[str, Any], entries: list[dict[str, Any]]) -> Iterator[str]:
    for owner, account in accounts.items():
        sums: Counter[str] = Counter()
        for entry in entries:
            if entry["owner"] == owner:
                sums[entry["entry"]] += entry["amount"]
        if account["balance"] != sums["grant"] - sums["hold"] + sums["release"]:
            yield (
                f"the balance of {owner} is {account['balance']}, and its entries say {dict(sums)}"
            )
        if account["held"] != 0 or sums["hold"] != sums["capture"] + sums["release"]:
            yield f"{account['held']} of {owner} are held, though all has ended: {dict(sums)}"


def _wrong_tasks(tasks: dict[str, Any], entries: list[dict[str, Any]]) -> Iterator[str]:
    """Each life of a task is held and ended once; the last one of a completed task is captured, and
    no other ever."""
    of: dict[str, list[dict[str, Any]]] = {}
    for entry in entries:
        if entry["task_id"]:
            of.setdefault(entry["task_id"], []).append(entry)
    for task_id in tasks.keys() | of.keys():
        task, entries = tasks.get(task_id), of.get(task_id, [])
        cost = int(task["metadata"]["cost"]) if task else entries[0]["amount"]
        last = "capture" if task and task["status"] == "completed" else "release"
        lives = len(entries) // 2
        expected = (
            [("hold", cost), ("release", cost)] * (lives - 1) + [("hold", cost), (last, cost)]
            if cost
            else []
        )
        if [(entry["entry"], entry["amount"]) for entry in entries] != expected or any(
            entry["open"] for entry in entries
        ):
            listed = [(entry["entry"], entry["amount"]) for entry in entries]
            yield f"{task_id} ({task and task['status']}) costs {cost}: {listed}"
