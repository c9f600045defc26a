"""Evidence over each store."""

from functions.core.answers import Evidence
from tests.sql import pass_time
from tests.store.steps import LEASE, claimed, row, swept


class TestEvidence:
    def test_it_tells_once_why_a_worker_died_and_moves_nothing(self, store, db, tasks):
        attempt = claimed(store, tasks)
        pass_time(db, LEASE + 1)
        run = store.sweep_begin("k1", "test", 45).sweep_id
        line = "Cloud Run's log: 'ä'"
        told = Evidence("tasks", attempt.task_id, attempt.number, "out_of_memory", line)
        again = Evidence("tasks", attempt.task_id, attempt.number, "crashed", line)
        assert store.evidence(run, [told]) == 0, "it is still alive"
        swept(store, tasks, sweep_id=run)
        before = row(db, attempt.task_id)
        assert store.evidence(run + 1, [told]) == 0, "another sweep ended it"
        assert store.evidence(run, [told]) == 1
        [known] = store.history(tasks, attempt.task_id)
        assert (known.cause, known.reason, known.outcome) == (
            "out_of_memory",
            "lease_lost",
            "retried",
        )
        assert known.evidence == store.status(tasks, attempt.task_id).attempt.evidence == line
        assert store.evidence(run, [again]) == 0, "a repetition"
        assert row(db, attempt.task_id) == before
        assert store.evidence(run, []) == 0
