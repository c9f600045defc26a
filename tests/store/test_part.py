"""A store loads a part of some packages. Whoever imports one of them after it has all of it,
once."""

import subprocess
import sys

import pytest

LATER = """
import sys
from functions.core.settings import Settings
from functions.store import store_of

def store(**variables):
    return store_of(Settings.read(variables))

for _ in range(2):
    store(DATABASE_URL="postgresql://postgres@127.0.0.1:1/none")
    store(SUPABASE_URL="https://ref.supabase.co", SUPABASE_KEY="sb_secret_x")
from functions.store.postgres import Error
from functions.store.supabase import APIError

PACKAGES = {"asyncio", "psycopg", "postgrest"}
assert not PACKAGES & set(sys.modules), "the rest is not loaded"
parts = {name: module for name, module in sys.modules.items() if name.partition(".")[0] in PACKAGES}
"""
WHOLE = """
import asyncio
import asyncio.subprocess
import postgrest
import psycopg
import psycopg.rows
import psycopg.types.json
import supabase

assert asyncio.run and asyncio.CancelledError is asyncio.exceptions.CancelledError
assert psycopg.connect and psycopg.AsyncConnection and psycopg.sql
assert psycopg.Error is psycopg.errors.Error is Error
assert postgrest.AsyncPostgrestClient and supabase.create_client
assert postgrest.APIError is postgrest.exceptions.APIError is APIError
for name, module in sys.modules.items():
    package, _, part = name.rpartition(".")
    if package.partition(".")[0] in PACKAGES:
        assert getattr(sys.modules[package], part) is module or part == "version", name
assert all(sys.modules[name] is module for name, module in parts.items())

async def cancelled():
    task = asyncio.ensure_future(asyncio.sleep(60))
    await asyncio.sleep(0)
    task.cancel()
    await task

try:
    asyncio.run(cancelled())
except sys.modules["asyncio.exceptions"].CancelledError:
    print("cancelled")
try:
    psycopg.connect("host=127.0.0.1 port=1")
except Error:
    print("refused")
"""
MEANWHILE = """
import importlib, sys, threading
from functions.store import part

begun, may_end = threading.Event(), threading.Event()

def load_parts(asyncio):
    begun.set()
    may_end.wait(10)

def whole():
    import asyncio
    print(asyncio.run.__name__)

parts = threading.Thread(target=part.load, args=("asyncio", load_parts))
other = threading.Thread(target=whole)
parts.start()
begun.wait(10)
other.start()
other.join(0.2)
assert other.is_alive(), "it waits"
may_end.set()
parts.join(10)
other.join(10)
"""
TOGETHER = """
import threading
from functions.core.settings import Settings
from functions.store import store_of

begins = threading.Barrier(2)

def first():
    begins.wait(10)
    store_of(Settings.read({"DATABASE_URL": "postgresql://postgres@127.0.0.1:1/none"}))

def whole():
    begins.wait(10)
    import psycopg
    assert psycopg.connect and psycopg.rows.dict_row

threads = [threading.Thread(target=first), threading.Thread(target=OTHER)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join(30)
"""
BROKEN = """
import sys
from functions.store import psycopg_part

sys.modules["psycopg.pq"] = None
try:
    psycopg_part.load()
except ImportError:
    del sys.modules["psycopg.pq"]
import asyncio
assert asyncio.run(asyncio.sleep(0, True))
import psycopg
assert psycopg.connect
print("whole")
"""


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize(
    "first",
    [
        "import psycopg",
        "from psycopg import sql",
        "import psycopg.rows",
        "from psycopg.types.json import Jsonb",
        "from psycopg import errors",
        "import asyncio",
        "from asyncio import events",
        "import asyncio.subprocess",
        "import postgrest",
        "from postgrest import AsyncPostgrestClient",
        "import supabase",
    ],
)
def test_who_imports_such_a_package_after_the_store_has_all_of_it(first):
    assert run(LATER + first + WHOLE) == "cancelled\nrefused\n"


def test_a_thread_that_imports_the_package_meanwhile_waits_and_has_all_of_it():
    assert run(MEANWHILE) == "run\n"


@pytest.mark.parametrize("other", ["first", "whole"])
def test_two_first_requests_at_once_or_a_thread_that_imports_psycopg_load_what_they_need(other):
    """Python 3.11 makes the second request wait; later ones do not."""
    assert run(TOGETHER.replace("OTHER", other)) == ""


def test_a_part_that_cannot_be_loaded_breaks_no_package_for_others():
    assert run(BROKEN) == "whole\n"
