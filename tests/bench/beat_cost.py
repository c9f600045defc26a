"""f: what a beat costs, against the same table with the lease in an index."""

from functions.ops.postgres.embedded import Postgres
from tests.bench.figures import Figure, in_turns, middle, ratio, timed
from tests.bench.server import Connection, add_running, connected, log_bytes, make_database

TASKS, BEATS = 1000, 2000
ROUNDS = 5


def run(server: Postgres, scale: float = 1.0) -> list[Figure]:
    beats = max(100, int(BEATS * scale))
    with (
        connected(make_database(server, "beat_plain")) as plain,
        connected(make_database(server, "beat_indexed")) as indexed,
    ):
        indexed.execute("create index on unstuck.attempts (lease_until) where ended_at is null")
        tokens = {}
        for connection in (plain, indexed):
            connection.execute("set synchronous_commit = off")
            add_running(connection, TASKS)
            connection.execute("vacuum analyze")
            rows = connection.execute(
                "select task_id, token::text from unstuck.attempts where ended_at is null"
            ).fetchall()
            tokens[connection] = rows
        ways = {
            "plain": lambda: _beat(plain, tokens[plain], beats),
            "indexed": lambda: _beat(indexed, tokens[indexed], beats),
        }
        in_turns(ways, 1)  # the first write of a page after a checkpoint is a full image
        wal = {name: _wal(server, way, beats) for name, way in ways.items()}
        found = in_turns(ways, ROUNDS)
        hot = {"plain": _hot(plain), "indexed": _hot(indexed)}
    return [
        Figure("a beat", middle(found["plain"], 1e6 / beats), "us"),
        Figure("a beat with the lease indexed", middle(found["indexed"], 1e6 / beats), "us"),
        Figure("with the index/without: time", ratio(found["indexed"], found["plain"])),
        Figure("WAL of a beat", wal["plain"], "bytes"),
        Figure("WAL of a beat with the lease indexed", wal["indexed"], "bytes"),
        Figure("heap-only beats", hot["plain"] * 100, "%", ">= 99"),
        Figure("heap-only beats with the lease indexed", hot["indexed"] * 100, "%"),
    ]


def _beat(connection: Connection, tokens: list[tuple[str, str]], beats: int) -> float:
    """The loop runs in the database, with a commit for each beat: what is measured is the beat, not
    the way to it."""
    ids, secrets = ("{" + ",".join(one[part] for one in tokens) + "}" for part in (0, 1))
    loop = f"""
    do $$ declare
      ids constant text[] := '{ids}';
      tokens constant uuid[] := '{secrets}';
    begin
      for n in 1..{beats} loop
        perform unstuck.beat('tasks', ids[1 + n % {len(tokens)}], tokens[1 + n % {len(tokens)}]);
        commit;
      end loop;
    end $$
    """
    return timed(lambda: connection.execute(loop.encode()))[1]


def _wal(server: Postgres, beat: object, beats: int) -> float:
    """Bytes of WAL for each beat."""
    with connected(server.dsn()) as connection:
        before = log_bytes(connection)
        beat()  # type: ignore[operator]
        return (log_bytes(connection) - before) / beats


def _hot(connection: Connection) -> float:
    connection.execute("select pg_stat_force_next_flush()")
    row = connection.execute(
        "select n_tup_hot_upd::float8 / n_tup_upd from pg_stat_user_tables "
        "where relid = 'unstuck.attempts'::regclass"
    ).fetchone()
    assert row
    return float(row[0])
