"""Names of a package that are loaded on first use, with the modules in which they are."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def lazily(
    package: str, homes: Mapping[str, str], names: dict[str, Any]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` for a *package* whose globals are *names*.

    *homes* says in which module of the package each public name is.
    """

    def load(name: str) -> Any:  # noqa: ANN401 - whatever the name stands for
        """Load a public name on first use."""
        if name not in homes:
            message = f"module {package!r} has no attribute {name!r}"
            raise AttributeError(message)
        names[name] = getattr(import_module(f"{package}.{homes[name]}"), name)
        return names[name]

    def known() -> list[str]:
        """Return the public names, loaded or not."""
        return sorted({*names, *homes})

    return load, known
