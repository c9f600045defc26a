"""The command line against a real database: keys, streams, exit codes, and what operators do to
many tasks at once."""

import importlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import psycopg
import pytest

from functions import __version__
from functions.core.policy import DEFAULT, load, parse
from functions.errors import StoreError
from functions.ops.cli import out, selection, table, target
from functions.ops.command_line import commands, main
from functions.ops.commands import NAMES
from functions.ops.postgres.embedded import free_port
from functions.ops.reference import commands as reference
from functions.store import Store
from functions.store.postgres import PostgresStore
from tests.conftest import copied
from tests.missing import missing

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs" / "commands.md"
TRIGGER_THAT_REFUSES = """
create function public.refuse() returns trigger language plpgsql as $$
begin
  if old.metadata ? 'refuse' then raise exception 'the table refuses this row'; end if;
  return new;
end $$;
create trigger refuse before update of status on public.tasks
  for each row execute function public.refuse();
"""
NOT_GUARDED = """
create table public.renders (
  id serial primary key,
  status text not null check (status in ('queued', 'running', 'done', 'failed')),
  error text,
  created_at timestamptz not null default now() - interval '3 hours',
  check (status <> 'failed' or id <> 2)
);
insert into public.renders (status) values ('running'), ('running')
"""
MAKE_OLD = """update public.tasks set scheduled_at = now() - interval '2 days',
  created_at = now() - interval '2 days', updated_at = now() - interval '2 days'
where id = any (%s::uuid[])"""


class Ran(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class World:
    """A database with tasks, and the command line on it."""

    def __init__(self, dsn: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.dsn, self._capsys, self.on_a_terminal = dsn, capsys, False
        self.db = psycopg.connect(dsn, autocommit=True)
        self.store, self.watch = PostgresStore(dsn), load().watch()

    def __call__(self, *argv: str) -> Ran:
        """With --dsn, where the command has one."""
        self._capsys.readouterr()
        sys.stdout.isatty = lambda: self.on_a_terminal
        where = (
            []
            if argv[0] in {"sql", "completion", "--version", "help"} or "--dsn" in argv
            else ["--dsn", self.dsn]
        )
        try:
            code = main([*argv, *where])
        except SystemExit as stop:  # argparse
            code = int(stop.code or 0)
        seen = self._capsys.readouterr()
        return Ran(code, seen.out, seen.err)

    def task(self, *, kind: str = "image", metadata: str = "{}") -> str:
        row = self.db.execute(
            "insert into public.tasks (kind, metadata) values (%s, %s) returning id::text",
            (kind, metadata),
        ).fetchone()
        return str(row and row[0])

    def old(self, **more: Any) -> str:
        task = self.task(**more)
        self.db.execute(MAKE_OLD, ([task],))
        return task

    def claimed(self, task: str | None = None) -> dict[str, Any]:
        answer = self.store.claim(self.watch, task or self.task(), "worker-1")
        assert answer.verdict == "claimed"
        return answer

    def failed(self) -> str:
        held = self.claimed()
        self.store.settle(
            self.watch, held.task_id, held.token, "fail", reason="handler_error", error="No."
        )
        return str(held.task_id)

    def word(self, task: str) -> str:
        return str(self.store.status(self.watch, task, heal=False).word)

    def words(self) -> dict[str, int]:
        return dict(
            self.db.execute("select status, count(*) from public.tasks group by 1").fetchall()
        )


@pytest.fixture
def world(
    database: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    world = World(database, capsys)
    yield world
    world.db.close()
    world.store.close()


@pytest.fixture
def terminal(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """A world whose stdout is a terminal."""
    world.on_a_terminal = True
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    return world


@pytest.fixture
def store_that_gives_up_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a database that is not there costs no time."""
    patient = Store._verb

    def soon(self: Store, function: str, timeout: float = 0.1, *more: Any, **values: Any) -> Any:
        return patient(self, function, timeout, *more, **values)

    monkeypatch.setattr(Store, "_verb", soon)


# The keys of --json.

SHAPES: dict[str, list[list[str]]] = {
    "check": [[], ["--table", "public.tasks"], ["--table", "public.renders", "--fix", "--yes"]],
    "adopt": [["--table", "public.tasks"]],
    "list": [[]],
    "show": [["{task}"]],
    "watch": [["--times", "1"]],
    "explain": [["{task}"]],
    "stats": [[]],
    "sweep": [["--dry-run"], []],
    "retry": [[], ["--all", "--apply"]],
    "requeue": [[], ["--apply"]],
    "cancel": [[], ["--apply"]],
    "fail": [[], ["--apply"]],
    "undo": [["1"], ["1", "--apply"]],
    "pause": [[], ["image", "--for", "2h", "--why", "it is down"]],
    "resume": [["image"]],
    "sql": [[]],
    "migrate": [[], ["--check"], ["--apply"]],
    "doctor": [[]],
    "completion": [["bash"], ["zsh"], ["fish"]],
}
"""How each command is called, so that all of its keys are seen."""
ELSEWHERE = {"demo", "dev", "logs", "work"}


def documented() -> dict[str, dict[str, tuple[str, ...]]]:
    """docs/commands.md as it is: command -> key -> keys in it."""
    keys_of: dict[str, dict[str, tuple[str, ...]]] = {}
    for part in DOCS.read_text(encoding="utf-8").split("\n## ")[1:]:
        _, _, keys = part.partition("| key of `--json` |")
        rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", keys, re.MULTILINE)
        keys_of[part.split("\n", 1)[0]] = {
            key: tuple(re.findall(r"`(\w+)`", inner)) for key, inner in rows
        }
    return keys_of


def lived(world: World) -> str:
    """Tasks in each state and of each fate, one of them refused by a trigger, and a sweep. Returns
    a task with an attempt."""
    world.db.execute(TRIGGER_THAT_REFUSES)
    world.old()
    world("sweep")
    world.old()
    world.old(metadata='{"refuse": true}')
    world.failed()
    refused = world.failed()
    world.db.execute(
        "update public.tasks set metadata = '{\"refuse\": true}' where id = %s", (refused,)
    )
    stubborn = world.claimed().task_id
    world.db.execute(
        "update public.tasks set metadata = '{\"refuse\": true}' where id = %s", (stubborn,)
    )
    return str(world.claimed().task_id)


def test_every_command_is_called_here() -> None:
    assert set(NAMES) - ELSEWHERE == set(SHAPES)


@pytest.mark.parametrize("name", SHAPES)
def test_json_has_the_documented_keys(world: World, name: str) -> None:
    task = lived(world)
    if name == "check":
        world.db.execute(NOT_GUARDED)
    if name == "resume":
        world("pause", "image")
    if name == "undo":
        world.db.execute(
            "update public.tasks set metadata = '{\"refuse\": true}' where status = 'failed'"
        )
    seen: dict[str, set[str]] = {}
    for shape in SHAPES[name]:
        ran = world(name, *(part.format(task=task) for part in shape), "--json")
        assert ran.code in {0, 1, 3}, ran.err
        assert "Traceback" not in ran.err
        for key, value in ran.json.items():
            inner = value if isinstance(value, list) else [value]
            seen.setdefault(key, set()).update(
                name for member in inner if isinstance(member, dict) for name in member
            )
    expected = documented()[name]
    assert seen.keys() == expected.keys()
    assert {key: seen[key] for key, inner in expected.items() if inner} == {
        key: set(inner) for key, inner in expected.items() if inner
    }


def test_the_reference_knows_every_command_and_option() -> None:
    text = DOCS.read_text(encoding="utf-8")
    for name, command in commands().items():
        part = text.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        assert part, name
        for action in command._actions:
            assert all(
                f"`{option}" in part
                for option in action.option_strings
                if option not in {"-h", "--help"}
            )
    for code in (0, 1, 2, 3, 4, 130):
        assert f"| {code} | " in text


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ELSEWHERE])
def test_every_command_has_json(name: str) -> None:
    assert "--json" in commands()[name].format_help()
    assert importlib.import_module(f"functions.ops.commands.{name}").JSON


# stdout is data, stderr is words.


def test_a_table_is_tabs_and_the_words_are_apart(world: World) -> None:
    task = lived(world)
    for argv, columns in ((["list"], 8), (["cancel"], 5), (["sweep", "--dry-run"], 8)):
        ran = world(*argv)
        lines = ran.out.splitlines()
        assert len(lines) > 1
        assert {line.count("\t") for line in lines} == {columns - 1}
        assert ran.err.strip().endswith((".", "explain TASK", "written"))
    ran = world("show", task)
    assert (ran.code, ran.err[:14]) == (0, "Next: unstuck ")
    fields = dict(line.split("\t") for line in ran.out.splitlines() if line.count("\t") == 1)
    assert fields["task_id"] == task
    assert fields["attempt.worker"] == "worker-1"


def test_it_ends_with_the_command_that_comes_next(world: World) -> None:
    task = world.task()
    assert world("stats").err == "Next: unstuck list\n"
    for command in ("explain", "show"):
        assert world(command, task).err == f"Next: unstuck cancel --id {task}\n"
    failed = world.failed()
    assert world("stats").err == "Next: unstuck list --state failed\n"
    assert world("explain", failed).err == f"Next: unstuck retry --id {failed}\n"
    world.old()
    assert world("stats").err == "Next: unstuck list --stuck\n"
    assert world("stats", "--in", "tasks").err == "Next: unstuck list --stuck --in tasks\n"
    assert world("list", "--in", "tasks").err.endswith("unstuck explain TASK --in tasks\n")
    named = world("explain", failed, "--in", "tasks").err
    assert named == f"Next: unstuck retry --id {failed} --in tasks\n"


def test_show_and_explain_say_the_same(world: World) -> None:
    task = lived(world)

    def steady(text: str) -> str:
        return re.sub(r"\d+s\b", "_", text)

    shown, explained = world("show", task).out.splitlines(), world("explain", task).out.splitlines()
    assert steady(shown[0]) == steady(explained[0])
    assert [steady(line) for line in shown[-2:]] == [steady(line) for line in explained[-2:]]
    assert explained[1].startswith("attempt\t")


def test_the_log_lines_of_a_sweep_are_words(world: World) -> None:
    world.old()
    ran = world("sweep")
    assert ran.out == "ok: 1 failed, 0 requeued\n"
    assert '"event": "sweep_finished"' in ran.err


def test_list_shows_a_named_task_in_whatever_state(world: World) -> None:
    failed, _ = world.failed(), world.task()
    assert [task["task_id"] for task in world("list", "--id", failed, "--json").json["tasks"]] == [
        failed
    ]


def test_list_begins_with_what_is_stuck_and_the_oldest(world: World) -> None:
    fresh, late, later = world.task(), world.old(), world.old()
    world.db.execute("update public.tasks set priority = 9 where id = %s", (fresh,))
    world.db.execute(
        "update public.tasks set scheduled_at = scheduled_at - interval '1 day', "
        "created_at = created_at - interval '1 day' where id = %s",
        (later,),
    )

    def listed(*options: str) -> list[str]:
        return [task["task_id"] for task in world("list", *options, "--json").json["tasks"]]

    assert listed() == [later, late, fresh]
    assert listed("--stuck") == [later, late]
    assert listed("--stuck", "--id", late) == [late]
    first = world("list", "--limit", "1", "--json").json
    assert (first["limit"], first["more"]) == (1, True)
    assert [task["task_id"] for task in first["tasks"]] == [later]
    assert world("list", "--limit", "3", "--json").json["more"] is False


def test_a_state_may_be_named_by_the_word_of_the_table(world: World, tmp_path: Path) -> None:
    text = DEFAULT.read_text(encoding="utf-8").replace(
        "failed: [failed", "failed: [failed, errored"
    )
    assert "errored" in text
    watch = parse(text, "policy.yaml").watch()
    options = commands()["list"].parse_args(["--state", "errored"])
    assert selection.filter_of(options, watch) == {"states": ["failed"], "words": ["errored"]}
    options = commands()["list"].parse_args(["--state", "failed"])
    assert selection.filter_of(options, watch) == {"states": ["failed"]}
    task = world.failed()
    rows = list(selection.tasks(world.store, world.watch, {"states": ["failed"]}, 9))
    assert [row.task_id for row in rows] == [task]
    by_word = {"states": ["failed"], "words": ["errored"]}
    assert list(selection.tasks(world.store, world.watch, by_word, 9)) == []


def test_watch_prints_each_look(world: World) -> None:
    world.task()
    ran = world("watch", "--times", "2", "--every", "0.01s")
    assert ran.code == 0
    assert ran.out.count("last sweep: never") == 2
    assert "\x1b" not in ran.out
    looks = world("watch", "--times", "2", "--every", "0.01s", "--json").out.splitlines()
    assert [len(json.loads(look)["tasks"]) for look in looks] == [1, 1]


def test_watch_goes_on_where_the_database_goes_away_and_comes_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = [Store.overview, None, Store.overview]

    def overview(store: Store, watch: Any) -> Any:
        look = looks.pop(0)
        if look is None:
            raise StoreError("the network is away", retryable=True)
        return look(store, watch)

    monkeypatch.setattr(Store, "overview", overview)
    ran = world("watch", "--times", "3", "--every", "0.01s")
    assert ran.code == 0
    assert ran.out.count("last sweep") == 2


def test_on_a_terminal_tables_are_drawn(terminal: World) -> None:
    task = terminal.task()
    for argv in (["list"], ["watch", "--times", "1"], ["show", task], ["stats"]):
        ran = terminal(*argv)
        assert "\t" not in ran.out
        assert "\x1b[1m" in ran.out


def test_no_color_is_respected(terminal: World, monkeypatch: pytest.MonkeyPatch) -> None:
    task = terminal.task()
    monkeypatch.setenv("NO_COLOR", "1")
    for argv in (["list"], ["show", task], ["stats"]):
        ran = terminal(*argv)
        assert "\t" not in ran.out
        assert "\x1b" not in ran.out
    assert not re.search(r"\x1b\[[\d;]*m", terminal("watch", "--times", "1").out)


# Exit codes, and errors that say what to do.


def test_0_fine(world: World) -> None:
    assert world("list") == Ran(
        0,
        "\t".join(importlib.import_module("functions.ops.commands.list").COLUMNS) + "\n",
        "0 tasks\n",
    )


@pytest.mark.parametrize(
    ("argv", "code", "step"),
    [
        (["show", str(uuid4())], 1, "`list` shows those that are open."),
        (["explain", str(uuid4())], 1, "`list` shows those that are open."),
        (["show", "no-key"], 2, "Give the task's key as `list` shows it."),
        (["cancel", "--id", "no-key"], 2, "Give the task's key as `list` shows it."),
        (["list", "--in", "nothing"], 2, "There are: tasks. Give one with --in."),
        (["list", "--dsn", "nonsense"], 2, "Write postgresql://user:password@host:5432/database."),
        (
            ["stats", "--dsn", "mysql://host/x"],
            2,
            "Write postgresql://user:password@host:5432/database.",
        ),
        (
            ["migrate", "--dsn", "nonsense"],
            2,
            "Write postgresql://user:password@host:5432/database.",
        ),
        (["check", "--dsn", "nonsense"], 2, "Write postgresql://user:password@host:5432/database."),
        (["list", "--dsn", ""], 2, "Give --dsn, or set DATABASE_URL."),
        (["migrate", "--dsn", ""], 2, "Give --dsn, or set DATABASE_URL."),
        (["list", "--older-than", "soon"], 2, "such as 30s, 5m, 2h or 7d"),
        (["watch", "--every", "soon"], 2, "such as 30s, 5m, 2h or 7d"),
        (["watch", "--every", "0s"], 2, "Give a time such as 2s"),
        (["list", "--limit", "-1"], 2, "is not a number from 1 to 1000000000"),
        (["fail", "--limit", "9" * 30], 2, "is not a number from 1 to 1000000000"),
        (["requeue", "--state", "pending"], 2, "Leave --state out."),
        (["undo", "last"], 2, "is not a number from 1 to 1000000000"),
        (["undo", "99"], 0, "Next: unstuck list --state failed"),
    ],
)
def test_an_error_ends_with_the_next_step(
    world: World, argv: list[str], code: int, step: str
) -> None:
    world.task()
    ran = world(*argv)
    assert (ran.code, ran.out) == (code, "")
    text = ran.err.partition("\n`unstuck ")[0]  # the help is the last line of some
    assert text.strip().rstrip(".").endswith(step.rstrip("."))


@pytest.mark.parametrize("argv", [["cure"], ["list", "--state", "lost"], ["completion", "cmd"]])
def test_an_unknown_word_is_answered_with_those_that_are_known(
    world: World, argv: list[str]
) -> None:
    ran = world(*argv)
    assert (ran.code, ran.out) == (2, "")
    assert "Choose from: " in ran.err
    assert "<State" not in ran.err


@pytest.mark.parametrize(
    ("argv", "question"),
    [
        (["chekc"], "Did you mean check?"),
        (["list", "--state", "runing"], "Did you mean running?"),
        (["list", "--stat", "running"], "Did you mean --state"),
        (["stats", "--jsno"], "Did you mean --json?"),
        (["doctor", "--table", "jobs"], "`doctor` has no --table. check, adopt"),
        (["stats", "--stuck"], "`stats` has no --stuck. `list` has it."),
        (["completion", "bsah"], "Did you mean bash?"),
    ],
)
def test_what_was_probably_meant_is_said_and_never_taken(
    world: World, argv: list[str], question: str
) -> None:
    ran = world(*argv)
    assert (ran.code, ran.out) == (2, "")
    assert question in ran.err


def test_an_error_of_usage_ends_with_the_help_of_its_command(world: World) -> None:
    assert world("stats", "--jsno").err.endswith("`unstuck stats --help` shows all.\n")


def test_without_a_command_it_says_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    text = capsys.readouterr().out
    assert all(re.search(rf"^    {name}\b", text, re.MULTILINE) for name in NAMES)


def test_it_says_its_version(world: World) -> None:
    assert world("--version") == Ran(0, f"Unstuck {__version__}\n", "")


@pytest.mark.parametrize(
    "argv", [["list"], ["stats"], ["show", str(uuid4())], ["cancel"], ["watch", "--times", "1"]]
)
def test_a_database_without_the_migrations(
    empty_database: str, world: World, argv: list[str]
) -> None:
    ran = world(*argv, "--dsn", empty_database)
    assert (ran.code, ran.out) == (1, "")
    assert "nothing is installed in it" in ran.err
    assert ran.err.strip().endswith("Run `unstuck migrate --apply` on this database first.")


def test_3_found(world: World, empty_database: str) -> None:
    world.old()
    assert world("check", "--table", "public.tasks").code == 3
    assert world("migrate", "--check", "--dsn", empty_database).code == 3
    assert world("migrate", "--check").code == 0
    ran = world("migrate", "--dsn", empty_database)
    assert ran.code == 3
    assert ran.err.endswith(" steps missing. Next: unstuck migrate --apply\n")


def test_check_of_one_task_says_when_there_is_none(world: World) -> None:
    ran = world("check", "--table", "public.tasks", "--job-id", str(uuid4()))
    assert (ran.code, ran.out) == (1, "")
    assert "There is no task " in ran.err
    fresh = world.task()
    assert world("check", "--table", "public.tasks", "--job-id", fresh).code == 0


@pytest.mark.usefixtures("store_that_gives_up_soon")
@pytest.mark.parametrize("command", ["list", "stats", "migrate", "check", "cancel", "watch"])
def test_4_not_reachable(world: World, command: str) -> None:
    ran = world(command, "--dsn", f"postgresql://nobody@127.0.0.1:{free_port()}/none")
    assert (ran.code, ran.out) == (4, "")
    assert "--dsn" in ran.err.splitlines()[-1]


def test_130_interrupted(world: World) -> None:
    watch = subprocess.Popen(
        [sys.executable, "-m", "functions", "watch", "--every", "1h", "--dsn", world.dsn],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert watch.stdout
    while "last sweep" not in watch.stdout.readline():
        assert watch.poll() is None
    watch.send_signal(signal.SIGINT)
    _, err = watch.communicate(timeout=20)
    assert (watch.returncode, err) == (130, "interrupted\n")


def test_a_reader_that_has_seen_enough_is_no_error(world: World) -> None:
    for _ in range(2):
        done = subprocess.run(
            ["bash", "-c", f"set -o pipefail; {sys.executable} -m functions sql | head -1"],
            cwd=ROOT,
            text=True,
            capture_output=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")


def test_migrate_says_what_the_database_refuses(world: World, empty_database: str) -> None:
    role = f"reader_{uuid4().hex}"
    world.db.execute(f"create role {role} login")
    ran = world(
        "migrate", "--apply", "--dsn", psycopg.conninfo.make_conninfo(empty_database, user=role)
    )
    world.db.execute(f"drop role {role}")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.strip().endswith("connect as the tables' owner; then run it again.")


# Operations on many.


def test_operations_are_dry_without_apply(world: World) -> None:
    world.failed(), world.claimed(), world.task()
    before = world.words()
    for action in ("cancel", "fail", "requeue", "retry"):
        ran = world(action)
        assert ran.code == 0
        assert ran.err.endswith("Nothing was written; --apply writes.\n")
        assert world(action, "--json").json["applied"] is False
    assert world.words() == before


@pytest.mark.parametrize(
    ("answer", "left"), [("y\n", {"cancelled": 2}), ("n\n", {"pending": 2}), ("", {"pending": 2})]
)
def test_at_a_terminal_it_asks(
    world: World, monkeypatch: pytest.MonkeyPatch, answer: str, left: dict[str, int]
) -> None:
    import io

    world.task(), world.task()
    stdin = io.StringIO(answer)
    monkeypatch.setattr(stdin, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", stdin)
    assert "cancel 2 tasks of public.tasks? [y/N]" in world("cancel").err
    assert world.words() == left


def test_many_move_in_pages_and_one_bad_row_stops_nobody(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.db.execute(TRIGGER_THAT_REFUSES)
    world.db.execute("insert into public.tasks (kind) select 'image' from generate_series(1, 1199)")
    bad = world.task(metadata='{"refuse": true}')
    pages: list[int] = []
    operate: Callable[..., list[str]] = Store.operate

    def spied(
        store: Store, watch: Any, action: str, ids: list[str], error: str | None = None
    ) -> list[str]:
        pages.append(len(ids))
        return operate(store, watch, action, ids, error)

    monkeypatch.setattr(Store, "operate", spied)
    assert world("cancel").err.endswith(
        "cancel would move 1200 tasks. Nothing was written; --apply writes.\n"
    )
    assert pages == []

    ran = world("cancel", "--because", "Not wanted any more.", "--apply")

    assert ran.code == 1
    assert [page for page in pages if page > 1] == [500, 500, 200]
    assert world.words() == {"cancelled": 1199, "pending": 1}
    assert f"{bad}: tasks_operate: the table refuses this row" in ran.err
    next_step = "Mend what it says and run the same again."
    assert ran.err.endswith(f"cancel: 1199 of 1200 tasks moved. {next_step}\n")
    errors = world.db.execute(
        "select distinct error from unstuck.attempts where outcome = 'cancelled'"
    ).fetchall()
    assert errors == [("Not wanted any more.",)]


def test_a_filter_chooses_and_a_limit_bounds(world: World) -> None:
    world.old(kind="image"), world.task(kind="image"), world.task(kind="selection")
    assert world("fail", "--kind", "selection", "--apply", "--json").json["found"] == 1
    assert world("fail", "--older-than", "1d", "--apply", "--json").json["found"] == 1
    world.task(kind="image")
    assert world("fail", "--limit", "1", "--apply", "--json").json["found"] == 1
    assert world.words() == {"failed": 3, "pending": 1}


def test_retry_passes_the_fence_and_a_foreign_update_does_not(world: World) -> None:
    task = world.failed()
    world.db.execute("update public.tasks set status = 'pending' where id = %s", (task,))
    assert world.word(task) == "failed"
    assert world("retry", "--id", task, "--apply", "--json").json["moved"] == [task]
    assert world.word(task) == "pending"
    assert world.claimed(task).tries == 1


def test_undo_restarts_only_what_that_sweep_failed(world: World) -> None:
    first, by_handler, again = world.old(), world.failed(), world.old()
    sweep_id = world("sweep", "--json").json["sweep_id"]
    second = world.old()
    assert world("sweep", "--json").json["sweep_id"] != sweep_id
    world("retry", "--id", again, "--apply")
    world("fail", "--id", again, "--apply")  # a person has looked at this one since

    assert world("undo", str(sweep_id), "--json").json == {
        "sweep_id": sweep_id,
        "found": 1,
        "moved": [],
        "refused": [],
        "applied": False,
        "watches": [{"watch": "tasks", "found": 1, "moved": []}],
    }
    assert world("undo", str(sweep_id), "--apply", "--json").json["moved"] == [first]

    words = {
        name: world.word(task)
        for name, task in locals().items()
        if name in {"first", "by_handler", "again", "second"}
    }
    assert words == {
        "first": "pending",
        "by_handler": "failed",
        "again": "failed",
        "second": "failed",
    }


def test_requeue_burns_no_try(world: World) -> None:
    held = world.claimed()
    assert world("requeue", "--apply", "--json").json["moved"] == [held.task_id]
    again = world.claimed(held.task_id)
    assert (again.number, again.tries) == (2, 1)


def test_cancel_ends_the_live_attempt(world: World) -> None:
    held = world.claimed()
    task, token = held.task_id, held.token
    assert world.store.beat(world.watch, task, token).verdict == "held"
    assert world("cancel", "--id", task, "--apply").code == 0
    assert world.store.beat(world.watch, task, token).verdict == "lost"
    assert world.store.settle(world.watch, task, token, "complete", result={}).verdict == "lost"
    assert world.word(task) == "cancelled"


# Completion.


def offered_by_bash(script: str, *words: str) -> set[str]:
    """What bash offers for the last of the words."""
    command = f"""{script}
COMP_WORDS=({" ".join(repr(word) for word in words)}); COMP_CWORD=$((${{#COMP_WORDS[@]}}-1))
_shtab_unstuck
echo ${{COMPREPLY[@]}}"""
    completed = subprocess.run(
        ["bash", "-c", command],
        text=True,
        capture_output=True,
        check=True,
        env={"PATH": os.environ["PATH"]},
    )
    return set(completed.stdout.split())


def test_bash_completes_commands_options_and_closed_lists(world: World) -> None:
    script = world("completion", "bash").out
    assert offered_by_bash(script, "unstuck", "") == set(NAMES)
    assert offered_by_bash(script, "unstuck", "re") == {"retry", "requeue", "resume"}
    assert offered_by_bash(script, "unstuck", "undo", "--a") == {"--apply"}
    assert offered_by_bash(script, "unstuck", "list", "--state", "r") == {"running", "resting"}
    assert offered_by_bash(script, "unstuck", "completion", "z") == {"zsh"}


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_other_shells_can_read_theirs(world: World, shell: str, tmp_path: Path) -> None:
    script = world("completion", shell).out
    for name, command in commands().items():
        assert name in script
        for option in command._option_string_actions:
            assert (option if shell == "zsh" else option.lstrip("-")) in script
    if not (program := shutil.which(shell)):
        missing(f"no {shell} here: apt install {shell}")
    (tmp_path / "script").write_text(script, encoding="utf-8")
    subprocess.run([program, "-n", tmp_path / "script"], check=True)


def test_a_dsn_may_stand_in_a_file_or_be_typed(tmp_path, capsys, monkeypatch):
    """Each login of the machine sees the arguments of a program."""
    file = tmp_path / "dsn"
    file.write_text("postgresql://u:a-password@127.0.0.1:1/db\n")
    assert target.named(f"@{file}") == "postgresql://u:a-password@127.0.0.1:1/db"
    monkeypatch.setattr("sys.stdin", io.StringIO("postgresql://typed/db\n"))
    assert target.named("-") == "postgresql://typed/db"
    for command in (["list"], ["migrate"], ["dev"]):
        with pytest.raises(SystemExit) as ended:
            main([*command, "--dsn", f"@{tmp_path}/nowhere"])
        assert ended.value.code == 2
        assert "nowhere: No such file or directory" in capsys.readouterr().err


def test_a_pause_of_a_kind_that_nobody_knows_says_so_and_how_to_end_it(world: World) -> None:
    ran = world("pause", "it's imgae")
    assert ran.code == 0
    assert "no rule and no open task has the kind" in ran.err
    assert "resume 'it'\"'\"'s imgae' --in tasks" in ran.err
    assert world("resume", "it's imgae").out == "resumed: tasks it's imgae\n"
    world.task(kind="odd")
    assert world("pause", "odd").err == ""


def test_the_database_of_dev_goes_by_the_clocks_of_dev(world, tmp_path, monkeypatch):
    text = DEFAULT.read_text(encoding="utf-8").replace("every: 60s ", "every: 5s ")
    (tmp_path / "policy.yaml").write_text(text.replace("budget: 45s", "budget: 4s"))
    (tmp_path / "dsn").write_text(world.dsn)
    monkeypatch.setattr(target, "DATA", tmp_path)
    task = world.old()
    assert "the next sweep, within 5s," in world("explain", task).out
    monkeypatch.setenv("UNSTUCK_POLICY", str(DEFAULT))
    assert "the next sweep, within 1m," in world("explain", task).out


def test_every_exit_code_is_described():
    names = ("FINE", "ERROR", "USAGE", "FOUND", "UNREACHABLE", "UNKNOWN", "INTERRUPTED")
    assert [code for code, _ in reference.CODES] == [getattr(out, name) for name in names]


def test_a_pause_for_no_time_is_a_wrong_option(world):
    ran = world("pause", "image", "--for", "0s")
    assert (ran.code, "above 0" in ran.err) == (2, True)


# Tables, on terminals of all widths.

TABLES = [
    ["check", "--table", "public.tasks"],
    ["check"],
    ["list"],
    ["list", "--state", "failed"],
    ["show", "FAILED"],
    ["watch", "--times", "1"],
    ["explain", "FAILED"],
    ["stats"],
    ["sweep", "--dry-run"],
    ["retry"],
    ["requeue"],
    ["cancel"],
    ["fail"],
    ["pause"],
    ["doctor"],
]
TABLES_ELSEWHERE = {"logs"}
"""test_google.py"""


def test_each_command_that_prints_a_table_is_drawn_here() -> None:
    sources = {name: (ROOT / f"functions/ops/commands/{name}.py").read_text() for name in NAMES}
    printing = {name for name in NAMES if re.search(r"print_(table|timeline)", sources[name])}
    assert printing - {argv[0] for argv in TABLES} == TABLES_ELSEWHERE


@pytest.fixture(scope="module")
def full(postgres, template) -> Iterator[str]:
    """A database with something for each table: long errors, wide characters, a pause."""
    with copied(postgres, template) as dsn, closing(PostgresStore(dsn)) as store:
        watch = load().watch()
        why = "the provider of the pictures, 画像の提供者, has said nothing since the early morning"
        store.pause(watch, "video", "somebody-with-a-long-login", why, 7200)
        with psycopg.connect(dsn, autocommit=True) as db:
            for kind in ("image", "a_kind_with_a_rather_long_name", "貼り紙"):
                for end in ("running", "failed", "old"):
                    key = db.execute(
                        "insert into public.tasks (kind) values (%s) returning id::text", (kind,)
                    ).fetchone()[0]
                    if end == "old":
                        db.execute(MAKE_OLD, ([key],))
                        continue
                    held = store.claim(watch, key, "worker-00012-abc@0123456789abcdef0123456789")
                    if end == "failed":
                        store.settle(
                            watch,
                            key,
                            held.token,
                            "fail",
                            reason="handler_error",
                            error=f"{why}. " * 4,
                            detail='Traceback (most recent call last):\n  File "a.py", line 4\nx',
                        )
        yield dsn


@pytest.mark.parametrize("argv", TABLES, ids=" ".join)
def test_its_table_fits_a_terminal_of_any_width(full, argv, monkeypatch, capsys) -> None:
    drawn_lines: list[str] = []

    def draw(*arguments: Any, **named: Any) -> list[str]:
        drawn_lines.extend(lines := table.drawn(*arguments, **named))
        return lines

    monkeypatch.setattr(out, "drawn", draw)
    monkeypatch.setenv("NO_COLOR", "1")
    with psycopg.connect(full) as db:
        failed = db.execute("select id::text from tasks where status = 'failed'").fetchone()[0]
    words = [failed if word == "FAILED" else word for word in argv]
    for columns in (50, 80, 120, 200):
        drawn_lines.clear()
        monkeypatch.setenv("COLUMNS", str(columns))
        sys.stdout.isatty = lambda: True
        assert main([*words, "--dsn", full]) in {0, 3}
        printed = capsys.readouterr().out
        assert argv == ["doctor"] or drawn_lines
        if argv[0] != "watch":  # which shows as many lines as the terminal has
            assert [line for line in drawn_lines if line not in printed] == []
        of_a_table = drawn_lines or printed.splitlines()  # doctor prints blocks
        too_long = [line for line in of_a_table if table.width_of(line) > columns]
        assert [line for line in too_long if not line.endswith(";")] == []


def test_a_command_that_the_rest_api_cannot_serve_says_so(world, monkeypatch, capsys) -> None:
    monkeypatch.setenv("SUPABASE_URL", "https://abcdefgh.supabase.co")
    assert main(["doctor"]) == 2
    assert "which the REST API of SUPABASE_URL lacks. Give --dsn" in capsys.readouterr().err


def test_help_is_a_word_too_and_what_is_before_the_command_is_said(world, capsys) -> None:
    assert world("help").out.startswith("usage: unstuck [-h]")
    assert world("help", "list").out.startswith("usage: unstuck list [-h]")
    ran = world("list", "--version")
    assert (ran.code, ran.err.splitlines()[0]) == (
        2,
        "--version stands before the command: `unstuck --version`.",
    )
    assert "Did you mean" not in world("list", "--nope").err
