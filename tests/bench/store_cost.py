"""h: verbs in a second by psycopg and by Supabase's REST API, with 1 and 4 callers: so that users
can choose."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

from functions.core.policy import load
from functions.install.migrate import migrate
from functions.ops.postgres.embedded import Postgres
from functions.store import Store
from functions.store.postgres import PostgresStore
from functions.store.supabase import SupabaseStore
from tests.bench.figures import Figure, in_turns, middle, ratio
from tests.bench.server import make_database
from tests.supabase.stack import SERVICE_JWT, Supabase, bootstrap, found_postgrest

TASKS = 150
"""From create to settle, for each caller in one round."""
VERBS = 4
ROUNDS = 5
CALLERS = (1, 4)


def run(server: Postgres, scale: float = 1.0) -> list[Figure]:
    dsn = make_database(server, "store_cost", migrated=False)
    bootstrap(dsn)
    migrate(dsn, supabase="public")
    with ExitStack() as open_:
        stores: dict[str, Store] = {"psycopg": PostgresStore(dsn)}
        if found_postgrest():
            stores["the REST API"] = rest(open_.enter_context(Supabase(dsn)))
        for store in stores.values():
            open_.enter_context(closing(store))
            _tasks(store, 1)
        return [
            figure
            for callers in CALLERS
            for figure in _compared(stores, callers, max(1, int(TASKS * scale)))
        ]


def rest(stack: Supabase) -> SupabaseStore:
    """PostgREST without the gateway of the tests, which is in this very process: its path is not
    below /rest/v1."""
    store = SupabaseStore(stack.rest_url, SERVICE_JWT)
    client, _ = store._client()
    client.base_url = client.base_url.parent.parent
    return store


def _compared(stores: dict[str, Store], callers: int, tasks: int) -> list[Figure]:
    ways: dict[str, Callable[[], float]] = {
        name: (lambda store=store: _rate(store, callers, tasks)) for name, store in stores.items()
    }
    found = in_turns(ways, ROUNDS)
    figures = [
        Figure(f"{name}, {callers} callers", middle(rates), "verbs/s")
        for name, rates in found.items()
    ]
    if len(found) > 1:
        figures.append(Figure(f"  psycopg/the REST API, {callers} callers", ratio(*found.values())))
    return figures


def _rate(store: Store, callers: int, tasks: int) -> float:
    begun = time.perf_counter()
    with ThreadPoolExecutor(callers) as threads:
        list(threads.map(lambda _: _tasks(store, tasks), range(callers)))
    return callers * tasks * VERBS / (time.perf_counter() - begun)


def _tasks(store: Store, count: int) -> None:
    watch = load().watch()
    for n in range(count):
        task_id = store.create(watch, "image", {"n": n}).task_id
        token = store.claim(watch, task_id, "bench").token
        assert store.beat(watch, task_id, token).verdict == "held"
        assert store.settle(watch, task_id, token, "complete", result={"n": n}).verdict == "settled"
