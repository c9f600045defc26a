"""Every verb of the store once, on a database that it is given: what code of one release does with
the SQL of another."""

from collections.abc import Iterable
from typing import Any

import psycopg

from functions.core.answers import Evidence
from functions.core.policy import Policy
from functions.store import Store
from tests.sql import install_clock, pass_time

DAY = 86400.0


class Walk:
    """`answers`: the keys that each verb answered with."""

    def __init__(self, store: Store, policy: Policy, db: psycopg.Connection[Any]) -> None:
        self.store, self.policy, self.watch, self.db = store, policy, policy.watch(), db
        self.answers: dict[str, set[str]] = {}
        self.states: dict[str, str] = {}
        self.json: Any = None
        store.call = self.noted  # type: ignore[method-assign] # the walk looks over its shoulder

    def call(self, verb: str, *arguments: Any, **named: Any) -> Any:
        answer = getattr(self.store, verb)(*arguments, **named)
        self.answers.setdefault(verb, set()).update(keys(self.json))
        return answer

    def noted(self, function: str, arguments: dict[str, Any], timeout: float) -> Any:
        """Calls the SQL, and keeps its JSON: the records of the store show only what is known."""
        self.json = type(self.store).call(self.store, function, arguments, timeout)
        return self.json

    def whole(self) -> "Walk":
        install_clock(self.db)
        tasks = self.attempts()
        self.sweep(tasks["lost"])
        self.people(tasks)
        self.states = {
            name: self.call("status", self.watch, task).state for name, task in tasks.items()
        }
        return self

    def attempts(self) -> dict[str, str]:
        names = ("done", "failed", "again", "lost", "cancelled", "waiting")
        tasks = {name: self.call("create", self.watch, "image", {"n": 1}).task_id for name in names}
        for name, outcome in {"done": "complete", "failed": "fail", "again": "retry"}.items():
            token = self.call("claim", self.watch, tasks[name], "w").token
            assert (
                self.call("beat", self.watch, tasks[name], token, {"fraction": 0.5}).verdict
                == "held"
            )
            assert (
                self.call("checkpoint", self.watch, tasks[name], token, "step", {"n": 1}).verdict
                == "held"
            )
            settled = self.call(
                "settle",
                self.watch,
                tasks[name],
                token,
                outcome,
                result={"n": 2},
                reason="handler_error",
            )
            assert settled.verdict == "settled"
        assert self.call("claim", self.watch, tasks["lost"], "w").verdict == "claimed"
        return tasks

    def sweep(self, lost: str) -> None:
        pass_time(self.db, 2 * self.policy.lease)
        self.call("preview", self.watch, 10)
        begun = self.call("sweep_begin", "12:00", "test", 30.0)
        assert begun.verdict == "begun"
        self.call("suspend", self.watch, self.policy)
        self.call("redispatch", self.watch, 10)
        [rescued] = self.call("sweep", self.watch, 500, sweep_id=begun.sweep_id).rescued
        assert (rescued.task_id, rescued.state) == (lost, "pending")
        evidence = Evidence(self.watch.name, lost, 1, "out_of_memory", "a line")
        self.call("evidence", begun.sweep_id, [evidence])
        self.call("orphans", self.watch, begun.sweep_id)
        self.call("prune", 30 * DAY)
        self.call("sweep_end", begun.sweep_id, ok=True, counts={})
        message = self.call("outbox_take", 30.0)
        self.call(
            "outbox_end", message.message if message else "00000000-0000-4000-8000-000000000000"
        )
        self.call("sweeps", 10)
        self.call("swept", self.watch, begun.sweep_id, 10)

    def people(self, tasks: dict[str, str]) -> None:
        assert self.call("cancel", self.watch, tasks["cancelled"]).state == "cancelled"
        assert self.call("operate", self.watch, "retry", [tasks["failed"]]) == [tasks["failed"]]
        self.call("find", self.watch, {}, 10)
        self.call("overview", self.watch)
        self.call("page", self.watch, {}, 10)
        self.call("pulse", self.watch)
        self.call("day", self.watch)
        for verb in ("history", "timeline", "payload"):
            self.call(verb, self.watch, tasks["done"])


def keys(answer: Any) -> Iterable[str]:
    """The names that an answer holds; of a list, those of its elements."""
    if isinstance(answer, dict):
        return set(answer)
    return (
        {key for item in answer if isinstance(item, dict) for key in item}
        if isinstance(answer, list)
        else set()
    )
