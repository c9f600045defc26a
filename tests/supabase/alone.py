"""From an empty database with Supabase's roles to the first rescued task and the first POST: pastes
the file of `sql --supabase --cron`, and waits for pg_cron itself. `python -m tests.supabase.alone`
prints the seconds; it exits with 1 when they are more than 90."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import psycopg

from functions.ops.postgres import embedded
from functions.ops.postgres.embedded import Postgres
from tests.supabase import pg_net
from tests.supabase.stack import bootstrap

GOAL_SECONDS = 90.0
DEBIAN_VERSION = 15
"""For which Debian has pg_cron (postgresql-15-cron)."""
CRON = {
    "shared_preload_libraries": "pg_cron",
    "cron.database_name": "postgres",
    "cron.log_run": "on",
}
BACKGROUND = {"cron.use_background_workers": "on"}
"""The other way in which pg_cron runs a command: no connection of its own."""
HBA = "local all all trust\nhost all all localhost trust\n"
"""pg_cron connects without a password."""
THEIRS = """
create table public.renders (
  id uuid primary key default gen_random_uuid(),
  kind text not null,
  status text not null default 'queued'
    check (status in ('queued', 'rendering', 'done', 'failed')),
  error text,
  created_at timestamptz not null default now(),
  started_at timestamptz,
  updated_at timestamptz not null default now(),
  finished_at timestamptz
);
insert into public.renders (kind, status, created_at, started_at, updated_at, finished_at)
select 'film', 'done', now() - interval '2 days', now() - interval '2 days',
  now() - interval '1 day', now() - interval '1 day' from generate_series(1, 20);
insert into public.renders (kind, status, created_at, started_at, updated_at)
values ('film', 'rendering', now() - interval '3 days', now() - interval '3 days',
  now() - interval '3 days')
"""
"""A table that was there before, with a task whose worker died three days ago."""
OURS = """
insert into public.tasks (kind, status, created_at, scheduled_at, updated_at)
values ('film', 'processing', now() - interval '3 days', now() - interval '3 days',
  now() - interval '3 days')
"""


@contextmanager
def server(more: dict[str, str] | None = None) -> Iterator[Postgres]:
    """Debian's PostgreSQL with pg_cron."""
    settings = embedded.SETTINGS | CRON | (more or {})
    with (
        patch.object(embedded, "SETTINGS", settings),
        patch.object(embedded, "HBA", HBA),
        Postgres(version=DEBIAN_VERSION, durable=False) as postgres,
    ):
        bootstrap(postgres.dsn())
        with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
            connection.execute(pg_net.SQL.encode())
        yield postgres


def printed(*arguments: str) -> str:
    """The file, as the command prints it."""
    command = [sys.executable, "-m", "functions", "sql", "--supabase", "--cron", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def paste(connection: psycopg.Connection[Any], text: str) -> None:
    """As the SQL editor does: all of it in one query."""
    connection.execute(text.replace(pg_net.EXTENSION, "").encode())


def run(table: str, seconds: float = GOAL_SECONDS, more: dict[str, str] | None = None) -> dict:
    """How long it took after the paste, in seconds: until the task was rescued, until the POST."""
    receiver = pg_net.Receiver()
    with server(more) as postgres, psycopg.connect(postgres.dsn(), autocommit=True) as connection:
        ours = table == "public.tasks"
        if not ours:
            connection.execute(THEIRS)
        text = printed("--table", table, *([] if ours else ["--dsn", postgres.dsn()]))
        worker = pg_net.Worker(postgres.dsn())
        begun = time.monotonic()
        paste(connection, text)
        connection.execute("select unstuck.notify_to(%s)", (receiver.url,))
        if ours:
            connection.execute(OURS)
        question = f"select count(*) from {table} where status = 'failed'".encode()
        rescued = None
        while time.monotonic() < begun + seconds and not (rescued and receiver.calls):
            if rescued is None and connection.execute(question).fetchone() != (0,):
                rescued = time.monotonic() - begun
            time.sleep(0.2)
        worker.close()
        runs = connection.execute("select status, return_message from cron.job_run_details")
        answer = {
            "table": table,
            "background_workers": bool(more),
            "rescued": rescued and round(rescued, 1),
            "posted": round(receiver.calls[0].at - begun, 1) if receiver.calls else None,
            "text": json.loads(receiver.calls[0].body)["text"] if receiver.calls else None,
            "runs": runs.fetchall(),
        }
    receiver.close()
    return answer


def main() -> int:
    is_late = False
    for table, more in (
        ("public.tasks", None),
        ("public.renders", None),
        ("public.tasks", BACKGROUND),
    ):
        answer = run(table, more=more)
        print(json.dumps(answer), flush=True)
        is_late |= answer["posted"] is None
    return int(is_late)


if __name__ == "__main__":
    sys.exit(main())
