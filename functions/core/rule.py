"""The rule of a kind of task: how long a task may wait, run and be silent, what follows, and which
ends are told; and an address, which is somebody who is told: its URL and secret are in the
environment."""

from functions.core.policy_keys import (
    FLAG,
    NAMES,
    SECRETS,
    SIZE,
    TEXT,
    TIME,
    Key,
    Kind,
    Mapping,
    PolicyRecord,
    choice,
    mapping_of,
    number,
    policy_key,
    whole,
)
from functions.core.record import replace
from functions.core.yaml_lines import Value

SLOTS = whole(1, 1000)
CENTS = whole(0, 100_000_000)
PENDING_MULTIPLE = 4
"""So many times `pending_for` is `pending_at_most`, unless the policy states it."""
TOLD = {
    "failed": "A task failed, after its last attempt. Default: true.",
    "completed": "A task was completed.",
    "retried": "An attempt ended that another one follows.",
    "cancelled": "A task was cancelled.",
}
PYTHON_ONLY = {
    "on_error",
    "isolation",
    "memory",
    "runs_on",
    "handler",
    "label",
    "preload",
    "secrets",
    "cost_at_least",
    "cost_at_most",
    "notify",
    "dispatch",
}
"""Fields that Python alone uses; they are left out of the rules that travel with each SQL call."""


class Rule(PolicyRecord):
    pending_for: float = policy_key(
        TIME,
        "How long a task may wait for a worker while none takes its kind; then it fails as "
        "never_claimed.",
    )
    pending_at_most: float | None = policy_key(
        TIME,
        "How long a task may wait in all. `pending_for` starts anew while workers hold tasks of "
        "its kind, or tasks that were queued before it: then it waits for its turn. At least "
        "`pending_for`. Default: 4 x `pending_for`.",
        default=None,
    )
    redispatch_after: float = policy_key(
        TIME,
        "After this time without a worker the push of a task may be lost, and is sent again; then "
        "once in each such time, and while workers take other tasks ever more rarely. Shorter than "
        "`pending_for`.",
    )
    run_for: float = policy_key(
        TIME,
        "The deadline of one attempt. At most platform.timeout - platform.margin, unless it runs "
        "on a pool.",
    )
    silent_for: float = policy_key(
        TIME,
        "How long a task may be running outside the guard without a sign of life; then it is "
        "settled. Longer than platform.timeout.",
    )
    restart_within: float = policy_key(
        TIME,
        "A task that ran outside the guard is started again only when it was last alive within "
        "this time; an older one fails as stale, since nobody may wait for it any more. "
        "Default: 1d.",
        default=86_400.0,
    )
    attempts: int = policy_key(
        whole(1, 100), "How many attempts a task has in all; an attempt counts when it is claimed."
    )
    backoff_first: float = policy_key(
        TIME, "The wait before the second attempt. Not longer than `max`.", at="backoff.first"
    )
    backoff_factor: float = policy_key(
        number(1, 100),
        "Each later wait is this many times as long as the one before it.",
        at="backoff.factor",
    )
    backoff_max: float = policy_key(TIME, "The longest wait.", at="backoff.max")
    on_lost: str = policy_key(
        choice("retry", "fail", "uncertain"),
        "What follows when an attempt is lost (killed, late, out of memory). `uncertain`, a "
        "failure, is for work that must not be done twice.",
    )
    on_error: str = policy_key(
        choice("retry", "fail"),
        "What follows when the handler raises an exception that is neither Retry nor Fail.",
    )
    isolation: str = policy_key(
        choice("process", "thread"),
        "Where the handler runs. `thread` is only for tiny work: it cannot be stopped.",
    )
    memory: int = policy_key(
        SIZE,
        "How much memory the handler's process may take. It is ended when it takes more, before "
        "the platform ends the whole instance.",
    )
    runs_on: str = policy_key(
        choice("function", "pool"),
        "Where its tasks run. `pool`: on workers that pull (infra/pool.tf), which no request's "
        "timeout ends; they are not pushed to the function `worker`. For what takes longer than "
        "`platform.timeout`, or needs a GPU or more memory.",
        default="function",
    )
    dispatch: str = policy_key(
        choice("chosen", "named"),
        "Which task a push starts. `chosen`: the push is a wake-up, and the claim takes the most "
        "urgent of all tasks that may start. `named`: the task that the push names, and no other "
        "push takes it. Default: `chosen`.",
        default="chosen",
    )
    limit_running: int | None = policy_key(
        SLOTS,
        "How many tasks of the kind run at once.",
        at="limit.running",
        default=None,
        optional=True,
    )
    limit_per_owner: int | None = policy_key(
        SLOTS,
        "How many tasks of the kind run at once for one user (owner).",
        at="limit.per_owner",
        default=None,
        optional=True,
    )
    limit_per_minute: int | None = policy_key(
        SLOTS,
        "How many tasks of the kind start within a minute.",
        at="limit.per_minute",
        default=None,
        optional=True,
    )
    breaker_failures: int | None = policy_key(
        whole(1, 100),
        "After so many attempts in a row that failed for a passing reason the kind is paused.",
        at="breaker.failures",
        default=None,
    )
    breaker_pause: float = policy_key(
        TIME,
        "For how long. Then one task is let through: where it ends well the pause is over, else "
        "it is twice as long. Default: 1m.",
        at="breaker.pause",
        default=60.0,
        optional=True,
    )
    breaker_most: float = policy_key(
        TIME,
        "The longest pause. Not shorter than `pause`. Default: 1h.",
        at="breaker.most",
        default=3600.0,
        optional=True,
    )
    retention_result: float | None = policy_key(
        TIME,
        "When the result of a completed task goes; the row stays.",
        at="retention.result",
        default=None,
        optional=True,
    )
    retention_completed: float | None = policy_key(
        TIME,
        "When the row of a completed task goes.",
        at="retention.completed",
        default=None,
        optional=True,
    )
    retention_failed: float | None = policy_key(
        TIME,
        "When the row of a failed task goes.",
        at="retention.failed",
        default=None,
        optional=True,
    )
    retention_cancelled: float | None = policy_key(
        TIME,
        "When the row of a cancelled task goes.",
        at="retention.cancelled",
        default=None,
        optional=True,
    )
    lease: float
    """`lease.for` of the policy, so that it travels with the rule."""
    handler: str = policy_key(
        TEXT,
        "The function that does the task, as module:function. Default: `handle` in "
        "functions/handlers/KIND.py; of a task without a kind in functions/handlers/WATCH.py.",
        default="",
    )
    label: str = policy_key(
        TEXT,
        "What the page shows of a task, so that people know it: a column, or a path in a JSON "
        "column, such as `input.prompt`. Secrets are hidden. Default: nothing.",
        default="",
    )
    preload: bool | None = policy_key(
        FLAG,
        "Whether the handler's module is imported once for all tasks of a worker. Default: unless "
        "its import leaves something open (a connection, a file, a thread) or takes more than 5 s.",
        default=None,
    )
    secrets: tuple[str, ...] = policy_key(
        SECRETS,
        "The secrets of Unstuck's own configuration that the handler's process may read from its "
        "environment, such as [DATABASE_URL]. Default: none. Variables of your own are always "
        "there. With `isolation: thread` all are.",
        default=(),
    )
    one_active: bool = policy_key(
        FLAG,
        "A user (owner) may have one open task of this kind; the database refuses a second. Only "
        "for a table that `migrate` made.",
        default=False,
    )
    cost_at_least: int = policy_key(
        CENTS, "The smallest price that the caller may state.", at="cost.at_least", default=0
    )
    cost_at_most: int = policy_key(
        CENTS, "The largest price that the caller may state.", at="cost.at_most", default=0
    )

    notify: dict[str, bool] = policy_key(
        Mapping({name: Key(FLAG, meaning) for name, meaning in TOLD.items()}, FLAG),
        "Of which ends people are told, beside the alerts; `addresses` says who. What is left out "
        "is not told, except `failed`. `true` or `false` stands for all.",
        default={},
    )

    def tells(self, outcome: str) -> bool:
        """Whether people are told of an attempt that ends so."""
        return self.notify.get(outcome, outcome == "failed")

    @property
    def retains(self) -> bool:
        """Whether it says when ended tasks go."""
        ends = (self.retention_completed, self.retention_failed, self.retention_cancelled)
        return any((self.retention_result, *ends))

    @property
    def is_limited(self) -> bool:
        return any((self.limit_running, self.limit_per_owner, self.limit_per_minute))

    @property
    def longest_wait(self) -> float:
        """`pending_at_most`, or its default (rules.sql has the same)."""
        return self.pending_at_most or PENDING_MULTIPLE * self.pending_for


RULE = mapping_of(
    Rule,
    {
        "backoff": "How long a task waits before its next attempt, with a jitter of half of it.",
        "cost": "What a task costs its owner, in cents, for the part `credits`: a number, or a "
        "range within which the caller states the price.",
        "limit": "How many tasks of the kind run at once or start in a minute: no claim takes one "
        "too many, and what has to wait burns no attempt. The slot of a dead worker comes back "
        "when its attempt is ended. `limits` of the watch holds for all kinds together.",
        "retention": "When ended tasks go, after their end. What is not named stays. For a table "
        "that `migrate` made, or one with `deletes`.",
        "breaker": "Pauses the kind while what it needs is away, and says so once.",
    },
    singles={"cost": CENTS},
)


def read_rules(value: Value, lease: float) -> dict[str, Rule]:
    """The rule of each kind. A kind takes from "*" what it does not state."""
    values = dict(value.items())
    if "*" not in values:
        value.fail('lacks the rule "*" for every kind. Add it.')
    own_star = values.pop("*")
    star = Rule(**RULE.read(own_star), lease=lease)
    _check(own_star, star)
    rules = {"*": star}
    for kind, own in values.items():
        rules[kind] = replace(star, **RULE.read(own, whole=False))
        _check(own, rules[kind])
    return rules


def _check(value: Value, rule: Rule) -> None:
    if rule.redispatch_after >= rule.pending_for:
        (value.get("redispatch_after") or value).fail(
            "must be shorter than pending_for, or a lost push is never sent again. Lower it."
        )
    if rule.longest_wait < rule.pending_for:
        (value.get("pending_at_most") or value).fail(
            "pending_at_most must not be shorter than pending_for. Raise it."
        )
    if rule.backoff_first > rule.backoff_max:
        value["backoff"]["first"].fail("must not be longer than `max`. Lower it.")
    if rule.breaker_pause > rule.breaker_most:
        value["breaker"].fail("pause must not be longer than `most`. Lower it.")
    if rule.cost_at_least > rule.cost_at_most:
        value["cost"]["at_least"].fail("must not be more than `at_most`. Lower it.")


DEFAULT_ADDRESS = "default"
"""That of NOTIFY_URL. `oncall` has NOTIFY_URL_ONCALL."""
RESERVED = ("callback", "ping", "worker")
"""Names of unstuck.addresses that are no addresses of people."""
SEVERITIES = {"failed": "error", "retried": "warning", "cancelled": "info", "completed": "info"}
"""By how an attempt ends."""
_RISING = ("info", "warning", "error")


class Address(PolicyRecord):
    severity: str = policy_key(
        choice(*_RISING),
        "From which severity on it is told: a failure is an `error`, a retry a `warning`, a good "
        "or a cancelled end `info`.",
        default="info",
    )
    kinds: tuple[str, ...] = policy_key(
        NAMES, "The kinds of which it is told, of those that have a rule. Default: all.", default=()
    )

    def takes(self, kind: str, severity: str) -> bool:
        return (not self.kinds or kind in self.kinds) and (
            _RISING.index(severity) >= _RISING.index(self.severity)
        )


ADDRESS = mapping_of(Address, {})


def _read(value: Value) -> dict[str, Address]:
    addresses = {}
    for name, inner in value.items():
        if not name.isidentifier() or name != name.lower() or name in RESERVED:
            inner.fail(
                "must be named by a-z, 0-9 and _, and not callback, ping or worker: its URL is in "
                "the variable NOTIFY_URL_NAME. Rename it."
            )
        addresses[name] = Address(**ADDRESS.read(inner))
    return addresses


ADDRESSES = Kind(_read, {"type": "object", "additionalProperties": {"$ref": "#/$defs/address"}})
