"""Database over each store."""

import time

import pytest

from functions.core.policy import Policy, Watch
from functions.core.record import replace
from functions.errors import StoreError
from functions.ops.postgres.embedded import free_port
from tests.store.conftest import AWAY
from tests.store.steps import A_MOMENT, NIL


class TestDatabase:
    @pytest.mark.parametrize("away", AWAY.values(), ids=AWAY)
    def test_when_it_is_away_a_call_says_so_within_its_limit(self, away, tasks):
        store = away(free_port())
        with pytest.raises(StoreError):
            store.beat(tasks, NIL, NIL, timeout=0.1)  # the first one loads the client
        begun = time.monotonic()
        with pytest.raises(StoreError) as refused:
            store.beat(tasks, NIL, NIL, timeout=0.5)
        assert refused.value.retryable
        assert time.monotonic() - begun < 0.5 + A_MOMENT

    def test_a_function_that_is_not_there_asks_for_a_migration(self, store, tasks: Watch):
        unknown = replace(tasks, name="nowhere")
        with pytest.raises(StoreError, match=r"unstuck migrate .*--apply") as refused:
            store.status(unknown, NIL)
        assert not refused.value.retryable

    def test_a_refused_call_does_not_spoil_the_next(self, store, tasks, policy: Policy):
        for _ in range(3):
            with pytest.raises(StoreError):
                pytest.fail(f"answered {store.status(tasks, 'no id')}")
            assert store.suspend(tasks, policy) == 0
