"""A table of the corpus, adopted: its watch, its store, and rows as an application writes them."""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import psycopg

from functions.core.policy import Policy, Watch, parse
from functions.install.migrate import migrate
from functions.ops import adopt
from functions.ops.inspect import check
from functions.ops.inspect.session import connect
from functions.store.postgres import PostgresStore
from tests.ops.inspect.corpus import Real, insert, load

HEAD = """
platform: {timeout: 600s, margin: 15s}
lease: {beat: 10s, for: 30s}
sweep: {every: 60s, budget: 45s, batch: 500, retention: 30d,
        mass_expiry: {at_least: 10, share: 0.5}}
watches:
"""
EXPIRE = """update unstuck.attempts
set lease_until = now() - interval '1 h', deadline_at = now() - interval '1 h'
where ended_at is null"""


@dataclass
class Adopted:
    dsn: str
    real: Real
    policy: Policy
    store: PostgresStore

    @property
    def watch(self) -> Watch:
        return self.policy.watch()

    def row(self, state: str, age: str = "1 second") -> str:
        """A row in the first word of `state`, as old as `age`. Returns its key."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            return insert(connection, self.real, self.real.words[state][0], age, state)

    def word(self, key: str) -> str:
        """The word of a row, as text."""
        watch = self.watch
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            query = (
                f'select "{watch.status}"::text from {watch.table} where "{watch.key}"::text = %s'
            )
            return connection.execute(query.encode(), (key,)).fetchone()[0]

    def means(self, key: str, state: str) -> bool:
        return self.word(key) in map(str, self.real.words[state])

    def expire(self, key: str) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(f"{EXPIRE} and task_id = %s", (key,))


def adopted(dsn: str, real: Real, extra: str = "") -> Adopted:
    """Loads the table, adopts it with the mapping that its JSON tells, and installs the guard."""
    load(dsn, real)
    with tempfile.NamedTemporaryFile("w", suffix=".json", delete=False) as file:
        json.dump(real.mapping, file)
    with connect(dsn) as connection:
        watches = adopt.watch(check.infer_table(connection, real.table, file.name))
    Path(file.name).unlink()
    policy = parse(HEAD + adopt.text(watches) + extra)
    migrate(dsn, policy)
    return Adopted(dsn, real, policy, PostgresStore(dsn))
