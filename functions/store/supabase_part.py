"""Loads what the store by the REST API uses: of the supabase client the one for the database, which
is postgrest, and of that its side without asyncio; of httpx what HTTP/1.1 takes."""

import sys
from importlib import import_module
from types import ModuleType

from functions.store import part

PARTS = ("postgrest._sync.client", "postgrest.exceptions")


def load() -> None:
    part.load("postgrest", _load_parts)
    if "h2" in sys.modules or "httpcore" in sys.modules:
        return
    # As if HTTP/2 were not installed, for this import alone: a client that asks for it has it.
    sys.modules["h2"] = None  # type: ignore[assignment]
    try:
        import_module("httpcore")
    finally:
        del sys.modules["h2"]


def _load_parts(_: ModuleType) -> None:
    for name in PARTS:
        import_module(name)
