"""`make picture`: docs/page.png, as the page looks now, and docs/rescue.png, in which a stuck task
is rescued; other views and sizes where they are asked for. Made of tasks that workers took, and two
that nobody ends: so it never shows what is not so any more."""

import argparse
import random
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from functions.core.policy import DEFAULT, load
from functions.ops.postgres.embedded import Postgres, create_database
from tests.browser import QUIET, executable
from tests.conftest import prepare
from tests.page.animated import animated
from tests.page.conftest import Deployed
from tests.page.million import fill
from tests.page.test_tables import with_films
from tests.sql import install_clock, pass_time
from tests.sweep.steps import sweep

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "docs" / "page.png"
RESCUE = ROOT / "docs" / "rescue.png"
SIZES = {"page": (1280, 800), "phone": (390, 844)}
MILLION = 1_000_000
KINDS = ("image", "selection", "report")
REFUSAL = "The image service refused: the text names {} persons."
TRACEBACK = """Traceback (most recent call last):
  File "functions/handlers/image.py", line 41, in handle
    picture = provider.draw(task_input["prompt"], timeout=ctx.remaining())
  File "provider.py", line 88, in draw
    raise Refused(answer["reason"])
provider.Refused: names_a_person"""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--all", metavar="DIR", help="also tasks, a phone and dark ones, there")
    folder = options.parse_args().all
    with _page() as deployed:
        failed_id = _live(deployed)
        _photograph(deployed.readonly, PICTURE, "")
        views = {"board": "", "failed": f"tasks/{failed_id}", "failures": "?state=failed"}
        if folder:
            _photograph_all(deployed.url, Path(folder), views)
        task_id, recording = _rescue(deployed)
        RESCUE.write_bytes(recording)
        if folder:
            _photograph_all(deployed.url, Path(folder), {"rescued": f"tasks/{task_id}"})
            _photograph_all(deployed.url, Path(folder), {"bulk": "?state=failed"}, _ask_to_retry)
    if folder:
        with _page(with_films) as deployed:
            _two_tables(deployed)
            _photograph_all(deployed.url, Path(folder), {"tables": ""})
        with _page() as deployed:
            fill(deployed.db, deployed.watch.rules_json, MILLION)
            views = {"million": "", "million-failed": "?state=failed"}
            _photograph_all(deployed.url, Path(folder), views)


def _nothing(page: Any) -> None:
    """Leaves the page as it opens."""


def _ask_to_retry(page: Any) -> None:
    """Ticks what is shown and asks to start it again; nothing is confirmed."""
    page.locator("input[name=id]").first.check()
    page.locator("input[name=id]").nth(1).check()
    page.locator("#ticked-retry").click()
    page.wait_for_selector("#confirm")


def _photograph_all(
    url: str, folder: Path, views: dict[str, str], act: Callable[[Any], None] = _nothing
) -> None:
    for name, path in views.items():
        for size in SIZES:
            for scheme in ("light", "dark"):
                target = folder / f"{name}-{size}-{scheme}.png"
                _photograph(url, target, path, size, scheme, act)


@contextmanager
def _page(policy: Callable[[str], str] = str) -> Iterator[Deployed]:
    """A new database and the page that shows it; `policy` changes the text of the policy."""
    with (
        Postgres(durable=False) as server,
        tempfile.TemporaryDirectory() as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        file = Path(folder, "policy.yaml")
        file.write_text(policy(DEFAULT.read_text(encoding="utf-8")), encoding="utf-8")
        patch.setenv("UNSTUCK_POLICY", str(file))
        load.cache_clear()
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
            pass_time(deployed.db, draw.uniform(2, 8))
            _end(deployed, task_id, token, fails=fails)
            failed_id = task_id if fails else failed_id
        pass_time(deployed.db, draw.uniform(40, 90))
        sweep(deployed.store, policy)
        pass_time(deployed.db, 6)  # the pause before the next try
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
    (task_id,) = deployed.tasks(1, kind=kind, prompt="a lighthouse at dawn")
    deployed.db.execute(
        "update public.tasks set scheduled_at = scheduled_at - make_interval(secs => %s) "
        "where id = %s",
        (random.Random(task_id).choice((0.4, 0.9, 1.7, 6.0)), task_id),
    )
    claimed: Any = deployed.store.claim(deployed.watch, task_id, "worker-1")
    return task_id, claimed.token


def _end(deployed: Deployed, task_id: str, token: str, *, fails: bool) -> None:
    settle = partial(deployed.store.settle, deployed.watch, task_id, token)
    if fails:
        settle(
            "fail",
            reason="handler_error",
            error=REFUSAL.format(random.Random(task_id).randint(2, 9)),
            detail=TRACEBACK,
        )
    else:
        settle("complete", result={"url": "gs://pictures/done.png"})


def _two_tables(deployed: Deployed) -> None:
    """Of the second some wait, some have waited for too long, one runs and some have ended."""
    _live(deployed)
    deployed.db.execute(
        "insert into public.films (kind, scheduled_at) "
        "select 'trailer', now() - n * interval '9 h' from generate_series(0, 4) n"
    )
    films = load().watch("films")
    deployed.store.claim(films, None, "worker-3")


def _rescue(deployed: Deployed) -> tuple[str, bytes]:
    """A worker is killed, its task is stuck, a sweep puts it back, the next worker completes it.
    Returns the task, and the page meanwhile."""
    sweep(deployed.store, load())
    task_id, token = _claim(deployed, "image")
    for _ in range(3):
        pass_time(deployed.db, 9)
        deployed.store.beat(deployed.watch, task_id, token, {"message": "drawing"})
    frames: list[tuple[bytes, int]] = []
    with _tab("page", "light", pixels=1) as page:

        def shoot(path: str, sentence: str, milliseconds: int = 2400) -> None:
            page.goto(f"{deployed.url}/{path}")
            page.wait_for_load_state("networkidle")
            page.evaluate(CAPTION, sentence)
            frames.append((page.screenshot(), milliseconds))

        shoot("", "A worker makes an image.")
        pass_time(deployed.db, 75)
        shoot("", "The worker is killed. Nobody tells; the row says “processing”.")
        done = sweep(deployed.store, load())
        pass_time(deployed.db, 6)
        shoot(f"sweeps/{done.sweep_id}", "The next sweep sees that it is gone, and puts it back.")
        claimed: Any = deployed.store.claim(deployed.watch, task_id, "worker-2")
        pass_time(deployed.db, 9)
        deployed.store.beat(deployed.watch, task_id, claimed.token, {"fraction": 0.7})
        shoot(f"tasks/{task_id}", "Another worker has it.")
        pass_time(deployed.db, 4)
        _end(deployed, task_id, claimed.token, fails=False)
        shoot(f"tasks/{task_id}", "Done, once, and the page says what happened.", 4000)
    return task_id, animated(frames)


CAPTION = """sentence => {
  const line = document.getElementById("toast");
  line.textContent = sentence;
  line.hidden = false;
}"""


@contextmanager
def _tab(size: str, scheme: str, pixels: int = 2) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    width, height = SIZES[size]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable(), args=list(QUIET))
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,
            device_scale_factor=pixels,
            timezone_id="Europe/Berlin",
        )
        yield context.new_page()
        browser.close()


def _photograph(
    url: str,
    target: Path,
    path: str,
    size: str = "page",
    scheme: str = "light",
    act: Callable[[Any], None] = _nothing,
) -> None:
    with _tab(size, scheme) as page:
        page.goto(f"{url}/{path}")
        page.wait_for_load_state("networkidle")
        act(page)
        page.screenshot(path=target)


if __name__ == "__main__":
    main()
