"""e: what the guard itself costs for each task that does nothing, in a child process and in a
thread."""

import contextlib
import multiprocessing
import os
import statistics
import warnings
from collections.abc import Callable

from functions.core.dispatch import NoDispatch
from functions.core.policy import Policy, load
from functions.core.record import replace
from functions.core.states import State
from functions.ops.postgres.embedded import Postgres
from functions.store.postgres import PostgresStore
from functions.worker.guard import guard
from tests.bench.figures import Figure, in_turns, timed
from tests.bench.server import make_database

ROUNDS = 60


def run(server: Postgres, scale: float = 1.0) -> list[Figure]:
    policy = _policy()
    watch, store = policy.watch(), PostgresStore(make_database(server, "guard_cost"))

    def guarded(kind: str) -> float:
        task_id = store.create(watch, kind, {}).task_id
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            done, seconds = timed(
                lambda: guard(store, policy, NoDispatch(), watch, task_id, worker="bench")
            )
        assert done.state is State.COMPLETED, done
        return seconds

    def bare() -> float:
        task_id = store.create(watch, "process", {}).task_id
        return timed(lambda: _claim_and_settle(store, policy, task_id))[1]

    ways: dict[str, Callable[[], float]] = {
        "claim and settle alone": bare,
        "guard, in a child process": lambda: guarded("process"),
        "guard, in a thread": lambda: guarded("thread"),
        "a bare forkserver child": _forkserver_child,
        "a bare fork": _fork,
    }
    for way in ways.values():
        way()  # starts the forkserver and the connection
    found = {
        name: statistics.median(times)
        for name, times in in_turns(ways, max(3, int(ROUNDS * scale))).items()
    }
    store.close()
    base = found["claim and settle alone"]
    return [
        *(Figure(name, seconds * 1000, "ms") for name, seconds in found.items()),
        Figure(
            "guard's own cost, child process",
            (found["guard, in a child process"] - base) * 1000,
            "ms",
        ),
        Figure("guard's own cost, thread", (found["guard, in a thread"] - base) * 1000, "ms"),
        Figure(
            "child process/bare forkserver child",
            (found["guard, in a child process"] - base) / found["a bare forkserver child"],
        ),
    ]


def _policy() -> Policy:
    policy = load()
    watch = policy.watch()
    rule = replace(watch.rule("*"), handler="tests.bench.hello:nothing")
    rules = {"*": rule, "process": rule, "thread": replace(rule, isolation="thread")}
    return replace(policy, watches={"tasks": replace(watch, rules=rules)})


def _claim_and_settle(store: PostgresStore, policy: Policy, task_id: str) -> None:
    claimed = store.claim(policy.watch(), task_id, "bench")
    store.settle(policy.watch(), task_id, claimed.token, "complete", result={"done": True})


def _forkserver_child() -> float:
    context = multiprocessing.get_context("forkserver")

    def once() -> None:
        process = context.Process(target=os.getpid)
        process.start()
        process.join()

    return timed(once)[1]


def _fork() -> float:
    def once() -> None:
        if (pid := os.fork()) == 0:
            os._exit(0)
        os.waitpid(pid, 0)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: there are threads
        return timed(once)[1]
