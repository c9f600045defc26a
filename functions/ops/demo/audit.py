"""What happened, seen from outside: a trigger of the demo's own records each change of each task,
so that "nothing finished was overwritten" does not rest on what Unstuck says of itself. Each start
comes with how many tasks of its kind ran then."""

from typing import Any

import psycopg

AUDIT = """
create schema demo;
create table demo.changes (
  at timestamptz default clock_timestamp(), task_id text, old text, new text,
  result_changed boolean);
create table demo.starts (
  number bigint generated always as identity,
  kind text, priority integer, running bigint);
create function demo.note() returns trigger language plpgsql as $$
begin
  insert into demo.changes (task_id, old, new, result_changed)
  values (new.id::text, old.status, new.status, old.result is distinct from new.result);
  if new.status = 'processing' and old.status = 'pending' then
    insert into demo.starts (kind, priority, running)
    select new.kind, new.priority, count(*)
    from public.tasks t where t.kind = new.kind and t.status = 'processing';
  end if;
  return null;
end $$;
create trigger demo_note after update on public.tasks for each row execute function demo.note();
"""
OVERWRITTEN = """
select count(*) from demo.changes
where old in ('completed', 'failed', 'cancelled') and (new <> old or result_changed)
"""
TASKS = "select id::text, status, reason, error_message from public.tasks"
STUCK = "select count(*) from public.tasks where status in ('pending', 'processing')"
LIVE = "select count(*) from unstuck.attempts where ended_at is null"
ATTEMPTS = """
select task_id, number, outcome, reason, cause, sweep_id is not null,
  extract(epoch from ended_at)::float8, extract(epoch from beat_at)::float8
from unstuck.attempts order by task_id, number
"""
MOST_AT_ONCE = "select coalesce(max(running), 0) from demo.starts where kind = %s"
STARTED = "select count(*) from demo.starts where kind = %s"
WAITING = "select count(*) from public.tasks where kind = %s and status = 'pending'"
PLACE_OF_URGENT = """
select s.place
from (
  select priority, row_number() over (order by number) as place from demo.starts where kind = %s
) s
where s.priority > 0
order by s.place
limit 1
"""
"""Among the starts of the kind; 0 where it never started."""
REFUSED = "select source, count(*) from unstuck.refusals group by 1"


def install(connection: psycopg.Connection[Any]) -> None:
    connection.execute(AUDIT)


def count(connection: psycopg.Connection[Any], query: str, *values: Any) -> int:
    row = connection.execute(query.encode(), values or None).fetchone()
    return int(row[0]) if row else 0


def rescue_seconds(attempts: list[Any], struck: dict[str, float]) -> list[float]:
    """From the death of a worker to the moment at which its task had a new state. The death of a
    worker that the demo did not strike itself is dated back to its last beat, which makes the
    figure too large, never too small."""
    return sorted(
        ended - (struck.get(task_id, beat) if number == 1 else beat)
        for task_id, number, _, _, cause, by_sweep, ended, beat in attempts
        if by_sweep and cause in {"lease_lost", "deadline"} and beat
    )


def figures(
    connection: psycopg.Connection[Any], created: int, struck: dict[str, float]
) -> dict[str, Any]:
    tasks = connection.execute(TASKS.encode()).fetchall()
    attempts = connection.execute(ATTEMPTS.encode()).fetchall()
    rescues = rescue_seconds(attempts, struck)
    failed = [task[2] for task in tasks if task[1] == "failed"]
    refused = dict(connection.execute(REFUSED.encode()).fetchall())
    return {
        "tasks": created,
        "completed": sum(task[1] == "completed" for task in tasks),
        "failed": len(failed),
        "stuck": count(connection, STUCK) + count(connection, LIVE),
        "overwritten": count(connection, OVERWRITTEN),
        "zombie_writes_refused": refused.get("verb", 0),
        "foreign_writes_refused": refused.get("fence", 0),
        "rescue_seconds": {
            name: percentile(rescues, share)
            for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
        },
        "rescues": len(rescues),
        "by_reason": {reason: failed.count(reason) for reason in sorted(set(failed))},
        "attempts": len(attempts),
        "attempts_by_cause": _count(attempt[4] or attempt[2] for attempt in attempts),
    }


def percentile(values: list[float], share: float) -> float | None:
    """The value below which `share` of the sorted values lie, the last one for 1.0; None without
    values."""
    return round(values[min(len(values) - 1, int(share * len(values)))], 2) if values else None


def _count(words: Any) -> dict[str, int]:
    listed = list(words)
    return {word: listed.count(word) for word in sorted(set(listed))}
