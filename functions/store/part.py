"""Loads a package's parts without the package's own code, which loads all the others too.

Whoever else imports the package, such as a handler, gets all of it, with the parts that are here.
Both go through the import system, which locks the package, so that a thread that imports it
meanwhile waits."""

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from types import ModuleType
from typing import Any


def load(name: str, load_parts: Callable[[ModuleType], None]) -> None:
    """`load_parts` is given the package: an empty one, unless all of it is loaded. It is not called
    again."""
    spec = None if name in sys.modules else find_spec(name)
    if spec is None:
        load_parts(import_module(name))
        return
    if isinstance(spec.loader, _Part):
        return
    part = _Part(module_from_spec(spec), load_parts)
    sys.meta_path.insert(0, part)
    try:
        load_parts(import_module(name))  # another thread has loaded all of it
        sys.meta_path.remove(part)
    except _PartsLoadedError:
        pass
    except BaseException:
        sys.meta_path.remove(part)
        raise


class _PartsLoadedError(Exception):
    """So that the import system keeps the parts and forgets the package."""


class _Part(SourceFileLoader):
    """Finds the package, and loads it twice: its parts at first, and then all of it."""

    def __init__(self, package: ModuleType, load_parts: Callable[[ModuleType], None]) -> None:
        super().__init__(package.__name__, str(package.__file__))
        self._package, self._load_parts = package, load_parts
        self._has_parts = False

    def find_spec(
        self, name: str, _path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != self.name:
            return None
        return spec_from_file_location(name, self.path, loader=self)

    def create_module(self, spec: ModuleSpec) -> ModuleType:  # noqa: ARG002
        return self._package

    def exec_module(self, module: ModuleType) -> None:
        if self._has_parts:
            sys.meta_path.remove(self)
            del vars(module)["__getattr__"]
            super().exec_module(module)
            return
        self._load_parts(module)
        self._has_parts = True
        vars(module)["__getattr__"] = self._get
        raise _PartsLoadedError

    def _get(self, name: str) -> Any:
        """What a thread asks of the package that had it while its parts were being loaded."""
        return getattr(import_module(self.name), name)
