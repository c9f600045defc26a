"""How Python reaches the SQL: the verbs, carried by psycopg or by Supabase's REST API."""

from functions.core.settings import Settings
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
    "store_of",
]


def store_of(settings: Settings) -> Store:
    """The store that the environment names. Where it names both it is the database itself: a verb
    costs a third there, and so does the cold start. Raises StoreError when it names none."""
    if settings.database_url:
        from functions.core import events
        from functions.store import psycopg_part

        psycopg_part.load()
        from functions.store.postgres import PostgresStore

        database = PostgresStore(settings.database_url)
        if database.ignored:
            events.emit(
                events.SETTING_IGNORED, variable="DATABASE_URL", ignored=", ".join(database.ignored)
            )
        return database
    if settings.supabase_url or settings.supabase_key:
        from functions.store import supabase_part

        supabase_part.load()
        from functions.store.supabase import SupabaseStore

        return SupabaseStore(settings.supabase_url or "", settings.supabase_key or "")
    raise StoreError(
        "No database is named. Set DATABASE_URL to a PostgreSQL URL, "
        "or SUPABASE_URL and SUPABASE_KEY.",
        retryable=False,
    )
