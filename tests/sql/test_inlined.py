"""Predicates that a search asks of every row are read into its plan: a call of each would cost more
than the rest."""

import pytest


@pytest.mark.parametrize(
    "call",
    [
        "unstuck.pending_until(t.created_at, t.kind, $1, $1)",
        "unstuck.pending_at_most($1, t.kind)",
        "unstuck.rule_seconds($1, t.kind, 'lease')",
    ],
)
def test_a_predicate_of_each_row_is_part_of_the_plan(db, call):
    db.execute("set plan_cache_mode = force_generic_plan")
    db.execute(f"prepare search(jsonb) as select {call} from tasks t")
    plan = db.execute("explain (verbose, costs off) execute search('{}')").fetchall()
    assert call.partition("(")[0] not in str(plan)
