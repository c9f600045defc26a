"""A handler in a package of the user's own: named by its rule, seen as there, run as any other."""

import importlib
from pathlib import Path

import pytest

from functions.core.policy import DEFAULT, parse
from functions.testing import run
from functions.worker.kinds import has_handler

HANDLER = """
from functions.context import Context

async def enlarge(ctx: Context, task_input: dict[str, int]) -> dict[str, int]:
    ctx.checkpoint("seen", task_input)
    return {"width": task_input["width"] * 2}

def shrink(ctx: Context, task_input: dict[str, int]) -> dict[str, int]:
    return {"width": task_input["width"] // 2}
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "shop_pictures"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "work.py").write_text(HANDLER, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))


def test_a_rule_names_a_function_of_any_package(package: None) -> None:
    text = DEFAULT.read_text(encoding="utf-8").replace(
        "      image:\n",
        '      enlarge: {handler: "shop_pictures.work:enlarge"}\n'
        '      lost: {handler: "shop_pictures.gone:enlarge"}\n      image:\n',
    )
    watch = parse(text, "policy.yaml").watch()
    assert (has_handler(watch, "enlarge"), has_handler(watch, "lost")) == (True, False)


@pytest.mark.parametrize(("name", "width"), [("enlarge", 8), ("shrink", 2)])
def test_it_is_a_plain_function_or_a_coroutine(package: None, name: str, width: int) -> None:
    handle = getattr(importlib.import_module("shop_pictures.work"), name)
    ran = run(handle, {"width": 4}, isolation="thread")
    assert (ran.state, ran.result) == ("completed", {"width": width})
