"""The store loads a part of psycopg. Whoever imports psycopg after it has all of it, once."""

import subprocess
import sys

import pytest

LATER = """
import sys
from functions.core.settings import Settings
from functions.store import store_of

store_of(Settings.read({"DATABASE_URL": "postgresql://postgres@127.0.0.1:1/none"}))
from functions.store.postgres import Error

assert "psycopg" not in sys.modules, "the rest is not loaded"
parts = {name: module for name, module in sys.modules.items() if name.startswith("psycopg.")}
"""
WHOLE = """
import psycopg
import psycopg.rows
import psycopg.types.json

assert psycopg.connect and psycopg.AsyncConnection and psycopg.sql
assert psycopg.Error is psycopg.errors.Error is Error
for name, module in sys.modules.items():
    if name.startswith("psycopg."):
        package, _, part = name.rpartition(".")
        assert getattr(sys.modules[package], part) is module or part == "version", name
assert all(sys.modules[name] is module for name, module in parts.items())
try:
    psycopg.connect("host=127.0.0.1 port=1")
except Error:
    print("refused")
"""


@pytest.mark.parametrize(
    "first",
    [
        "import psycopg",
        "from psycopg import sql",
        "import psycopg.rows",
        "from psycopg.types.json import Jsonb",
        "from psycopg import errors",
    ],
)
def test_who_imports_psycopg_after_the_store_has_all_of_it(first):
    code = LATER + first + WHOLE
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("refused\n", "")
