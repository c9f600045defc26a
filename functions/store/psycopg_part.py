"""Loads of psycopg what the store uses, its layer below the cursors. To load its cursors, types and
asyncio's side too takes more CPU than all else that a first request loads.

Whoever else imports psycopg, such as a handler, gets all of it, with the parts that are here."""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from types import ModuleType

PACKAGE = "psycopg"
PARTS = ("pq", "errors", "conninfo")


def load() -> None:
    """Does nothing where psycopg is loaded already."""
    spec = find_spec(PACKAGE)
    if PACKAGE in sys.modules or spec is None:
        return
    package = sys.modules[PACKAGE] = module_from_spec(spec)
    try:
        for part in PARTS:
            import_module(f"{PACKAGE}.{part}")
    finally:
        del sys.modules[PACKAGE]
    sys.meta_path.insert(0, _Finder(package))


class _Finder:
    """Of the whole package, when somebody imports it."""

    def __init__(self, package: ModuleType) -> None:
        self._package = package

    def find_spec(
        self, name: str, _path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != PACKAGE:
            return None
        sys.meta_path.remove(self)
        file = str(self._package.__file__)
        return spec_from_file_location(name, file, loader=_Loader(self._package, name, file))


class _Loader(SourceFileLoader):
    """Runs the package's own code in the module that has the parts."""

    def __init__(self, package: ModuleType, name: str, file: str) -> None:
        super().__init__(name, file)
        self._package = package

    def create_module(self, spec: ModuleSpec) -> ModuleType:  # noqa: ARG002
        return self._package
