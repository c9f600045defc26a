"""What concerns the database, the role and the numbers, rather than the shape of a table."""

import time
from collections.abc import Iterable

from functions.core.answers import PACE_SECONDS, Pace, Pause
from functions.core.policy import Policy, Rule, Watch
from functions.ops.cli.out import counted, span
from functions.ops.doctor.finding import MISSED_SWEEPS, NO_SWEEP, Finding, breaks, fine, warns
from functions.ops.inspect.catalogue import Facts
from functions.ops.inspect.session import Connection
from functions.store.reader import read_all

OLDEST_MAJOR_VERSION = 15
POOLER_PORTS = {6432, 6543}
"""Ports of transaction poolers: Supabase's 6543, PgBouncer's 6432."""
CLOCK_DRIFT_SECONDS = 2.0
OLD_PAUSE_SECONDS = 86_400.0
PUSH_TIMEOUT_SECONDS = 1800.0
"""The longest dispatch deadline of Cloud Tasks (google.cloud.tasks.v2.Task)."""
SHARED = [
    "beat",
    "checkpoint",
    "lost",
    "rule",
    "sweep_begin",
    "sweep_end",
    "suspend",
    "clock_jumped",
    "prune",
    "evidence",
]
LEDGER = (
    "attempts",
    "checkpoints",
    "sweeps",
    "refusals",
    "dispatches",
    "observed",
    "unsweepable",
    "clock_jumps",
)


def unreachable(text: str) -> Finding:
    return breaks(
        None, "reachable", text, "no verb can run.", "Check host, port, user and password of --dsn."
    )


def version(number: int) -> list[Finding]:
    """`number` as libpq tells it: 150004."""
    fact = f"PostgreSQL {number // 10000}.{number % 10000}"
    if number // 10000 >= OLDEST_MAJOR_VERSION:
        return [fine(None, "version", fact)]
    why = f"the SQL of the verbs needs PostgreSQL {OLDEST_MAJOR_VERSION}."
    return [
        breaks(
            None, "version", fact, why, f"Upgrade the server to {OLDEST_MAJOR_VERSION} or newer."
        )
    ]


def migrations(steps: Iterable[str]) -> list[Finding]:
    missing = ", ".join(sorted(steps))
    if not missing:
        return [fine(None, "migrations", "the database is up to date with the policy")]
    return [
        breaks(
            None,
            "migrations",
            f"the database lacks {missing}",
            "the verbs are absent, or are those of another policy.",
            "Run `unstuck migrate --apply`.",
        )
    ]


def unread_migrations(text: str) -> Finding:
    why = "nobody can tell whether the verbs fit the policy."
    return breaks(
        None,
        "migrations",
        text,
        why,
        "Use the owner of the schema unstuck, or repair what it names.",
    )


def pooler(connection: Connection) -> list[Finding]:
    host, port = connection.info.host or "", connection.info.port
    if port in POOLER_PORTS or "pgbouncer" in host:
        fact = (
            f"port {port} of {host} is a transaction pooler's: "
            "safe, as no verb keeps anything in a session"
        )
    elif "pooler" in host:
        fact = (
            "a pooler in session mode: safe, but each worker holds one of its connections "
            "(transaction mode: port 6543)"
        )
    else:
        fact = "a direct connection"
    return [fine(None, "pooler", fact)]


def clock(connection: Connection) -> list[Finding]:
    before = time.time()
    row = connection.execute("select extract(epoch from clock_timestamp())::float8").fetchone()
    after = time.time()
    off = (row[0] if row else after) - (before + after) / 2
    if abs(off) - (after - before) / 2 <= CLOCK_DRIFT_SECONDS:
        return [fine(None, "clock", "this machine and the database agree on the time")]
    return [
        warns(
            None,
            "clock",
            f"the database is {abs(off):.1f} s {'ahead of' if off > 0 else 'behind'} this machine",
            "the verbs go by the database alone, but times that an application writes into rows "
            "are wrong by as much.",
            "Set the clock of this machine by NTP, or let the database write the times (default "
            "now()).",
        )
    ]


def zone(connection: Connection) -> list[Finding]:
    row = connection.execute("select reset_val from pg_settings where name = 'TimeZone'").fetchone()
    return [fine(None, "zone", f"sessions are in {row[0] if row else 'UTC'}")]


def last_sweep(connection: Connection, policy: Policy) -> list[Finding]:
    if not _exists(connection, "unstuck.sweeps"):
        return []
    row = connection.execute(
        "select extract(epoch from clock_timestamp() - started_at)::float8, ok, error from "
        "unstuck.sweeps "
        "order by started_at desc limit 1"
    ).fetchone()
    do = "Look at Cloud Scheduler and at the log of `sweep`, or run `unstuck sweep` from cron."
    why = NO_SWEEP
    if row is None:
        return [warns(None, "sweep", "no sweep has run yet", why, do)]
    age, ok, error = row
    if age > MISSED_SWEEPS * policy.sweep_every:
        fact = (
            f"the last sweep was {span(age)} ago, and there should be one each "
            f"{span(policy.sweep_every)}"
        )
        return [warns(None, "sweep", fact, why, do)]
    if ok is False:
        return [
            warns(None, "sweep", f"the last sweep failed: {error or 'without a word'}", why, do)
        ]
    return [fine(None, "sweep", f"the last sweep was {span(age)} ago")]


def outbox(connection: Connection, policy: Policy) -> list[Finding]:
    """The address is known to the function `sweep` alone. But what it never sent waits in the
    outbox."""
    tells = any(watch.notify is not False for watch in policy.watches.values())
    if not tells or not _exists(connection, "unstuck.outbox"):
        return []
    row = connection.execute(
        "select count(*) filter (where ended_at is null), "
        "extract(epoch from clock_timestamp() - min(at) filter (where ended_at is null))::float8, "
        "count(*) filter (where outcome = 'given up' and ended_at > now() - interval '1 day') "
        "from unstuck.outbox"
    ).fetchone()
    count, age, undelivered = row or (0, None, 0)
    if undelivered:
        return [
            warns(
                None,
                "notify",
                f"{counted(undelivered, 'end')} could not be told in a day and were given up",
                "a receiver knows nothing of them.",
                "See infra/runbooks/NotificationGivenUp.md: correct the address, send them again.",
            )
        ]
    if age is None or age <= MISSED_SWEEPS * policy.sweep_every:
        if not any(watch.notify for watch in policy.watches.values()):
            return []
        return [fine(None, "notify", "no end waits to be told")]
    return [
        warns(
            None,
            "notify",
            f"{counted(count, 'end')} still to be told, the oldest since {span(age)}",
            "nobody hears of them.",
            "Set NOTIFY_URL for the function `sweep`; where it is set, see `notification_failed` "
            "in its log.",
        )
    ]


def pauses(connection: Connection, policy: Policy) -> list[Finding]:
    """Those that are older than a day: whoever paused may have forgotten it."""
    if not _exists(connection, "unstuck.pauses"):
        return []
    row = connection.execute("select unstuck.pauses(%s)", (list(policy.watches),)).fetchone()
    return [
        warns(
            pause.watch,
            "pauses",
            f"{_paused(pause)} is paused since {span(pause.age)} by {pause.who}"
            f"{f': {pause.why}' if pause.why else ''}",
            "its tasks wait, and nothing ends them.",
            "`resume` it, or say until when it is paused (`pause --for`).",
        )
        for pause in read_all(Pause, row[0] if row else [])
        if pause.age > OLD_PAUSE_SECONDS
    ]


def _paused(pause: Pause) -> str:
    return "all of it" if pause.kind == "*" else f"the kind {pause.kind}"


def kept(connection: Connection, watch: Watch) -> list[Finding]:
    """What `retention` could not delete."""
    if not _exists(connection, "unstuck.kept"):
        return []
    query = """
    select count(*) over (), k.task_id, k.error
    from unstuck.kept k
    where k.watch = %s
    order by k.tried_at desc
    limit 1
    """
    row = connection.execute(query, (watch.name,)).fetchone()
    if row is None:
        return []
    count, task_id, error = row
    return [
        warns(
            watch.name,
            "retention",
            f"{counted(count, 'ended task')} could not be deleted, last {task_id}: {error}",
            "they stay, and are tried again after a day.",
            "Where another table refers to them: `on delete cascade` there, or delete there first.",
        )
    ]


def pace(connection: Connection, watch: Watch) -> list[Finding]:
    """Whether more tasks come than workers take. The verb exists once the watch is installed."""
    statement = f"select unstuck.{watch.name}_pace({PACE_SECONDS:g})"
    row = connection.execute(statement.encode()).fetchone()
    slow = [kind for kind in read_all(Pace, row[0] if row else []) if kind.is_slow]
    return [
        warns(
            watch.name,
            "pace",
            f"{counted(kind.came, 'task')}{_of_kind(kind)} came in the last {span(PACE_SECONDS)} "
            f"and {kind.taken} were taken; {kind.waiting} wait, the oldest since "
            f"{span(kind.oldest)}",
            "the queue is slower than its arrivals: what waits longer than pending_at_most fails "
            "as never_claimed.",
            "Run more workers (`sizes.worker.max` in infra/, or more of `work`), or let fewer "
            "tasks in (`limits`).",
        )
        for kind in slow
    ] or [fine(watch.name, "pace", "tasks are taken as fast as they come")]


def _of_kind(kind: Pace) -> str:
    return f" of the kind {kind.kind}" if kind.kind else ""


def _exists(connection: Connection, table: str) -> bool:
    return connection.execute("select to_regclass(%s) is not null", (table,)).fetchone() == (True,)


def role(connection: Connection, watch: Watch, table: Facts, *, installed: bool) -> list[Finding]:
    """What the role of the DSN may do. The verbs run with its rights."""
    who = (connection.execute("select current_user").fetchone() or ("?",))[0]
    findings = []
    if not (table.may_read and table.may_write):
        missing = " or ".join(["read"] * (not table.may_read) + ["update"] * (not table.may_write))
        do = f"grant select, update on {table.quoted} to the role."
        findings.append(_role(watch, f"{who} may not {missing} {table.title}", do))
    hidden = [table.title] if table.row_security else []
    if installed:
        hidden += _ledger(connection)
        findings += _grants(connection, watch, who)
    if hidden:
        do = "Use service_role or the owner, or `alter role ... bypassrls`."
        findings.append(
            _role(watch, f"{who} is subject to row level security on {', '.join(hidden)}", do)
        )
    return findings or [fine(watch.name, "role", f"{who} may do all that the verbs do")]


def _ledger(connection: Connection) -> list[str]:
    query = (
        "select t from unnest(%s::text[]) t where row_security_active(('unstuck.' || t)::regclass)"
    )
    return [f"unstuck.{row[0]}" for row in connection.execute(query, (list(LEDGER),)).fetchall()]


def _grants(connection: Connection, watch: Watch, who: str) -> list[Finding]:
    rows = connection.execute(
        "select p.proname::text from pg_proc p where p.pronamespace = 'unstuck'::regnamespace "
        "and (starts_with(p.proname, %s) or p.proname = any (%s)) "
        "and not (has_schema_privilege('unstuck', 'usage') and has_function_privilege(p.oid, "
        "'execute')) "
        "union all select t from unnest(%s::text[]) t where not has_schema_privilege('unstuck', "
        "'usage') or exists "
        "(select from unnest('{select,insert,update,delete}'::text[]) p where not "
        "has_table_privilege(to_regclass('unstuck.' || t), p)) "
        "order by 1",
        (f"{watch.name}_", SHARED, list(LEDGER)),
    ).fetchall()
    if not rows:
        return []
    do = (
        "grant usage on schema unstuck, execute on all functions and all on all tables in it to "
        "the role."
    )
    return [_role(watch, f"{who} may not use {', '.join(f'unstuck.{row[0]}' for row in rows)}", do)]


def _role(watch: Watch, fact: str, do: str) -> Finding:
    why = (
        "the verbs run with the rights of who calls them: "
        "they fail, or see no rows and call that fine."
    )
    return breaks(watch.name, "role", fact, why, do)


def numbers(policy: Policy, watch: Watch) -> list[Finding]:
    """The numbers against each other, beyond what the load of a policy refuses."""
    findings: dict[str, Finding] = {}
    for kind, rule in watch.rules.items():
        for fact, why, do in _numbers(policy, watch, rule):
            findings.setdefault(
                f"{fact}", warns(watch.name, "numbers", f"{fact} (rule {kind!r})", why, do)
            )
    return list(findings.values()) or [
        fine(watch.name, "numbers", "the numbers of the policy fit together")
    ]


def _numbers(policy: Policy, watch: Watch, rule: Rule) -> Iterable[tuple[str, str, str]]:
    tries = rule.attempts * rule.run_for + (rule.attempts - 1) * rule.backoff_max
    if rule.runs_on == "function" and policy.timeout > PUSH_TIMEOUT_SECONDS:
        yield (
            (
                f"platform.timeout is {span(policy.timeout)}, but Cloud Tasks waits "
                f"{span(PUSH_TIMEOUT_SECONDS)} for an answer"
            ),
            "it then pushes the task a second time while the first worker is at it.",
            (
                f"Lower platform.timeout to {span(PUSH_TIMEOUT_SECONDS)}, and give longer work "
                "`runs_on: pool`; or let all workers pull."
            ),
        )
    if policy.retention < rule.pending_for + tries:
        yield (
            (
                f"sweep.retention is {span(policy.retention)}, but a task may live "
                f"{span(rule.pending_for + tries)}"
            ),
            (
                "its first attempts are forgotten while it is open: "
                "`explain` tells half of it, and tries are counted anew."
            ),
            "Raise sweep.retention.",
        )
    due = watch.clocks.get("due", ())
    if (
        due
        and due[0] not in watch.clocks.get("queued", ())
        and rule.attempts > 1
        and tries >= rule.pending_for
    ):
        yield (
            (
                f"{rule.attempts} attempts take up to {span(tries)}, but pending_for is "
                f"{span(rule.pending_for)}"
            ),
            (
                f"its wait counts from {watch.clocks['queued'][0]} even then: "
                "it fails as never_claimed before its next attempt."
            ),
            f"Put {due[0]} first in clocks.queued, or raise pending_for.",
        )
    if policy.sweep_every > rule.redispatch_after:
        yield (
            (
                f"a sweep each {span(policy.sweep_every)} is rarer than redispatch_after, "
                f"{span(rule.redispatch_after)}"
            ),
            "a lost push is only sent again at the next sweep.",
            "Lower sweep.every, or raise redispatch_after.",
        )
