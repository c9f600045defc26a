"""The demo: Unstuck on real parts, with workers that are killed, are frozen, run over their
deadline and take too much memory. A kind is paused and resumed, one has a limit, and a task is
urgent.

It has an embedded PostgreSQL with durable settings, the functions under functions-framework, an
image provider that fails at times, and a local queue and timer in place of Cloud Tasks and Cloud
Scheduler. Its exit code is 0 only if nothing is stuck, nothing finished was overwritten, and the
counts add up."""

import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import psycopg
import requests

from functions.core.policy import load
from functions.install.migrate import migrate
from functions.ops.demo import audit, table
from functions.ops.demo.chaos import Chaos
from functions.ops.demo.scenes import Scene, all_scenes, lost_scenes, paused_scenes
from functions.ops.local.provider import Provider
from functions.ops.local.queue import LocalQueue
from functions.ops.local.servers import Server, Tick
from functions.ops.postgres.embedded import create_database, database, drop_database
from functions.store.dsn import connect

POLICY = Path(__file__).with_name("policy.yaml")
WORKERS = 4
COUNTS = "select status, count(*) from public.tasks group by 1"
OVERWRITE = """
update public.tasks set status = 'failed' where status = 'completed' and kind = 'image'
"""
PAUSED, LIMITED = "postcard", "selection"
"""The kind that is paused, and the one whose limit is shown."""
PAUSE = "select unstuck.pause('tasks', %s, null, 'the demo', 'the postcards are sold out')"
RESUME = "select unstuck.resume('tasks', %s, 'the demo')"
PAUSE_SECONDS = 6.0
"""Between the last new task and `resume`."""
PLAY_SECONDS = 100.0
"""Within which all tasks must have ended; on a machine that does nothing else it takes 40."""


def run(*, as_json: bool = False) -> int:
    """Plays it and prints the table, or one JSON object. Returns the exit code."""
    started = time.monotonic()
    with _Stage(started) as stage:
        stage.play()
        figures = audit.figures(stage.connection, len(stage.scenes), stage.chaos.struck)
        figures |= stage.order() | {"seconds": round(time.monotonic() - started, 1)}
        problems = stage.problems(figures)
        if as_json:
            print(json.dumps(figures | {"problems": problems}))
        else:
            table.show(stage.connection, stage.scenes, figures, problems)
    return 1 if problems else 0


class _Stage:
    """All that runs during the demo, and the tasks that were created."""

    def __init__(self, started: float) -> None:
        self._started = started
        self._open = contextlib.ExitStack()
        self.scenes: dict[str, Scene] = {}
        self._loses_all = False
        self._never_pushed: set[str] = set()
        self._lost: list[str] = []
        """The tasks of the pushes that were lost."""
        self._resume_at: float | None = None
        self._pause = {"waiting": 0, "started": 0}
        """When it ended: how many tasks of the kind waited, and how many had started."""

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as opened:
            folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="unstuck-demo-")))
            self.say("starting PostgreSQL")
            dsn = opened.enter_context(_own_database())
            migrate(dsn, load(str(POLICY)))
            self.connection = opened.enter_context(connect(dsn, autocommit=True))
            audit.install(self.connection)
            provider = opened.enter_context(Provider())
            self.say(f"starting {WORKERS} workers and 3 functions under functions-framework")
            env = {
                "DATABASE_URL": dsn,
                "UNSTUCK_POLICY": str(POLICY),
                "IMAGE_PROVIDER_URL": provider.url,
                "THREADS": "4",
            }
            workers = {
                f"worker-{number}": Server(
                    "worker",
                    env | {"K_REVISION": f"worker-{number}"},
                    name=f"worker-{number}",
                    log=folder / "log",
                )
                for number in range(1, WORKERS + 1)
            }
            queue = opened.enter_context(
                LocalQueue([worker.url for worker in workers.values()], loses=self._loses)
            )
            for worker in workers.values():
                worker.env["WORKER_URL"] = queue.url
            env["WORKER_URL"] = queue.url
            others = [
                Server(target, env, log=folder / "log")
                for target in ("create_task", "task_status", "sweep")
            ]
            servers = [*workers.values(), *others]
            pool = opened.enter_context(ThreadPoolExecutor(len(servers)))
            opened.callback(lambda: list(pool.map(Server.stop, servers)))
            list(pool.map(Server.start, servers))
            self.create, self.status, sweep = (server.url for server in others)
            opened.enter_context(Tick(sweep, every=1.0))
            self.chaos = Chaos(dsn, workers, self.say)
            self._open = opened.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self._started:5.1f} s  {text}", file=sys.stderr, flush=True)

    def play(self) -> None:
        self.say("creating tasks")
        self._loses_all = True
        lost = [self._create(scene) for scene in lost_scenes()]
        self._until(lambda: len(self._lost) == len(lost), 10.0)
        self._never_pushed, self._loses_all = {lost[1]}, False
        self.connection.execute(PAUSE, (PAUSED,))
        self.say(f"paused the kind {PAUSED}: none of its tasks starts")
        for scene in [*paused_scenes(), *all_scenes()]:
            task_id = self._create(scene)
            if scene.trouble == "worker killed":
                self.chaos.kill(task_id)
            elif scene.trouble == "worker frozen":
                self.chaos.freeze(task_id)
        self._resume_at = time.monotonic() + PAUSE_SECONDS
        self.say(f"{len(self.scenes)} tasks are created")
        self._wait_for_the_end()
        self.chaos.join(10.0)
        self._overwrite_by_hand()
        self._until(lambda: not audit.count(self.connection, audit.LIVE), 5.0)

    def _loses(self, push: Any) -> bool:
        """Whether the queue loses a push."""
        is_lost = self._loses_all or push["task_id"] in self._never_pushed
        if is_lost:
            self._lost.append(push["task_id"])
        return is_lost

    def _create(self, scene: Scene) -> str:
        answer = requests.post(
            self.create,
            json={"kind": scene.kind, "input": scene.task_input, "priority": scene.priority},
            timeout=10,
        )
        answer.raise_for_status()
        task_id: str = answer.json()["task_id"]
        self.scenes[task_id] = scene
        return task_id

    def _wait_for_the_end(self) -> None:
        """Prints how many tasks are in each state, until all have ended."""
        until = self._started + PLAY_SECONDS
        shown = ""
        while time.monotonic() < until:
            if self._resume_at and time.monotonic() >= self._resume_at:
                self._resume()
            counts: dict[str, int] = dict(self.connection.execute(COUNTS).fetchall())
            text = ", ".join(f"{count} {word}" for word, count in sorted(counts.items()))
            if text != shown:
                self.say(text)
                shown = text
            if not {"pending", "processing"} & counts.keys():
                return
            time.sleep(0.5)

    def _resume(self) -> None:
        self._resume_at = None
        self._pause = {
            "waiting": audit.count(self.connection, audit.WAITING, PAUSED),
            "started": audit.count(self.connection, audit.STARTED, PAUSED),
        }
        self.connection.execute(RESUME, (PAUSED,))
        self.say(
            "resumed {kind}: {waiting} wait, {started} had started".format(
                kind=PAUSED, **self._pause
            )
        )

    def order(self) -> dict[str, Any]:
        """What became of the pause, the limit, and the urgent task."""
        limit = load(str(POLICY)).watch().rules[LIMITED].limit_running
        most = audit.count(self.connection, audit.MOST_AT_ONCE, LIMITED)
        return {
            "pause": self._pause,
            "limit": {"running": limit, "most_at_once": most},
            "urgent_started_at_place": audit.count(self.connection, audit.PLACE_OF_URGENT, PAUSED),
        }

    def _overwrite_by_hand(self) -> None:
        """A script that knows nothing of tokens writes over all finished tasks of a kind."""
        with psycopg.connect(
            self.connection.info.dsn, autocommit=True, application_name="a careless script"
        ) as script:
            changed = script.execute(OVERWRITE).rowcount
        self.say(f"a careless script tried to fail all finished images: {changed} changed")

    def problems(self, figures: dict[str, Any]) -> list[str]:
        """What went wrong; the demo has failed if there is any."""
        states: dict[str, str] = dict(
            self.connection.execute("select id::text, status from public.tasks").fetchall()
        )
        problems = [
            f"{scene.label}: {states[task]}, not {scene.expect}"
            for task, scene in self.scenes.items()
            if states[task] != scene.expect
        ]
        if figures["stuck"]:
            problems.append(f"{figures['stuck']} are left open")
        if figures["overwritten"]:
            problems.append(f"{figures['overwritten']} finished tasks were overwritten")
        ended, reasons = figures["completed"] + figures["failed"], figures["by_reason"]
        if ended != figures["tasks"] or sum(reasons.values()) != figures["failed"]:
            problems.append("the counts do not add up")
        if figures["pause"] != {"waiting": len(paused_scenes()), "started": 0}:
            problems.append(f"tasks of the kind {PAUSED} started while it was paused")
        if not 0 < figures["limit"]["most_at_once"] <= figures["limit"]["running"]:
            problems.append(f"the limit of the kind {LIMITED} did not hold")
        if figures["urgent_started_at_place"] != 1:
            problems.append("the urgent task was not the first")
        if not figures["zombie_writes_refused"]:
            problems.append("no zombie was refused, so the fence was not seen to work")
        return problems

    def _until(self, condition: Any, limit: float) -> None:
        end = time.monotonic() + limit
        while not condition() and time.monotonic() < end:
            time.sleep(0.02)


@contextlib.contextmanager
def _own_database() -> Iterator[str]:
    """A database of the demo's own, also on a server that DATABASE_URL names."""
    with database(durable=True) as admin:
        name = f"unstuck_demo_{os.getpid()}"
        create_database(admin, name)
        try:
            yield psycopg.conninfo.make_conninfo(admin, dbname=name)
        finally:
            drop_database(admin, name)
