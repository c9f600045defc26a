"""`make walk`: README, tutorial and how-to pages as a new user follows them: in a clone, with a
HOME of its own, by the very commands that stand there. It installs from the package index, which
takes some minutes. What a page says of Google Cloud is left out; those blocks say so themselves."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import psycopg

from functions.ops.postgres.embedded import create_database, free_port
from tests.docs.following import Shell, follow
from tests.docs.pages import READ_BY_NEW_USERS, ROOT, Block, blocks, name
from tests.waiting import eventually

MINUTES = 60.0
INSTALL_SECONDS, SHOWN_SECONDS = 15 * MINUTES, 2 * MINUTES
README, TUTORIAL = READ_BY_NEW_USERS[:2]
HANDLER_FILE = re.compile(r"write `(functions/handlers/\w+\.py)`")
THEIR_TABLE = """create table jobs (id bigserial primary key, status text not null check (status in
  ('queued', 'working', 'done', 'broken')), created_at timestamptz default now(), updated_at
  timestamptz default now());
insert into jobs (status, updated_at) values ('working', now() - interval '2 days')"""
SKIPPED = {"make test": "the suite, which runs anyway"}
THEIRS = ("DATABASE_URL", "VIRTUAL_ENV", "PYTHONPATH", "UNSTUCK_POLICY")


class Walk:
    """A clone, and the server that its reader has started. `problems` are the blocks that did not
    do what their page says."""

    def __init__(self, folder: Path) -> None:
        self.clone, self.home = folder / "unstuck", folder / "home"
        self.home.mkdir()
        self.port, self.other_port = free_port(), free_port()
        env = {each: value for each, value in os.environ.items() if each not in THEIRS}
        programs = [str(self.home / ".local/bin"), str(self.home / "pipx/bin"), env["PATH"]]
        ours = {"HOME": str(self.home), "PORT": str(self.port), "NO_COLOR": "1"}
        self.env = env | ours | {"PATH": os.pathsep.join(programs)}
        self.problems: list[str] = []

    def step(self, title: str, action: Callable[[], object]) -> None:
        """Does it, and prints how that went."""
        started = time.monotonic()
        try:
            action()
            end = "ok"
        except Exception as error:  # noqa: BLE001 - the next page is walked all the same
            end = "FAILED"
            self.problems.append(f"{title}\n{error}")
        print(f"{end:<7}{time.monotonic() - started:6.1f} s  {title}", flush=True)

    def shell(self, dsn: str) -> Shell:
        """`dsn` is that of a table of the reader's own."""
        ours = {
            "8080": str(self.port),
            "8081": str(self.other_port),
            "postgresql://...": f"'{dsn}'",
        }
        return Shell(self.home / "variables", self.clone, self.env, ours)

    @contextlib.contextmanager
    def serving(self, command: str, port: int) -> Iterator[Path]:
        """A command that serves until Ctrl-C. Gives its log, once the page answers."""
        log = self.home / f"{port}.log"
        with log.open("wb") as output:
            server = subprocess.Popen(
                ["bash", "-c", f"exec {command}"],
                cwd=self.clone,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

        def is_ready() -> bool:
            text = log.read_text(errors="replace")
            assert server.poll() is None, text
            return " ready in " in text

        try:
            eventually(is_ready, INSTALL_SECONDS)
            with urlopen(f"http://127.0.0.1:{port}/", timeout=60) as page:
                assert page.status == 200
            yield log
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGINT)
            server.wait(60)


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="unstuck-walk-") as folder:
        Path(folder).chmod(0o755)  # as root, PostgreSQL runs as another user
        walk = Walk(Path(folder))
        clone = ["git", "clone", "--quiet", str(ROOT), str(walk.clone)]
        subprocess.run(clone, check=True)
        with walk.serving("make dev", walk.port):
            print(f"ok      {name(README)}: make dev")
            dsn = (walk.clone / ".cache/dev/dsn").read_text(encoding="utf-8").strip()
            theirs = _database(dsn, "theirs", THEIR_TABLE)
            _tutorial(walk, walk.shell(theirs))
            _readme(walk, walk.shell(theirs))
            for page in READ_BY_NEW_USERS[2:]:
                _how_to(walk, page, _database(dsn, f"walk_{page.stem.replace('-', '_')}"))
    print(*walk.problems, sep="\n\n", file=sys.stderr)
    print(f"{len(walk.problems)} of the commands did not do what their page says")
    return bool(walk.problems)


def _database(dsn: str, database_name: str, sql: str = "select 1") -> str:
    create_database(dsn, database_name)
    database_dsn = urlsplit(dsn)._replace(path=f"/{database_name}").geturl()
    with psycopg.connect(database_dsn, autocommit=True) as connection:
        connection.execute(sql.encode())
    return database_dsn


def _tutorial(walk: Walk, shell: Shell) -> None:
    for block in blocks(TUTORIAL, "sh", "python"):
        title = _title(block)
        if block.text.strip() == "make dev":
            continue
        if block.language == "python":
            walk.step(title, lambda text=block.text: _write_handler(walk.clone, text))
        elif " dev --dsn " in block.text:
            walk.step(title, lambda text=block.text: _look(walk, shell.here(text)))
        else:
            walk.step(title, lambda each=block: _until_shown(shell, each))


def _write_handler(clone: Path, text: str) -> None:
    match = HANDLER_FILE.search(TUTORIAL.read_text(encoding="utf-8"))
    assert match, "the page names the file"
    (clone / match[1]).write_text(text, encoding="utf-8")


def _look(walk: Walk, command: str) -> None:
    with walk.serving(command, walk.other_port):
        pass


def _until_shown(shell: Shell, block: Block) -> None:
    """Its reader asks again."""
    output = ""

    def is_shown() -> bool:
        nonlocal output
        output = shell(block.text)
        return block.shown in output and shell.code in block.exit_codes

    try:
        eventually(is_shown, SHOWN_SECONDS)
    except AssertionError:
        raise AssertionError(f"{block.text}\n{output}") from None


def _readme(walk: Walk, shell: Shell) -> None:
    for block in blocks(README, "sh"):
        for line in block.text.splitlines():
            command = line.partition("#")[0].strip()
            if command in SKIPPED:
                print(f"skipped           {name(README)}: {command}: {SKIPPED[command]}")
            elif command and command != "make dev":
                walk.step(
                    f"{name(README)}: {command}",
                    lambda each=command, codes=block.exit_codes: _command(
                        walk, shell.here(each), codes
                    ),
                )


def _command(walk: Walk, command: str, codes: set[int]) -> None:
    if command.startswith("pipx "):
        _have_pipx(walk)
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=walk.clone,
        env=walk.env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=INSTALL_SECONDS,
        check=False,
    )
    assert done.returncode in codes, f"{done.returncode}: {done.stdout}{done.stderr}"


def _have_pipx(walk: Walk) -> None:
    """The reader has it; this machine may not."""
    folder = walk.home / "pipx"
    for command in (
        [sys.executable, "-m", "venv", str(folder)],
        [str(folder / "bin/pip"), "install", "--quiet", "pipx"],
    ):
        subprocess.run(command, check=True, env=walk.env)


def _how_to(walk: Walk, page: Path, dsn: str) -> None:
    """By the `unstuck` that pipx has installed."""
    folder = walk.home / page.stem
    folder.mkdir()
    policy = folder / "policy.yaml"
    policy.write_text((walk.clone / "functions/policy.yaml").read_text(encoding="utf-8"))
    env = walk.env | {"DATABASE_URL": dsn, "UNSTUCK_POLICY": str(policy)}
    env = {each: value for each, value in env.items() if each != "PORT"}
    steps = follow(page, dsn, env, folder)

    def next_block() -> None:
        print(f"ok               {_title(next(steps))}", flush=True)

    walk.step(f"{name(page)}: unstuck migrate --apply", lambda: _migrate(env))
    walk.step(f"{name(page)}: to its end", lambda: _all(next_block))


def _migrate(env: Mapping[str, str]) -> None:
    subprocess.run(
        ["unstuck", "migrate", "--apply"], env=env, check=True, capture_output=True, timeout=MINUTES
    )


def _all(next_block: Callable[[], None]) -> None:
    with contextlib.suppress(StopIteration):
        while True:
            next_block()


def _title(block: Block) -> str:
    return f"{name(block.page)}: {block.text.strip().splitlines()[0][:70]}"


if __name__ == "__main__":
    raise SystemExit(main())
