"""How Python reaches the SQL. A verb here is a call of the SQL function of the same name; a store
only carries it.

Every verb can be repeated: by its token, its key, or because it asks for a state that is then
there. So a call whose answer did not arrive is simply made again, within its time limit."""

import json
import random
import re
import time
import uuid
from abc import ABC, abstractmethod
from typing import Any

from functions.core.answers import (
    PACE_SECONDS,
    Active,
    AlreadyEnded,
    Attempt,
    Batch,
    Cancelled,
    Claimed,
    Conflict,
    Created,
    Evidence,
    Exists,
    Held,
    HeldTask,
    Lapsed,
    Limited,
    Lost,
    Message,
    NotClaimed,
    Overview,
    Pace,
    Pause,
    QuietTask,
    Rescued,
    Settled,
    StuckTasks,
    SweepBegun,
    SweepNotBegun,
    TaskRow,
    TaskStatus,
    Tidied,
    ToldPause,
    Unsweepable,
)
from functions.core.policy import Json, Policy, Watch
from functions.core.record import plain, replace
from functions.core.states import SettleAs
from functions.errors import StoreError
from functions.store.page_answers import (
    Failures,
    LastDay,
    Payload,
    Place,
    Summary,
    SweepRun,
    SweptTask,
    TaskPage,
    Timeline,
)
from functions.store.reader import read, read_all, read_one_of

Answer = dict[str, Any]
MISSING = "missing"
"""The verdict on a task that is not there."""
VERB_TIMEOUT_SECONDS = 8.0
"""For a verb, its repetitions included. SIGTERM grants 10 s on Cloud Run."""
LOCK_WAIT_SECONDS = 2.0
"""The database lets a claim wait so long for a lock (claim.sql). A claim with less time left is not
made: it could come through when its caller has given up, and burn a try."""
BATCH_TIMEOUT_SECONDS = 60.0
"""For a batch of the sweep."""
NO_SUCH_FUNCTION = {"42883", "PGRST202"}
CANCELLED = "57014"
"""The SQLSTATE of a statement that a time limit of the database, or a person, has stopped."""


class Store(ABC):
    """The verbs. Each raises StoreError when the database refuses, or cannot be reached within the
    limit."""

    @abstractmethod
    def call(self, function: str, arguments: dict[str, Any], timeout: float) -> Any:
        """Calls `unstuck.function` once, with named arguments, in at most `timeout` seconds, and
        returns its JSON. Raises StoreError."""

    def _asks_again(self, error: StoreError) -> bool:
        """Whether a call that ended with the error is repeated, if time is left for it."""
        return error.retryable

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
        at: str | None = None,
        metadata: Any = None,
        callback: str | None = None,
    ) -> Created | Exists | Conflict | Limited | Active:
        """Writes a pending task that may start after `delay` seconds, or, with an ISO time `at`,
        then; by the clock of the database. `callback`: the URL that is told of its end."""
        # only where they are asked for: the SQL of the last release lacks them
        asked: dict[str, Any] = {"p_at": at, "p_callback": callback}
        answer = self._verb(
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
            **{name: value for name, value in asked.items() if value},
        )
        return read_one_of(answer, Created, Exists, Conflict, Limited, Active)

    def claim(
        self,
        watch: Watch,
        task_id: str | None,
        worker: str,
        kinds: list[str] | None = None,
        token: str | None = None,
        *,
        chooses: bool = False,
        trace: str | None = None,
    ) -> Claimed | NotClaimed:
        """Claims a task, or the next one. With the `token` of an earlier claim, whose answer never
        came, it is that claim again. With `chooses` the task is a wake-up: where it may start, the
        claim takes the most urgent of all that may. `trace`, of the request that claims, is kept
        with the attempt."""
        arguments: dict[str, Any] = {
            "p_task": task_id,
            "p_worker": worker,
            "p_rules": watch.rules_json,
            "p_token": token or str(uuid.uuid4()),
            "p_again": token is not None,
            "p_kinds": kinds,
        }
        # only where they are asked for: the SQL of the last release lacks them
        newer: dict[str, Any] = {"p_chooses": True} if chooses else {}
        newer |= {"p_trace": trace} if trace else {}
        try:
            answer = self._verb(f"{watch.name}_claim", again="p_again", **arguments, **newer)
        except StoreError as error:
            if not newer or error.code not in NO_SUCH_FUNCTION:
                raise
            answer = self._verb(f"{watch.name}_claim", again="p_again", **arguments)
        if answer["verdict"] == Claimed.verdict:
            claimed = read(Claimed, answer)
            return replace(claimed, is_readable=type(answer) is dict)
        return read(NotClaimed, answer)

    def beat(
        self,
        watch: Watch,
        task_id: str,
        token: str,
        progress: Any = None,
        timeout: float = VERB_TIMEOUT_SECONDS,
    ) -> Held | Lost:
        """Says that the attempt lives, and how far it is."""
        answer = self._verb(
            "beat",
            timeout,
            p_watch=watch.name,
            p_task=task_id,
            p_token=token,
            p_progress=_json_or_null(progress),
        )
        return read_one_of(answer, Held, Lost)

    def checkpoint(
        self,
        watch: Watch,
        task_id: str,
        token: str,
        name: str,
        data: Any,
        timeout: float = VERB_TIMEOUT_SECONDS,
    ) -> Held | Lost:
        """Keeps the data of a finished step; also a beat."""
        answer = self._verb(
            "checkpoint",
            timeout,
            p_watch=watch.name,
            p_task=task_id,
            p_token=token,
            p_name=name,
            p_data=_json(data),
        )
        return read_one_of(answer, Held, Lost)

    def settle(
        self,
        watch: Watch,
        task_id: str,
        token: str,
        settle_as: SettleAs,
        *,
        result: Any = None,
        reason: str | None = None,
        error: str | None = None,
        detail: str | None = None,
        after: float | None = None,
        timeout: float = VERB_TIMEOUT_SECONDS,
    ) -> Settled | Lost:
        """Ends the attempt. `after`: seconds until the next try; None: the backoff of the rule."""
        rule_decides = settle_as not in {SettleAs.COMPLETE, SettleAs.FAIL}
        answer = self._verb(
            f"{watch.name}_settle",
            timeout,
            p_task=task_id,
            p_token=token,
            p_outcome=settle_as,
            p_rules=watch.rules_json if rule_decides else None,
            p_result=_json_or_null(result),
            p_reason=reason,
            p_error=_text(error),
            p_detail=_text(detail),
            p_delay=after,
        )
        return read_one_of(answer, Settled, Lost)

    def status(
        self,
        watch: Watch,
        task_id: str,
        *,
        heal: bool = True,
        owner: str | None = None,
        pushes: bool = False,
    ) -> TaskStatus | None:
        """None for a task that is not there, or, where `owner` is given, belongs to another.
        `pushes` as for `sweep`."""
        answer = self._verb(
            f"{watch.name}_status",
            p_task=task_id,
            p_rules=watch.pushed_rules_json if pushes else watch.rules_json,
            p_heal=heal,
            p_owner=owner,
        )
        return None if answer["verdict"] == MISSING else read(TaskStatus, answer)

    def cancel(
        self, watch: Watch, task_id: str, *, owner: str | None = None
    ) -> Cancelled | AlreadyEnded | None:
        """None as for `status`."""
        answer = self._verb(f"{watch.name}_cancel", p_task=task_id, p_owner=owner)
        if answer["verdict"] == MISSING:
            return None
        return read_one_of(answer, Cancelled, AlreadyEnded)

    def overview(self, watch: Watch) -> Overview:
        return read(Overview, self._verb(f"{watch.name}_overview", p_rules=watch.rules_json))

    def pace(self, watch: Watch) -> list[Pace]:
        """Of the kinds that wait: whether more tasks come than are taken."""
        return read_all(Pace, self._verb(f"{watch.name}_pace", p_seconds=PACE_SECONDS))

    def find(
        self, watch: Watch, task_filter: Answer, limit: int, after: str | None = None
    ) -> list[TaskRow]:
        """Tasks by filter ({ids, states, kind, owner, reason, sweep_id, older_than}), ordered by
        key, 500 at most."""
        answer = self._verb(
            f"{watch.name}_find", p_filter=_json(task_filter), p_limit=limit, p_after=after
        )
        return read_all(TaskRow, answer)

    def history(self, watch: Watch, task_id: str) -> list[Attempt]:
        """The attempts of a task, the first one first."""
        return read_all(Attempt, self._verb(f"{watch.name}_history", p_task=task_id))

    def preview(self, watch: Watch, limit: int) -> list[Rescued]:
        """The first of what is stuck, and what a sweep would do with it."""
        answer = self._verb(f"{watch.name}_preview", p_rules=watch.rules_json, p_limit=limit)
        return read_all(Rescued, answer)

    def stuck(self, watch: Watch, limit: int) -> StuckTasks:
        """What is stuck now, and what a sweep would do, without doing it: counted by kind and
        reason, and the first `limit` tasks."""
        answer = self._verb(f"{watch.name}_stuck", p_rules=watch.rules_json, p_limit=limit)
        return read(StuckTasks, answer)

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
        """The operators' list. `filters`: {state, word, kind, owner, reason, first and last key,
        since, until, text, message, order}, each optional; `after`: the `next` of the page
        before."""
        answer = self._verb(
            f"{watch.name}_page",
            p_filter=_json(filters),
            p_rules=watch.rules_json,
            p_limit=limit,
            p_after=None if after is None else _json(vars(after)),
        )
        return read(TaskPage, answer)

    def failures(self, watch: Watch, seconds: float) -> Failures:
        """The failures of so many seconds, by what their sentences say."""
        return read(Failures, self._verb(f"{watch.name}_failures", p_since=float(seconds)))

    def count(self, watch: Watch, state: str) -> int | None:
        """How many tasks are pending, running, failed or cancelled, counted up to 1,000; None for
        other states."""
        count: int | None = self._verb(f"{watch.name}_count", p_state=state)
        return count

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

    def sweep_begin(
        self, key: str | None, by: str, budget: float, installation: str = ""
    ) -> SweepBegun | SweepNotBegun:
        """Begins a run of `budget` seconds. A `key` is swept once."""
        # only where there is one: the SQL of the last release lacks it
        of_one: dict[str, Any] = {"p_installation": installation} if installation else {}
        answer = self._verb(
            "sweep_begin",
            p_key=key,
            p_by=by,
            p_budget=float(budget),
            p_run=str(uuid.uuid4()),
            **of_one,
        )
        if answer["verdict"] == SweepBegun.verdict:
            return read(SweepBegun, answer)
        return read(SweepNotBegun, answer)

    def sweep(
        self,
        watch: Watch,
        limit: int,
        *,
        sweep_id: int | None = None,
        batch: str | None = None,
        task_id: str | None = None,
        skip: list[str] | None = None,
        pushes: bool = False,
        timeout: float = BATCH_TIMEOUT_SECONDS,
    ) -> Batch:
        """One batch of the run `sweep_id`, or of one task. `pushes`: lost pushes are sent again, so
        that no task fails as never_claimed before it had that chance. A batch that a time limit of
        the database stopped is not tried again: the caller asks for a smaller one, by the same name
        (`batch`), so that it hears of what was done all the same."""
        of_a_run = sweep_id is not None and task_id is None
        arguments = {"p_batch": batch or str(uuid.uuid4())} if of_a_run else {"p_task": task_id}
        answer = self._verb(
            f"{watch.name}_batch" if of_a_run else f"{watch.name}_sweep",
            timeout,
            longest_call=timeout,
            final=CANCELLED,
            p_rules=watch.pushed_rules_json if pushes else watch.rules_json,
            p_limit=limit,
            p_sweep=sweep_id,
            p_skip=skip or [],
            **arguments,
        )
        return read(Batch, answer)

    def pass_over(
        self, watch: Watch, sweep_id: int, code: str, error: str, timeout: float
    ) -> Unsweepable | None:
        """Writes down the next overdue task as unsweepable; None where there is none."""
        answer = self._verb(
            f"{watch.name}_pass_over",
            timeout,
            p_rules=watch.rules_json,
            p_sweep=sweep_id,
            p_code=code,
            p_error=_text(error),
        )
        return None if answer is None else read(Unsweepable, answer)

    def orphans(self, watch: Watch, sweep_id: int) -> int:
        return int(self._verb(f"{watch.name}_orphans", p_sweep=sweep_id))

    def tidy(self, watch: Watch, sweep_id: int) -> Tidied:
        """`orphans`, and then what is open."""
        answer = self._verb(
            f"{watch.name}_tidy", final=CANCELLED, p_sweep=sweep_id, p_rules=watch.rules_json
        )
        return read(Tidied, answer)

    def suspend(self, watch: Watch, policy: Policy) -> int:
        return int(
            self._verb(
                "suspend",
                p_watch=watch.name,
                p_at_least=policy.mass_expiry_at_least,
                p_share=policy.mass_expiry_share,
            )
        )

    def lapsed(self, watch: Watch, policy: Policy) -> Lapsed:
        """`suspend`, and what a run has to know of those whose lease ran out."""
        answer = self._verb(
            "lapsed",
            final=CANCELLED,
            p_watch=watch.name,
            p_at_least=policy.mass_expiry_at_least,
            p_share=policy.mass_expiry_share,
        )
        return read(Lapsed, answer)

    def clock_jumped(self, sweep_id: int, seconds: float) -> int:
        """The run found that the database's clock was set by so many seconds: live attempts keep
        their time. Returns how many were moved."""
        return int(self._verb("clock_jumped", p_sweep=sweep_id, p_seconds=seconds))

    def redispatch(self, watch: Watch, limit: int) -> list[QuietTask]:
        """Pending tasks to push again. If the answer does not arrive, these pushes are not sent:
        the next are due in `redispatch_after`."""
        answer = self._verb(f"{watch.name}_redispatch", p_rules=watch.rules_json, p_limit=limit)
        return read_all(QuietTask, answer)

    def pause(
        self, watch: Watch, kind: str, who: str, why: str | None, seconds: float | None
    ) -> Pause:
        """Pauses a kind, or all with "*"; for so many seconds, or until somebody resumes it."""
        answer = self._verb(
            "pause",
            p_watch=watch.name,
            p_kind=kind,
            p_seconds=None if seconds is None else float(seconds),
            p_who=_text(who),
            p_why=_text(why),
        )
        return read(Pause, answer)

    def resume(self, watch: Watch, kind: str, who: str) -> list[Pause]:
        """Ends the pause of a kind, or with "*" all of the watch. Returns those that it ended."""
        answer = self._verb("resume", p_watch=watch.name, p_kind=kind, p_who=_text(who))
        return read_all(Pause, answer)

    def pauses(self, watches: list[str]) -> list[Pause]:
        """What is paused now. None is where the SQL before an upgrade does not know it."""
        try:
            return read_all(Pause, self._verb("pauses", p_watches=watches))
        except StoreError as error:
            if error.code in NO_SUCH_FUNCTION:
                return []
            raise

    def pauses_told(self, watches: list[str], forgotten: float) -> list[ToldPause]:
        """What nobody was told of the pauses yet, once; `forgotten`: seconds after which one that
        has no end is."""
        answer = self._verb("pauses_told", p_watches=watches, p_forgotten=float(forgotten))
        return read_all(ToldPause, answer)

    def retain(self, watch: Watch) -> int:
        """Deletes results and rows of ended tasks whose time is over, a bounded number."""
        gone = self._verb(
            f"{watch.name}_retain",
            BATCH_TIMEOUT_SECONDS,
            longest_call=BATCH_TIMEOUT_SECONDS,
            p_rules=watch.rules_json,
        )
        return int(gone["results"]) + int(gone["rows"])

    def prune(self, keep: float, installation: str = "") -> int:
        of_one: dict[str, Any] = {"p_installation": installation} if installation else {}
        return int(self._verb("prune", p_keep=keep, **of_one))

    def outbox_take(
        self, lease: float, watches: list[str] | None = None, addresses: list[str] | None = None
    ) -> Message | None:
        """The next message to send to one of the addresses (None: to the default one), ours for
        `lease` seconds; None when there is none."""
        # only where they are asked for: the SQL of the last release lacks them
        asked = {"p_watches": watches, "p_addresses": addresses}
        of_some: dict[str, Any] = {name: names for name, names in asked.items() if names}
        answer = self._verb("outbox_take", p_lease=lease, **of_some)
        return None if answer is None else read(Message, answer)

    def outbox_end(
        self, message: str, error: str | None = None, after: float | None = None
    ) -> None:
        """The message was sent; or, with an error, is to be sent again `after` seconds (None: given
        up)."""
        self._verb("outbox_end", p_message=message, p_error=_text(error), p_retry_after=after)

    def metrics(self, watches: list[str], installation: str = "") -> Answer:
        """What a Prometheus counts, by hour (metrics.sql)."""
        answer = self._verb("metrics", p_watches=watches, p_installation=installation)
        return dict(answer)

    def evidence(self, sweep_id: int, evidence: list[Evidence]) -> int:
        """Writes down why workers died. Returns of how many attempts it was not known before."""
        return int(self._verb("evidence", p_sweep=sweep_id, p_found=_json(plain(evidence))))

    def held_by(self, worker: str, at: str, age: float = 0.0) -> list[HeldTask]:
        """What a worker holds that was gone at the ISO time `at`: attempts that had then run for
        `age` seconds, and have sent no heartbeat since."""
        answer = self._verb("held_by", p_worker=worker, p_at=at, p_age=float(age))
        return read_all(HeldTask, answer)

    def sweep_end(
        self, sweep_id: int, *, ok: bool, counts: Answer, error: str | None = None
    ) -> None:
        self._verb("sweep_end", p_id=sweep_id, p_ok=ok, p_counts=_json(counts), p_error=error)

    def _verb(
        self,
        function: str,
        timeout: float = VERB_TIMEOUT_SECONDS,
        again: str | None = None,
        longest_call: float = VERB_TIMEOUT_SECONDS,
        final: str | None = None,
        **arguments: Any,
    ) -> Any:
        """Calls until it is answered, or the time is over, or the error is not weather, or has the
        SQLSTATE `final`. One call takes `longest_call` seconds at most, since its connection may be
        dead and nobody says so. A repetition sets the argument that `again` names."""
        until = time.monotonic() + timeout
        pause = 0.05
        while True:
            try:
                left = until - time.monotonic()
                return self.call(function, arguments, max(0.1, min(left, longest_call)))
            except StoreError as error:
                left = until - time.monotonic()
                if left <= pause + (LOCK_WAIT_SECONDS if again else 0.0):
                    raise
                if error.code == final or not self._asks_again(error):
                    raise
            time.sleep(pause * random.uniform(0.5, 1))
            pause = min(1.0, pause * 2)
            if again:
                arguments[again] = True


def _json(value: Any) -> Json:
    return Json(json.dumps(value))


def _json_or_null(value: Any) -> Json | None:
    return None if value is None else _json(value)


def _text(value: str | None) -> str | None:
    """Whatever an exception says can be kept: PostgreSQL has neither NUL nor the half of a
    surrogate pair."""
    return value and re.sub("[\0\ud800-\udfff]", "\ufffd", value)
