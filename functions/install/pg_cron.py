"""The sweep in SQL alone, with the policy's rules in it, and its schedule: for those who have
pg_cron alone."""

from functions.core.policy import Policy, Watch
from functions.install.column_sql import literal
from functions.install.names import fill_in, names
from functions.install.render import template
from functions.sweep.time_share import HEARD_SECONDS, HEARD_SHARE

COUNTS = (
    "failed",
    "requeued",
    "redispatched",
    "suspended",
    "unsweepable",
    "orphaned",
    "pruned",
    "oldest_overdue_seconds",
    "oldest_pending_seconds",
)
"""As functions/sweep/sweep.py counts, and `complete`."""
HISTORY_DAYS = 7
"""How long pg_cron's own record of a run is kept; unstuck.sweeps has what the run did."""


EXTENSION = "create extension if not exists pg_net;\n"
"""By which the database calls others: Supabase has it everywhere."""
NEXT = """
-- Next, once: say who is told. A URL of Slack or of yours; a secret signs (Standard Webhooks).
--   select unstuck.notify_to('https://hooks.slack.com/services/...');
--   select unstuck.notify_to('https://hc-ping.com/...', 'ping');  -- tells you when the sweep stops
"""


def procedures(policy: Policy) -> str:
    """`unstuck.cron_sweep()`, and what it calls. Rules travel with each call elsewhere; here they
    stand in the text."""
    numbers = {
        "batch": str(policy.sweep_batch),
        "at_least": str(policy.mass_expiry_at_least),
        "share": repr(policy.mass_expiry_share),
        "heard": literal(f"{HEARD_SECONDS} s"),
        "heard_share": repr(HEARD_SHARE),
    }
    parts = [
        fill_in(template("cron_watch"), {**names(watch), **numbers, "rules": _rules(watch)})
        for watch in policy.watches.values()
    ]
    calls = [
        f"  call unstuck.{name}_cron(v_sweep, v_until, v_counts, v_errors);"
        for name in policy.watches
    ]
    counts = ", ".join(f'"{name}": 0' for name in COUNTS)
    values = _named(policy) | {
        "budget": repr(policy.sweep_budget),
        "retention": repr(policy.retention),
        "calls": "\n".join(calls),
        "counts": f'{{{counts}, "complete": true}}',
        "watches": literal(list(policy.watches)) if policy.own_part else "null",
    }
    return "\n".join([*parts, fill_in(template("cron_sweep"), values)])


def _rules(watch: Watch) -> str:
    """JSON without a dollar sign: the name of a rule must not end the body of the procedure."""
    return str(watch.rules_json).replace("$", r"\u0024")


def schedule(policy: Policy) -> str:
    """Asks pg_cron to sweep as often as the policy says, and to delete what it records of these
    runs, which it never does itself. Again is a change of the same jobs."""
    return fill_in(
        template("cron_schedule"),
        _named(policy)
        | {
            "every": _expression(policy.sweep_every),
            "seconds": f"{policy.sweep_every:g}",
            "heeded": "\n".join(map(_heeded, policy.watches.values())),
            "history": f"{HISTORY_DAYS} days",
        },
    )


def _heeded(watch: Watch) -> str:
    """A new row of the table notices that the sweep is silent, whoever inserts it."""
    return fill_in(template("cron_heeded"), names(watch))


def _named(policy: Policy) -> dict[str, str]:
    """The names of the job and its procedure: each installation of a database has its own."""
    part = policy.own_part
    return {
        "job": job_name(policy),
        "procedure": f"cron_sweep_{part}" if part else "cron_sweep",
        "installation": part,
    }


def job_name(policy: Policy) -> str:
    """Of pg_cron's job that sweeps."""
    return f"unstuck-sweep-{policy.own_part}" if policy.own_part else "unstuck-sweep"


def _expression(every: float) -> str:
    """pg_cron knows `N seconds` up to 59, and the minutes and hours of cron: the nearest that is
    not longer."""
    minutes = int(every // 60)
    if minutes < 1:
        return f"{max(1, int(every))} seconds"
    if minutes < 60:
        step = _longest_divisor(60, minutes)
        return f"*/{step} * * * *" if step > 1 else "* * * * *"
    hours = _longest_divisor(24, min(23, minutes // 60))
    return f"0 */{hours} * * *" if hours > 1 else "0 * * * *"


def _longest_divisor(whole: int, limit: int) -> int:
    return max(step for step in range(1, limit + 1) if whole % step == 0)
