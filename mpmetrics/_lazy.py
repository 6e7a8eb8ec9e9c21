"""Public names of a package that are loaded on first use.

prometheus_client decides between memory and files when it is first imported, and optional parts
of mpmetrics need packages that may be missing. A package that loads its names lazily can be
imported before that decision, and without those packages.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


def lazy_exports(
    package: str, modules: Mapping[str, Iterable[str]], namespace: dict[str, Any]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` (PEP 562) for the module of *package*.

    *modules* has the public names that each module of the package defines; *namespace* is the
    `globals()` of the package, where a name is stored once it is loaded.
    """
    homes = {name: module for module, names in modules.items() for name in names}

    def load(name: str) -> Any:
        if name not in homes:
            message = f"module {package!r} has no attribute {name!r}"
            raise AttributeError(message)
        namespace[name] = getattr(import_module(f"{package}.{homes[name]}"), name)
        return namespace[name]

    def list_names() -> list[str]:
        return sorted({*namespace, *homes})

    return load, list_names
