"""Loads what the store by the REST API uses: of the supabase client the one for the database, which
is postgrest, and of that its side without asyncio."""

from functions.store import part

PARTS = ("postgrest._sync.client", "postgrest.exceptions")


def load() -> None:
    part.load("postgrest", lambda _: part.import_all(PARTS))
