"""Loads of psycopg what the store uses, its layer below the cursors. To load its cursors, types and
asyncio's side too takes more CPU than all else that a first request loads; asyncio itself, of which
it uses one exception, takes a third of what is left."""

from importlib import import_module
from types import ModuleType

from functions.store import part

PARTS = ("psycopg.pq", "psycopg.errors", "psycopg.conninfo")


def load() -> None:
    part.load("psycopg", _load_without_asyncio)


def _load_without_asyncio(_: ModuleType) -> None:
    """In this order, as whoever imports psycopg does: two threads wait for each other in none."""
    part.load("asyncio", _load_parts)


def _load_parts(asyncio: ModuleType) -> None:
    vars(asyncio)["CancelledError"] = import_module("asyncio.exceptions").CancelledError
    part.import_all(PARTS)
