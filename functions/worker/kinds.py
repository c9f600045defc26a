"""The kinds of tasks that a worker that pulls can do, so that it leaves the others to a worker that
can: in a deploy the old revision does not take the kinds of the new one."""

import pkgutil
from functools import cache
from importlib.machinery import PathFinder

from functions import handlers
from functions.core.policy import Watch


def kinds_here(watch: Watch) -> list[str] | None:
    """None: all of them. Nothing is imported to find out."""
    if "kind" not in watch.columns or watch.rule("*").handler:
        return None
    own = {kind for kind in watch.rules if kind != "*"} | _modules()
    return sorted(kind for kind in own if _exists(watch.handler(kind).partition(":")[0]))


@cache
def _modules() -> frozenset[str]:
    return frozenset(module.name for module in pkgutil.iter_modules(handlers.__path__))


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
