"""AdoptedTable over each store."""

import pytest

from functions.core.explain import explain
from functions.core.record import replace
from tests.sql import pass_time
from tests.store.steps import Db, claimed_again, one, settled, swept


class TestAdoptedTable:
    """A table that was there before: its own words, many to one, a number as its key, and clocks
    that may be empty."""

    def add(self, db: Db, state: str = "queued") -> str:
        return str(
            one(db, 'insert into public."Media Jobs" ("State") values (%s) returning "Job"', state)[
                "Job"
            ]
        )

    def state(self, db: Db, task_id: str) -> str:
        return str(
            one(db, 'select "State" from public."Media Jobs" where "Job" = %s', task_id)["State"]
        )

    @pytest.mark.parametrize("given", [True, False])
    @pytest.mark.parametrize("word", ["queued", "waiting"])
    def test_it_is_claimed_and_settled_in_its_own_words(self, store, db, jobs, word, given):
        task_id = self.add(db, word)
        attempt = claimed_again(store, jobs, task_id if given else None)
        assert (attempt.task_id, attempt.kind) == (task_id, "render")
        assert attempt.input["Job"] == int(task_id)
        assert self.state(db, task_id) == "rendering"
        settled(store, jobs, attempt, "complete", result={})
        assert self.state(db, task_id) == "done"

    def test_a_worker_may_go_on_to_another_word_for_running(self, store, db, jobs):
        attempt = claimed_again(store, jobs, self.add(db))
        db.execute("""update public."Media Jobs" set "State" = 'uploading'""")
        assert store.claim(jobs, attempt.task_id, "w").verdict == "held"
        settled(store, jobs, attempt, "complete")

    def test_a_task_that_rests_is_neither_claimed_nor_swept(self, store, db, jobs):
        task_id = self.add(db, "paused")
        pass_time(db, 10 * 86_400)
        assert store.claim(jobs, task_id, "w").verdict == "resting"
        assert (store.claim(jobs, None, "w").verdict, swept(store, jobs)) == ("none", [])
        found = store.status(jobs, task_id)
        assert (found.state, found.word, found.overdue) == ("resting", "paused", False)

    def test_its_kinds_can_be_limited_whether_or_not_a_worker_names_them(self, store, db, jobs):
        watch = replace(jobs, rules={"*": replace(jobs.rule("*"), limit_running=2)})
        for _ in range(3):
            self.add(db)
        for kinds in (None, ["render"]):
            assert store.claim(watch, None, "w", kinds).verdict == "claimed"
        assert store.claim(watch, None, "w").verdict == "limited"

    def test_what_waited_through_a_long_pause_is_pushed_and_taken_after_it(self, store, db, jobs):
        waiting = [self.add(db) for _ in range(2)]
        store.pause(jobs, "render", "ada", None, None)
        pass_time(db, 30 * 86400)
        assert store.claim(jobs, None, "w").verdict == "paused"
        store.resume(jobs, "*", "ada")
        assert swept(store, jobs) == []
        assert [task.task_id for task in store.redispatch(jobs, 10)] == waiting
        for task_id, kinds in zip(waiting, (None, ["render"]), strict=True):
            assert store.claim(jobs, None, "w", kinds).task_id == task_id

    def test_it_is_swept_by_the_first_clock_that_is_set(self, store, db, jobs):
        waiting, silent = self.add(db), self.add(db, "uploading")
        pass_time(db, 901)
        db.execute("""update public."Media Jobs" set queued_at = now(), touched_at = now()""")
        assert swept(store, jobs) == []
        db.execute("""update public."Media Jobs" set queued_at = null, touched_at = null""")
        assert {task.task_id for task in swept(store, jobs)} == {waiting, silent}
        assert (self.state(db, waiting), self.state(db, silent)) == ("broken", "queued")

    def test_the_reason_is_kept_in_the_ledger_where_the_table_has_no_column(self, store, db, jobs):
        task_id = self.add(db)
        pass_time(db, 901)
        found = store.status(jobs, task_id)
        assert (found.state, found.word, found.reason) == ("failed", "broken", "never_claimed")
        assert found.error == "No worker picked the task up in time."

    @pytest.mark.parametrize("look", ["a claim of it", "a claim of the next", "a poll", "a sweep"])
    def test_a_waiting_task_whose_user_asked_to_stop_it_never_runs(self, store, db, jobs, look):
        task_id = self.add(db)
        db.execute("""update public."Media Jobs" set "Stop it" = true""")
        assert [task.task_id for task in store.stuck(jobs, 10).tasks] == [task_id]
        match look:
            case "a claim of it":
                answer = store.claim(jobs, task_id, "w")
                assert (answer.verdict, answer.state) == ("ended", "cancelled")
            case "a claim of the next":
                assert store.claim(jobs, None, "w").verdict == "none"
                assert self.state(db, task_id) == "queued"
                return
            case "a poll":
                assert store.status(jobs, task_id).state == "cancelled"
            case "a sweep":
                assert [task.task_id for task in swept(store, jobs)] == [task_id]
        assert self.state(db, task_id) == "withdrawn"
        found = store.status(jobs, task_id)
        assert (found.reason, found.overdue) == ("cancelled", False)

    @pytest.mark.parametrize("word", ["queued", "uploading"])
    def test_a_row_whose_end_time_is_set_is_not_open(self, store, db, jobs, word):
        task_id = self.add(db, word)
        db.execute("""update public."Media Jobs" set over_at = now()""")
        pass_time(db, 86_400)
        assert store.stuck(jobs, 10).tasks == swept(store, jobs) == []
        assert store.find(jobs, {}, 10) == store.page(jobs, {"state": "open"}, 10).tasks == []
        assert (store.overview(jobs).open, store.pulse(jobs).open) == ([], [])
        assert store.claim(jobs, None, "w").verdict == "none"
        assert store.claim(jobs, task_id, "w").verdict == "ended"
        found = store.status(jobs, task_id)
        assert (found.state, found.overdue) == (None, False)
        assert self.state(db, task_id) == word

    @pytest.mark.parametrize("sign", ["it was touched", "it is put back"])
    def test_a_row_that_goes_on_after_its_end_is_open(self, store, db, jobs, sign):
        task_id = self.add(db, "broken")
        db.execute("""update public."Media Jobs" set over_at = now() - interval '1 hour'""")
        also = ", touched_at = now()" if sign == "it was touched" else ""
        db.execute(f"""update public."Media Jobs" set "State" = 'queued' {also}""")
        assert store.claim(jobs, None, "w").task_id == task_id

    def test_a_handler_may_write_the_end_time_before_it_returns(self, store, db, jobs):
        task_id = self.add(db)
        attempt = claimed_again(store, jobs, task_id)
        db.execute("""update public."Media Jobs" set over_at = now()""")
        assert store.status(jobs, task_id).state == "running"
        settled(store, jobs, attempt, "complete", result={})
        assert self.state(db, task_id) == "done"

    @pytest.mark.parametrize(("at_most", "ends"), [(1, True), (2, False), (5, False), (0, False)])
    def test_a_row_may_limit_its_attempts_itself(self, store, db, jobs, at_most, ends):
        task_id = self.add(db)
        db.execute("""update public."Media Jobs" set "At most" = %s""", (at_most,))
        attempt = claimed_again(store, jobs, task_id)
        assert store.status(jobs, task_id).attempt.of == (at_most or 3)
        answer = settled(store, jobs, attempt, "retry", reason="handler_error")
        assert (answer.state == "failed") is ends

    def test_a_row_may_have_more_attempts_than_its_rule(self, store, db, jobs):
        task_id = self.add(db)
        db.execute("""update public."Media Jobs" set "At most" = 4""")
        for state in ("pending", "pending", "pending", "failed"):
            attempt = claimed_again(store, jobs, task_id)
            pass_time(db, 31)
            assert {task.state for task in swept(store, jobs)} == {state}
            pass_time(db, 60)
        assert attempt.tries == 4

    @pytest.mark.parametrize(("tries", "word"), [(1, "queued"), (3, "queued"), (4, "broken")])
    def test_tries_outside_the_guard_count_against_the_limit_of_the_row(
        self, store, db, jobs, tries, word
    ):
        task_id = self.add(db, "uploading")
        db.execute("""update public."Media Jobs" set "Tries" = %s, "At most" = 4""", (tries,))
        pass_time(db, 901)
        (foreseen,) = store.stuck(jobs, 10).tasks
        (task,) = swept(store, jobs)
        assert (task.state, task.tries) == (foreseen.state, tries)
        assert self.state(db, task_id) == word

    def test_a_claim_goes_on_counting_where_the_table_had_come(self, store, db, jobs):
        task_id = self.add(db)
        db.execute("""update public."Media Jobs" set "Tries" = 2, "At most" = 3""")
        attempt = claimed_again(store, jobs, task_id)
        assert attempt.tries == 3
        assert settled(store, jobs, attempt, "retry", reason="handler_error").state == "failed"

    @pytest.mark.parametrize(
        ("column", "sentence"),
        [
            (
                '"Stop it" = true',
                "Its user asked to stop it: the next sweep, within 1m, cancels it.",
            ),
            ("over_at = now()", "but its row says that it has ended or was deleted (over_at)"),
        ],
    )
    def test_what_a_row_says_of_itself_is_explained(
        self, store, db, jobs, policy, column, sentence
    ):
        task_id = self.add(db)
        db.execute(f"""update public."Media Jobs" set {column}""")
        assert sentence in explain(policy, jobs, store.status(jobs, task_id, heal=False))
