"""The policy: which tables are watched, in which words, and by which clocks and rules. It is read
from policy.yaml, checked on load, and frozen afterwards. All times are seconds, all sizes bytes."""

import os
from functools import lru_cache
from pathlib import Path

from functions.core.policy_keys import (
    TIME,
    Key,
    Kind,
    Mapping,
    PolicyRecord,
    mapping_of,
    number,
    policy_key,
    read_later,
    whole,
)
from functions.core.rule import ADDRESSES, Address, Rule
from functions.core.watch import Json, Watch, expanded
from functions.core.watch_reader import NAME_PATTERN, read_watch
from functions.core.yaml_lines import Value, read
from functions.errors import PolicyError

__all__ = ["DEFAULT", "Json", "Policy", "Rule", "Watch", "load", "parse"]

DEFAULT = Path(__file__).parents[1] / "policy.yaml"
BEATS_IN_A_LEASE = 3
LATE_LOG_SECONDS = 600.0
"""The time that a log line may take until its metric counts it, as Google says of log-based
metrics."""
COUNT = whole(1, 1_000_000)
SHARE = number(0, 1)


SLO = {
    "goal": Key(
        number(0.5, 0.9999),
        "The share of the tasks that end, over 28 days, that must end well.",
        required=True,
    )
}
ALERTS = {
    "least_ended": Key(
        COUNT,
        "The alerts on failures are silent while fewer tasks than this end in their window.",
        required=True,
    ),
    "sweep_silent": Key(
        TIME,
        "SweepSilent fires after this time without a sweep: at least 3 x `every`, and 10m in which "
        "log lines may be late.",
        required=True,
    ),
    "overdue": Key(
        TIME,
        "TaskOverdue fires when tasks are ended later than this after their time.",
        required=True,
    ),
    "pending": Key(
        TIME,
        "PendingTooOld fires when a task waits longer than this for a worker. Shorter than "
        "`pending_for`, at which it fails.",
        required=True,
    ),
    "least_rescued": Key(
        COUNT,
        "RescueRateHigh fires only when at least this many tasks were rescued from dead workers in "
        "an hour.",
        required=True,
    ),
    "rescued_share": Key(
        SHARE,
        "RescueRateHigh fires only when the tasks rescued in an hour are more than this share of "
        "those that ended.",
        required=True,
    ),
    "lost_leases": Key(
        COUNT,
        "LeaseLost and ZombieWriteRefused fire at this many lost leases in an hour.",
        required=True,
    ),
    "errors_share": Key(
        SHARE,
        "FunctionErrors fires when more than this share of a function's answers are 5xx.",
        required=True,
    ),
    "memory_share": Key(
        SHARE,
        "MemoryHigh fires when a function uses more than this share of its memory.",
        required=True,
    ),
}


class Policy(PolicyRecord):
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    timeout: float = policy_key(
        TIME,
        "The time limit of the worker function. The platform does not stop the work then, so the "
        "guard does. At most 60m for HTTP.",
        at="platform.timeout",
    )
    margin: float = policy_key(
        TIME,
        "Kept free before the timeout for the final write. Shorter than `timeout`.",
        at="platform.margin",
    )
    beat: float = policy_key(TIME, "How often a worker sends a heartbeat.", at="lease.beat")
    lease: float = policy_key(
        TIME,
        "How long an attempt is believed alive after its last heartbeat: at least 3 heartbeats.",
        at="lease.for",
    )
    sweep_every: float = policy_key(TIME, "How often the scheduler calls it.", at="sweep.every")
    sweep_budget: float = policy_key(
        TIME,
        "A run stops after this time and leaves the rest to the next. Shorter than `every`.",
        at="sweep.budget",
    )
    sweep_batch: int = policy_key(
        whole(1, 500), "How many rows one transaction settles.", at="sweep.batch"
    )  # PostgREST cuts an answer at 1000 rows
    retention: float = policy_key(
        TIME,
        "Ended attempts, runs of the sweep and refusals that are older than this are deleted.",
        at="sweep.retention",
    )
    mass_expiry_at_least: int = policy_key(
        COUNT,
        "A mass expiry is at least this many leases of a watch.",
        at="sweep.mass_expiry.at_least",
    )
    mass_expiry_share: float = policy_key(
        SHARE,
        "A mass expiry is more than this share of the live leases of a watch.",
        at="sweep.mass_expiry.share",
    )
    slo: dict[str, float] = policy_key(
        Mapping(SLO), "The goal that the alerts on failures hold. Only infra/ uses it.", default={}
    )
    alerts: dict[str, float] = policy_key(
        Mapping(ALERTS),
        "The numbers of the alerts, which infra/README.md describes. Only infra/ uses them; they "
        "are checked here, so that a slip does not wait for `terraform plan`.",
        default={},
    )
    installation: str = policy_key(
        Kind(expanded, {"type": "string"}),
        "A name for this deployment, where several share a database: it stands in the names of its "
        "watches, and its sweeps and notifications are its own. `${NAME}` stands for a variable of "
        "the environment. Default: the variables in the name of a table, such as `dev` of "
        "`public.tasks_${STAGE}`.",
        default="",
    )
    addresses: dict[str, Address] = policy_key(
        ADDRESSES,
        "Who is told of ends besides NOTIFY_URL: `oncall: {severity: error, kinds: [video]}` has "
        "its URL in NOTIFY_URL_ONCALL and its secret in NOTIFY_SECRET_ONCALL. `default` is "
        "NOTIFY_URL itself.",
        default={},
    )
    watches: dict[str, Watch] = policy_key(
        read_later(
            {
                "type": "object",
                "minProperties": 1,
                "patternProperties": {f"^{NAME_PATTERN}$": {"$ref": "#/$defs/watch"}},
                "additionalProperties": False,
            }
        ),
        "The watches by name. A watch is a table that Unstuck watches, with its words, clocks and "
        "rules; its name (a-z, 0-9 and _) stands in the names of its SQL functions. The first one "
        "is used where none is named.",
    )

    def watch(self, name: str | None = None) -> Watch:
        """The watch `name`, with its installation or without, or the first one. Raises KeyError for
        an unknown name."""
        if not name:
            return next(iter(self.watches.values()))
        written = {watch.written: watch for watch in self.watches.values()}
        return self.watches.get(name) or written[name]

    @property
    def own_part(self) -> str:
        """What tells this installation from the others of a database; empty where it is alone."""
        parts = (watch.installation for watch in self.watches.values())
        return self.installation or "_".join(sorted(set(filter(None, parts))))


POLICY = mapping_of(
    Policy,
    {
        "platform": "What the platform grants a worker.",
        "lease": "How long a worker is believed alive.",
        "sweep": "The scheduled run that settles what is overdue.",
        "sweep.mass_expiry": "When many leases expire in one sweep, the platform is at fault and "
        "not the workers: each of these attempts gets one more lease, once.",
    },
)


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
    """The policy of a text. Raises PolicyError, which names the line and the next step."""
    root = read(text, file)
    attributes = POLICY.read(root)
    values = dict(attributes.pop("watches").items())
    policy = Policy(watches={}, **attributes)
    _check_times(root, policy)
    for name, value in values.items():
        watch = read_watch(name, value, policy.lease, policy.installation, policy.addresses)
        policy.watches[watch.name] = watch
        for kind, rule in watch.rules.items():
            _check_rule(value["rules"][kind], rule, policy)
    if not policy.watches:
        root["watches"].fail("is empty. Name at least one watch.")
    _check_alerts(root, policy)
    return policy


def _check_times(root: Value, policy: Policy) -> None:
    least = BEATS_IN_A_LEASE * policy.beat
    if policy.lease < round(least, 6):  # 3 * 0.2 is more than 0.6
        root["lease"]["for"].fail(
            f"{policy.lease:g}s is less than {BEATS_IN_A_LEASE} beats of {policy.beat:g}s, so that "
            f"one late beat would end a healthy task. Raise it to {least:g}s or lower `beat`."
        )
    if policy.margin >= policy.timeout:
        root["platform"]["margin"].fail("must be shorter than `timeout`. Lower it.")
    if policy.sweep_budget >= policy.sweep_every:
        root["sweep"]["budget"].fail("must be shorter than `every`, or runs pile up. Lower it.")


def _check_rule(value: Value, rule: Rule, policy: Policy) -> None:
    longest = policy.timeout - policy.margin
    if rule.runs_on == "function" and rule.run_for > longest:
        (value.get("run_for") or value).fail(
            f"run_for is {rule.run_for:g}s, but the guard must end the work before the platform's "
            f"timeout less its margin ({longest:g}s). Lower it, raise platform.timeout, or set "
            "`runs_on: pool`."
        )
    if rule.silent_for <= policy.timeout:
        (value.get("silent_for") or value).fail(
            f"silent_for is {rule.silent_for:g}s, but a worker may be at it for "
            f"{policy.timeout:g}s (platform.timeout). Raise it above that."
        )


def _check_alerts(root: Value, policy: Policy) -> None:
    if not policy.alerts:
        return
    least = 3 * policy.sweep_every + LATE_LOG_SECONDS
    if policy.alerts["sweep_silent"] < least:
        root["alerts"]["sweep_silent"].fail(
            f"{least:g}s pass until three sweeps are missed and their log lines are surely not "
            "just late. Raise it to that."
        )
    rules = [rule for watch in policy.watches.values() for rule in watch.rules.values()]
    longest = max(rule.pending_for for rule in rules)
    if policy.alerts["pending"] >= longest:
        root["alerts"]["pending"].fail(
            f"must be shorter than pending_for ({longest:g}s), at which a task fails. Lower it."
        )
