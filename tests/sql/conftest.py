"""A migrated database: a connection to it, and the store over it."""

import psycopg
import pytest

from functions.store.postgres import PostgresStore


@pytest.fixture
def db(database):
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


@pytest.fixture
def store(database):
    store = PostgresStore(database)
    yield store
    store.close()
