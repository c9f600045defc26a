"""Many tasks with credits, under kills, duplicates, cut connections and sweeps at once: the ledger
balances to the cent."""

import json
import os

import pytest

from tests.conftest import copied
from tests.sql.credits_run import MUST_HAPPEN, Run

TASKS = int(os.environ.get("CREDITS_TASKS", "300"))
"""10000 by `make credits`, which takes minutes."""


@pytest.mark.timeout(max(120, TASKS))
def test_the_ledger_balances_and_no_hold_is_left_on_an_ended_task(postgres, tmp_path, capsys):
    with copied(postgres, None) as dsn:
        report = Run(dsn, tmp_path, TASKS)()
    with capsys.disabled():
        if TASKS > 1000:
            print(json.dumps(report, indent=2))
    assert report["wrong"] == []
    for happened in MUST_HAPPEN:
        assert report[happened] > 0, happened
    assert [name for name in report if name.startswith("creates: refused")] == [
        "creates: refused with PT402"
    ]
    assert (
        sum(report["tasks"].values()) + report.get("delete by others", 0)
        == report["creates: created"]
    )
