"""What the tests of the SQL and of the stores share: how time passes for a database, without a test
that waits."""

from typing import Any

from psycopg import Connection
from psycopg.rows import scalar_row

PASS_TIME = """
create schema testing;
create function testing.pass_time(p_seconds float8) returns void language plpgsql as $$
declare
  v_statement text;
begin
  for v_statement in
    select format('update %I.%I set %s', c.table_schema, c.table_name,
                  string_agg(
                    format('%1$I = %1$I - make_interval(secs => $1)', c.column_name), ', '
                  ))
    from information_schema.columns c
    join information_schema.tables t using (table_schema, table_name)
    where c.data_type = 'timestamp with time zone' and t.table_type = 'BASE TABLE'
      and c.table_schema in ('public', 'unstuck') and c.table_name <> 'migrations'
    group by c.table_schema, c.table_name
  loop
    execute v_statement using p_seconds;
  end loop;
end $$
"""

STILL_CLOCK = """
create schema testing;
create function testing.clock_timestamp() returns timestamptz language sql stable
  as $$ select current_setting('testing.now')::timestamptz $$;
create function testing.pg_postmaster_start_time() returns timestamptz language sql immutable
  as $$ select '2000-01-01'::timestamptz $$;
alter table public.tasks alter created_at set default testing.clock_timestamp(),
  alter updated_at set default testing.clock_timestamp();
set search_path = testing, pg_catalog, public
"""


def install_clock(db: Connection[Any]) -> None:
    """Makes `pass_time` work. Leases count from the start of the server at least, and a test's has
    only just started: here it did so a day ago."""
    db.execute(PASS_TIME)
    cursor = db.cursor(row_factory=scalar_row)
    definition = cursor.execute(
        "select pg_get_functiondef('unstuck.alive_until'::regproc)"
    ).fetchone()
    assert definition is not None
    assert "pg_postmaster_start_time()" in definition
    db.execute(
        definition.replace(
            "pg_postmaster_start_time()", "(pg_postmaster_start_time() - interval '1 day')"
        )
    )


def pass_time(db: Connection[Any], seconds: float) -> None:
    """All that was written before this moment is `seconds` older afterwards."""
    db.execute("select testing.pass_time(%s::float8)", (seconds,))


SET_CLOCK = (
    "set_config('testing.now', "
    "('2026-01-01'::timestamptz + %s * interval '1 microsecond')::text, false)"
)


def install_still_clock(db: Connection[Any]) -> None:
    """From now on this session's clock stands where SET_CLOCK put it: our functions are found
    before the server's."""
    db.execute(STILL_CLOCK)
    db.execute(f"select {SET_CLOCK}", (0,))
