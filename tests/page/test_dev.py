"""The local server as a person starts it: everything on one port, workers that die by a button, and
a clean end."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
import requests
from playwright.sync_api import TimeoutError as PlaywrightTimeout

from functions.core.policy import DEFAULT, parse
from functions.ops.dev.sources import Sources, folders_of_handlers
from functions.ops.local.processes import lives
from functions.ops.local.servers import ROOT
from tests.dev import Dev, open_folder, running
from tests.page.axe import violations
from tests.waiting import eventually


@pytest.fixture
def folder() -> Iterator[Path]:
    with open_folder() as path:
        yield path


@pytest.fixture(scope="module")
def dev() -> Iterator[Dev]:
    """The tick is far away: a test sees what is stuck for as long as it wants, and sweeps by the
    button."""
    with (
        open_folder() as folder,
        running(folder, "--data", str(folder), "--sweep-every", "600", "--no-samples") as dev,
    ):
        yield dev


@pytest.fixture(autouse=True)
def output_of_dev(request: pytest.FixtureRequest) -> Iterator[None]:
    """What `dev` printed while a test failed is in the report."""
    output = request.getfixturevalue("dev").said if "dev" in request.fixturenames else str
    before = len(output())
    yield
    print(output()[before:])


def create(dev: Dev, prompt: str) -> str:
    answer = requests.post(
        f"{dev.url}/create_task",
        json={"kind": "image", "input": {"prompt": prompt, "size": "256x256"}},
        timeout=20,
    )
    assert answer.status_code == 201, answer.text
    return str(answer.json()["task_id"])


def at_work(dev: Dev, tab, prompt: str) -> str:
    """A task whose first attempt has ordered its image, shown in the tab. On a machine that stalls,
    a first attempt may lose its lease before that: then another task is begun."""
    for _ in range(3):
        task = create(dev, prompt)
        tab.goto(f"{dev.url}/tasks/{task}")
        try:
            tab.wait_for_selector("#row-1 .checkpoint", state="attached", timeout=30_000)
        except PlaywrightTimeout:
            print(tab.inner_text("#task"))
            requests.post(f"{dev.url}/cancel_task", json={"task_id": task}, timeout=20)
        else:
            return task
    raise AssertionError("no task gets to work")


def press(page, button):
    page.click(button)
    page.wait_for_selector("#played:not(:empty)")


def test_every_entry_point_answers_under_its_own_path(dev):
    main = (ROOT / "main.py").read_text(encoding="utf-8")
    names = re.findall(r"^@functions_framework\.http\ndef (\w+)", main, re.MULTILINE)
    assert {"create_task", "task_status", "worker", "worker_event", "sweep", "page"} <= set(names)
    for name in names:
        # the workers may be busy with the first tasks: a request waits for one
        assert requests.post(f"{dev.url}/{name}", json={}, timeout=110).status_code in {
            200,
            400,
            403,
            405,
            401,
            422,
        }, name
    assert "stuck now" in requests.get(dev.url, timeout=20).text
    assert "stuck now" in requests.get(f"{dev.url}/page/", timeout=20).text


def test_a_task_is_done_by_a_push_to_the_same_port(dev):
    task = create(dev, "an orchard in the first snow")

    def done() -> bool:
        return bool(
            requests.get(f"{dev.url}/task_status", params={"task_id": task}, timeout=20).json()[
                "state"
            ]
            == "completed"
        )

    eventually(done, 40)
    assert (
        requests.post(f"{dev.url}/worker", json={"task_id": task}, timeout=20).json()["verdict"]
        == "ended"
    )


def test_what_was_not_delivered_when_a_server_ended_is_pushed_at_its_next_start(dev):
    """The tick is far away, and the task was created without a push."""
    with psycopg.connect(dev.shared_dsn(), autocommit=True) as connection:
        row = connection.execute(
            "insert into public.tasks (kind, input) values ('selection', '{}') returning id"
        ).fetchone()
        servers = psutil.Process(dev.process.pid).children()
        [front] = [each for each in servers if "front" in each.cmdline()]
        front.kill()
        status = "select status from public.tasks where id = %s"
        eventually(
            lambda: connection.execute(status, row).fetchone() != ("pending",), 60, "it waits"
        )


def test_a_killed_worker_makes_its_task_stuck_and_the_sweep_rescues_it(dev, tab):
    tab.goto(dev.url)
    task = at_work(dev, tab, "rain on a tin roof [slow 12]")
    press(tab, "#play-kill")
    tab.goto(dev.url)
    tab.wait_for_selector("#stuck[data-stuck='1']")
    tab.wait_for_selector(f"#t-{task}.is-stuck")
    tab.click("#sweep-now")
    tab.wait_for_selector("#toast:not([hidden])")
    assert "1 pending again" in tab.inner_text("#toast")
    tab.wait_for_selector("#stuck[data-stuck='0']")
    tab.goto(f"{dev.url}/tasks/{task}")
    tab.wait_for_selector("#row-2 rect.run", state="attached")
    assert tab.locator("#row-1 rect.gap").count() == 1
    assert "lease_lost" in tab.inner_text("#row-1")
    assert re.search(r"rescued by sweep \d+", tab.inner_text("#row-1"))
    tab.wait_for_selector("#task[data-state=completed]")
    assert tab.locator("#row-2 .end.completed").count() == 1
    assert tab.locator("#row-2 rect.gap").count() == 0


def test_a_frozen_worker_that_wakes_is_refused(dev, tab):
    task = at_work(dev, tab, "a bridge made of paper [slow 10]")
    press(tab, "#play-freeze")
    tab.wait_for_selector(".state.stuck")
    requests.post(f"{dev.url}/sweep", headers={"X-CloudScheduler-ScheduleTime": task}, timeout=30)
    tab.wait_for_selector("#row-2 rect.run", state="attached")
    press(tab, "#play-wake")
    tab.wait_for_selector("#row-refused")
    tab.wait_for_selector("#task[data-state=completed]")


def test_no_button_reaches_a_process_that_is_not_a_worker(dev):
    task = create(dev, "a whale above the city [slow 5]")
    with psycopg.connect(dev.shared_dsn(), autocommit=True) as connection:
        eventually(
            lambda: connection.execute(
                "select 1 from unstuck.attempts where task_id = %s", (task,)
            ).fetchone(),
            30,
        )
        connection.execute(
            "update unstuck.attempts set worker = %s where task_id = %s",
            (f"worker-{os.getpid()}@here", task),
        )
    same = {"Sec-Fetch-Site": "same-origin"}
    assert (
        requests.post(f"{dev.url}/play/freeze/{task}", headers=same, timeout=20).status_code == 409
    )
    assert requests.post(f"{dev.url}/play/freeze/{task}", timeout=20).status_code == 403, (
        "and from elsewhere none at all"
    )


@pytest.mark.parametrize("target", ["create_task", "claim_task", "sweep", "worker", "play/create"])
def test_no_page_of_another_origin_can_use_it(dev, target):
    """Each is a request that a browser sends without asking first."""
    elsewhere = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    elsewhere |= {"Content-Type": "text/plain"}
    answer = requests.post(f"{dev.url}/{target}", data="{}", headers=elsewhere, timeout=20)
    assert answer.status_code == 403
    rebound = {"Host": "evil.example", "Sec-Fetch-Site": "same-origin"}
    answer = requests.post(f"{dev.url}/{target}", data="{}", headers=rebound, timeout=20)
    assert answer.status_code == 403
    assert requests.get(dev.url, headers={"Host": "evil.example"}, timeout=20).status_code == 403


def dsn_of(dev: Dev) -> str:
    """As its servers got it."""
    servers = psutil.Process(dev.process.pid).children()
    return next(filter(None, (server.environ().get("DATABASE_URL") for server in servers)))


def test_axe_finds_nothing_serious_on_the_local_page(dev, tab):
    tab.goto(dev.url)
    assert violations(tab) == []


def test_a_taken_port_is_said_with_the_next_step(folder):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [
            sys.executable,
            "-m",
            "functions",
            "dev",
            "--port",
            str(port),
            "--data",
            str(folder),
        ]
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
        )
    assert done.returncode == 1
    assert re.search(rf"Port {port} cannot be used: .*--port", done.stderr)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_it_ends_with_no_process_left_keeps_the_data_and_burns_no_try(folder, how):
    with running(folder, "--data", str(folder), "--no-samples") as dev:
        task = create(dev, "a garden on the moon [slow 60]")
        dsn = dev.shared_dsn()
        with psycopg.connect(dsn, autocommit=True) as connection:
            at_work = "select 1 from unstuck.attempts where task_id = %s and ended_at is null"
            eventually(lambda: connection.execute(at_work, (task,)).fetchone(), 40)
        family = dev.family()
        assert len(family) > 6
        assert dev.end(how) == 0
        eventually(lambda: not [pid for pid in family if lives(pid)], 5, "processes are left")
    if how == signal.SIGTERM:
        return
    from functions.ops.postgres.embedded import Postgres

    with Postgres(folder / "postgres") as server, psycopg.connect(server.dsn()) as connection:
        row = connection.execute(
            "select outcome, reason from unstuck.attempts where task_id = %s", (task,)
        ).fetchone()
    assert row == ("released", "shutdown")


def test_it_begins_with_tasks_to_play_with_and_dies_with_its_launcher(folder):
    with running(folder, "--data", str(folder)) as dev:
        with psycopg.connect(dev.shared_dsn()) as connection:
            assert connection.execute("select count(*) from public.tasks").fetchone() == (8,), (
                "to play with"
            )
        family = dev.family()
        dev.process.kill()
        dev.process.wait()
        eventually(lambda: not [pid for pid in family if lives(pid)], 20, "processes are left")


def test_a_change_of_the_code_is_seen_once(folder):
    (folder / "functions").mkdir()
    (folder / "main.py").write_text("")
    (folder / "functions" / "one.py").write_text("")
    sources = Sources(folder)
    assert sources.changed() == []
    (folder / "functions" / "one.py").write_text("1")
    (folder / "functions" / "two.sql").write_text("")
    (folder / "functions" / "notes.txt").write_text("")
    assert sources.changed() == ["functions/one.py", "functions/two.sql"]
    assert sources.changed() == []
    (folder / "functions" / "two.sql").unlink()
    assert sources.changed() == ["functions/two.sql"]


def test_a_change_of_a_handler_in_a_package_of_ones_own_is_seen(folder, monkeypatch):
    package = folder / "theirs" / "toy_shop"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('it is not imported')")
    (package / "jobs.py").write_text("")
    monkeypatch.syspath_prepend(str(package.parent))
    text = DEFAULT.read_text(encoding="utf-8").replace(
        "      image:\n", '      toy: {handler: "toy_shop.jobs:sell"}\n      image:\n'
    )
    folders = folders_of_handlers(parse(text))
    assert folders == [package]
    root = folder / "root"
    (root / "functions").mkdir(parents=True)
    sources = Sources(root, folders)
    (package / "jobs.py").write_text("1")
    assert sources.changed() == ["../theirs/toy_shop/jobs.py"]


# -- the user's own database

JOBS = """
create table public.jobs (
  id bigserial primary key, status text not null, created_at timestamptz not null,
  updated_at timestamptz);
insert into public.jobs (status, created_at, updated_at)
select 'processing', now() - interval '3 h', now() - interval '2 h' from generate_series(1, 7);
insert into public.jobs (status, created_at, updated_at)
values ('pending', now(), now()), ('completed', now(), now()), ('failed', now(), now());
"""


def objects(dsn: str) -> int:
    with psycopg.connect(dsn) as connection:
        row = connection.execute(
            "select count(*) from pg_class "
            "where relnamespace::regnamespace::text in ('public', 'unstuck')"
        ).fetchone()
    return int(row[0]) if row else -1


def test_a_database_of_the_users_own_is_looked_at_with_nothing_installed(empty_database, folder):
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute(JOBS)
    before = objects(empty_database)
    with running(folder, "--dsn", empty_database) as dev:
        assert "public.jobs" in requests.get(dev.url, timeout=20).text
        assert 'data-stuck="7"' in requests.get(f"{dev.url}/?table=public.jobs", timeout=20).text
        assert requests.post(
            f"{dev.url}/sweep", headers={"Sec-Fetch-Site": "same-origin"}, timeout=20
        ).status_code in {403, 404}
    assert objects(empty_database) == before


def test_what_no_column_can_tell_is_not_shown_as_nothing(empty_database, folder):
    with psycopg.connect(empty_database, autocommit=True) as connection:
        connection.execute(
            "create table errands (id serial primary key, phase text not null check (phase in "
            "('enqueued', 'working', 'finished', 'broken')), problem text)"
        )
        connection.execute("insert into errands (phase) values ('working'), ('enqueued')")
    with running(folder, "--dsn", empty_database) as dev:
        page = requests.get(f"{dev.url}/?table=public.errands", timeout=20).text
    assert re.search(r'data-stuck="0">\s*\?', page)
    assert "Nobody can say of 2 open" in " ".join(page.split())
    assert "Nothing is stuck" not in page


def test_an_installed_database_is_shown_by_sessions_that_cannot_write(database, folder):
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("insert into public.tasks (kind) values ('image')")
    with running(folder, "--dsn", database) as dev:
        assert "stuck now" in requests.get(dev.url, timeout=20).text
        answer = requests.post(
            f"{dev.url}/act",
            data={"action": "cancel", "of": "1"},
            headers={"Sec-Fetch-Site": "same-origin"},
            timeout=20,
        )
        assert answer.status_code == 403
        assert requests.post(
            f"{dev.url}/create_task", json={"kind": "image"}, timeout=20
        ).status_code in {403, 404}
        with (
            psycopg.connect(dsn_of(dev)) as connection,
            pytest.raises(psycopg.errors.ReadOnlySqlTransaction),
        ):
            connection.execute("delete from public.tasks")
