"""How Python reaches the SQL. A verb here is a call of the SQL function of the same name; a store
only carries it.

Every verb can be repeated: by its token, its key, or because it asks for a state that is then
there. So a call whose answer was lost is simply made again, within its time limit."""

import json
import random
import re
import time
import uuid
from abc import ABC, abstractmethod
from typing import Any

from functions.core.policy import Json, Policy, Watch
from functions.errors import StoreError
from functions.store.answers import read, read_all
from functions.store.page_answers import (
    LastDay,
    Payload,
    Place,
    Summary,
    SweepRun,
    SweptTask,
    TaskPage,
    Timeline,
)

Answer = dict[str, Any]
LIMIT = 8.0
"""Seconds that a verb may take, its repetitions included. SIGTERM grants 10 s on Cloud Run."""
LOCK_WAIT = 2.0
"""Seconds that the database lets a claim wait for a lock (claim.sql). A claim with less time left
is not made: it could come through when its caller has gone, and burn a try."""
SWEEP_LIMIT = 60.0
"""The same for a batch of the sweep."""


class Store(ABC):
    """The verbs. Each raises StoreError when the database refuses, or cannot be reached within the
    limit."""

    @abstractmethod
    def call(self, function: str, arguments: dict[str, Any], limit: float) -> Any:
        """Calls `unstuck.function` once, with named arguments, in at most `limit` seconds, and
        returns its JSON."""

    def close(self) -> None:  # noqa: B027 - a store may have nothing to close
        """Gives back what the store holds."""

    def create(
        self,
        watch: Watch,
        kind: str,
        task_input: Any,
        *,
        owner: str | None = None,
        key: str | None = None,
        priority: int = 0,
        delay: float = 0.0,
        metadata: Any = None,
    ) -> Answer:
        """Verdict created, exists (same key, same task), conflict (same key, another task), limited
        (too many in a minute) or active (the owner has one of a kind that is `one_active`). `delay`
        in seconds."""
        return self._verb(
            f"{watch.name}_create",
            p_kind=kind,
            p_input=_json(task_input),
            p_owner=owner,
            p_key=key,
            p_priority=priority,
            p_delay=float(delay),
            p_metadata=_json(metadata or {}),
            p_id=str(uuid.uuid4()),
            p_rules=watch.rules_json,
            p_per_minute=watch.create_per_minute,
        )

    def claim(
        self,
        watch: Watch,
        task_id: str | None,
        worker: str,
        kinds: list[str] | None = None,
        token: str | None = None,
    ) -> Answer:
        """Claims a task, or the next one. Verdict claimed, held, early, ended, resting, missing or
        none. With the `token` of an earlier claim, whose answer was lost, it is that claim again.
        """
        return self._verb(
            f"{watch.name}_claim",
            again="p_again",
            p_task=task_id,
            p_worker=worker,
            p_rules=watch.rules_json,
            p_token=token or str(uuid.uuid4()),
            p_again=token is not None,
            p_kinds=kinds,
        )

    def beat(
        self, watch: Watch, task_id: str, token: str, progress: Any = None, limit: float = LIMIT
    ) -> Answer:
        """Verdict held or lost."""
        return self._verb(
            "beat",
            limit,
            p_watch=watch.name,
            p_task=task_id,
            p_token=token,
            p_progress=None if progress is None else _json(progress),
        )

    def checkpoint(
        self, watch: Watch, task_id: str, token: str, name: str, data: Any, limit: float = LIMIT
    ) -> Answer:
        """Verdict held or lost."""
        return self._verb(
            "checkpoint",
            limit,
            p_watch=watch.name,
            p_task=task_id,
            p_token=token,
            p_name=name,
            p_data=_json(data),
        )

    def settle(
        self,
        watch: Watch,
        task_id: str,
        token: str,
        outcome: str,
        *,
        result: Any = None,
        reason: str | None = None,
        error: str | None = None,
        detail: str | None = None,
        after: float | None = None,
        limit: float = LIMIT,
    ) -> Answer:
        """`outcome` is complete, fail, retry or release. Verdict settled (with the state it led to)
        or lost."""
        return self._verb(
            f"{watch.name}_settle",
            limit,
            p_task=task_id,
            p_token=token,
            p_outcome=outcome,
            p_rules=watch.rules_json if outcome in {"retry", "release"} else None,
            p_result=None if result is None else _json(result),
            p_reason=reason,
            p_error=_text(error),
            p_detail=_text(detail),
            p_delay=after,
        )

    def status(
        self, watch: Watch, task_id: str, *, heal: bool = True, owner: str | None = None
    ) -> Answer:
        """Verdict found or missing, which a task of anybody but `owner` is, where one is given."""
        return self._verb(
            f"{watch.name}_status",
            p_task=task_id,
            p_rules=watch.rules_json,
            p_heal=heal,
            p_owner=owner,
        )

    def cancel(self, watch: Watch, task_id: str, *, owner: str | None = None) -> Answer:
        """Verdict cancelled, ended or missing, as for `status`."""
        return self._verb(f"{watch.name}_cancel", p_task=task_id, p_owner=owner)

    def overview(self, watch: Watch) -> Answer:
        return self._verb(f"{watch.name}_overview", p_rules=watch.rules_json)

    def find(
        self, watch: Watch, wanted: Answer, limit: int, after: str | None = None
    ) -> list[Answer]:
        """Tasks by filter ({ids, states, kind, owner, reason, sweep_id, older_than}), ordered by
        key, 500 at most."""
        return self._verb(
            f"{watch.name}_find", p_filter=_json(wanted), p_limit=limit, p_after=after
        )

    def history(self, watch: Watch, task_id: str) -> list[Answer]:
        """The attempts of a task, the first one first."""
        return self._verb(f"{watch.name}_history", p_task=task_id)

    def preview(self, watch: Watch, limit: int) -> list[Answer]:
        """What a sweep would do now, without doing it."""
        return self._verb(f"{watch.name}_preview", p_rules=watch.rules_json, p_limit=limit)

    def operate(
        self, watch: Watch, action: str, task_ids: list[str], error: str | None = None
    ) -> list[str]:
        """What a person does: cancel, fail, requeue or retry. Returns the tasks that moved."""
        return self._verb(
            f"{watch.name}_operate",
            p_action=action,
            p_ids=task_ids,
            p_error=error,
            p_key=str(uuid.uuid4()),
        )

    def page(
        self, watch: Watch, filters: dict[str, Any], limit: int, after: Place | None = None
    ) -> TaskPage:
        """The operators' list. `filters`: {state, kind, owner, reason, first and last key}, each
        optional; `after`: the `next` of the page before."""
        answer = self._verb(
            f"{watch.name}_page",
            p_filter=_json(filters),
            p_rules=watch.rules_json,
            p_limit=limit,
            p_after=None if after is None else _json(vars(after)),
        )
        return read(TaskPage, answer)

    def pulse(self, watch: Watch) -> Summary:
        """How many are stuck, what is open, and the last sweep; bounded, for those who ask every 2
        seconds."""
        return read(Summary, self._verb(f"{watch.name}_pulse", p_rules=watch.rules_json))

    def day(self, watch: Watch) -> LastDay:
        """How attempts ended and how fast sweeps rescued, in the half hours of the last day."""
        return read(LastDay, self._verb(f"{watch.name}_day", p_half_hours=48))

    def timeline(self, watch: Watch, task_id: str) -> Timeline:
        """The attempts of a task with all their times, and the writes that were refused."""
        return read(Timeline, self._verb(f"{watch.name}_timeline", p_task=task_id))

    def payload(self, watch: Watch, task_id: str) -> Payload:
        """Input, result, and the data of the checkpoints."""
        return read(Payload, self._verb(f"{watch.name}_payload", p_task=task_id) or {})

    def swept(
        self, watch: Watch, sweep_id: int, limit: int, after: str = "", *, undoable: bool = False
    ) -> list[SweptTask]:
        """What one sweep did, by task; `undoable`: only those that are failed by it still."""
        answer = self._verb(
            f"{watch.name}_swept", p_sweep=sweep_id, p_limit=limit, p_after=after, p_undo=undoable
        )
        return read_all(SweptTask, answer)

    def sweeps(
        self, limit: int, before: int | None = None, *, idle: bool = False
    ) -> list[SweepRun]:
        """The runs, the newest first; with `idle` those too that had nothing to do."""
        answer = self._verb("sweeps", p_limit=limit, p_before=before, p_all=idle)
        return read_all(SweepRun, answer)

    def sweep_begin(self, key: str | None, by: str, budget: float) -> Answer:
        """Verdict begun (with sweep_id), duplicate or running."""
        return self._verb(
            "sweep_begin", p_key=key, p_by=by, p_budget=float(budget), p_run=str(uuid.uuid4())
        )

    def sweep(
        self,
        watch: Watch,
        limit: int,
        *,
        sweep_id: int | None = None,
        task_id: str | None = None,
        skip: list[str] | None = None,
    ) -> Answer:
        """One batch: what was rescued, what could not be, and whether there is more. Of the run
        `sweep_id`, or of one task."""
        if sweep_id is None or task_id is not None:
            return self._verb(
                f"{watch.name}_sweep",
                SWEEP_LIMIT,
                p_rules=watch.rules_json,
                p_limit=limit,
                p_sweep=sweep_id,
                p_task=task_id,
                p_skip=skip or [],
            )
        return self._verb(
            f"{watch.name}_batch",
            SWEEP_LIMIT,
            p_rules=watch.rules_json,
            p_limit=limit,
            p_sweep=sweep_id,
            p_batch=str(uuid.uuid4()),
            p_skip=skip or [],
        )

    def orphans(self, watch: Watch, sweep_id: int) -> int:
        return int(self._verb(f"{watch.name}_orphans", p_sweep=sweep_id))

    def suspend(self, watch: Watch, policy: Policy) -> int:
        return int(
            self._verb(
                "suspend",
                p_watch=watch.name,
                p_at_least=policy.mass_expiry_at_least,
                p_share=policy.mass_expiry_share,
            )
        )

    def redispatch(self, watch: Watch, limit: int) -> list[Answer]:
        """Pending tasks to push again. If the answer is lost, so are these pushes: the next are due
        in `redispatch_after`."""
        return list(self._verb(f"{watch.name}_redispatch", p_rules=watch.rules_json, p_limit=limit))

    def prune(self, keep: float) -> int:
        return int(self._verb("prune", p_keep=keep))

    def outbox_take(self, lease: float) -> Answer | None:
        """The next message to send ({message, times, tasks}), ours for `lease` seconds; None when
        there is none."""
        found: Answer | None = self._verb("outbox_take", p_lease=lease)
        return found

    def outbox_end(
        self, message: str, error: str | None = None, after: float | None = None
    ) -> None:
        """The message was sent; or, with an error, is to be sent again `after` seconds (None: given
        up)."""
        self._verb("outbox_end", p_message=message, p_error=_text(error), p_retry_after=after)

    def evidence(self, sweep_id: int, found: list[Answer]) -> int:
        """Tells why workers died ({watch, task_id, number, cause, evidence}). Returns how many
        attempts know more now."""
        return int(self._verb("evidence", p_sweep=sweep_id, p_found=_json(found)))

    def sweep_end(
        self, sweep_id: int, *, ok: bool, counts: Answer, error: str | None = None
    ) -> None:
        self._verb("sweep_end", p_id=sweep_id, p_ok=ok, p_counts=_json(counts), p_error=error)

    def _verb(
        self, function: str, limit: float = LIMIT, again: str | None = None, **arguments: Any
    ) -> Any:
        """Calls until it is answered, or the limit is over, or the error is not a passing one."""
        until = time.monotonic() + limit
        pause = 0.05
        while True:
            try:
                return self.call(function, arguments, max(0.1, until - time.monotonic()))
            except StoreError as error:
                left = until - time.monotonic()
                if not error.retryable or left <= pause + (LOCK_WAIT if again else 0.0):
                    raise
            time.sleep(pause * random.uniform(0.5, 1))
            pause = min(1.0, pause * 2)
            if again:
                arguments[again] = True


def _json(value: Any) -> Json:
    return Json(json.dumps(value))


def _text(value: str | None) -> str | None:
    """Whatever an exception says can be kept: PostgreSQL has neither NUL nor the half of a
    surrogate pair."""
    return value and re.sub("[\0\ud800-\udfff]", "\ufffd", value)
