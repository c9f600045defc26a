"""What a person reads is what a sweep does: of all watches, in the same numbers, before it happens;
and a command that could start a whole history again asks what is meant."""

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
import yaml

from functions.core.policy import load
from functions.install.migrate import migrate
from functions.ops.command_line import main
from tests.adopt.adopted import HEAD
from tests.adopt.test_fence import RULE

WATCHES = ("covers", "mixes")


class Ran(NamedTuple):
    code: int
    out: str
    err: str


class World:
    """A database with two tables of another application, both guarded, and the command line."""

    def __init__(self, dsn: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.dsn, self._capsys = dsn, capsys

    def __call__(self, *argv: str) -> Ran:
        self._capsys.readouterr()
        code = main([*argv, "--dsn", self.dsn])
        seen = self._capsys.readouterr()
        return Ran(code, seen.out, seen.err)

    def json(self, *argv: str) -> Any:
        return json.loads(self(*argv, "--json").out)

    def run(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            cursor = connection.execute(query.encode(), values or None)
            return cursor.fetchall() if cursor.description else []

    def add(self, table: str, status: str, count: int, age: str = "3 hours") -> None:
        self.run(
            f"insert into {table} (status, created_at) select %s, now() - %s::interval "
            "from generate_series(1, %s)",
            status,
            age,
            count,
        )

    def phases(self) -> dict[str, dict[str, int]]:
        return {
            table: dict(self.run(f"select status, count(*) from {table} group by 1"))
            for table in WATCHES
        }


@pytest.fixture
def world(
    empty_database: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Iterator[World]:
    two_tables = World(empty_database, capsys)
    watches = {}
    for table in WATCHES:
        two_tables.run(
            f"create table {table} (id serial primary key, status text not null, "
            "error text, created_at timestamptz not null)"
        )
        watches[table] = {
            "table": f"public.{table}",
            "key": "id",
            "key_type": "integer",
            "status": "status",
            "words": {
                "pending": ["queued"],
                "running": ["running"],
                "completed": ["done"],
                "failed": ["failed"],
            },
            "columns": {},
            "clocks": {"queued": "created_at", "alive": "created_at"},
            "rules": {"*": RULE},
        }
    dumped = yaml.safe_dump(watches, sort_keys=False)
    path = tmp_path / "policy.yaml"
    path.write_text(HEAD + "".join(f"  {line}\n" for line in dumped.splitlines()))
    monkeypatch.setenv("UNSTUCK_POLICY", str(path))
    load.cache_clear()
    migrate(empty_database)
    yield two_tables
    load.cache_clear()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """A person at a terminal, who types what is written into it."""
    typed = io.StringIO()
    monkeypatch.setattr(typed, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", typed)
    return typed


def stuck(world: World) -> None:
    world.add("covers", "queued", 3)
    world.add("mixes", "running", 2)
    world.add("mixes", "running", 4, "40 days")
    world.add("mixes", "queued", 1, "1 second")


def test_a_task_runs_since_its_last_sign_of_life_where_no_column_tells_its_start(
    world: World,
) -> None:
    world.add("covers", "running", 1)
    [group] = world.json("stats", "--in", "covers")["open"]
    [task] = world.json("check", "--table", "public.covers")["stuck"]
    assert abs(group["oldest"] - task["age_seconds"]) < 60


def test_a_table_without_a_word_for_cancelled_says_what_a_cancel_writes(world: World) -> None:
    world.add("covers", "queued", 1)
    ran = world("cancel", "--in", "covers", "--apply")
    assert "no word for cancelled: such a task becomes 'failed'" in ran.err
    assert world.phases()["covers"] == {"failed": 1}


def test_the_dry_run_tells_all_watches_by_reason_with_the_ages(world: World) -> None:
    stuck(world)
    lines = world("sweep", "--dry-run").out.splitlines()
    rows = [[cell.partition(" ")[0] for cell in line.split("\t")] for line in lines]
    assert rows == [
        ["watch", "kind", "is", "becomes", "reason", "tasks", "oldest", "newest"],
        ["covers", "", "pending", "failed", "never_claimed", "3", "3h", "3h"],
        ["mixes", "", "running", "failed", "stale", "4", "40d", "40d"],
        ["mixes", "", "running", "pending", "stale", "2", "3h", "3h"],
    ]
    for table, count in (("covers", 3), ("mixes", 6)):
        looked = world("check", "--table", f"public.{table}", "--json")
        assert (looked.code, len(json.loads(looked.out)["stuck"])) == (3, count)
    would = world.json("sweep", "--dry-run")
    assert (would["count"], len(would["would"])) == (9, 9)
    stats = world.json("stats")["watches"]
    assert {name: view["overdue"]["count"] for name, view in stats.items()} == {
        "covers": 3,
        "mixes": 6,
    }


def test_a_list_and_the_next_command_say_which_table_is_meant(world: World) -> None:
    assert world("stats").err == "Next: unstuck list --in covers\n"
    world.add("mixes", "running", 1)
    assert world("stats").err == "Next: unstuck list --stuck --in mixes\n"
    assert world("list", "--stuck").err == (
        "0 tasks in the watch covers; the others by --in: mixes\n"
    )
    assert "1 task, stuck. Next:" in world("list", "--stuck", "--in", "mixes").err


def test_a_sweep_at_a_terminal_asks_first(world: World, terminal: io.StringIO) -> None:
    stuck(world)
    before = world.phases()
    terminal.write("n\n")
    terminal.seek(0)
    ran = world("sweep")
    assert "Settle 9 tasks?" in ran.err
    assert "never_claimed\t3" in ran.out
    assert world.phases() == before

    terminal.seek(0)
    terminal.write("y\n")
    terminal.seek(0)
    assert "7 failed, 2 requeued" in world("sweep").out
    assert world.phases() == {"covers": {"failed": 3}, "mixes": {"failed": 4, "queued": 3}}


def test_a_sweep_without_a_terminal_or_with_apply_does_not_ask(
    world: World, terminal: io.StringIO
) -> None:
    stuck(world)
    assert "7 failed" in world("sweep", "--apply").out
    assert terminal.tell() == 0


def test_a_sweep_of_one_watch_leaves_the_others(world: World) -> None:
    stuck(world)
    assert "3 failed, 0 requeued" in world("sweep", "--in", "covers").out
    assert world.phases()["mixes"] == {"running": 6, "queued": 1}


def test_a_sweep_names_what_takes_it_back_and_what_it_could_not_settle(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck(world)
    world.run(
        "create function refuse() returns trigger language plpgsql as "
        "$$begin raise exception 'the mixer is shut'; end$$"
    )
    world.run(
        "create trigger refuse before update on mixes for each row "
        "when (old.status = 'running') execute function refuse()"
    )
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    ran = world("sweep")
    assert ran.code == 1
    assert ran.out == "ok: 3 failed, 0 requeued\n"
    lines = ran.err.splitlines()
    assert lines[0].startswith("To start again what it failed: unstuck undo ")
    assert "the mixer is shut" in lines[1]
    assert lines[2:] == ["6 tasks could not be settled. Next: unstuck list --stuck"]


def test_undo_goes_over_all_watches(world: World) -> None:
    stuck(world)
    sweep_id = str(world.json("sweep")["sweep_id"])
    assert "3 of public.covers, 4 of public.mixes" in world("undo", sweep_id).err
    undone = world.json("undo", sweep_id, "--apply")
    assert (undone["found"], len(undone["moved"])) == (7, 7)
    assert world.phases() == {"covers": {"queued": 3}, "mixes": {"queued": 7}}
    assert world.json("sweep")["failed"] == 0, "they wait from now on"


def test_retry_of_everything_is_asked_for_by_name(world: World) -> None:
    world.add("covers", "failed", 2)
    ran = world("retry", "--apply")
    assert (ran.code, world.phases()["covers"]) == (2, {"failed": 2})
    assert "--all" in ran.err
    ran = world("retry", "--id", "1", "--apply")
    assert ran.err.endswith("retry: 1 of 1 task moved. Next: unstuck explain 1\n")
    assert "1 of 1 task moved" in world("retry", "--all", "--apply").err


def test_a_command_with_a_limit_shows_what_it_moves(world: World) -> None:
    world.add("covers", "queued", 30)
    ran = world("fail", "--limit", "2", "--apply")
    assert [line.split("\t")[0] for line in ran.out.splitlines()] == ["task", "1", "2"]
    assert "2 of 2 tasks moved" in ran.err


def test_a_task_is_found_in_whichever_table_has_it(world: World):
    world.add("covers", "failed", 1)
    world.add("mixes", "failed", 2)
    ran = world("explain", "2")
    assert (ran.code, ran.err) == (0, "Next: unstuck retry --id 2 --in mixes\n")
    assert world("show", "1", "--in", "covers").code == 0
    ran = world("show", "1")
    assert (ran.code, ran.err) == (
        2,
        "There is a task 1 in covers and mixes. Give one of them with --in.\n",
    )
    assert "no task 3 in public.covers, public.mixes" in world("explain", "3").err
    assert world("explain", "three").code == 2


def test_a_table_that_is_not_installed_yet_keeps_no_task_of_another_from_being_explained(
    world: World,
) -> None:
    world.add("covers", "queued", 1)
    world.run("drop function unstuck.mixes_status")
    ran = world("explain", "1")
    assert (ran.code, "is queued" in ran.out) == (0, True), ran
    assert "mixes_status" in world("explain", "99").err
