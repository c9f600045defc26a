"""Rival queues: their own schema and their own statements, taken from the installed libraries
(requirements-bench.txt).

They live in `.cache/rivals` and are read by another process: pydantic and the rest must not change
what our entry points import."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parents[2] / ".cache" / "rivals"
PGQUEUER = (
    "import datetime, uuid\n"
    "from pgqueuer.adapters.persistence import qb\n"
    "queue = qb.QueryQueueBuilder()\n"
    "dequeue = queue.build_dequeue_query(batch_size=1, entrypoints=['bench'], "
    "concurrency_limits=[0], "
    "queue_manager_id=uuid.uuid4(), global_concurrency_limit=None, "
    "heartbeat_timeout=datetime.timedelta(seconds=30))\n"
    "say(qb.QueryBuilderEnvironment().build_install_query(), dequeue.sql, "
    "queue.build_log_job_query())"
)
HOW = "make rivals"


@dataclass(frozen=True)
class Rival:
    """`fill` takes the numbers of finished and of waiting jobs; `job` is a pgbench script that
    takes one to its end."""

    name: str
    schema: str
    fill: str
    job: str


def procrastinate() -> Rival | None:
    """Keeps its jobs and files two events for each; a worker is a row, so that each client is a
    worker of its own."""
    found = _ask(
        "from procrastinate import sql, schema\n"
        "say(schema.SchemaManager.get_schema(), sql.queries['fetch_job'], "
        "sql.queries['finish_job'])"
    )
    if not found:
        return None
    schema, fetch, finish = found
    fetch = _filled(fetch, "%(queues)s", "null", "%(worker_id)s", ":client_id + 1")
    finish = _filled(
        finish, "%(job_id)s", ":job_id", "%(status)s", "'succeeded'", "%(delete_job)s", "false"
    )
    fill = """
        set session_replication_role = replica;
        insert into procrastinate_workers (last_heartbeat) select now() from generate_series(1, 64);
        insert into procrastinate_jobs (queue_name, task_name, args, status, attempts)
          select 'bench', 'image', jsonb_build_object('prompt', repeat('a cat ', 8), 'n', n),
            case when n <= {finished} then 'succeeded' else 'todo' end::procrastinate_job_status,
              (n <= {finished})::int
          from generate_series(1, {finished} + {waiting}) n;
        insert into procrastinate_events (job_id, type, at)
          select id, e::procrastinate_job_event_type, now() from procrastinate_jobs,
            unnest(case status when 'todo' then '{{deferred}}' else
              '{{deferred,started,succeeded}}' end::text[]) e;
        set session_replication_role = origin;"""
    return Rival("procrastinate", schema, fill, _script(fetch, finish))


def pgqueuer() -> Rival | None:
    """Deletes a job that succeeded and files two log rows. Batches of one, as ours and as
    procrastinate's."""
    found = _ask(PGQUEUER)
    if not found:
        return None
    schema, dequeue, log = found
    manager = "('00000000-0000-0000-0000-' || lpad(:client_id::text, 12, '0'))::uuid"
    dequeue = _filled(dequeue, "$1", "1", "$2", "array['bench']", "$3", manager, "$4", "'30 s'")
    log = _filled(log, "$1", "array[:job_id]", "$2", "array['successful']", "$3", "array[null]")
    fill = """
        set session_replication_role = replica;
        insert into pgqueuer (priority, entrypoint, payload, status)
          select 0, 'bench', convert_to(repeat('a cat ', 8) || n, 'UTF8'), 'queued'
          from generate_series(1, {finished} + {waiting}) n;
        insert into pgqueuer_log (job_id, status, priority, entrypoint)
          select id, s::pgqueuer_status, 0, 'bench' from pgqueuer,
            unnest(case when id <= {finished} then '{{queued,picked,successful}}' else '{{queued}}'
              end::text[]) s;
        delete from pgqueuer where id <= {finished};
        set session_replication_role = origin;"""
    return Rival("pgqueuer", schema, fill, _script(dequeue, log))


_STATEMENTS = {
    "procrastinate": (
        "from procrastinate import sql, schema\n"
        "q = sql.queries\n"
        "say(schema.SchemaManager.get_schema(), q['fetch_job'], q['finish_job'],\n"
        "    q['select_stalled_jobs_by_heartbeat'], q['retry_job'])"
    ),
    "pgqueuer": PGQUEUER,
}


def statements(rival: str) -> list[str] | None:
    """Schema and statements of a rival as they are, or None, loudly, when it is not installed."""
    return _ask(_STATEMENTS[rival])


RIVALS: tuple[Callable[[], Rival | None], ...] = (procrastinate, pgqueuer)


def _ask(program: str) -> list[str] | None:
    """What the program says, or None, loudly, when the library is not installed."""
    head = "import json\ndef say(*texts): print(json.dumps(texts))\n"
    path = os.pathsep.join(filter(None, (str(FOLDER), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-c", head + program],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        why = done.stderr.strip().rpartition("\n")[2]
        print(f"  SKIPPED, a rival is missing: {why}\n  Install it with: {HOW}", file=sys.stderr)
        return None
    return list(json.loads(done.stdout))


def _filled(statement: str, *pairs: str) -> str:
    """The statement with its parameters in place, on one line and without comments, as pgbench
    wants it."""
    statement = re.sub(r"--.*", "", statement)
    for name, value in zip(pairs[::2], pairs[1::2], strict=True):
        assert name in statement, f"{name} is not in: {statement}"
        statement = statement.replace(name, value)
    return " ".join(statement.split()).rstrip(";")


def _script(take: str, finish: str) -> str:
    return f"{take} \\gset job_\n{finish};\n"
