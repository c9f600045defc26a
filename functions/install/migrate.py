"""The migration runner: applies what is missing, checks what is there, prints what it would do.

Tables come from functions/sql/migrations, each once and never edited after a release. Functions
come from the verb files and are replaced whenever their text has changed. Everything happens in one
transaction under a lock, so that two runs at once, or one that dies, leave the database whole."""

import hashlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import psycopg

from functions.core.policy import Policy, load
from functions.errors import StoreError
from functions.install import supabase_api
from functions.install.column_sql import literal
from functions.install.names import names, render
from functions.install.render import SQL, optional, routines, shared, template, verbs
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
_RECORD_AGAIN = (
    "on conflict (name) do update set sha256 = excluded.sha256, applied_at = clock_timestamp()"
)


class Step(NamedTuple):
    name: str
    text: str
    repeatable: bool
    kept: bool = True
    """Whether it is written down that it ran."""

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


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
            if "@table@" in text and watch.own:
                yield Step(
                    f"{path.stem}.{watch.name}", render(text, names(watch)), repeatable=False
                )
    yield Step("shared", shared(), repeatable=True)
    for watch in watches:
        yield Step(f"verbs.{watch.name}", verbs(watch), repeatable=True)
        for part in watch.optional:
            yield Step(f"{part}.{watch.name}", optional(watch, part), repeatable=True)
    if supabase:
        yield Step("supabase", supabase_api.supabase(policy, supabase), repeatable=True)


def script(policy: Policy | None = None, more: str = "") -> str:
    """The SQL as text, for review. `more` is SQL that no database needs."""
    return "\n".join(
        [*(f"-- {step.name}\n{step.text}" for step in steps(policy)), more, template("grants")]
    )


def file(policy: Policy | None, supabase: str | None, more: str = "") -> str:
    """The SQL for `supabase/migrations/`: it does what `migrate` does, keeps the same record, and
    may be run again."""
    return "\n".join(
        [_RECORD, *(_part(step) for step in steps(policy, supabase)), more, template("grants")]
    )


def _part(step: Step) -> str:
    values = f"{literal(step.name)}, {literal(step.sha256)}"
    record = f"insert into unstuck.migrations (name, sha256) values ({values})"
    if step.repeatable:
        return f"-- {step.name}\n{step.text}\n{record}\n{_RECORD_AGAIN};\n"
    assert "$migration$" not in step.text, "the text would end at it"
    return render(
        template("migration_step"),
        {"name": step.name, "sha256": step.sha256, "record": record, "text": step.text},
    )


def pending(
    connection: psycopg.Connection[Any], policy: Policy | None = None, supabase: str | None = None
) -> list[Step]:
    """The steps that the database still lacks. Raises StoreError when a released migration was
    edited."""
    installed = connection.execute("select to_regclass('unstuck.migrations')").fetchone() != (None,)
    rows = (
        connection.execute("select name, sha256 from unstuck.migrations").fetchall()
        if installed
        else []
    )
    applied: dict[str, str] = dict(rows)
    missing = [step for step in steps(policy, supabase) if applied.get(step.name) != step.sha256]
    for step in missing:
        if step.name in applied and not step.repeatable:
            raise StoreError(
                f"migration {step.name} differs from what was applied. "
                "A released migration is never edited: restore its text and write a new one.",
                retryable=False,
            )
    return [*missing, *_gone(applied, policy or load())]


def _gone(applied: dict[str, str], policy: Policy) -> Iterator[Step]:
    """The watches of the database that the policy no longer has."""
    parts = [path.stem for path in (SQL / "optional").glob("*.sql")]
    for step in sorted(applied):
        kind, _, watch = step.partition(".")
        if kind == "verbs" and watch not in policy.watches:
            steps = [f"{part}.{watch}" for part in ("verbs", *parts)]
            named = {"watch": watch, "functions": literal(routines(watch)), "steps": literal(steps)}
            yield Step(
                f"gone.{watch}", render(template("drop_watch"), named), repeatable=True, kept=False
            )


def check(dsn: str, policy: Policy | None = None, supabase: str | None = None) -> list[str]:
    """The names of the steps that `migrate` would run; empty when the database is up to date."""
    with connect(dsn, prepare_threshold=None) as connection:
        return [step.name for step in pending(connection, policy, supabase)]


def migrate(dsn: str, policy: Policy | None = None, supabase: str | None = None) -> list[str]:
    """Brings the database up to date and returns the names of the steps that ran.

    Raises StoreError when a table of that name exists and is not ours.
    """
    with connect(dsn, prepare_threshold=None) as connection, connection.transaction():
        connection.execute("select pg_advisory_xact_lock(hashtextextended('unstuck.migrate', 0))")
        connection.execute(_RECORD)
        missing = pending(connection, policy, supabase)
        for step in missing:
            _run(connection, step)
        connection.execute(template("grants").encode())
        return [step.name for step in missing]


def _run(connection: psycopg.Connection[Any], step: Step) -> None:
    try:
        connection.execute(step.text.encode())
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
        record = f"insert into unstuck.migrations (name, sha256) values (%s, %s) {_RECORD_AGAIN}"
        connection.execute(record.encode(), (step.name, step.sha256))
