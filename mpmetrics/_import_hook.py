"""A function that is called when a module has been imported, whenever that is.

What is to be done to a module that is not imported yet must not import it: importing
prometheus_client decides between memory and files.
"""

from __future__ import annotations

import sys
from importlib.abc import Loader, MetaPathFinder
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType


class ImportHook(MetaPathFinder):
    """A finder that finds a module as the others do, and has a function called after its import."""

    def __init__(self, module: str, call: Callable[[], None]) -> None:
        """Have *call* called after each import of *module*; it must not raise."""
        self._module = module
        self._call = call

    def set(self) -> None:
        """Begin to watch imports."""
        sys.meta_path.insert(0, self)

    def remove(self) -> None:
        """Watch imports no longer."""
        # A new list: an import in another thread may be in the middle of the old one, and would
        # miss the finder behind this one.
        sys.meta_path = [finder for finder in sys.meta_path if finder is not self]

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return what the other finders find, with a loader that calls the function."""
        if fullname != self._module:
            return None
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            if finder is self or find is None:
                continue
            spec: ModuleSpec | None = find(fullname, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _CallingLoader(spec.loader, self._call)
                return spec
        return None


class _CallingLoader(Loader):
    """A loader that leaves its work to another one, and then calls a function."""

    def __init__(self, loader: Loader, call: Callable[[], None]) -> None:
        self._loader = loader
        self._call = call

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Create the module as the other loader does."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Execute the module as the other loader does, which is its loader from then on."""
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._call()

    def __getattr__(self, name: str) -> object:
        """Return what else the other loader has, such as `get_source`."""
        return getattr(self._loader, name)
