"""n: what the choice of the next task costs: a claim under a limit against one without, by 16
clients; and with a million waiting against a thousand."""

from collections.abc import Callable
from dataclasses import dataclass

from functions.core.policy import load
from functions.core.record import replace
from functions.ops.postgres.embedded import Postgres
from tests.bench.figures import Figure, in_turns, middle, ratio
from tests.bench.pgbench import per_second
from tests.bench.server import add_pending, connected, make_database, settle_down

CLIENTS = 16
JOBS = 16_000
FEW, MANY = 1_000, 1_000_000
CLAIMS = 200
ROUNDS = 3
OWNERS = 100

LIMITS = {"without a limit": None, "with a limit of running": 4 * CLIENTS}
CLAIM = """
with begun as materialized (select clock_timestamp() as at),
claimed as materialized (
  select unstuck.tasks_claim(null, 'bench', :rules) as answer, begun.at from begun
),
noted as (
  insert into claims (took) select clock_timestamp() - at from claimed
)
select answer ->> 'task_id' as id, answer ->> 'token' as token from claimed \\gset job_
"""
"""The time of the claim is that of the server, without its commit."""
SETTLE = "select unstuck.tasks_settle(:job_id, :job_token, 'complete', null, '{}');\n"
TIMES = """
create unlogged table claims (
  session integer not null default pg_backend_pid(),
  at timestamptz not null default clock_timestamp(),
  took interval not null
)
"""
FIRST = 5
"""Claims of a session that do not count: they make its plans."""
TOOK = """
select percentile_cont(%s) within group (order by extract(epoch from c.took))
from (
  select took, row_number() over (partition by session order by at) as number from claims
) c
where c.number > %s
"""
WAITING = """
insert into public.tasks (kind, input, owner, scheduled_at, created_at, updated_at, turn)
select 'image', '{}', case when %(owners)s > 0 then 'user-' || n %% %(owners)s end, at, at, at, at
from generate_series(1, %(count)s) n, lateral (
  select now() - n * interval '10 us' as at
) c
"""


@dataclass(frozen=True)
class Choice:
    name: str
    owners: int
    running: int | None = None
    """The limit of those that run at once."""


CHOICES = (
    Choice("without owners", 0),
    Choice("of many owners", OWNERS),
    Choice("under a limit of running", 0, 2_000),
)


def run(server: Postgres, scale: float = 1.0) -> list[Figure]:
    return [*_limited(server, scale), *_of_many(server, scale)]


def rules(running: int | None) -> str:
    watch = load().watch()
    image = replace(watch.rule("image"), limit_running=running)
    return str(replace(watch, rules=watch.rules | {"image": image}).rules_json)


def _limited(server: Postgres, scale: float) -> list[Figure]:
    each = max(2, int(JOBS * scale) // CLIENTS)
    dsn = make_database(server, "choice_limited")
    with connected(dsn) as connection:
        connection.execute(TIMES)
        add_pending(connection, (each + FIRST) * CLIENTS * ROUNDS * len(LIMITS) + 100)
        settle_down(connection)
    ways = {
        name: _seconds(dsn, CLAIM + SETTLE, rules(running), CLIENTS, each, 0.99)
        for name, running in LIMITS.items()
    }
    for running in LIMITS.values():  # the first claim under a limit makes its slots
        first = {"rules": rules(running)}
        per_second(dsn, CLAIM + SETTLE, clients=1, each=FIRST, variables=first)
    seconds = in_turns(ways, ROUNDS)
    plain, *limited = LIMITS
    return [
        *(
            Figure(f"claim {name}, p99, {CLIENTS} clients", middle(times, 1e3), "ms")
            for name, times in seconds.items()
        ),
        *(
            Figure(f"  {name}/{plain}", ratio(seconds[name], seconds[plain]), aim="<= 1.5")
            for name in limited
        ),
    ]


def _seconds(
    dsn: str, script: str, rules_json: str, clients: int, each: int, share: float
) -> Callable[[], float]:
    """How long a claim takes: what that share of all stays below."""

    def measure() -> float:
        times = each + FIRST
        per_second(dsn, script, clients=clients, each=times, variables={"rules": rules_json})
        with connected(dsn) as connection:
            row = connection.execute(TOOK, (share, FIRST)).fetchone()
            connection.execute("truncate claims")
            connection.execute("vacuum (index_cleanup on)")
        assert row is not None, "an aggregate has a row"
        return float(row[0])

    return measure


def _of_many(server: Postgres, scale: float) -> list[Figure]:
    claims = max(20, int(CLAIMS * scale))
    taken = (claims + FIRST) * ROUNDS * len(CHOICES)
    tables = {
        (owners, count): _filled(server, owners, count, max(100, int(count * scale)) + taken)
        for owners in {choice.owners for choice in CHOICES}
        for count in (FEW, MANY)
    }
    figures = []
    for choice in CHOICES:
        ways = {
            count: _seconds(
                tables[choice.owners, count], CLAIM, rules(choice.running), 1, claims, 0.5
            )
            for count in (FEW, MANY)
        }
        seconds = in_turns(ways, ROUNDS)
        figures += [
            Figure(f"claim {choice.name}, {count:,} waiting", middle(times, 1e3), "ms")
            for count, times in seconds.items()
        ]
        figures.append(
            Figure(
                f"  {choice.name}, {MANY:,}/{FEW:,}", ratio(seconds[MANY], seconds[FEW]), aim="<= 2"
            )
        )
    return figures


def _filled(server: Postgres, owners: int, count: int, waiting: int) -> str:
    """The DSN of a table where so many tasks wait."""
    dsn = make_database(server, f"choice_{owners}_{count}")
    with connected(dsn) as connection:
        connection.execute(TIMES)
        connection.execute(WAITING, {"count": waiting, "owners": owners})
        settle_down(connection)
    return dsn
