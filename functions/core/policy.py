"""The policy: which tables are watched, in which words, and by which clocks and rules. Read from
policy.yaml, checked on load, frozen afterwards. All times are seconds, all sizes bytes."""

import json
import os
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from functions.core.settings import settings
from functions.core.states import ENDED, State
from functions.core.yaml_lines import Value, read
from functions.errors import PolicyError

DEFAULT = Path(__file__).parents[1] / "policy.yaml"
BEATS_IN_A_LEASE = 3
HOOKS = ("on_created", "on_completed", "on_failed", "on_cancelled", "on_reopened", "on_swept")
MOST_CENTS = 100_000_000
PYTHONS = {"on_error", "isolation", "memory", "handler", "cost_at_least", "cost_at_most"}
"""What of a rule no SQL reads."""
OPTIONAL = {"credits": HOOKS, "generations": ("on_completed",)}
"""The parts in functions/sql/optional, with the hooks that each of them takes."""


class Json(str):
    """A JSON text that SQL takes as jsonb. By its type a store knows it from a text."""

    __slots__ = ()


@dataclass(frozen=True)
class Rule:
    """How long a task of one kind may wait, run and be silent, and what follows when it may no
    longer."""

    pending_for: float
    redispatch_after: float
    run_for: float
    silent_for: float
    attempts: int
    backoff_first: float
    backoff_factor: float
    backoff_max: float
    on_lost: str
    on_error: str
    isolation: str
    memory: int
    lease: float
    handler: str = ""
    one_active: bool = False
    """A user (owner) may have one open task of the kind at a time."""
    cost_at_least: int = 0
    """Cents. What a task of the kind costs its owner; at least, where the caller says how much."""
    cost_at_most: int = 0


@dataclass(frozen=True)
class Watch:
    """A watched table: its names, the words of each state, its clocks, and the rule of each kind."""

    name: str
    table: str
    own: bool
    key: str
    key_type: str
    status: str
    words: dict[State, tuple[Any, ...]]
    marks: dict[State, str]
    """Columns that tell the states of one word apart, where a word has several: `{completed:
    done_at, failed: error}`."""
    columns: dict[str, str]
    clocks: dict[str, tuple[str, ...]]
    hooks: dict[str, tuple[str, ...]]
    """SQL functions that are called in the transaction of what they are called for, by HOOKS; those
    of `optional` first."""
    optional: tuple[str, ...]
    """Of OPTIONAL: the parts in functions/sql/optional that are installed for the table."""
    notify: bool
    """A failure by a sweep is put into the outbox, for NOTIFY_URL."""
    types: dict[str, str]
    """The types of columns that are not what the field's tables mostly have (text; timestamptz for
    a clock), by column: `varchar(64)`, `jsonb not null`, `timestamp`, `bigint`,
    `public.job_status`. A clock of another table goes by `workers.last_heartbeat`."""
    also: dict[State, dict[str, str]]
    """More that a move to a state writes, by column: `now`, `nothing` (null), `raise` (one more);
    to running: `worker`; elsewhere: `note` (the sentence, merged into JSON or appended to a log).
    """
    jwt_role: str
    """The role that triggers of the table want to see in `request.jwt.claim.role`, or ""."""
    fence: str
    """off, observe or enforce: the trigger on the table."""
    create_per_minute: int | None
    """How many tasks a user may create in a minute, all kinds together; None: as many as they like.
    """
    rules: dict[str, Rule] = field(repr=False)

    @property
    def may_wait(self) -> bool:
        """Whether a task of it can be pending: not where rows are born running."""
        return bool(self.words[State.PENDING])

    @property
    def ends_alike(self) -> bool:
        """Whether the table alone does not tell how a task ended."""
        return (
            any(word in self.words[State.COMPLETED] for word in self.words[State.FAILED])
            and State.FAILED not in self.marks
        )

    def sharers(self, word: Any) -> list[State]:
        """The states for which a word stands."""
        return [state for state in State if word in self.words[state]]

    def rule(self, kind: str) -> Rule:
        return self.rules.get(kind) or self.rules["*"]

    def handler(self, kind: str) -> str:
        """`module:function`. A kind is data: by itself it names a module of functions/handlers,
        never a function."""
        return self.rule(kind).handler or f"functions.handlers.{kind}:handle"

    @cached_property
    def handlers(self) -> tuple[str, ...]:
        """Of the kinds that have a rule of their own."""
        return tuple(self.handler(kind) for kind in self.rules if kind != "*")

    @cached_property
    def rules_json(self) -> Json:
        """The rules as the SQL verbs take them: they travel with each call, so that SQL and policy
        cannot differ. And they are short, since each call reads them: what no SQL asks for stays
        here, and a kind says what is not as in "*"."""
        rules = {
            kind: {
                name: _short(value) for name, value in asdict(rule).items() if name not in PYTHONS
            }
            for kind, rule in self.rules.items()
        }
        star = rules.pop("*")
        differs = {
            kind: {name: rule[name] for name in rule if rule[name] != star[name]}
            for kind, rule in rules.items()
        }
        longest = _short(max(rule.pending_for for rule in self.rules.values()))
        return Json(json.dumps({"*": star | {"longest_pending_for": longest}, **differs}))


def _short(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


@dataclass(frozen=True)
class Policy:
    timeout: float
    margin: float
    beat: float
    lease: float
    sweep_every: float
    sweep_budget: float
    sweep_batch: int
    retention: float
    mass_expiry_at_least: int
    mass_expiry_share: float
    watches: dict[str, Watch]

    def watch(self, name: str | None = None) -> Watch:
        """The watch `name`, or the first one. Raises KeyError for an unknown name."""
        return self.watches[name] if name else next(iter(self.watches.values()))


@lru_cache
def load(path: str | None = None) -> Policy:
    """The policy of `path`, else of UNSTUCK_POLICY, else of the bundle.

    Raises PolicyError, which names the line and the next step.
    """
    file = Path(path or os.environ.get("UNSTUCK_POLICY") or DEFAULT)
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise PolicyError(
            f"{file}: cannot be read ({error.strerror}). Set UNSTUCK_POLICY to a policy.yaml."
        ) from None
    except UnicodeDecodeError:
        raise PolicyError(f"{file}: is not UTF-8. Save it as UTF-8.") from None
    return parse(text, file.name)


def parse(text: str, file: str = "policy.yaml") -> Policy:
    root = read(text, file)
    root.only("platform", "lease", "sweep", "slo", "alerts", "watches")
    platform, lease, sweep = root["platform"], root["lease"], root["sweep"]
    platform.only("timeout", "margin")
    lease.only("beat", "for")
    sweep.only("every", "budget", "batch", "retention", "mass_expiry")
    mass = sweep["mass_expiry"]
    mass.only("at_least", "share")
    policy = Policy(
        timeout=platform["timeout"].seconds(),
        margin=platform["margin"].seconds(),
        beat=lease["beat"].seconds(),
        lease=lease["for"].seconds(),
        sweep_every=sweep["every"].seconds(),
        sweep_budget=sweep["budget"].seconds(),
        sweep_batch=sweep["batch"].integer(1, 500),  # PostgREST cuts an answer at 1000 rows
        retention=sweep["retention"].seconds(),
        mass_expiry_at_least=mass["at_least"].integer(1, 1_000_000),
        mass_expiry_share=mass["share"].number(0, 1),
        watches={},
    )
    _fit(root, policy)
    for name, value in root["watches"].items():
        policy.watches[_watch_name(name, value)] = _watch(name, value, policy)
    if not policy.watches:
        root["watches"].fail("is empty. Name at least one watch.")
    _check_alerts(root, policy)
    return policy


def _fit(root: Value, policy: Policy) -> None:
    if policy.lease < round(BEATS_IN_A_LEASE * policy.beat, 6):  # 3 * 0.2 is more than 0.6
        root["lease"]["for"].fail(
            f"{policy.lease:g}s is less than {BEATS_IN_A_LEASE} beats of {policy.beat:g}s, so that one late beat "
            f"would end a healthy task. Raise it to {BEATS_IN_A_LEASE * policy.beat:g}s or lower `beat`."
        )
    if policy.margin >= policy.timeout:
        root["platform"]["margin"].fail("must be shorter than `timeout`. Lower it.")
    if policy.sweep_budget >= policy.sweep_every:
        root["sweep"]["budget"].fail("must be shorter than `every`, or runs pile up. Lower it.")


_ALERTS: dict[str, Callable[[Value], float]] = {
    "least_ended": lambda value: value.integer(1, 1_000_000),
    "sweep_silent": Value.seconds,
    "overdue": Value.seconds,
    "pending": Value.seconds,
    "least_rescued": lambda value: value.integer(1, 1_000_000),
    "rescued_share": lambda value: value.number(0, 1),
    "lost_leases": lambda value: value.integer(1, 1_000_000),
    "errors_share": lambda value: value.number(0, 1),
    "memory_share": lambda value: value.number(0, 1),
}
LATE = 600.0
"""Seconds that a log line may take until its metric counts it, by Google's word on log-based
metrics."""


def _check_alerts(root: Value, policy: Policy) -> None:
    """Only infra/ uses these numbers, but a slip in them should not wait for `terraform plan`. They
    may be left out."""
    if slo := root.get("slo"):
        slo.only("goal")
        slo["goal"].number(0.5, 0.9999)
    if alerts := root.get("alerts"):
        alerts.only(*_ALERTS)
        numbers = {name: read(alerts[name]) for name, read in _ALERTS.items()}
        least = 3 * policy.sweep_every + LATE
        if numbers["sweep_silent"] < least:
            alerts["sweep_silent"].fail(
                f"{least:g}s pass until three sweeps are missed and their log lines are surely not just late. Raise it to that."
            )
        longest = max(
            rule.pending_for for watch in policy.watches.values() for rule in watch.rules.values()
        )
        if numbers["pending"] >= longest:
            alerts["pending"].fail(
                f"must be shorter than pending_for ({longest:g}s), at which a task fails. Lower it."
            )


def _watch_name(name: str, value: Value) -> str:
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,39}", name):
        value.fail(
            "must be named by a-z, 0-9 and _ (40 at most): SQL functions are named after a watch. Rename it."
        )
    return name


def _watch(name: str, value: Value, policy: Policy) -> Watch:
    value.only(
        "table",
        "own",
        "key",
        "key_type",
        "status",
        "words",
        "marks",
        "columns",
        "clocks",
        "hooks",
        "optional",
        "notify",
        "types",
        "also",
        "jwt_role",
        "fence",
        "limits",
        "rules",
    )
    own, said, role, notify = (
        value.get("own"),
        value.get("fence"),
        value.get("jwt_role"),
        value.get("notify"),
    )
    optional = _optional(value)
    fence = said.choice("off", "observe", "enforce") if said else ("enforce" if own else "off")
    watch = Watch(
        name=name,
        table=_table(value["table"]),
        own=own.flag() if own else False,
        key=value["key"].text(),
        key_type=value["key_type"].choice("uuid", "text", "integer", "bigint"),
        status=value["status"].text(),
        words=_words(value["words"], marks := _marks(value)),
        marks=marks,
        columns=_columns(value["columns"]),
        clocks=_clocks(value, fence),
        hooks=_hooks(name, value, optional),
        optional=optional,
        notify=notify.flag() if notify else False,
        types=_types(value),
        also=_also(value),
        jwt_role=role.text() if role else "",
        fence=fence,
        create_per_minute=_per_minute(value, own=bool(own and own.flag())),
        rules=_rules(value["rules"], policy),
    )
    if "on_created" not in watch.hooks and any(rule.cost_at_most for rule in watch.rules.values()):
        value["rules"].fail(
            "has a `cost`, but nothing takes it. Add `optional: [credits]` to the watch, or a hook `on_created`."
        )
    _fit_words(value, watch)
    if "$$" in repr(watch):
        value.fail(
            "has $$ in a name or a word, at which the body of an SQL function would end. Use another."
        )
    return watch


def _table(value: Value) -> str:
    """`${NAME}` stands for a variable of the environment: tables that are called tasks_dev and
    tasks_prod."""

    def variable(match: re.Match[str]) -> str:
        return os.environ.get(match[1]) or value.fail(
            f"needs the variable {match[1]} of the environment. Set it."
        )

    return re.sub(r"\$\{(\w+)\}", variable, value.text())


def _words(value: Value, marks: dict[State, str]) -> dict[State, tuple[Any, ...]]:
    value.only(*State)
    words: dict[State, tuple[Any, ...]] = dict.fromkeys(State, ())
    unmarked: dict[Any, State] = {}
    for name, listed in value.items():
        state = State(name)
        words[state] = listed.texts()
        for word in () if state in marks else words[state]:
            ends = (
                isinstance(word, bool) and {state, unmarked.get(word)} <= ENDED
            )  # a flag tells no more
            if word in unmarked and not ends:
                listed.fail(
                    f"the word {word!r} stands for {unmarked[word]} already. Give each word one state, or name the column "
                    "that tells them apart under `marks`."
                )
            unmarked[word] = state
    for state in (State.RUNNING, State.FAILED):
        if not words[state]:
            value.fail(f"has no word for {state}. Add `{state}: [...]`.")
    return words


def _marks(watch: Value) -> dict[State, str]:
    value = watch.get("marks")
    if value is None:
        return {}
    value.only(State.COMPLETED, State.FAILED, State.CANCELLED)
    return {State(state): column.text() for state, column in value.items()}


def _fit_words(value: Value, watch: Watch) -> None:
    """What a table without a word for a state cannot do."""
    if watch.own and not (watch.may_wait and watch.words[State.COMPLETED]):
        value["words"].fail(
            "has no word for pending or completed, which a table of our own needs. Add both."
        )
    for kind, rule in watch.rules.items():
        if rule.attempts > 1 and not watch.may_wait:
            value["rules"].fail(
                f"{kind}: attempts is {rule.attempts}, but there is no word for pending, so that no task can be tried again. "
                "Write `attempts: 1`, or add `pending: [...]` to `words`."
            )
    if watch.columns.get("result") in watch.marks.values():
        value["marks"].fail(
            "names the column of the result, which may stay empty. Name a time or a flag."
        )


def _columns(value: Value) -> dict[str, str]:
    value.only("kind", "input", "result", "error", "reason", "owner", "priority")
    return {name: column.text() for name, column in value.items()}


def _clocks(watch: Value, fence: str) -> dict[str, tuple[str, ...]]:
    """Columns, or `workers.last_heartbeat via worker_id=id` for one that stands in another table."""
    value = watch.get("clocks")
    clocks: dict[str, tuple[str, ...]] = {}
    if value:
        value.only("queued", "due", "started", "alive", "touched", "finished")
        clocks = {name: listed.names() for name, listed in value.items()}
    waits = [name for name, _ in watch["words"].items() if name == State.PENDING]
    for name in ("queued", "alive") if waits else ("alive",):
        if not clocks.get(name) and fence != "observe":
            (value or watch).fail(
                f"lacks `{name}`: without it nobody can tell how long a task has been waiting or silent. Add it, or let "
                "a trigger see to it: `fence: observe`."
            )
    return clocks


def _optional(watch: Value) -> tuple[str, ...]:
    value = watch.get("optional")
    parts = value.names() if value else ()
    if value and (unknown := set(parts) - OPTIONAL.keys()):
        value.fail(
            f"{', '.join(sorted(unknown))} is not known here. Known are: {', '.join(OPTIONAL)}."
        )
    return tuple(dict.fromkeys(parts))


def _hooks(name: str, watch: Value, optional: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    value = watch.get("hooks")
    if value:
        value.only(*HOOKS)
    own = {hook: one.names() for hook, one in value.items()} if value else {}
    parts = {
        hook: tuple(f"unstuck.{name}_{part}_{hook}" for part in optional if hook in OPTIONAL[part])
        for hook in HOOKS
    }
    return {hook: found for hook in HOOKS if (found := parts[hook] + own.get(hook, ()))}


def _per_minute(watch: Value, *, own: bool) -> int | None:
    value = watch.get("limits")
    if value is None:
        return None
    if not own:
        value.fail(
            "needs `own: true`: tasks of another table are not created by Unstuck. Remove it."
        )
    value.only("create_per_minute")
    return value["create_per_minute"].integer(1, 100_000)


def _types(watch: Value) -> dict[str, str]:
    value = watch.get("types")
    return {name: one.text() for name, one in value.items()} if value else {}


def _also(watch: Value) -> dict[State, dict[str, str]]:
    value = watch.get("also")
    if value is None:
        return {}
    value.only(State.PENDING, State.RUNNING, State.COMPLETED, State.FAILED, State.CANCELLED)
    return {
        State(state): {
            column: one.choice(
                "now", "nothing", "raise", "worker" if state == State.RUNNING else "note"
            )
            for column, one in columns.items()
        }
        for state, columns in value.items()
    }


_RULE = (
    "pending_for",
    "redispatch_after",
    "run_for",
    "silent_for",
    "attempts",
    "backoff",
    "on_lost",
    "on_error",
    "isolation",
    "memory",
    "handler",
    "one_active",
    "cost",
)


_READ: dict[str, Callable[[Value], Any]] = {
    "attempts": lambda value: value.integer(1, 100),
    "on_lost": lambda value: value.choice("retry", "fail", "uncertain"),
    "on_error": lambda value: value.choice("retry", "fail"),
    "isolation": lambda value: value.choice("process", "thread"),
    "memory": Value.size,
    "handler": Value.text,
    "one_active": Value.flag,
}  # the others are times


def _rules(value: Value, policy: Policy) -> dict[str, Rule]:
    given = dict(value.items())
    if "*" not in given:
        value.fail('lacks the rule "*" for every kind. Add it.')
    default = _rule(given["*"], None, policy)
    return {"*": default} | {
        kind: _rule(one, default, policy) for kind, one in given.items() if kind != "*"
    }


def _rule(value: Value, default: Rule | None, policy: Policy) -> Rule:
    value.only(*_RULE)
    fields: dict[str, Any] = asdict(default) if default else {"lease": policy.lease}
    for name, one in value.items():
        if name == "backoff":
            fields |= _backoff(one)
        elif name == "cost":
            fields |= _cost(one)
        else:
            fields[name] = _READ.get(name, Value.seconds)(one)
    if default is None:
        for name in _RULE:
            if name not in {"handler", "one_active", "cost"}:
                value[name]
    rule = Rule(**fields)
    _fit_rule(value, rule, policy)
    return rule


def _backoff(value: Value) -> dict[str, float]:
    value.only("first", "factor", "max")
    first, longest = value["first"].seconds(), value["max"].seconds()
    if first > longest:
        value["first"].fail("must not be longer than `max`. Lower it.")
    return {
        "backoff_first": first,
        "backoff_factor": value["factor"].number(1, 100),
        "backoff_max": longest,
    }


def _cost(value: Value) -> dict[str, int]:
    """Cents: `25`, or `{at_least: 5, at_most: 500}` where the caller says how much."""
    if not isinstance(value.plain(), dict):
        return {
            "cost_at_least": value.integer(0, MOST_CENTS),
            "cost_at_most": value.integer(0, MOST_CENTS),
        }
    value.only("at_least", "at_most")
    least, most = value["at_least"].integer(0, MOST_CENTS), value["at_most"].integer(0, MOST_CENTS)
    if least > most:
        value["at_least"].fail("must not be more than `at_most`. Lower it.")
    return {"cost_at_least": least, "cost_at_most": most}


def _fit_rule(value: Value, rule: Rule, policy: Policy) -> None:
    most = policy.timeout - policy.margin
    if rule.run_for > most:
        (value.get("run_for") or value).fail(
            f"run_for is {rule.run_for:g}s, but the guard must end the work before the platform's timeout less its "
            f"margin ({most:g}s). Lower it, or raise platform.timeout."
        )
    if rule.silent_for <= policy.timeout:
        (value.get("silent_for") or value).fail(
            f"silent_for is {rule.silent_for:g}s, but a worker may be at it for {policy.timeout:g}s "
            "(platform.timeout). Raise it above that."
        )
    if rule.redispatch_after >= rule.pending_for:
        (value.get("redispatch_after") or value).fail(
            "must be shorter than pending_for, or a lost push is never sent again. Lower it."
        )


@lru_cache
def policy() -> Policy:
    return load(settings().policy)
