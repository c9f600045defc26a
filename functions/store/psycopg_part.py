"""Loads of psycopg what the store uses, its layer below the cursors. To load its cursors, types and
asyncio's side too takes more CPU than all else that a first request loads; asyncio itself, of which
it uses one exception, takes a third of what is left."""

from importlib import import_module
from types import ModuleType

from functions.store import part

PARTS = ("psycopg.pq", "psycopg.errors", "psycopg.conninfo")


def load() -> None:
    part.load("asyncio", _load_psycopg)


def _load_psycopg(asyncio: ModuleType) -> None:
    vars(asyncio)["CancelledError"] = import_module("asyncio.exceptions").CancelledError
    part.load("psycopg", _load_parts)


def _load_parts(_: ModuleType) -> None:
    for name in PARTS:
        import_module(name)
