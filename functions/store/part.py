"""Loads a package's parts without the package's own code, which loads all the others too.

Whoever else imports the package, such as a handler, gets all of it, with the parts that are here.
Both go through the import system, which locks the package, so that a thread that imports it
meanwhile waits."""

import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from importlib import import_module
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from threading import RLock, get_ident
from types import ModuleType
from typing import Any

_loading = RLock()


def load(name: str, load_parts: Callable[[ModuleType], None]) -> None:
    """`load_parts` is given the package: an empty one, unless all of it is loaded. It is not called
    again. Another thread that calls this meanwhile, as with two first requests, waits."""
    with _loading:
        spec = None if name in sys.modules else find_spec(name)
        if spec and isinstance(spec.loader, _Part):
            return
        if spec:
            sys.meta_path.insert(0, _Part(module_from_spec(spec), load_parts))
        with suppress(_PartsLoadedError):
            load_parts(import_module(name))  # all of it is loaded, or by another thread now


def import_all(names: Iterable[str]) -> None:
    for name in names:
        import_module(name)


class _PartsLoadedError(Exception):
    """So that the import system keeps the parts and forgets the package."""


class _Part(SourceFileLoader):
    """Finds the package, and loads it twice: its parts at first, and then all of it, also where a
    part could not be loaded. Another thread that comes first loads all of it. It stays among the
    finders: a thread that is asking them meanwhile would pass over one."""

    def __init__(self, package: ModuleType, load_parts: Callable[[ModuleType], None]) -> None:
        super().__init__(package.__name__, str(package.__file__))
        self._package, self._load_parts = package, load_parts
        self._has_parts = self._is_whole = False
        self._thread = get_ident()

    def find_spec(
        self, name: str, _path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != self.name or self._is_whole:
            return None
        return spec_from_file_location(name, self.path, loader=self)

    def create_module(self, spec: ModuleSpec) -> ModuleType:  # noqa: ARG002
        return self._package

    def exec_module(self, module: ModuleType) -> None:
        if self._has_parts or self._thread != get_ident():
            self._load_whole(module)
            return
        self._has_parts = True
        vars(module)["__getattr__"] = self._get
        self._load_parts(module)
        raise _PartsLoadedError

    def _load_whole(self, module: ModuleType) -> None:
        self._thread = get_ident()
        self._is_whole = True
        super().exec_module(module)
        if vars(module).get("__getattr__") == self._get:
            del vars(module)["__getattr__"]

    def _get(self, name: str) -> Any:
        """What a thread asks of the package that had it while its parts were being loaded."""
        if self._thread == get_ident() and self.name in sys.modules:
            raise AttributeError(f"module {self.name!r} has no attribute {name!r}")
        return getattr(import_module(self.name), name)
