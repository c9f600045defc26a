"""Loads what the store by the REST API uses: of the supabase client the one for the database, which
is postgrest, and of that its side without asyncio."""

from importlib import import_module
from types import ModuleType

from functions.store import part

PARTS = ("postgrest._sync.client", "postgrest.exceptions")


def load() -> None:
    part.load("postgrest", _load_parts)


def _load_parts(_: ModuleType) -> None:
    for name in PARTS:
        import_module(name)
