"""How Python reaches the SQL: the verbs, carried by psycopg or by Supabase's REST API."""

from functools import lru_cache

from functions.core.settings import settings
from functions.errors import StoreError
from functions.store.verbs import (
    BATCH_TIMEOUT_SECONDS,
    LOCK_WAIT_SECONDS,
    VERB_TIMEOUT_SECONDS,
    Answer,
    Store,
)

__all__ = [
    "BATCH_TIMEOUT_SECONDS",
    "LOCK_WAIT_SECONDS",
    "VERB_TIMEOUT_SECONDS",
    "Answer",
    "Store",
    "store",
]


@lru_cache
def store() -> Store:
    """The store of this process, chosen by the environment. Made at the first use, after the fork.
    Where both are named it is the database itself: a verb costs a third there, and so does the cold
    start."""
    configured = settings()
    if configured.database_url:
        from functions.store.postgres import PostgresStore

        return PostgresStore(configured.database_url)
    if configured.supabase_url or configured.supabase_key:
        from functions.store.supabase import SupabaseStore

        return SupabaseStore(configured.supabase_url or "", configured.supabase_key or "")
    raise StoreError(
        "No database is named. Set DATABASE_URL to a PostgreSQL URL, or SUPABASE_URL and "
        "SUPABASE_KEY.",
        retryable=False,
    )
