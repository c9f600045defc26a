"""sweep: what Cloud Scheduler calls, once for each tick, and what it is told."""

from hypothesis import given
from hypothesis import strategies as st

from functions.errors import StoreError
from functions.store import Store
from tests.entry.steps import DATABASE_PASSWORD, claimed_elsewhere, error_code, make_overdue
from tests.entry.strategies import FUZZ


def test_a_sweep_says_how_long_the_oldest_task_has_waited_that_may_run_now(http, rows):
    http.create()
    first, later = http.create(), http.create()
    rows(
        "update tasks set scheduled_at = now() - interval '90 seconds' where id = %s returning 1",
        first,
    )
    rows(
        "update tasks set scheduled_at = now() + interval '1 hour' where id = %s returning 1", later
    )
    assert 90 <= http.ask("sweep").json["oldest_pending_seconds"] < 150
    rows("delete from tasks where id <> %s returning 1", later)
    assert http.ask("sweep").json["oldest_pending_seconds"] == 0, "what is for later does not wait"


def test_a_sweep_tells_its_counts(http, pushed, rows, log):
    waiting, lost, spent = http.create(), http.create(), http.create()
    rows(
        "update tasks set scheduled_at = now() - interval '1 day' where id = %s returning 1",
        waiting,
    )
    pushed_again = (
        "insert into unstuck.dispatches (watch, task_id, times, at) "
        "values ('tasks', %s, 2, now() - interval '20 h')"
    )
    rows(f"{pushed_again} returning 1", waiting)
    for task_id in (lost, spent):
        claimed_elsewhere(http.app, task_id)
        make_overdue(rows, task_id)
    rows("update unstuck.attempts set tries = 3 where task_id = %s returning 1", spent)
    pushed.clear()
    answer = http.ask(
        "sweep",
        headers={
            "X-CloudScheduler-JobName": "every-minute",
            "X-CloudScheduler-ScheduleTime": "12:00",
        },
    )
    assert (answer.status_code, answer.json["verdict"]) == (200, "ok")
    counts = {
        "failed": 2,
        "requeued": 1,
        "redispatched": 0,
        "suspended": 0,
        "unsweepable": 0,
        "orphaned": 0,
        "pruned": 0,
    }
    assert counts.items() <= answer.json.items()
    day, pending_at_most = 86400, 3600  # others of its kind were taken: it was due at the bound
    assert 0 <= answer.json["oldest_overdue_seconds"] - (day - pending_at_most) < 60
    [run] = rows("select key, by, ok, counts from unstuck.sweeps")
    assert (run["key"], run["by"], run["ok"]) == ("12:00", "every-minute", True)
    assert counts.items() <= run["counts"].items()
    assert [http.status(one)["state"] for one in (waiting, lost, spent)] == [
        "failed",
        "pending",
        "failed",
    ]
    assert [(task_id, number) for _, task_id, number, _ in pushed] == [(lost, 2)]
    lines = log()
    assert [line["outcome"] for line in lines if line["event"] == "sweep_finished"] == ["ok"]
    assert {line["reason"] for line in lines if line["event"] == "task_finished"} == {
        "never_claimed",
        "attempts_exhausted",
    }


def test_the_same_call_twice_sweeps_once(http, rows, log):
    headers = {"X-CloudScheduler-ScheduleTime": "2026-01-31T12:00:00Z"}
    assert http.ask("sweep", headers=headers).json["verdict"] == "ok"
    task_id = http.create()
    claimed_elsewhere(http.app, task_id)
    make_overdue(rows, task_id)
    answer = http.ask("sweep", headers=headers)
    assert (answer.status_code, answer.json) == (200, {"verdict": "duplicate"})
    assert rows("select status from tasks") == [{"status": "processing"}]
    assert [line["verdict"] for line in log("sweep_skipped")] == ["duplicate"]
    assert http.ask("sweep").json["requeued"] == 1, "a call without a time is never a duplicate"


def test_a_sweep_beside_a_sweep_does_nothing(http, rows):
    rows("insert into unstuck.sweeps (until) values (now() + interval '1 minute') returning 1")
    answer = http.ask("sweep")
    assert (answer.status_code, answer.json) == (200, {"verdict": "running"})


def test_a_sweep_that_fails_on_the_way_says_so_everywhere(http, rows, log, monkeypatch):
    def fails(*_):
        raise StoreError(f"connection lost: {DATABASE_PASSWORD}", retryable=True)

    monkeypatch.setattr(Store, "lapsed", fails)
    answer = http.ask("sweep", headers={"X-CloudScheduler-ScheduleTime": "12:00"})
    assert (answer.status_code, error_code(answer)) == (500, "sweep")
    assert DATABASE_PASSWORD not in answer.text
    [line] = log("sweep_finished")
    assert (line["outcome"], line["severity"]) == ("error", "ERROR")
    assert "connection lost" in line["error"]
    assert rows("select ok from unstuck.sweeps") == [{"ok": False}]
    monkeypatch.undo()
    again = http.ask("sweep", headers={"X-CloudScheduler-ScheduleTime": "12:00"})
    assert again.json["verdict"] == "ok", "a repetition of a call that failed is not a duplicate"


def test_a_sweep_that_could_not_even_begin_counts_as_a_failed_one(postgres_down, http, log):
    http.ask("sweep")
    assert [(line["outcome"], line["severity"]) for line in log("sweep_finished")] == [
        ("error", "ERROR")
    ]


HEADERS = st.text(st.characters(min_codepoint=32, max_codepoint=255))
NAMES = st.sampled_from(["traceparent", "X-Cloud-Trace-Context", "X-CloudScheduler-JobName"])


@FUZZ
@given(st.dictionaries(NAMES, HEADERS))
def test_no_header_makes_the_sweep_fail(http, headers):
    assert http.ask("sweep", headers=headers).status_code == 200
