"""`make picture`: docs/page.png, as the page looks now, and the same in other sizes where they are
asked for. Made of tasks that workers took, and two that nobody ends: so it never shows what is not
so any more."""

import argparse
import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from functions.core.policy import load
from functions.ops.postgres.embedded import Postgres, create_database
from tests.browser import QUIET, executable
from tests.conftest import prepare
from tests.page.conftest import Deployed
from tests.sql import install_clock, pass_time
from tests.sweep.steps import sweep

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "docs" / "page.png"
SIZES = {"page": (1280, 800), "phone": (390, 844)}
KINDS = ("image", "selection", "report")
REFUSAL = "The image service refused: the text names a person."
TRACEBACK = """Traceback (most recent call last):
  File "functions/handlers/image.py", line 41, in handle
    picture = provider.draw(task_input["prompt"], timeout=ctx.remaining())
  File "provider.py", line 88, in draw
    raise Refused(answer["reason"])
provider.Refused: names_a_person"""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--all", metavar="DIR", help="also a task, a phone and dark ones, there")
    folder = options.parse_args().all
    with _page() as deployed:
        failed_id = _live(deployed)
        _photograph(deployed.readonly, PICTURE, "")
        if folder:
            for name, path in {"list": "", "task": f"tasks/{failed_id}"}.items():
                for size in SIZES:
                    for scheme in ("light", "dark"):
                        target = Path(folder, f"{name}-{size}-{scheme}.png")
                        _photograph(deployed.url, target, path, size, scheme)


@contextmanager
def _page() -> Iterator[Deployed]:
    with Postgres(durable=False) as server, tempfile.TemporaryDirectory() as folder:
        create_database(server.dsn(), "picture")
        prepare(server.dsn("picture"))
        deployed = Deployed(server.dsn("picture"), Path(folder))
        try:
            yield deployed
        finally:
            deployed.close()


def _live(deployed: Deployed) -> str:
    """A day of tasks: most are done, some fail, and workers die whose tasks the sweep puts back;
    the last two are stuck still. Returns a task that failed with a traceback."""
    draw, policy = random.Random(17), load()
    install_clock(deployed.db)
    failed_id = ""
    for hour in range(24):
        dead = [_claim(deployed, "image")[0] for _ in range(draw.choice((0, 0, 1, 2)))]
        for number in range(draw.randint(3, 7)):
            fails = (hour + number) % 9 == 4
            task_id, token = _claim(deployed, "image" if fails else draw.choice(KINDS))
            _end(deployed, task_id, token, fails=fails)
            failed_id = task_id if fails else failed_id
        pass_time(deployed.db, draw.uniform(40, 90))
        sweep(deployed.store, policy)
        for task_id in dead:
            claimed: Any = deployed.store.claim(deployed.watch, task_id, "worker-2")
            if claimed.verdict == "claimed":
                _end(deployed, task_id, claimed.token, fails=False)
        pass_time(deployed.db, 3500)
    sweep(deployed.store, policy)
    for _ in range(2):
        _claim(deployed, "image")
    pass_time(deployed.db, 75)
    for number in range(1, 5):
        task_id, token = _claim(deployed, draw.choice(KINDS))
        progress = {"fraction": number / 5, "message": f"{number} of 5 pages"}
        deployed.store.beat(deployed.watch, task_id, token, progress)
    deployed.tasks(3, kind="report")
    return failed_id


def _claim(deployed: Deployed, kind: str) -> tuple[str, str]:
    """A new task that a worker holds: its id and token."""
    (task_id,) = deployed.tasks(1, kind=kind)
    claimed: Any = deployed.store.claim(deployed.watch, task_id, "worker-1")
    return task_id, claimed.token


def _end(deployed: Deployed, task_id: str, token: str, *, fails: bool) -> None:
    settle = partial(deployed.store.settle, deployed.watch, task_id, token)
    if fails:
        settle("fail", reason="handler_error", error=REFUSAL, detail=TRACEBACK)
    else:
        settle("complete", result={"url": "gs://pictures/done.png"})


def _photograph(
    url: str, target: Path, path: str, size: str = "page", scheme: str = "light"
) -> None:
    from playwright.sync_api import sync_playwright

    width, height = SIZES[size]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable(), args=list(QUIET))
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,
            device_scale_factor=2,
            timezone_id="Europe/Berlin",
        )
        page = context.new_page()
        page.goto(f"{url}/{path}")
        page.wait_for_selector("time[title]", state="attached")
        page.screenshot(path=target)
        browser.close()


if __name__ == "__main__":
    main()
