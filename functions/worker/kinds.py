"""The kinds of tasks that a worker can do, so that it leaves the others to a worker that can: in a
deploy the old revision does not take the kinds of the new one, and nobody takes those that have no
handler yet."""

import os
from functools import cache
from importlib.machinery import PathFinder

from functions.core.policy import Watch
from functions.worker.spawn import module_of

HANDLERS = os.path.join(os.path.dirname(os.path.dirname(__file__)), "handlers")


def kinds_here(watch: Watch) -> list[str] | None:
    """None: all of them. Nothing is imported to find out."""
    if watch.rule("*").handler:
        return None
    if "kind" not in watch.columns:
        return None if has_handler(watch, "") else []
    own = {"", *watch.rules, *_modules()} - {"*"}
    return sorted(kind for kind in own if has_handler(watch, kind))


def has_handler(watch: Watch, kind: str) -> bool:
    """Whether the file of its handler's module is here."""
    return _exists(module_of(watch.handler(kind)))


def where_to_write(watch: Watch, kind: str, waiting: int = 0) -> str:
    """For a person: which handler is missing, how many tasks wait for it, and where it belongs."""
    module, _, function = watch.handler(kind).partition(":")
    named = f"tasks of the kind {kind!r}" if kind else f"the tasks of {watch.table}"
    count = f" ({waiting} wait)" if waiting else ""
    return (
        f"no handler for {named}{count}: write `def {function}(ctx, task_input)` into "
        f"{module.replace('.', '/')}.py, or name another one under `rules` (`handler`)"
    )


def pool_kinds(watch: Watch) -> list[str] | None:
    """Those of them whose rule says `runs_on: pool`; None: all."""
    kinds = kinds_here(watch)
    if kinds is None:
        if not any(watch.is_pushed(kind) for kind in watch.rules):
            return None
        kinds = [kind for kind in watch.rules if kind != "*"]
    return [kind for kind in kinds if not watch.is_pushed(kind)]


@cache
def _modules() -> frozenset[str]:
    """The names of what lies in functions/handlers. What is no module is no handler either."""
    names = (os.path.splitext(name)[0] for name in os.listdir(HANDLERS))
    return frozenset(name for name in names if not name.startswith("__"))


@cache
def _exists(module: str) -> bool:
    """Whether its file is there. Not by importlib.util.find_spec, which imports its packages."""
    folders, name = None, ""
    for part in module.split("."):
        name = f"{name}.{part}" if name else part
        spec = PathFinder.find_spec(name, folders)
        if spec is None:
            return False
        folders = spec.submodule_search_locations
    return True
