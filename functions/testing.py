"""PUBLIC: runs a handler in a test as the guard runs it, without a database.

The guard is the real one: deadline, memory, checkpoints, what a result or an exception means. Only
the ledger behind it is in memory."""

import json
import sys
from collections.abc import Callable, Mapping
from threading import Event
from typing import Any

from functions.core import yaml_lines
from functions.core.dispatch import NoDispatch
from functions.core.policy import load
from functions.core.record import Record, plain, replace
from functions.core.rule import Rule
from functions.core.states import Reason, SettleAs, State
from functions.errors import StoreError
from functions.store.verbs import Store

BEAT_SECONDS = 0.05
"""So soon a handler hears in a test that it has lost its lease."""
LOSSES = {Reason.DEADLINE, Reason.OUT_OF_MEMORY, Reason.CRASHED, Reason.SHUTDOWN}
"""After which nobody knows how far the work had come: `on_lost` of the rule decides."""
Handle = Callable[..., Any]
handles: dict[str, Handle] = {}
"""The handlers of runs in this process, by the task's id."""
LEAVE_SECONDS = 2.0
"""So long `run` waits for a handler in a thread that has lost its lease: the guard does not."""
_left: dict[str, Event] = {}
"""Set when such a handler has ended."""


class Ran(Record):
    """What became of the attempt. `state`: completed, failed, pending (it is tried again, after
    `retry_after` seconds; None: as the rule says), or running (the lease was lost, and another
    attempt has the task). `error` is for the user, `detail` for the operator. `checkpoints` are
    those of this attempt and before, `progress` what was sent, the last one last."""

    state: State
    result: Any
    reason: str | None
    error: str | None
    detail: str | None
    retry_after: float | None
    checkpoints: dict[str, Any]
    progress: list[dict[str, Any]]


def run(
    handle: Handle,
    task_input: Any = None,
    *,
    kind: str = "test",
    attempt: int = 1,
    checkpoints: Mapping[str, Any] | None = None,
    lease_lost_at: str | None = None,
    in_process: bool = False,
    **rule: Any,
) -> Ran:
    """Runs one attempt of a task whose handler is `handle`, plain or async.

    `attempt` is its number, `checkpoints` what attempts before it saved: so a second attempt is
    tested with `checkpoints=first.checkpoints`. At the checkpoint `lease_lost_at` it learns that
    another attempt holds the task. `rule` are fields of the kind's rule, written as in policy.yaml,
    or in seconds and bytes (`run_for="2s", memory="100MB", attempts=3, on_error="retry"`).

    The handler runs in a thread of the test, where its patches hold. `in_process=True` runs it in a
    process of its own, as when it is deployed: then it can be ended at its deadline, crash, and use
    too much memory. For this it must be a function that can be imported by its name.

    Raises ValueError when it cannot, PolicyError when the policy cannot be used."""
    from functions.worker.guard import guard

    name = _importable(handle) if in_process else "functions.testing:run_handle"
    changes = {"handler": name, "isolation": "process" if in_process else "thread"}
    changes |= _rule_fields(rule)
    policy = replace(load(), beat=BEAT_SECONDS)
    watch = policy.watch()
    watch = replace(watch, rules={**watch.rules, kind: replace(watch.rule(kind), **changes)})
    ledger = _Ledger(kind, _as_stored(task_input), attempt, checkpoints or {}, lease_lost_at)
    ledger.rule = watch.rule(kind)
    handles[ledger.task_id], _left[ledger.task_id] = handle, Event()
    try:
        guard(ledger, policy, NoDispatch(), watch, ledger.task_id, worker="test")
        if ledger.is_lost and not in_process:
            _left[ledger.task_id].wait(LEAVE_SECONDS)
    finally:
        del handles[ledger.task_id], _left[ledger.task_id]
    return Ran(**ledger.end, checkpoints=ledger.checkpoints, progress=ledger.progress)


def _rule_fields(rule: dict[str, Any]) -> dict[str, Any]:
    """Texts are read as those of policy.yaml. Raises PolicyError, which names the field."""
    document = yaml_lines.read(json.dumps(rule, default=str), "run")
    fields = dict(rule)
    for field, policy_value in document.only(*Rule.field_types).items():
        if isinstance(rule[field], str):
            if field not in Rule.policy_keys:
                policy_value.fail("stands in no rule of the policy. Give a number of seconds.")
            fields[field] = Rule.policy_keys[field].kind.read(policy_value)
    return fields


def run_handle(ctx: Any, task_input: Any) -> Any:
    """The handler that the guard loads in this process: the one that `run` got."""
    left = _left[ctx.task_id]
    try:
        return handles[ctx.task_id](ctx, task_input)
    finally:
        left.set()


def _importable(handle: Handle) -> str:
    module = sys.modules.get(handle.__module__)
    if handle.__module__ == "__main__" or getattr(module, handle.__name__, None) is not handle:
        raise ValueError(
            f"in_process: {handle.__qualname__} cannot be imported by its name. "
            "Give a function of a module."
        )
    return f"{handle.__module__}:{handle.__name__}"


def _as_stored(value: Any) -> Any:
    return json.loads(json.dumps(value))


class _Ledger(Store):
    """The database's part in one attempt."""

    def __init__(
        self,
        kind: str,
        task_input: Any,
        number: int,
        checkpoints: Mapping[str, Any],
        lease_lost_at: str | None,
    ) -> None:
        self.task_id = f"00000000-0000-4000-8000-{id(self) % 16**12:012x}"
        self.kind, self.input, self.number = kind, task_input, number
        self.checkpoints, self.progress = _as_stored(dict(checkpoints)), list[dict[str, Any]]()
        self.lease_lost_at, self.is_lost = lease_lost_at, False
        self.rule: Any = None
        self.end: dict[str, Any] = dict.fromkeys(("result", "reason", "error", "detail"))
        self.end |= {"state": State.RUNNING, "retry_after": None}

    def call(self, function: str, arguments: dict[str, Any], timeout: float) -> Any:  # noqa: ARG002
        match function.rpartition("_")[2]:
            case "claim":
                return self._claim(arguments["p_token"])
            case "checkpoint":
                self.is_lost |= arguments["p_name"] == self.lease_lost_at
                if not self.is_lost:
                    self.checkpoints[arguments["p_name"]] = json.loads(arguments["p_data"])
            case "beat":
                if arguments["p_progress"]:
                    self.progress.append(json.loads(arguments["p_progress"]))
            case "settle":
                if not self.is_lost:
                    return self._settle(arguments)
            case _:
                raise StoreError(f"a test has no {function}", retryable=False)
        return {"verdict": "lost"} if self.is_lost else {"verdict": "held"}

    def _claim(self, token: str) -> dict[str, Any]:
        return {
            "verdict": "claimed",
            "task_id": self.task_id,
            "kind": self.kind,
            "state": State.RUNNING,
            "token": token,
            "number": self.number,
            "tries": self.number,
            "input": self.input,
            "checkpoint": self.checkpoints,
        }

    def _settle(self, arguments: dict[str, Any]) -> dict[str, Any]:
        reason, state = arguments["p_reason"], self._next(arguments)
        if state is State.FAILED and reason in LOSSES and self.rule.on_lost == "uncertain":
            reason = Reason.UNCERTAIN
        result = arguments["p_result"]
        self.end = {
            "state": state,
            "result": None if result is None else json.loads(result),
            "reason": reason,
            "error": arguments["p_error"],
            "detail": arguments["p_detail"],
            "retry_after": arguments["p_delay"] if state is State.PENDING else None,
        }
        ended = {name: self.end[name] for name in ("state", "reason", "error", "retry_after")}
        number = {"number": self.number, "tries": self.number, "kind": self.kind, "took": 0.0}
        answer: dict[str, Any] = plain({"verdict": "settled"} | ended | number)
        return answer

    def _next(self, arguments: dict[str, Any]) -> State:
        match SettleAs(arguments["p_outcome"]):
            case SettleAs.COMPLETE:
                return State.COMPLETED
            case SettleAs.FAIL:
                return State.FAILED
            case SettleAs.RETURN:
                return State.PENDING
        is_loss = arguments["p_reason"] in LOSSES
        if (is_loss and self.rule.on_lost != "retry") or self.number >= self.rule.attempts:
            return State.FAILED
        return State.PENDING
