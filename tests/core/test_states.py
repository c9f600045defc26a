"""The tables of core/states.py are what the SQL does."""

import psycopg
import pytest

from functions.core.policy import DEFAULT, parse
from functions.core.states import ACTIONS, State
from functions.install.migrate import migrate
from functions.store.postgres import PostgresStore

CANCELLED = "cancelled: [cancelled]"
WORDS = {state: state.value for state in State} | {State.RUNNING: "processing"}


@pytest.fixture
def policy():
    """That of the bundle, with a word for tasks that wait for a person."""
    text = DEFAULT.read_text(encoding="utf-8")
    return parse(text.replace(CANCELLED, f"{CANCELLED}\n      resting: [resting]"))


def test_a_person_may_do_in_the_database_what_the_actions_say_and_nothing_else(database, policy):
    migrate(database, policy)
    store, watch = PostgresStore(database), policy.watch()
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("alter table tasks disable trigger user")
        connection.execute("alter table tasks drop constraint tasks_status_check")
        moved = {action: set() for action in ACTIONS}
        for action in ACTIONS:
            for state, word in WORDS.items():
                task_id = store.create(watch, "image", {}).task_id
                connection.execute("update tasks set status = %s where id = %s", (word, task_id))
                if store.operate(watch, action, [task_id]):
                    moved[action].add(state)
    store.close()
    assert moved == {action: set(states) for action, states in ACTIONS.items()}
