"""The traps in the shape of a table: clocks that prove nothing, columns too narrow, unique indexes,
other writers."""

import re
from collections.abc import Iterator

from functions.core.policy import Watch
from functions.install.column_sql import TEXTS, TIMES
from functions.install.table import Table
from functions.ops.doctor.finding import Finding, breaks, fine, warns
from functions.ops.inspect import columns as by_name
from functions.ops.inspect.catalogue import SYSTEM_SCHEMAS, Facts
from functions.ops.inspect.clocks import UTC_ZONES, moves
from functions.ops.inspect.session import Connection

WIDE_ENOUGH_CHARACTERS = 200
"""Our longest sentence has 141 characters, and what a handler says is added to it."""
API_ROLES = ["anon", "authenticated"]
"""Those in which Supabase's API serves the world."""


def shape(watch: Watch, table: Facts) -> Iterator[Finding]:
    yield from _life(watch, table)
    yield from _moved(watch, table)
    yield from _width(watch, table)
    yield from _rounding(watch, table)
    yield from _unique(watch, table)
    yield from _zones(watch, table)


def _life(watch: Watch, table: Facts) -> Iterator[Finding]:
    """35 of 95 real tables have no column that proves life."""
    alive = watch.clocks.get("alive", ())
    births = {
        name for clock in ("queued", "due", "started") for name in watch.clocks.get(clock, ())
    }
    births |= set(by_name.exact(table.columns.values(), "queued", by_name.is_time))
    births |= set(by_name.exact(table.columns.values(), "started", by_name.is_time))
    proof = [name for name in alive if name not in births]
    if proof:
        yield fine(watch.name, "life", f"{proof[0]} proves life")
        return
    longest = max(rule.silent_for for rule in watch.rules.values())
    by = f"only {' and '.join(alive)}" if alive else "only what the observing trigger saw"
    yield warns(
        watch.name,
        "life",
        f"no column proves that a running task is alive, {by} dates it",
        f"a worker that does not use the guard is ended after {longest:g} s, however healthy.",
        "Run workers in the guard (its beats are in the ledger), or raise silent_for above the "
        "longest run.",
    )


def _moved(watch: Watch, table: Facts) -> Iterator[Finding]:
    """10 of 20 real schemas have no trigger for it. Our own table is moved by the
    verbs."""
    updated = set(by_name.exact(table.columns.values(), "updated", by_name.is_time))
    for name in watch.clocks.get("alive", ())[:1]:
        if name in updated and not watch.own and not moves(table, name):
            yield warns(
                watch.name,
                "updated",
                f"no trigger moves {name}",
                "it is only as good as each writer: where one forgets it, a healthy task looks "
                "silent.",
                f"Create a trigger that sets new.{name} at each update (moddatetime), or let "
                "every worker use the guard.",
            )


def _width(watch: Watch, table: Facts) -> Iterator[Finding]:
    for role in ("error", "reason"):
        name = watch.columns.get(role)
        if name is None:
            continue
        real, stated = table.columns[name].width, Table(watch).column(name)
        if real is not None and (
            stated.type not in TEXTS or stated.width is None or stated.width > real
        ):
            yield breaks(
                watch.name,
                "width",
                f"{name} takes {real} characters, and the watch does not say so",
                "a longer sentence is refused (22001), and the task stays as it is.",
                f"Write `types: {{{name}: varchar({real})}}` in the watch, then run `migrate "
                "--apply`.",
            )
        elif role == "error" and real is not None and real < WIDE_ENOUGH_CHARACTERS:
            yield warns(
                watch.name,
                "width",
                f"{name} takes {real} characters only",
                "what a person reads is cut there; the ledger keeps the whole.",
                f'alter table {table.quoted} alter column "{name}" type text;',
            )


def _rounding(watch: Watch, table: Facts) -> Iterator[Finding]:
    for name in dict.fromkeys(name for names in watch.clocks.values() for name in names):
        column = table.columns.get(name)
        if column is None or column.type not in TIMES or column.width is None:
            continue
        if Table(watch).column(name).width != column.width:
            stated = f"{column.type}({column.width})"
            yield warns(
                watch.name,
                "rounding",
                f"{name} is rounded when it is written, and the watch does not say so",
                "a task that was just put back may have a time that lies ahead, and is not claimed "
                "before that.",
                f"Write `types: {{{name}: {stated}}}` in the watch, then run `migrate --apply`.",
            )


def _unique(watch: Watch, table: Facts) -> Iterator[Finding]:
    for index in table.indexes:
        names_it = re.search(rf'(?<!\w)"?{re.escape(watch.status)}"?(?!\w)', index.where)
        if watch.own and "one_active" in index.where:
            continue  # only `operate` moves rows into its states, and it checks first
        if index.unique and (watch.status in index.columns or names_it):
            yield warns(
                watch.name,
                "unique",
                f"the unique index {index.name} goes by {watch.status}",
                "a task cannot become what another one of its key is already (23505): "
                "the sweep reports it as unsweepable "
                "and goes on, and it stays stuck.",
                "Leave the ended words out of the index, or look at what the sweep reports.",
            )


def _zones(watch: Watch, table: Facts) -> Iterator[Finding]:
    used = dict.fromkeys(
        name for names in watch.clocks.values() for name in names if name in table.columns
    )
    for name in used:
        if table.columns[name].type != "timestamp":
            continue
        if Table(watch).column(name).type != "timestamp":
            level = warns if table.zone in UTC_ZONES else breaks
            yield level(
                watch.name,
                "zone",
                f"{name} has no time zone, and the watch does not say so",
                f"it is read in the zone of the session ({table.zone}): "
                "ages are wrong by its distance from UTC.",
                f"Write `types: {{{name}: timestamp}}` in the watch, then run `migrate --apply`.",
            )
        else:
            yield warns(
                watch.name,
                "zone",
                f"{name} has no time zone, and is read as UTC",
                "a writer in local time makes fresh tasks look old, or old ones fresh.",
                f"Write UTC there, or: alter table {table.quoted} "
                f'alter column "{name}" type timestamptz '
                f"using \"{name}\" at time zone 'UTC';",
            )


def put_back(watch: Watch, table: Facts) -> list[Finding]:
    """Whether a task that the application puts back waits from that moment."""
    names = {trigger.name for trigger in table.triggers}
    if not Table(watch).sees_put_back or names & {"unstuck_put_back", "unstuck_observe"}:
        return []
    return [
        warns(
            watch.name,
            "put back",
            "nobody sees when the application puts a task back: the trigger is missing",
            "such a task counts as waiting since it was first queued: it is not claimed, and the "
            "next sweep fails it as never_claimed.",
            "Run `migrate --apply` as the owner of the table. Or start tasks again with `retry` "
            "only, or write the time of the retry into the column of `clocks.due`.",
        )
    ]


def foreign_writers(connection: Connection, watch: Watch, table: Facts) -> list[Finding]:
    """Who else can end a task, where no fence stands: functions of the database, and the roles of
    the API."""
    if watch.fence == "enforce":
        return [fine(watch.name, "fence", "the fence is on")]
    schema, name = re.escape(table.schema), re.escape(table.name)
    pattern = rf'update\s+(only\s+)?("?{schema}"?\s*\.\s*)?"?{name}"?(?!\w)'
    rows = connection.execute(
        "select p.oid::regproc::text from pg_proc p join pg_namespace n on n.oid = p.pronamespace "
        "where n.nspname <> all (%s) and n.nspname not like 'pg\\_%%' and p.prosrc ~* %s "
        "order by 1 limit 10",
        (SYSTEM_SCHEMAS, pattern),
    ).fetchall()
    rows += connection.execute(
        "select 'the API role ' || r.rolname from pg_roles r join pg_class c on c.oid = %s::oid "
        "where r.rolname = any (%s) and has_table_privilege(r.oid, c.oid, 'update') "
        "and (not c.relrowsecurity or exists (select from pg_policy p where p.polrelid = c.oid "
        "and p.polcmd in ('*', 'w') and p.polroles && array[r.oid, 0::oid]))",
        (table.oid, API_ROLES),
    ).fetchall()
    if not rows:
        return []
    return [
        warns(
            watch.name,
            "fence",
            f"the fence is {watch.fence}, and others write: {', '.join(row[0] for row in rows)}",
            "a write that does not ask for the status can end a task that a worker holds, or undo "
            "an end.",
            "Write `fence: enforce` in the watch, then run `migrate --apply`.",
        )
    ]
