"""A watch: a table that Unstuck watches, with its words, clocks and rules."""

import json
import os
import re
from functools import cached_property
from typing import Any

from functions.core.policy_keys import (
    FLAG,
    NAMES,
    TEXT,
    TIME,
    WORDS,
    Key,
    Kind,
    Mapping,
    PolicyRecord,
    by_name,
    choice,
    mapping_of,
    number,
    policy_key,
    read_later,
    same_kind,
    whole,
)
from functions.core.rule import DEFAULT_ADDRESS, PYTHON_ONLY, SEVERITIES, SLOTS, Address, Rule
from functions.core.states import State
from functions.core.yaml_lines import Value

WORDS_MEANINGS = {
    state: f"The words of a {state} task; the first is the one that is written." for state in State
} | {State.RESTING: "The words of a task that waits for a person; it is never swept."}
MARKS_MEANINGS = {
    state: f"The column that is set when a task is {state}."
    for state in (State.COMPLETED, State.FAILED, State.CANCELLED)
}
HOOKS = {
    "on_created": "Called when a task is created, with (task_id text).",
    "on_completed": "Called when a task is completed, with (task_id text, attempt integer, "
    "result jsonb).",
    "on_failed": "Called when a task has failed, with (task_id text, attempt integer, "
    "reason text).",
    "on_cancelled": "Called when a task is cancelled, with (task_id text, attempt integer, "
    "reason text).",
    "on_reopened": "Called when a failed or cancelled task starts again, with (task_id text).",
    "on_swept": "Called once in each run of the sweep, with ().",
}
OPTIONAL = {"credits": tuple(HOOKS), "generations": ("on_completed",)}
"""The parts in functions/sql/optional, with the hooks that each of them takes."""


CONSTANT = "="
"""With this a value of `also` begins that is written as it is: `=true`, `=failed`."""


class Json(str):
    """A JSON text that SQL takes as jsonb. By its type a store knows it from a text."""

    __slots__ = ()


VARIABLE = re.compile(r"\$\{(\w+)\}")


def expanded(value: Value) -> str:
    """The text, with the variables of the environment that it names."""

    def variable(match: re.Match[str]) -> str:
        return os.environ.get(match[1]) or value.fail(
            f"needs the variable {match[1]} of the environment. Set it."
        )

    return VARIABLE.sub(variable, value.text())


def _optional(value: Value) -> tuple[str, ...]:
    parts = value.names()
    if unknown := set(parts) - OPTIONAL.keys():
        value.fail(
            f"{', '.join(sorted(unknown))} is not known here. Known are: {', '.join(OPTIONAL)}."
        )
    return tuple(dict.fromkeys(parts))


def _writes(state: State) -> Key:
    more = "worker" if state == State.RUNNING else "note"
    words = choice("now", "nothing", "raise", more)

    def read(value: Value) -> str:
        text = value.text()
        return text if text.startswith(CONSTANT) else str(words.read(value))

    schema = {"anyOf": [words.schema, {"type": "string", "pattern": f"^{CONSTANT}"}]}
    values = by_name(Kind(read, schema))
    return Key(values, f"What a move to {state} also writes, by column.")


PRIORITY = Kind(
    lambda value: (value.only("column", "first")["column"] if value.is_mapping else value).text(),
    {
        "anyOf": [
            {"type": "string"},
            {
                "type": "object",
                "required": ["column"],
                "properties": {
                    "column": {"type": "string"},
                    "first": {"enum": ["highest", "lowest"]},
                },
                "additionalProperties": False,
            },
        ]
    },
)
"""The column of the priority, which may state its urgent end too."""


class Watch(PolicyRecord):
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    name: str
    """With the installation, where it has one: SQL functions and rows of the ledger go by it."""

    written: str = ""
    """The name as the policy writes it."""

    installation: str = ""
    table: str = policy_key(
        Kind(expanded, {"type": "string"}),
        "The table as schema.name. `${NAME}` stands for a variable of the environment.",
    )
    own: bool = policy_key(
        FLAG,
        "Whether `migrate` makes the table. Leave it out for a table that you have.",
        default=False,
    )
    key: str = policy_key(TEXT, "The column of the primary key.")
    key_type: str = policy_key(
        choice("uuid", "text", "integer", "bigint"), "The type of the primary key."
    )
    status: str = policy_key(TEXT, "The column of the status.")
    words: dict[State, tuple[Any, ...]] = policy_key(
        same_kind(WORDS, WORDS_MEANINGS),
        "The table's own words for each state. Running and failed need one; without one for "
        "pending, rows are born running and have one attempt; without one for completed, tasks are "
        "swept only. A word that stands for several states needs `marks`; words that are left out "
        "are never touched.",
    )
    marks: dict[State, str] = policy_key(
        same_kind(TEXT, MARKS_MEANINGS),
        "Columns that tell the states of one word apart: a flag that is true, a time or a text "
        "that is set. A boolean `processing` is false before and after; `{completed: done_at, "
        "failed: error}` says which.",
        default={},
    )
    columns: dict[str, str] = policy_key(
        same_kind(
            TEXT,
            {
                "kind": "The kind of work: picks the rule and the handler.",
                "input": "What the handler receives. Default: the whole row.",
                "result": "Takes what the handler returns.",
                "error": "Takes the sentence for the user. Cut to its width; JSON is merged.",
                "reason": "Takes the code of the reason.",
                "owner": "The user to whom the task belongs.",
                "callback": "The URL that is told of the end of the task; see CALLBACK_HOSTS.",
                "attempts_at_most": "How many attempts the row's task has, in place of `attempts` "
                "of the rule; where it is empty or 0 the rule holds.",
                "retries_at_most": "The same as how many times it may be tried again.",
                "attempts": "How many attempts the table counts for itself. Those outside the "
                "guard count against the row's own limit.",
                "retries": "The same as how many times it was tried again.",
            },
            {
                "priority": Key(
                    PRIORITY,
                    "How urgent a task is; one without a number has 0. `{column: prio, first: "
                    "lowest}` says which end is claimed first, as `urgent` does.",
                )
            },
        ),
        "Which other columns the table has. None of them is required.",
    )
    error_keys: dict[str, str] = policy_key(
        by_name(choice("message", "code", "time")),
        "Of an error that is JSON: the keys that its application reads, and what each holds, as "
        '`{msg: message, code: code}`; `error.msg` is msg in the object error; the key "" is of '
        "a JSON string. Default: `error`, `reason` and `at`.",
        default={},
    )
    clocks: dict[str, tuple[str, ...]] = policy_key(
        same_kind(
            NAMES,
            {
                "queued": "Since when a task waits.",
                "due": "The time before which a task is not claimed. A retry moves it.",
                "started": "When the task was claimed.",
                "alive": "The last sign of life of a worker that is not in the guard.",
                "touched": "Set by every write of Unstuck.",
                "finished": "When the task ended.",
                "seen": "Further signs of life, such as a lock or the start: of these and `alive` "
                "the latest counts.",
                "lease": "Until when the row's own worker holds the task: it is stuck 5 minutes "
                "later. A task that waits is not overdue before.",
                "deadline": "When the task must have ended: it is stuck 5 minutes later.",
            },
        ),
        "Columns that tell times, best first: where one is NULL, the next one counts. "
        "`workers.last_heartbeat via worker_id=id` names a column of another table. `queued` and "
        "`alive` are required unless `fence` is `observe`; `queued` only where tasks wait.",
        default={},
    )
    per_row: dict[str, dict[str, float]] = policy_key(
        same_kind(
            by_name(number(0.001, 86_400)),
            {
                "run_for": "How long the row may run, by column; the number is the column's unit "
                "in seconds: `{timeout_ms: 0.001}`.",
                "silent_for": "How long its worker may be silent, as `run_for`.",
            },
        ),
        "Limits that rows of an adopted table state for themselves: they stand in place of "
        "`silent_for` of the rule for a worker outside the guard.",
        default={},
    )
    deleted: tuple[str, ...] = policy_key(
        NAMES,
        "Columns that are set (or true) in a row that was deleted but kept: it is never touched.",
        default=(),
    )
    ended: tuple[str, ...] = policy_key(
        NAMES,
        "Columns with the time at which a row has ended, whatever its status says: where one is "
        "set the task is not open, unless it was touched, or is due, a minute later or more.",
        default=(),
    )
    stopping: tuple[Any, ...] = policy_key(
        WORDS,
        "Those of the words of running that say that the user asked to stop the task: where its "
        "worker is lost it is cancelled, and never started again.",
        default=(),
    )
    asked_to_stop: tuple[str, ...] = policy_key(
        NAMES,
        "Columns that are set (or true) in a row whose user asked to stop the task, as `stopping`. "
        "One that still waits is cancelled, and never run.",
        default=(),
    )
    hooks: dict[str, tuple[str, ...]] = policy_key(
        same_kind(NAMES, HOOKS),
        "SQL functions of yours that are called in the transaction of the move.",
        default={},
    )
    optional: tuple[str, ...] = policy_key(
        Kind(_optional, {"type": "array", "items": {"enum": list(OPTIONAL)}}),
        "Parts of functions/sql/optional that `migrate` installs. Their hooks are called before "
        "yours.",
        default=(),
    )
    urgent: str = policy_key(
        choice("highest", "lowest"),
        "Which end of the priority is claimed first. A table that `migrate` made has `highest`.",
        default="highest",
    )
    deletes: bool = policy_key(
        FLAG,
        "Whether `retention` of the rules holds for this adopted table: then the sweep deletes its "
        "ended rows, which needs the right to.",
        default=False,
    )
    ageing: float = policy_key(
        TIME,
        "A task that waits for so long behind more urgent ones comes before them: one claim of "
        "four takes the oldest such task. Default: 5m.",
        default=300.0,
    )
    notify: bool | None = policy_key(
        FLAG,
        "Whether people are told of ends, as `notify` of the rules says: `true` keeps also those "
        "that nobody asks for yet; `false` tells none. Default: once a sweep has NOTIFY_URL.",
        default=None,
    )
    addresses: dict[str, Address]
    """Of the policy, by name."""
    types: dict[str, str] = policy_key(
        by_name(TEXT),
        "The types of columns that are not text (timestamptz for a clock), by column: "
        "`varchar(64)`, `jsonb not null`, `timestamp(0)`, `bigint`, `public.job_status`. A clock "
        "of another table goes by `workers.last_heartbeat`.",
        default={},
    )
    also: dict[State, dict[str, str]] = policy_key(
        Mapping({state: _writes(state) for state in State if state != State.RESTING}),
        "What else a move to a state writes, by column: `now`, `nothing` (null; false for a "
        "flag), `raise` (one more), `=TEXT` (the text itself); to running `worker`; elsewhere "
        "`note` (the sentence, merged into JSON or appended to a log).",
        default={},
    )
    jwt_role: str = policy_key(
        TEXT,
        "The role that triggers of the table expect in request.jwt.claim.role. Default: none is "
        "set.",
        default="",
    )
    fence: str = policy_key(
        choice("off", "observe", "enforce"),
        "The trigger on the table: `enforce` refuses writes from elsewhere that leave an ended "
        "state or end a task that a worker holds; `observe` only stamps times, and files what "
        "`enforce` would refuse. With each of them a "
        "task of an adopted table that is put back is stamped. Default: `enforce` for a table that "
        "`migrate` made, else `off`.",
        default="off",
    )
    create_per_minute: int | None = policy_key(
        whole(1, 100_000),
        "How many tasks of all kinds together a user may create in a minute; more get 429. "
        "Default: no limit.",
        at="limits.create_per_minute",
        default=None,
        optional=True,
    )
    all_running: int | None = policy_key(
        SLOTS,
        "How many tasks of all kinds together run at once.",
        at="limits.running",
        default=None,
        optional=True,
    )
    all_per_owner: int | None = policy_key(
        SLOTS,
        "How many tasks of all kinds together run at once for one user (owner).",
        at="limits.per_owner",
        default=None,
        optional=True,
    )
    all_per_minute: int | None = policy_key(
        SLOTS,
        "How many tasks of all kinds together start within a minute.",
        at="limits.per_minute",
        default=None,
        optional=True,
    )
    rules: dict[str, Rule] = policy_key(
        read_later(
            {"type": "object", "required": ["*"], "additionalProperties": {"$ref": "#/$defs/rule"}}
        ),
        'The rules, by kind. The rule "*" holds for every kind and states all keys except '
        "`handler`, `one_active` and `cost`; the rule of a kind states only what differs.",
    )

    @property
    def may_wait(self) -> bool:
        """Whether a task of it can be pending: not where rows are born running."""
        return bool(self.words[State.PENDING])

    @property
    def routes(self) -> dict[str, dict[str, list[str]]]:
        """By kind, and by how an attempt ends: the addresses that are told."""
        if self.notify is False:
            return {}
        return {kind: self._told(kind, rule) for kind, rule in self.rules.items()}

    def _told(self, kind: str, rule: Rule) -> dict[str, list[str]]:
        """By how an attempt of the kind ends: the addresses that are told."""
        addresses = {DEFAULT_ADDRESS: Address()} | self.addresses
        routes: dict[str, list[str]] = {}
        for outcome, severity in SEVERITIES.items():
            names = [name for name, address in addresses.items() if address.takes(kind, severity)]
            if names and rule.tells(outcome):
                routes[outcome] = names
        return routes

    @property
    def retains(self) -> bool:
        """Whether ended tasks go."""
        return any(rule.retains for rule in self.rules.values())

    @property
    def ends_alike(self) -> bool:
        """Whether the table alone does not tell how a task ended."""
        return State.FAILED not in self.marks and any(
            word in self.words[State.COMPLETED] for word in self.words[State.FAILED]
        )

    def sharers(self, word: Any) -> list[State]:
        """The states for which a word stands."""
        return [state for state in State if word in self.words[state]]

    def texts(self, state: State) -> list[str]:
        """The words of a state as PostgreSQL prints them."""
        words = self.words.get(state, ())
        return [str(word).lower() if isinstance(word, bool) else str(word) for word in words]

    def states_named(self, text: str) -> list[State]:
        """What a person means who names a state: it, or those for which the table has that word."""
        if text in set(State):
            return [State(text)]
        return [state for state in State if text in self.texts(state)]

    def rule(self, kind: str) -> Rule:
        return self.rules.get(kind) or self.rules["*"]

    def is_pushed(self, kind: str) -> bool:
        """Whether its tasks are pushed to the function `worker`. Those of a pool are pulled."""
        return self.rule(kind).runs_on == "function"

    def handler(self, kind: str) -> str:
        """`module:function`. A kind is data: without a rule that names a handler it chooses a
        module of functions/handlers, never a function. Where a task has no kind, the module is
        called as the watch."""
        return self.rule(kind).handler or f"functions.handlers.{kind or self.name}:handle"

    @cached_property
    def rules_json(self) -> Json:
        """The rules as the SQL verbs take them: they travel with each call, so that SQL and policy
        cannot differ. They are short, since each call reads them: what Python alone uses is left
        out, and a kind states only what differs from "*"."""
        return self._rules_json({})

    @cached_property
    def pushed_rules_json(self) -> Json:
        """The same where workers are pushed to: no task fails as never_claimed before its push was
        sent again."""
        return self._rules_json({"pushes": True})

    def _rules_json(self, more: dict[str, Any]) -> Json:
        rules = {kind: _sql_fields(rule) for kind, rule in self.rules.items()}
        star = rules.pop("*")
        longest = max(rule.longest_wait for rule in self.rules.values())
        differing = {kind: _differing(rule, star) for kind, rule in rules.items()}
        star |= {"longest_pending_for": _short(longest), **self._of_claims(star, rules), **more}
        return Json(json.dumps({"*": star, **differing}))

    def _of_claims(self, star: dict[str, Any], rules: dict[str, Any]) -> dict[str, Any]:
        """What a claim asks first, so that one of a watch without limits asks for nothing more."""
        urgent = {"ageing": _short(self.ageing)} if "priority" in self.columns else {}
        limits: dict[str, Any] = urgent | {
            name: limit
            for name in ("all_running", "all_per_owner", "all_per_minute")
            if (limit := getattr(self, name))
        }
        if limits.keys() - urgent.keys():
            limits["limited"] = True
        each = [star, *rules.values()]
        if "limited" in limits or any("limited" in rule for rule in each):
            limits["some_limited"] = True
        if any(rule["dispatch"] != "chosen" for rule in each if "dispatch" in rule):
            limits["some_named"] = True
        return limits


def _sql_fields(rule: Rule) -> dict[str, Any]:
    fields = {
        name: _short(value)
        for name, value in vars(rule).items()
        if name not in PYTHON_ONLY and value is not None
    }
    if rule.breaker_failures is None:
        del fields["breaker_pause"], fields["breaker_most"]
    if rule.is_limited:
        fields["limited"] = True
    if rule.runs_on == "pool" or rule.dispatch == "named":
        fields["dispatch"] = "named"
    return fields


def _differing(rule: dict[str, Any], star: dict[str, Any]) -> dict[str, Any]:
    if "dispatch" in star:
        rule = {"dispatch": "chosen"} | rule
    return {name: value for name, value in rule.items() if value != star.get(name)}


def _short(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


WATCH = mapping_of(
    Watch,
    {
        "limits": "Limits for the whole watch: what runs (as `limit` of a rule), and, in a table "
        "that `migrate` made, what a user creates."
    },
)
