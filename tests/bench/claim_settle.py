"""c: a task from claim to settle, against the SQL of procrastinate and pgqueuer, with 1, 4 and 16
clients."""

from collections.abc import Callable

from functions.core.policy import load
from functions.ops.postgres.embedded import Postgres
from tests.bench.figures import Figure, in_turns, middle, ratio
from tests.bench.pgbench import per_second
from tests.bench.rivals import RIVALS
from tests.bench.server import add_finished, add_pending, connected, make_database, settle_down

FINISHED = 200_000
WAITING = 80_000
CLIENTS = {1: 2_000, 4: 4_000, 16: 16_000}
"""The number of jobs that so many clients do in one round."""
ROUNDS = 3

OURS = """select c ->> 'task_id' as id, c ->> 'token' as token from unstuck.tasks_claim(null,
    'bench', :rules) c \\gset job_
select unstuck.tasks_settle(:job_id, :job_token, 'complete', null,
  '{"url": "https://example.org/cat.png"}');
"""
PUSHED = OURS.replace("(null,", "((select id from pushed where n = (select nextval('push'))),")
"""As a worker does it that was told which task: Cloud Tasks has picked it, not the database."""
BARE = """update tasks set status = 'processing', updated_at = clock_timestamp() where id = (
    select id from tasks where status = 'pending' and scheduled_at <= clock_timestamp()
    order by priority desc, coalesce(turn, scheduled_at), scheduled_at
    limit 1 for update skip locked)
  returning id, set_config('synchronous_commit', 'off', true) \\gset job_
update tasks set status = 'completed', updated_at = clock_timestamp(),
  result = '{"url": "https://example.org/cat.png"}' where id = :job_id and status = 'processing';
"""
"""The limit: two statements on the same table and its indexes, without triggers, rules, an attempt
or a check of who holds the task. Its first commit does not wait for the disk, as ours."""


def run(server: Postgres, scale: float = 1.0) -> list[Figure]:
    finished, waiting = int(FINISHED * scale), int(WAITING * scale)
    ours = {
        "ours": _ours(server, "queue_ours", OURS, finished, waiting),
        "ours, a pushed task": _ours(server, "queue_pushed", PUSHED, finished, waiting),
        "two bare UPDATEs": _ours(server, "queue_bare", BARE, finished, waiting),
    }
    rivals = _rivals(server, finished, waiting)
    queues = ours | rivals
    figures = []
    for clients, jobs in CLIENTS.items():
        each = max(1, int(jobs * scale) // clients)
        found = in_turns(
            {name: _way(queue, clients, each) for name, queue in queues.items()}, ROUNDS
        )
        figures += [
            Figure(f"{name}, {clients} clients", middle(rates), "jobs/s")
            for name, rates in found.items()
        ]
        if rivals:
            better = max(rivals, key=lambda name: middle(found[name]))
            aims = {"ours": ">= 1.5"} | dict.fromkeys(ours.keys() - {"ours"}, "")
            for name, aim in sorted(aims.items()):
                figures.append(
                    Figure(
                        f"  {name}/{better}, {clients} clients",
                        ratio(found[name], found[better]),
                        aim=aim,
                    )
                )
    return figures


Queue = Callable[[int, int], float]


def _way(queue: Queue, clients: int, each: int) -> Callable[[], float]:
    return lambda: queue(clients, each)


def _ours(server: Postgres, name: str, script: str, finished: int, waiting: int) -> Queue:
    dsn = make_database(server, name)
    with connected(dsn) as connection:
        add_finished(connection, finished)
        ids = add_pending(connection, waiting)
        connection.execute(
            "create sequence push; create table pushed (n bigint primary key, id text)"
        )
        connection.execute(
            "insert into pushed select n, id from unnest(%s::text[]) with ordinality as p (id, n)",
            (ids,),
        )
        if script == BARE:
            connection.execute("alter table tasks disable trigger all")
        settle_down(connection)
    return _queue(dsn, script, {"rules": load().watch().rules_json})


def _rivals(server: Postgres, finished: int, waiting: int) -> dict[str, Queue]:
    queues = {}
    for rival in filter(None, (find() for find in RIVALS)):
        dsn = make_database(server, f"queue_{rival.name}", migrated=False)
        with connected(dsn) as connection:
            connection.execute(rival.schema.encode())
            connection.execute(rival.fill.format(finished=finished, waiting=waiting).encode())
            settle_down(connection)
        queues[rival.name] = _queue(dsn, rival.job, {})
    return queues


def _queue(dsn: str, script: str, variables: dict[str, str]) -> Queue:
    def work(clients: int, each: int) -> float:
        rate = per_second(dsn, script, clients=clients, each=each, variables=variables)
        with connected(dsn) as connection:
            connection.execute("vacuum (index_cleanup on)")
        return rate

    work(1, 20)
    return work
