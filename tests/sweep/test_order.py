"""Nothing stands before the rescue: what is overdue is settled first, and no slow queue, locked
row, slow trigger or broken step of a run keeps the rest of it."""

import threading
import time
from collections import Counter

import psycopg
import pytest

from functions.core.dispatch import (
    MAX_POSTS,
    MAX_PUSHES,
    DispatchError,
    HttpDispatch,
    Push,
    push_all,
)
from functions.core.policy import load
from functions.core.record import replace
from functions.errors import StoreError
from functions.store.postgres import PostgresStore
from functions.store.verbs import CANCELLED
from functions.sweep import sweep as sweeps
from tests.sweep.steps import sweep
from tests.waiting import eventually

POLICY = load()
WATCH = POLICY.watch()
LATE = "now() - interval '2 hours'"
TOLD = """
create table tolls (owner text primary key, told integer not null default 0);
create function toll() returns trigger language plpgsql as $$
begin
  update tolls set told = told + 1 where owner = new.owner;
  return new;
end $$;
create trigger toll before update on tasks for each row execute function toll();
"""
SLOW = """
create function linger() returns trigger language plpgsql as $$
begin
  perform pg_sleep((new.metadata ->> 'slow')::float8);
  return new;
end $$;
create trigger linger before update on tasks for each row execute function linger();
"""


@pytest.fixture
def db(database):
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


@pytest.fixture
def store(database):
    store = PostgresStore(database)
    yield store
    store.close()


def waiting(db, count, **columns):
    """Tasks that nobody has claimed for longer than they may wait."""
    names = "".join(f", {name}" for name in columns)
    values = "".join(f", {value}" for value in columns.values())
    db.execute(
        f"insert into tasks (kind, scheduled_at{names})"
        f" select 'image', {LATE}{values} from generate_series(1, %s) n",
        (count,),
    )


def states(db):
    return dict(db.execute("select status, count(*) from tasks group by 1").fetchall())


class SlowQueue:
    """Takes its time for each push, and counts those that come at once."""

    def __init__(self, seconds):
        self.seconds = seconds
        self.pushed, self.now, self.most = [], 0, 0
        self.counting = threading.Lock()

    def push(self, watch, task_id, number, delay=0.0):
        with self.counting:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(self.seconds)
        with self.counting:
            self.now -= 1
            self.pushed.append(task_id)


def test_a_backlog_that_is_pushed_again_does_not_keep_a_dead_attempt_waiting(store, db):
    db.execute(
        "insert into tasks (kind, scheduled_at)"
        " select 'image', now() - interval '5 min' from generate_series(1, 400)"
    )
    dead = store.create(WATCH, "image", {}).task_id
    store.claim(WATCH, dead, "a worker that dies")
    db.execute(f"update unstuck.attempts set deadline_at = {LATE}")
    queue = SlowQueue(0.05)
    policy = replace(POLICY, sweep_budget=2.0)
    done = sweep(store, policy, queue)
    assert (done.verdict, done.requeued) == ("ok", 1)
    assert queue.pushed[0] == dead
    assert 1 < done.redispatched < 400
    assert done.seconds < 2.5
    assert queue.most == MAX_PUSHES


def test_one_locked_account_keeps_one_task_and_no_other(store, db, database):
    db.execute(TOLD)
    db.execute("insert into tolls select 'user' || n from generate_series(1, 20) n")
    waiting(db, 20, owner="'user' || n")
    with psycopg.connect(database) as holder:
        holder.execute("select from tolls where owner = 'user7' for update")
        first = sweep(store, POLICY)
        assert (first.verdict, first.failed, first.unsweepable) == ("ok", 19, 1)
        assert first.seconds < POLICY.sweep_budget / 10
        second = sweep(store, POLICY)
        assert (second.failed, second.unsweepable) == (0, 1)
    assert sweep(store, POLICY).failed == 1
    assert states(db) == {"failed": 20}
    assert db.execute("select count(*) from unstuck.unsweepable").fetchone() == (0,)


def test_a_row_that_cannot_be_settled_is_reported_with_since_when(store, db, capfd):
    db.execute(
        "alter table tasks add constraint nailed check (priority <> 13 or status = 'pending')"
    )
    waiting(db, 3, priority="case n when 2 then 13 else 0 end")
    counts = [sweep(store, POLICY) for _ in range(2)]
    assert [(run.failed, run.unsweepable) for run in counts] == [(2, 1), (0, 1)]
    (since,) = db.execute("select to_json(since) #>> '{}' from unstuck.unsweepable").fetchone()
    assert capfd.readouterr().out.count(f'"since": "{since}"') == 2


def test_tasks_that_are_known_as_unsweepable_are_tried_after_all_others(store, db):
    db.execute(
        "alter table tasks add constraint nailed check (priority <> 13 or status = 'pending')"
    )
    waiting(db, 4, priority="13")
    sweep(store, POLICY)
    waiting(db, 2)
    batch = store.sweep(WATCH, 500)
    assert (len(batch.rescued), batch.unsweepable) == (2, [])
    db.execute("update tasks set status = 'cancelled', priority = 0 where priority = 13")
    sweep(store, POLICY)
    assert db.execute("select count(*) from unstuck.unsweepable").fetchone() == (0,)


def test_a_batch_that_takes_longer_than_its_statement_may_gets_smaller(store, db):
    db.execute(SLOW)
    waiting(db, 100, metadata="'{\"slow\": 0.04}'")
    runs = [sweep(store, replace(POLICY, sweep_budget=9.0)) for _ in range(2)]
    assert runs[0].failed > 0, "the whole of 100 never fits"
    assert (runs[1].verdict, sum(run.failed for run in runs)) == ("ok", 100)
    assert runs[1].complete, "the next run goes on where the first one stopped"


def test_a_row_that_takes_longer_than_any_statement_may_is_passed_over(store, db):
    db.execute(SLOW)
    waiting(db, 6, metadata="jsonb_build_object('slow', case n when 3 then 60 else 0 end)")
    runs = [sweep(store, replace(POLICY, sweep_budget=12.0)) for _ in range(2)]
    assert [(run.verdict, run.failed, run.unsweepable) for run in runs] == [
        ("ok", 5, 1),
        ("ok", 0, 1),
    ]
    assert db.execute("select code from unstuck.unsweepable").fetchone() == ("57014",)


@pytest.mark.parametrize("broken", ["redispatch", "tidy", "prune", "outbox_take"])
def test_a_step_that_fails_with_any_error_does_not_stop_the_others(store, db, monkeypatch, broken):
    waiting(db, 2)
    monkeypatch.setenv("NOTIFY_URL", "http://127.0.0.1:9/")

    def fails(*_, **__):
        raise TypeError("'>' not supported between instances of 'str' and 'float'")

    monkeypatch.setattr(store, broken, fails)
    policy = replace(POLICY, watches={"tasks": replace(WATCH, notify=True)})
    db.execute(
        "insert into unstuck.dispatches select 'tasks', id, 2, now() - interval '1 h' from tasks"
    )
    done = sweep(store, policy, SlowQueue(0))
    assert (done.verdict, done.failed) == ("error", 2)
    assert "TypeError" in done.error
    monkeypatch.undo()
    assert sweep(store, POLICY).verdict == "ok", "the run that failed does not block the next"


def test_a_run_that_ends_by_any_exception_is_told_and_gives_the_next_one_way(
    store, db, monkeypatch, capfd
):
    def fails(*_):
        raise KeyError("what nobody thought of")

    monkeypatch.setattr(sweeps._Run, "go", fails)
    done = sweep(store, POLICY)
    assert (done.verdict, "KeyError" in done.error) == ("error", True)
    assert '"outcome": "error"' in capfd.readouterr().out
    monkeypatch.undo()
    assert sweep(store, POLICY).verdict == "ok"


def test_a_step_that_hangs_has_its_share_and_no_more(store, db, monkeypatch):
    hanging = threading.Event()
    monkeypatch.setattr(store, "prune", lambda *_: hanging.wait(30))
    waiting(db, 1)
    done = sweep(store, replace(POLICY, sweep_budget=4.0))
    hanging.set()
    assert (done.failed, done.seconds < 4) == (1, True)
    assert done.error.startswith("prune: no answer within")
    assert done.oldest_pending_seconds == 0.0


def test_a_watch_whose_batches_fail_leaves_the_others_their_time(store, db):
    """The second watch is the same table under a name that the database does not know."""
    waiting(db, 3)
    other = replace(WATCH, name="unknown")
    done = sweep(store, replace(POLICY, watches={"unknown": other, "tasks": WATCH}))
    assert (done.verdict, done.failed) == ("error", 3)
    assert "unknown" in done.error


def test_after_a_push_that_is_refused_no_other_follows():
    class Refuses:
        asked = 0

        def push(self, *_):
            self.asked += 1
            raise DispatchError("the queue is gone")

    queue = Refuses()
    assert push_all(queue, [Push("tasks", str(n), 1) for n in range(50)]) == [False] * 50
    assert queue.asked == 1


def test_pushes_end_when_their_time_is_over():
    queue = SlowQueue(0.05)
    wanted = [Push("tasks", str(n), 1) for n in range(200)]
    accepted = push_all(queue, wanted, time.monotonic() + 0.2)
    assert Counter(accepted)[True] == len(queue.pushed) < 200


def test_posts_to_a_slow_worker_wait_for_one_of_a_few_threads(monkeypatch):
    release, posted = threading.Event(), []

    def post(self, watch, task_id, number):
        release.wait(30)
        posted.append(task_id)

    monkeypatch.setattr(HttpDispatch, "_post", post)
    before = threading.active_count()
    queue = HttpDispatch("http://127.0.0.1:9/")
    for number in range(1000):
        queue.push("tasks", str(number), 1)
    assert threading.active_count() - before <= MAX_POSTS
    release.set()
    eventually(lambda: len(posted) == 1000)


def test_a_push_for_later_does_not_hold_up_one_that_is_due(monkeypatch):
    posted = []
    monkeypatch.setattr(HttpDispatch, "_post", lambda self, *push: posted.append(push[1]))
    queue = HttpDispatch("http://127.0.0.1:9/")
    for number in range(MAX_POSTS + 1):
        queue.push("tasks", f"later {number}", 1, 600)
    queue.push("tasks", "soon", 1, 0.05)
    queue.push("tasks", "now", 1)
    eventually(lambda: posted == ["now", "soon"])


def test_a_database_that_is_away_ends_the_run_with_an_error(store, monkeypatch):
    def away(*_, **__):
        raise StoreError("the server is away", retryable=True)

    for verb in ("sweep", "pass_over", "lapsed"):
        monkeypatch.setattr(store, verb, away)
    done = sweep(store, POLICY)
    assert (done.verdict, done.complete) == ("error", False)


@pytest.mark.parametrize(
    "broken",
    ["unsure(p_watch text)", "tasks_orphans(p_sweep bigint)", "tasks_open_work(p_rules jsonb)"],
)
@pytest.mark.parametrize("code", ["P0001", CANCELLED])
def test_a_part_of_a_call_that_fails_is_told_and_the_other_parts_are_done(store, db, broken, code):
    waiting(db, 2)
    dead = store.create(WATCH, "image", {}).task_id
    store.claim(WATCH, dead, "w")
    db.execute("delete from tasks where id = %s", (dead,))
    db.execute(f"update unstuck.attempts set lease_until = {LATE}, deadline_at = {LATE}")
    db.execute(
        f"drop function unstuck.{broken}; create function unstuck.{broken}"
        f" returns {'integer' if 'orphans' in broken else 'jsonb'} language plpgsql as"
        f" $$ begin raise 'It is broken.' using errcode = '{code}'; end $$"
    )
    done = sweep(store, POLICY)
    assert (done.verdict, done.failed) == ("error", 2)
    assert done.error.startswith("tasks: ")
    assert done.error.count("It is broken.") == 1
    assert done.orphaned == ("orphans" not in broken)
    assert done.complete == ("open_work" not in broken)


def test_what_a_batch_did_whose_answer_was_given_up_is_reported(store, db):
    waiting(db, 5)
    call, batches = store.call, []

    def slow(function, arguments, timeout):
        answer = call(function, arguments, timeout)
        if function == "tasks_batch":
            batches.append(arguments["p_batch"])
            if len(batches) == 1:
                raise StoreError("no answer in time", retryable=True, code=CANCELLED)
        return answer

    store.call = slow
    done = sweep(store, POLICY)
    assert (done.verdict, done.failed) == ("ok", 5)
    assert batches[0] == batches[1] != batches[2]


def test_an_idle_run_asks_the_database_three_times_for_a_watch_and_five_times_for_all(store):
    sweep(store, POLICY)
    calls = []
    call = store.call

    def counted(function, arguments, timeout):
        calls.append(function)
        return call(function, arguments, timeout)

    store.call = counted
    assert sweep(store, POLICY).verdict == "ok"
    assert sorted(calls) == [
        "lapsed",
        "pauses_told",
        "prune",
        "sweep_begin",
        "sweep_end",
        "tasks_batch",
        "tasks_tidy",
    ]
