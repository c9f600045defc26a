"""doctor: what would go wrong with a watch, before the first sweep finds it out.

It reads the catalogue, and tries each action of the verbs on a row of each state. All happens in
transactions that are rolled back: nothing stays but numbers taken from sequences."""

from collections.abc import Callable, Sequence
from functools import partial

import psycopg

from functions.core.policy import Policy, Watch
from functions.errors import StoreError
from functions.install.migrate import OWN_TABLE_STEP, pending, steps
from functions.install.table import Table
from functions.ops.doctor import cost, deployment, first_sweep, handlers, names, pg_cron, rows
from functions.ops.doctor.finding import LEVELS, Finding, breaks
from functions.ops.doctor.session import rolled_back
from functions.ops.doctor.tries import not_installed, try_actions, with_code
from functions.ops.inspect.catalogue import Facts, facts
from functions.ops.inspect.session import Connection, connect, one_line

Check = Callable[[], list[Finding]]
_NO_TRIGGERS = (
    b"create or replace function unstuck.keep_trigger(p_table regclass, p_name text, "
    b"p_definition text) returns void language plpgsql as 'begin end'"
)


def examine(dsn: str, policy: Policy, watches: Sequence[Watch]) -> list[Finding]:
    """The findings, the worst first. Raises StoreError when the database can't be reached."""
    with connect(dsn) as connection:
        findings = deployment.version(connection.info.server_version) + deployment.pooler(
            connection
        )
        missing, migration_findings = _missing(connection, policy)
        findings += migration_findings
        swept, outbox = (
            partial(deployment.last_sweep, policy=policy),
            partial(deployment.outbox, policy=policy),
        )
        by_cron = partial(pg_cron.cron, policy=policy)
        paused = partial(deployment.pauses, policy=policy)
        for check in (deployment.clock, deployment.zone, swept, by_cron, outbox, paused):
            findings += _guarded(connection, None, partial(check, connection))
        for watch in watches:
            findings += deployment.numbers(policy, watch)
            findings += _watch(connection, policy, watch, missing)
    return sorted(findings, key=lambda finding: LEVELS.index(finding.level))


def _missing(connection: Connection, policy: Policy) -> tuple[set[str], list[Finding]]:
    """The steps that `migrate` has still to take."""
    try:
        with rolled_back(connection):
            missing = {step.name for step in pending(connection, policy)}
    except psycopg.Error as error:
        return {"shared"}, [deployment.unread_migrations(one_line(error))]
    except StoreError as error:
        return {"shared"}, [deployment.unread_migrations(str(error))]
    return missing, deployment.migrations(missing)


def _watch(
    connection: Connection, policy: Policy, watch: Watch, missing: set[str]
) -> list[Finding]:
    with rolled_back(connection):
        row = connection.execute(
            "select to_regclass(%s)::oid::bigint", (Table(watch).name,)
        ).fetchone()
        table = facts(connection, row[0]) if row and row[0] else None
    if table is None:
        return [names.no_table(watch)]
    if watch.own and f"{OWN_TABLE_STEP}.{watch.name}" in missing:
        return [names.not_made(watch)]
    if findings := names.columns(watch, table):
        return findings
    findings = names.key(watch, table) + names.words(watch, table) + list(rows.shape(watch, table))
    installed = not missing & _needed(watch, missing)
    by_check = first_sweep.look(connection, watch)
    with_our_tables: list[Check] = [
        partial(handlers.handlers, connection, watch),
        partial(cost.indexes, connection, watch, table),
        partial(first_sweep.decided, connection, policy, watch, by_check),
    ]
    later: list[Check] = [
        partial(rows.foreign_writers, connection, watch, table),
        partial(deployment.role, connection, watch, table, installed=installed),
        *(with_our_tables if installed else ()),
    ]
    for check in later:
        findings += _guarded(connection, watch, check)
    if installed:
        findings += rows.put_back(watch, table)
        for look in (deployment.pace, deployment.kept):
            findings += _guarded(connection, watch, partial(look, connection, watch))
    return findings + (
        try_actions(connection, watch)
        if installed
        else _rehearsed(connection, policy, watch, table, missing, with_our_tables)
    )


def _rehearsed(
    connection: Connection,
    policy: Policy,
    watch: Watch,
    table: Facts,
    missing: set[str],
    checks: list[Check],
) -> list[Finding]:
    """What `migrate` would install, and the checks and actions with it, rolled back together.
    Without triggers, whose lock would keep writers waiting; so not where one of them matters."""
    if watch.fence != "off" or any(
        trigger.name in {"unstuck_fence", "unstuck_observe"} for trigger in table.triggers
    ):
        return [not_installed(watch)]
    try:
        with rolled_back(connection):
            for step in steps(policy):
                if step.name in _needed(watch, missing) and not step.beside_writers:
                    connection.execute(step.text.encode())
                if step.name == "shared":
                    connection.execute(_NO_TRIGGERS)
            findings = []
            for check in checks:
                findings += _guarded(connection, watch, check)
            return findings + try_actions(connection, watch)
    except psycopg.errors.InsufficientPrivilege:
        return [not_installed(watch)]
    except psycopg.Error as error:
        why, do = (
            "the verbs cannot be installed.",
            "Mend what the message names: the watch, or what stands in its way.",
        )
        return [
            breaks(watch.name, "migrations", f"`migrate` would fail: {with_code(error)}", why, do)
        ]


def _needed(watch: Watch, missing: set[str]) -> set[str]:
    """The missing steps that the verbs of this watch need: all but those of other watches."""
    return {name for name in missing if "." not in name or name.endswith(f".{watch.name}")}


def _guarded(connection: Connection, watch: Watch | None, check: Check) -> list[Finding]:
    """A check that the database refuses is a finding, and does not stop the others."""
    try:
        with rolled_back(connection):
            return check()
    except psycopg.Error as error:
        return [
            breaks(
                watch.name if watch else None,
                "refused",
                f"the database refused a check: {with_code(error)}",
                "the verbs run as this role too, and may be refused in the same way.",
                "Use the role of the deployment, or grant it what the message names.",
            )
        ]
