"""The migration runner: applies what is missing, checks what is there, prints what it would do.

Tables come from functions/sql/migrations, each once and never edited after a release. Functions
come from the verb files and are replaced whenever their text has changed. Everything happens in one
transaction under a lock, so that two runs at once, or one that dies, leave the database whole. Only
an index on a table that is in use is built after it, beside the writers.

A table that is in use is never locked for long: whoever writes to it queues behind a migration that
waits. So each try waits for a lock only briefly, is undone, and comes again later."""

import hashlib
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psycopg

from functions.core.policy import Policy, load
from functions.core.watch import Watch
from functions.errors import StoreError
from functions.install import supabase_api
from functions.install.column_sql import identifier, literal
from functions.install.names import fill_in, names
from functions.install.render import SQL, optional, routines, shared, template, verbs
from functions.install.table import Table
from functions.store.dsn import connect

_RECORD = """
create schema if not exists unstuck;
create table if not exists unstuck.migrations (
  name       text primary key,
  sha256     text not null,
  applied_at timestamptz not null default clock_timestamp()
);
alter table unstuck.migrations enable row level security;
"""
LOCK_TIMEOUT_SECONDS = 0.5
"""How long one try may make the writers of a table wait."""
PATIENCE_SECONDS = 60.0
"""How long `migrate` tries again in all."""
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 5.0
FILE_LOCK_TIMEOUT_SECONDS = 2
"""The same for the file, which nobody runs again at once."""
_HOLDERS = """
select distinct
  l.pid,
  coalesce(a.state, 'of another user'),
  extract(epoch from clock_timestamp() - a.xact_start)::integer as seconds,
  upper(substring(a.query from '\\w+')),
  l.relation::regclass::text
from pg_locks l
left join pg_stat_activity a on a.pid = l.pid
where l.locktype = 'relation'
  and l.granted
  and l.pid is distinct from pg_backend_pid()
  and l.database = (select oid from pg_database where datname = current_database())
  and l.relation = any (array(
    select c.oid
    from pg_class c
    where c.relkind = 'r'
      and c.relnamespace = to_regnamespace('unstuck')
    union all
    select to_regclass(t) from unnest(%s::text[]) t
  ))
order by seconds desc nulls last
limit 3
"""
"""Who holds a lock of our tables or of a watched one: the oldest transactions."""
_BUILDING = "select from pg_stat_progress_create_index where datname = current_database()"
_INDEX = re.compile(r"index concurrently if not exists (\S+)\s+on (\S+)")
_APPLIED = """
select
  m.name,
  m.sha256,
  coalesce(to_jsonb(m) ->> 'installation', ''),
  (
    select to_regclass(substring(p.prosrc from 'from ((?:"(?:[^"]|"")+"\\.?)+) t\\s'))::oid::bigint
    from pg_proc p
    where p.pronamespace = to_regnamespace('unstuck')
      and p.proname = substring(m.name from '^verbs[.](.+)$') || '_claim'
    limit 1
  )
from unstuck.migrations m
"""
"""The steps that ran, with their installation, and of the verbs their table."""
_ROLES = """
select r.rolname
from pg_policy p
join pg_roles r on r.oid = any (p.polroles)
where p.polrelid = 'unstuck.attempts'::regclass
  and p.polname = left('unstuck_' || r.rolname, 63)
"""
"""Those that had their rights from a run before."""
_OLD_WATCH = "unstuck_old_watch"
"""Stands for a name that only the database knows."""
LEDGER = (
    "attempts",
    "checkpoints",
    "refusals",
    "dispatches",
    "observed",
    "outbox",
    "operations",
    "unsweepable",
    "pauses",
    "slots",
    "rotations",
    "kept",
)
"""The tables of ours that go by watch."""
OWN_TABLE_STEP = "0002_tasks"
"""The step that makes the table of a watch of ours; recorded as `0002_tasks.WATCH`."""
_RECORD_AGAIN = (
    "on conflict (name) do update set sha256 = excluded.sha256, applied_at = clock_timestamp()"
)


class Step(NamedTuple):
    name: str
    text: str
    repeatable: bool
    kept: bool = True
    """Whether it is written down that it ran."""

    watch: str | None = None
    """The watch whose own table it changes."""

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def beside_writers(self) -> bool:
        """Whether it only builds indexes, which on a table in use no transaction may do."""
        return not self.repeatable and "index concurrently" in self.text

    @property
    def in_transaction(self) -> str:
        """The text as it can run in a transaction."""
        return self.text.replace("index concurrently", "index")

    @property
    def statements(self) -> list[str]:
        """Of a step that runs beside the writers, which are indexes alone; a comment may have a
        semicolon."""
        text = re.sub("--.*", "", self.text)
        return [statement for statement in text.split(";") if statement.strip()]


def steps(policy: Policy | None = None, supabase: str | None = None) -> Iterator[Step]:
    """All that a database needs for the policy, in order. `supabase`: the schema in which
    Supabase's REST API is to find the verbs (`functions.install.supabase_api.SCHEMAS`), or None
    where it is not used."""
    policy = policy or load()
    watches = list(policy.watches.values())
    for path in sorted((SQL / "migrations").glob("*.sql")):
        text = path.read_text(encoding="utf-8")
        if "@table@" not in text:
            yield Step(path.stem, text, repeatable=False)
        for watch in watches:
            if "@table@" in text and _concerns(path, watch):
                rendered = fill_in(text, names(watch))
                name = f"{path.stem}.{watch.name}"
                yield Step(name, rendered, repeatable=False, watch=watch.name)
    yield Step("shared", shared(), repeatable=True)
    for watch in watches:
        yield Step(f"verbs.{watch.name}", verbs(watch), repeatable=True)
        for part in watch.optional:
            yield Step(f"{part}.{watch.name}", optional(watch, part), repeatable=True)
    if supabase:
        yield Step("supabase", supabase_api.supabase(policy, supabase), repeatable=True)


def _concerns(path: Path, watch: Watch) -> bool:
    """Whether the own table of the watch gets this step: what only retention needs costs nobody
    else anything."""
    only_retention = path.stem.endswith("_retention")
    return watch.own and (watch.retains or not only_retention)


def script(policy: Policy | None = None, more: str = "") -> str:
    """The SQL as text, for review. `more` is SQL that no database needs."""
    return "\n".join(
        [
            *(f"-- {step.name}\n{step.in_transaction}" for step in steps(policy)),
            more,
            _grants(policy or load()),
        ]
    )


def file(policy: Policy | None, supabase: str | None, more: str = "") -> str:
    """The SQL for `supabase/migrations/`: it does what `migrate` does, keeps the same record, and
    may be run again. It ends at a lock that is not free soon, before writers queue behind it."""
    policy = policy or load()
    return "\n".join(
        [
            f"set lock_timeout = '{FILE_LOCK_TIMEOUT_SECONDS}s';",
            _RECORD,
            *_owners(policy),
            *(_renamed(policy, watch, _inherited_steps) for watch in policy.watches),
            *(_part(step) for step in steps(policy, supabase)),
            *(_renamed(policy, watch, _dropped) for watch in policy.watches),
            _owned(policy),
            more,
            _grants(policy),
            "reset lock_timeout;\n",
        ]
    )


def _owners(policy: Policy) -> Iterator[str]:
    """Checks that no watch of the database belongs to the table of another policy."""
    for watch in policy.watches.values():
        yield fill_in(template("check_watch"), names(watch))
    values = {"watches": literal(list(policy.watches)), "installation": policy.own_part}
    yield fill_in(template("check_policy"), values)


def _renamed(policy: Policy, watch: str, text: Callable[[str, str], str]) -> str:
    """What is done to the watch that had another name, if the database has one: `text` of both
    names. It is known when the file runs."""
    values = names(policy.watches[watch])
    more = {"watches": literal(list(policy.watches)), "text": text(_OLD_WATCH, watch)}
    return fill_in(
        template("renamed_watch"),
        values | more | {"installation": policy.own_part, "placeholder": _OLD_WATCH},
    )


def _dropped(watch: str, heir: str) -> str:
    return _gone(watch, heir).text


def _inherited_steps(watch: str, heir: str) -> str:
    """The table that was made for the one is there for the other."""
    made_once = literal(rf"^\d+_\w+\.{watch}$")
    return (
        "update unstuck.migrations set name = split_part(name, '.', 1) || "
        f"{literal('.' + heir)} where name ~ {made_once};"
    )


def _owned(policy: Policy) -> str:
    """Writes down which watches are this installation's."""
    steps = [f"verbs.{watch.name}" for watch in policy.watches.values()]
    return (
        f"update unstuck.migrations m set installation = {literal(policy.own_part)} "
        f"where m.name = any ({literal(steps)}) "
        f"and m.installation <> {literal(policy.own_part)};"
    )


def _part(step: Step) -> str:
    values = f"{literal(step.name)}, {literal(step.sha256)}"
    record = f"insert into unstuck.migrations (name, sha256) values ({values})"
    if step.repeatable:
        return f"-- {step.name}\n{step.text}\n{record}\n{_RECORD_AGAIN};\n"
    assert "$migration$" not in step.text, "the text would end at it"
    return fill_in(
        template("migration_step"),
        {"name": step.name, "sha256": step.sha256, "record": record, "text": step.in_transaction},
    )


def pending(
    connection: psycopg.Connection[Any], policy: Policy | None = None, supabase: str | None = None
) -> list[Step]:
    """The steps that the database still lacks. Raises StoreError when a released migration was
    edited, or when the database has the watches of another policy."""
    policy = policy or load()
    for statement in _owners(policy):
        _refused(connection, statement)
    installed = connection.execute("select to_regclass('unstuck.migrations')").fetchone() != (None,)
    rows = connection.execute(_APPLIED).fetchall() if installed else []
    applied: dict[str, str] = {name: sha256 for name, sha256, *_ in rows}
    others = {
        name.removeprefix("verbs."): (installation, table)
        for name, _, installation, table in rows
        if name.startswith("verbs.") and name.removeprefix("verbs.") not in policy.watches
    }
    heirs = _heirs(connection, policy, applied, others)
    for old, new in heirs.items():  # the table that was made for it is there
        for name in [name for name in applied if re.fullmatch(rf"\d+_\w+\.{old}", name)]:
            applied[f"{name.partition('.')[0]}.{new}"] = applied.pop(name)
    missing = [step for step in steps(policy, supabase) if applied.get(step.name) != step.sha256]
    for step in missing:
        if step.name in applied and not step.repeatable:
            raise StoreError(
                f"migration {step.name} differs from what was applied. "
                "A released migration is never edited: restore its text and write a new one.",
                retryable=False,
            )
    gone = [
        watch
        for watch, (installation, _) in sorted(others.items())
        if watch in heirs or installation == policy.own_part
    ]
    return [*missing, *(_gone(watch, heirs.get(watch)) for watch in gone)]


def _heirs(
    connection: psycopg.Connection[Any],
    policy: Policy,
    applied: dict[str, str],
    others: dict[str, tuple[str, Any]],
) -> dict[str, str]:
    """The watches that got a new name: the table of the old one has a watch in the policy that the
    database does not know yet."""
    new: dict[Any, str] = {}
    for watch in policy.watches.values():
        row = connection.execute(
            "select to_regclass(%s)::oid::bigint", (Table(watch).name,)
        ).fetchone()
        if row and row[0] and f"verbs.{watch.name}" not in applied:
            new[row[0]] = watch.name
    return {
        watch: new[table]
        for watch, (installation, table) in others.items()
        if table in new and installation in {"", policy.own_part}
    }


def _gone(watch: str, heir: str | None) -> Step:
    """Drops a watch of the database that the policy no longer has."""
    parts = [path.stem for path in (SQL / "optional").glob("*.sql")]
    steps = [f"{part}.{watch}" for part in ("verbs", *parts)]
    inherit = ["null;"]
    if heir:
        inherit = [
            f"update unstuck.{table} set watch = {literal(heir)} where watch = {literal(watch)};"
            for table in LEDGER
        ]
        inherit.append(_inherited_steps(watch, heir))
    named = {
        "watch": watch,
        "functions": literal(routines(watch)),
        "steps": literal(steps),
        "inherit": "\n  ".join(inherit),
    }
    return Step(
        f"gone.{watch}", fill_in(template("drop_watch"), named), repeatable=True, kept=False
    )


def check(dsn: str, policy: Policy | None = None, supabase: str | None = None) -> list[str]:
    """The names of the steps that `migrate` would run; empty when the database is up to date."""
    with connect(dsn, prepare_threshold=None) as connection:
        return [step.name for step in pending(connection, policy, supabase)]


def _refused(connection: psycopg.Connection[Any], statement: str) -> None:
    try:
        connection.execute(statement.encode())
    except psycopg.errors.ObjectNotInPrerequisiteState as error:
        text = f"{error.diag.message_primary}. {error.diag.message_hint}"
        raise StoreError(f"migrate: {text} Nothing was written.", retryable=False) from None


def migrate(
    dsn: str,
    policy: Policy | None = None,
    supabase: str | None = None,
    tell: Callable[[str], object] = lambda _: None,
    role: str | None = None,
) -> list[str]:
    """Brings the database up to date and returns the names of the steps that ran. `tell` gets a
    sentence for each wait: who holds the lock. `role` gets the rights that deployed code needs; one
    that has them already gets those to what is new.

    Raises StoreError when a table of that name exists and is not ours, when the database has the
    watches of another policy, or, retryable, when a lock was not free for `PATIENCE_SECONDS`.
    """
    policy = policy or load()
    until = time.monotonic() + PATIENCE_SECONDS
    pause = FIRST_PAUSE_SECONDS
    with connect(dsn, prepare_threshold=None, autocommit=True) as connection:
        while True:
            try:
                missing, later = _migrated(connection, policy, supabase, role)
                for step in later:
                    _build(connection, step, policy, tell)
                return [step.name for step in missing]
            except psycopg.errors.LockNotAvailable:
                holders = _holders(connection, policy)
                if time.monotonic() + pause > until:
                    raise StoreError(
                        f"migrate: a lock was not free for {PATIENCE_SECONDS:g} s; {holders}. "
                        "End that transaction, or run it again at a quieter time. "
                        "What was not written is made by the next run.",
                        retryable=True,
                    ) from None
                tell(f"{holders}; the next try is in {pause:g} s")
                time.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)


def _migrated(
    connection: psycopg.Connection[Any], policy: Policy, supabase: str | None, role: str | None
) -> tuple[list[Step], list[Step]]:
    """One try, in one transaction: the steps that were missing, and those of them that remain to be
    done beside the writers of their table."""
    with connection.transaction():
        # behind another run, which holds up nobody else
        connection.execute(f"set local lock_timeout = '{PATIENCE_SECONDS}s'".encode())
        connection.execute("select pg_advisory_xact_lock(hashtextextended('unstuck.migrate', 0))")
        milliseconds = int(1000 * LOCK_TIMEOUT_SECONDS)
        connection.execute(f"set local lock_timeout = {milliseconds}".encode())
        connection.execute(_RECORD)
        missing = pending(connection, policy, supabase)
        created = {step.name for step in missing}
        later = []
        for step in missing:
            table = f"0002_tasks.{step.watch}" if step.watch else "0001_ledger"
            if step.beside_writers and table not in created:
                later.append(step)
            else:
                _run(connection, step)
        connection.execute(_owned(policy).encode())
        connection.execute(_grants(policy).encode())
        if role:
            connection.execute(role_grants(policy, role).encode())
        for (name,) in connection.execute(_ROLES).fetchall():
            if name != role:
                connection.execute(_own_grants(policy, name).encode())
    return missing, later


def _grants(policy: Policy) -> str:
    """What is said each time, whatever is there already."""
    own = (watch for watch in policy.watches.values() if watch.own)
    tables = [fill_in(template("grants_table"), names(watch)) for watch in own]
    return "\n".join([template("grants"), *tables])


def role_grants(policy: Policy, role: str) -> str:
    """The rights of a role that calls our functions and is not the owner of the tables. Rows of an
    adopted table that row security hides from it are its owner's to open."""
    granted = identifier(role)
    lines = [_own_grants(policy, role)]
    for watch in policy.watches.values():
        table = Table(watch).name
        rights = "select, insert, update, delete" if watch.own else "select, update"
        schema = table.partition(".")[0]
        lines += [
            f"grant usage on schema {schema} to {granted};",
            f"grant {rights} on {table} to {granted};",
        ]
        if "credits" in watch.optional:
            lines.append(
                "grant select, insert, update on public.unstuck_credits, "
                f"public.unstuck_credit_entries to {granted};"
            )
    return "\n".join(lines)


def _own_grants(policy: Policy, role: str) -> str:
    """The rights to what is ours, which each upgrade may add to."""
    granted = identifier(role)
    own = [Table(watch).name for watch in policy.watches.values() if watch.own]
    values = {
        "role": granted,
        "role_literal": literal(granted),
        "policy": literal(f"unstuck_{role}"),
        "tables": literal(own),
    }
    return fill_in(template("role"), values)


def _build(
    connection: psycopg.Connection[Any], step: Step, policy: Policy, tell: Callable[[str], object]
) -> None:
    """Builds indexes outside of a transaction. PostgreSQL waits for the transactions that are open
    then, which holds up nobody. A build that failed leaves an index that is not valid, and is made
    anew."""
    tell(f"{step.name}: builds an index beside the writers; {_holders(connection, policy)}")
    connection.execute(f"set lock_timeout = '{PATIENCE_SECONDS}s'".encode())
    for index, table in _INDEX.findall(step.text):
        # one that another run builds now is not valid either
        if _is_broken(connection, index, table) and not connection.execute(_BUILDING).fetchone():
            schema = table.rpartition(".")[0]
            connection.execute(f"drop index concurrently if exists {schema}.{index}".encode())
    for statement in step.statements:
        connection.execute(statement.encode())
    if not any(_is_broken(connection, *names) for names in _INDEX.findall(step.text)):
        _record(connection, step)  # else another run is at it, and records it


def _is_broken(connection: psycopg.Connection[Any], index: str, table: str) -> bool:
    """Whether the index is there and not valid."""
    query = "select from pg_index where not indisvalid and indexrelid = to_regclass(%s)"
    name = f"{table.rpartition('.')[0]}.{index}"
    return connection.execute(query, (name,)).fetchone() is not None


def _holders(connection: psycopg.Connection[Any], policy: Policy) -> str:
    """Who holds a lock of our tables or of a watched one, in words. Of a query only its verb: the
    rest may hold a secret."""
    tables = [Table(watch).name for watch in policy.watches.values()]
    rows = connection.execute(_HOLDERS.encode(), (tables,)).fetchall()
    if not rows:
        return "nobody holds a lock of its tables now"
    holders = [
        f"pid {pid} ({state}, since {seconds} s, {verb}) holds {table}"
        if pid
        else f"a prepared transaction holds {table}"
        for pid, state, seconds, verb, table in rows
    ]
    return ", ".join(holders)


def _run(connection: psycopg.Connection[Any], step: Step) -> None:
    try:
        connection.execute(step.in_transaction.encode())
    except psycopg.errors.DuplicateTable as error:
        raise StoreError(
            f"{step.name}: {error.diag.message_primary}, and it was not made by Unstuck. "
            "Adopt that table (leave `own` out of its watch), "
            "or name another `table` in policy.yaml.",
            retryable=False,
        ) from None
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn) as error:
        raise StoreError(
            f"{step.name}: {error.diag.message_primary}. "
            "Correct the names of its watch in policy.yaml.",
            retryable=False,
        ) from None
    if step.kept:
        _record(connection, step)


def _record(connection: psycopg.Connection[Any], step: Step) -> None:
    record = f"insert into unstuck.migrations (name, sha256) values (%s, %s) {_RECORD_AGAIN}"
    connection.execute(record.encode(), (step.name, step.sha256))
