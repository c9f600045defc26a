"""The policies in examples/, each on the table that its project made: the four systems from which
this project grew."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from functions.core.policy import Policy, Rule, Watch, load
from functions.core.states import State
from functions.errors import PolicyError
from functions.install.migrate import check, migrate
from functions.ops.postgres.embedded import Postgres, create_database, drop_database
from functions.store.postgres import PostgresStore
from tests.adopt.adopted import EXPIRE
from tests.ops.inspect import corpus
from tests.ops.inspect.corpus import needs_corpus

EXAMPLES = Path(__file__).parents[2] / "examples"
NUMBERS = {"concept_visualizer": "01", "reigh": "02", "mobius": "03", "opendlp": "04"}
REAL = {
    name: real
    for name, number in NUMBERS.items()
    for real in corpus.tables()
    if real.name.startswith(f"{number}-")
}
ENVIRONMENT = {"concept_visualizer": {"APP_ENV": "prod"}}
CHANGED = {
    "concept_visualizer": {"status", "error_message", "updated_at"},
    "reigh": {"status", "updated_at", "generation_started_at"},
    "mobius": {"status", "error", "updated_at", "state"},
    "opendlp": {"status", "error_message", "completed_at", "log_messages"},
}
"""What the sweep writes to a running row; the rest stays as it is."""
SECOND, MINUTE = 1.0, 60.0


@dataclass
class Example:
    name: str
    dsn: str
    policy: Policy
    store: PostgresStore

    @property
    def watch(self) -> Watch:
        return self.policy.watch()

    @property
    def rule(self) -> Rule:
        return self.watch.rule("*")

    def execute(self, query: str, *arguments: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            cursor = connection.execute(query.encode(), arguments)
            return cursor.fetchall() if cursor.description else []

    def add(self, state: State, age: float = SECOND, word: str | None = None) -> str:
        """A row as the project's own code wrote it `age` seconds ago. Returns its key."""
        word = word or self.watch.words[state][0]
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            key = corpus.insert(connection, REAL[self.name], word, f"{age} seconds", str(state))
        self.execute(
            "update unstuck.observed set status_at = now() - make_interval(secs => %s), "
            "touched_at = now() - make_interval(secs => %s) where task_id = %s",
            age,
            age,
            key,
        )
        return key

    def write(self, key: str, assignments: str) -> None:
        """What the project's own code writes, as Supabase's service role."""
        with psycopg.connect(self.dsn) as connection:
            connection.execute("select set_config('request.jwt.claim.role', 'service_role', true)")
            cursor = connection.execute(
                f"update {self.watch.table} set {assignments} "
                f'where "{self.watch.key}"::text = %s'.encode(),
                (key,),
            )
            assert cursor.rowcount == 1

    def row(self, key: str) -> dict[str, Any]:
        ((row,),) = self.execute(
            f'select to_jsonb(t) from {self.watch.table} t where "{self.watch.key}"::text = %s', key
        )
        return row

    def state(self, key: str) -> State:
        word = self.row(key)[self.watch.status]
        return next(state for state, words in self.watch.words.items() if word in words)

    def expire(self, key: str) -> None:
        self.execute(f"{EXPIRE} and task_id = %s", key)

    def sweep(self) -> dict[str, str]:
        """The tasks that were settled, and how."""
        answer = self.store.sweep(self.watch, 500)
        assert (answer.unsweepable, answer.more) == ([], False)
        return {task.task_id: task.state for task in answer.rescued}


def loaded(name: str) -> Policy:
    """As a deployment reads it: named by UNSTUCK_POLICY, with what else its environment says."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNSTUCK_POLICY", str(EXAMPLES / f"{name}.yaml"))
        for variable, value in ENVIRONMENT.get(name, {}).items():
            patch.setenv(variable, value)
        load.cache_clear()
        try:
            return load()
        finally:
            load.cache_clear()


@pytest.fixture(scope="module")
def databases(postgres: Postgres) -> Iterator[dict[str, Example]]:
    """Those that were asked for: one for each example, made once."""
    examples: dict[str, Example] = {}
    yield examples
    for example in examples.values():
        example.store.close()
        drop_database(postgres.dsn(), f"example_{example.name}")


def example(name: str, postgres: Postgres, databases: dict[str, Example]) -> Example:
    """The example with its table, which is empty."""
    if name not in databases:
        create_database(postgres.dsn(), f"example_{name}")
        dsn = postgres.dsn(f"example_{name}")
        corpus.load(dsn, REAL[name])
        migrate(dsn, loaded(name))
        databases[name] = Example(name, dsn, loaded(name), PostgresStore(dsn))
    example_of_name = databases[name]
    example_of_name.execute(f"delete from {example_of_name.watch.table}")
    example_of_name.execute(
        "truncate unstuck.attempts, unstuck.refusals, unstuck.observed, unstuck.dispatches"
    )
    return example_of_name


@pytest.fixture(params=NUMBERS)
def each(
    request: pytest.FixtureRequest, postgres: Postgres, databases: dict[str, Example]
) -> Example:
    return example(request.param, postgres, databases)


@pytest.fixture
def reigh(postgres: Postgres, databases: dict[str, Example]) -> Example:
    return example("reigh", postgres, databases)


@pytest.fixture
def mobius(postgres: Postgres, databases: dict[str, Example]) -> Example:
    return example("mobius", postgres, databases)


@pytest.fixture
def opendlp(postgres: Postgres, databases: dict[str, Example]) -> Example:
    return example("opendlp", postgres, databases)


def test_every_example_is_tested() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.yaml")} == NUMBERS.keys()


@pytest.mark.parametrize("name", NUMBERS)
def test_it_says_what_it_is(name: str) -> None:
    assert (EXAMPLES / f"{name}.yaml").read_text(encoding="utf-8").startswith("# ")
    assert loaded(name).watches


@pytest.mark.parametrize("suffix", ["dev", "prod"])
def test_the_environment_chooses_the_table(monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    monkeypatch.setitem(ENVIRONMENT, "concept_visualizer", {"APP_ENV": suffix})
    assert loaded("concept_visualizer").watch().table == f"public.tasks_{suffix}"


def test_an_environment_that_does_not_say_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENVIRONMENT, "concept_visualizer", {})
    monkeypatch.delenv("APP_ENV", raising=False)
    with pytest.raises(
        PolicyError,
        match=r"concept_visualizer.yaml:\d+: .*table: needs the variable APP_ENV.*Set it",
    ):
        loaded("concept_visualizer")


@needs_corpus
class TestEach:
    def test_its_words_are_those_of_the_project(self, each: Example) -> None:
        words_of_project = {state: set(words) for state, words in REAL[each.name].words.items()}
        assert {
            str(state): set(words) for state, words in each.watch.words.items()
        } == words_of_project

    def test_a_second_migration_finds_nothing_to_do(self, each: Example) -> None:
        assert check(each.dsn, each.policy) == []

    @pytest.mark.parametrize("outcome", ["completed", "failed"])
    def test_a_task_is_claimed_beaten_for_and_settled(self, each: Example, outcome: str) -> None:
        store, watch = each.store, each.watch
        key = each.add(State.PENDING)
        claimed = store.claim(watch, None, "a worker")
        assert (claimed.verdict, claimed.task_id) == ("claimed", key)
        assert each.state(key) is State.RUNNING
        assert store.beat(watch, key, claimed.token, {"done": 0.5}).verdict == "held"
        assert store.claim(watch, key, "another").verdict == "held"

        if outcome == "completed":
            settled = store.settle(watch, key, claimed.token, "complete", result={"url": "x"})
        else:
            settled = store.settle(
                watch, key, claimed.token, "fail", reason="handler_error", error="It is no image."
            )

        assert (settled.state, str(each.state(key))) == (outcome, outcome)
        no_error = "" if each.name == "opendlp" else None
        error = "It is no image." if outcome == "failed" else no_error
        assert each.row(key)[watch.columns["error"]] == error
        if "result" in watch.columns and outcome == "completed":
            assert each.row(key)[watch.columns["result"]] == {"url": "x"}
        assert store.claim(watch, key, "a worker").verdict == "ended"

    def test_a_task_that_waits_for_too_long_is_failed(self, each: Example) -> None:
        stuck = each.add(State.PENDING, each.rule.pending_for + MINUTE)
        fine = each.add(State.PENDING, each.rule.pending_for - MINUTE)

        assert each.sweep() == {stuck: "failed"}

        assert (each.state(stuck), each.state(fine)) == (State.FAILED, State.PENDING)
        assert (
            each.row(stuck)[each.watch.columns["error"]] == "No worker picked the task up in time."
        )

    def test_a_task_whose_worker_says_nothing_is_rescued_in_every_word(self, each: Example) -> None:
        words = each.watch.words[State.RUNNING]
        stuck = [each.add(State.RUNNING, each.rule.silent_for + MINUTE, word) for word in words]
        fine = [each.add(State.RUNNING, each.rule.silent_for - MINUTE, word) for word in words]
        before = {key: each.row(key) for key in stuck}
        then = "pending" if each.rule.on_lost == "retry" else "failed"

        assert each.sweep() == dict.fromkeys(stuck, then)

        assert {str(each.state(key)) for key in stuck} == {then}
        assert {each.state(key) for key in fine} == {State.RUNNING}
        for key in stuck:
            after = each.row(key)
            assert {name for name in after if after[name] != before[key][name]} == CHANGED[
                each.name
            ]

    def test_what_is_fresh_or_rests_or_has_ended_is_untouched(self, each: Example) -> None:
        day = 30 * 24 * 60 * MINUTE
        keys = [each.add(State.PENDING), each.add(State.RUNNING)]
        others = (State.COMPLETED, State.FAILED, State.CANCELLED, State.RESTING)
        keys += [each.add(state, day, word) for state in others for word in each.watch.words[state]]
        before = [each.row(key) for key in keys]

        assert each.sweep() == {}

        assert [each.row(key) for key in keys] == before

    def test_a_zombie_writes_nothing(self, each: Example) -> None:
        key = each.add(State.PENDING)
        zombie = each.store.claim(each.watch, key, "a worker")
        each.expire(key)
        (then,) = each.sweep().values()
        before = each.row(key)

        assert each.store.beat(each.watch, key, zombie.token).verdict == "lost"
        assert (
            each.store.settle(each.watch, key, zombie.token, "complete", result={}).verdict
            == "lost"
        )

        assert (str(each.state(key)), each.row(key)) == (then, before)
        refused = each.execute(
            "select wanted from unstuck.refusals where task_id = %s order by id", key
        )
        assert refused == [("beat",), ("complete",)]


@needs_corpus
class TestReigh:
    def worker(self, reigh: Example, name: str, silent: str | None) -> None:
        reigh.execute(
            "insert into workers (id, instance_type, last_heartbeat) "
            "values (%s, 'gpu', now() - %s::interval) "
            "on conflict (id) do update set last_heartbeat = excluded.last_heartbeat",
            name,
            silent,
        )

    def run(self, reigh: Example, worker: str, age: float) -> str:
        key = reigh.add(State.RUNNING, age)
        reigh.write(key, f"worker_id = '{worker}', attempts = 1")
        return key

    def test_a_worker_that_beats_keeps_its_task_and_a_silent_one_loses_it(
        self, reigh: Example
    ) -> None:
        long = reigh.rule.silent_for * 6
        self.worker(reigh, "beats", "5 seconds")
        self.worker(reigh, "silent", f"{reigh.rule.silent_for + MINUTE} seconds")
        lives, lost = self.run(reigh, "beats", long), self.run(reigh, "silent", long)

        assert reigh.sweep() == {lost: "pending"}

        assert (reigh.row(lives)["status"], reigh.row(lives)["worker_id"]) == (
            "In Progress",
            "beats",
        )
        after = reigh.row(lost)
        assert (after["status"], after["worker_id"], after["generation_started_at"]) == (
            "Queued",
            None,
            None,
        )
        assert after["attempts"] == 1, "counted by who claims"

    def test_a_worker_that_never_beat_is_judged_by_the_start_of_the_task(
        self, reigh: Example
    ) -> None:
        self.worker(reigh, "new", None)
        fresh = self.run(reigh, "new", reigh.rule.silent_for - MINUTE)
        old = self.run(reigh, "new", reigh.rule.silent_for + MINUTE)

        assert reigh.sweep() == {old: "pending"}
        assert reigh.state(fresh) is State.RUNNING

    def test_each_claim_counts_and_the_last_one_ends_it(self, reigh: Example) -> None:
        key = reigh.add(State.PENDING)
        for number in range(1, reigh.rule.attempts + 1):
            reigh.execute("update unstuck.attempts set retry_at = now() where task_id = %s", key)
            assert reigh.store.claim(reigh.watch, key, "a worker").verdict == "claimed"
            assert reigh.row(key)["attempts"] == number
            reigh.expire(key)
            reigh.sweep()
        assert reigh.row(key)["status"] == "Failed"
        assert reigh.row(key)["error_message"].startswith("Gave up after 3 attempts.")

    def test_its_trigger_lets_the_guard_write_the_timing_and_still_nobody_else(
        self, reigh: Example
    ) -> None:
        key = reigh.add(State.PENDING)
        claimed = reigh.store.claim(reigh.watch, key, "a worker")
        assert reigh.row(key)["generation_started_at"]
        with pytest.raises(psycopg.errors.RaiseException, match="Timing fields"):
            reigh.execute("update tasks set generation_started_at = null where id::text = %s", key)
        reigh.store.settle(reigh.watch, key, claimed.token, "complete", result={})
        assert reigh.row(key)["generation_processed_at"]


@needs_corpus
class TestMobius:
    def test_the_state_is_merged_and_not_replaced(self, mobius: Example) -> None:
        key = mobius.add(State.RUNNING, mobius.rule.silent_for + MINUTE, "auditing")
        with psycopg.connect(mobius.dsn, autocommit=True) as connection:
            connection.execute(
                """update jobs set state = '{"prompt": "a cat", "attempt": 2}'
                where job_id::text = %s""",
                (key,),
            )
        mobius.execute(
            "update unstuck.observed set touched_at = now() - interval '1 h' where task_id = %s",
            key,
        )

        mobius.sweep()

        after = mobius.row(key)
        state = after["state"]
        assert (state["prompt"], state["attempt"], state["error"]) == ("a cat", 2, after["error"])
        assert after["error"] == "Nothing was heard of the task for too long."

    @pytest.mark.parametrize("word", ["processing", "correcting"])
    def test_a_job_that_comes_back_from_its_review_is_not_stuck(
        self, mobius: Example, word: str
    ) -> None:
        """The project's script judged it by its birth, and failed it at once."""
        key = mobius.add(State.RESTING, 5 * mobius.rule.silent_for)
        mobius.write(key, f"status = '{word}'")
        assert mobius.sweep() == {}

    def test_nor_is_one_that_waits_again(self, mobius: Example) -> None:
        key = mobius.add(State.RESTING, 5 * mobius.rule.pending_for)
        mobius.write(key, "status = 'pending'")
        assert mobius.sweep() == {}
        assert mobius.store.claim(mobius.watch, None, "a worker").task_id == key

    def test_every_write_of_the_project_is_a_sign_of_life(self, mobius: Example) -> None:
        key = mobius.add(State.RUNNING, 5 * mobius.rule.silent_for)
        mobius.write(key, "progress = 50")
        assert mobius.sweep() == {}

    def test_a_handler_may_say_how_far_it_is(self, mobius: Example) -> None:
        key = mobius.add(State.PENDING)
        claimed = mobius.store.claim(mobius.watch, key, "a worker")
        mobius.write(key, "status = 'generating'")
        mobius.write(key, "status = 'auditing'")
        assert (
            mobius.store.settle(mobius.watch, key, claimed.token, "complete").state == "completed"
        )


@needs_corpus
class TestOpendlp:
    def test_the_log_gets_a_line_and_keeps_the_others(self, opendlp: Example) -> None:
        key = opendlp.add(State.RUNNING, opendlp.rule.silent_for + MINUTE)
        opendlp.write(key, """log_messages = '["Loading the sheet", "Drawing"]'""")

        opendlp.sweep()

        after = opendlp.row(key)
        assert after["log_messages"] == ["Loading the sheet", "Drawing", after["error_message"]]
        assert after["completed_at"]

    def test_its_hours_are_the_time_it_may_be_silent(self, opendlp: Example) -> None:
        hour = 60 * MINUTE
        key = opendlp.add(State.RUNNING, 23 * hour)
        stuck = opendlp.add(State.RUNNING, 25 * hour)
        assert opendlp.sweep() == {stuck: "failed"}
        assert opendlp.state(key) is State.RUNNING

    def test_a_message_that_may_not_be_null_is_emptied(self, opendlp: Example) -> None:
        key = opendlp.add(State.PENDING)
        claimed = opendlp.store.claim(opendlp.watch, key, "a worker")
        opendlp.store.settle(opendlp.watch, key, claimed.token, "return", reason="shutdown")
        assert (opendlp.row(key)["status"], opendlp.row(key)["error_message"]) == ("pending", "")
