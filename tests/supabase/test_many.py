"""More rows than PostgREST lets out: its 1000 cut what comes back, not what was done."""

import json

import psycopg

from functions.core.policy import load
from functions.store.supabase import SupabaseStore
from tests.sweep.steps import sweep

MANY = 5080
OVERDUE = """
insert into public.tasks (kind, status, scheduled_at, created_at, updated_at)
select 'image', case when n % 2 = 0 then 'pending' else 'processing' end, at, at, at
from generate_series(1, %s) n, lateral (select now() - interval '1 day' as at) t
"""


def test_all_are_swept_all_are_reported_none_twice(supabase, capsys):
    with psycopg.connect(supabase.dsn, autocommit=True) as connection:
        connection.execute(OVERDUE.replace("% 2", "%% 2"), (MANY,))
        store, policy = SupabaseStore(supabase.url, supabase.key), load()
        answer = sweep(store, policy)
        store.close()
        assert (answer.verdict, answer.complete) == ("ok", True)
        assert answer.failed + answer.requeued == MANY
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        said = [
            line["task_id"] for line in lines if line["event"] in {"task_finished", "task_requeued"}
        ]
        assert len(said) == len(set(said)) == MANY
        left = """
        select count(*) from public.tasks
        where status = 'processing' or status = 'pending' and scheduled_at < now() - interval
          '1 hour'
        """
        assert connection.execute(left).fetchone() == (0,)
        ended = "select count(*), count(distinct task_id) from unstuck.attempts where sweep_id = %s"
        assert connection.execute(ended, (answer.sweep_id,)).fetchone() == (MANY, MANY)
