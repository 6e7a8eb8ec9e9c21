"""Who a connector is: the name under which its statistics are kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from mpmetrics.engines.connectors.known_families import ALIASES

if TYPE_CHECKING:
    from collections.abc import Iterable

T = TypeVar("T")


class ByIdentity(dict[str, T]):
    """What connectors have, by who they are; they are found by their other names, too."""

    def __missing__(self, name: str) -> T:
        """Return what is there under the name that *name* stands for."""
        resolved = identity(name)
        if resolved == name:
            raise KeyError(name)
        return self[resolved]

    def __contains__(self, name: object) -> bool:
        """Tell whether there is something under *name*, or under what it stands for."""
        return super().__contains__(_resolved(name))

    def __setitem__(self, name: str, value: T) -> None:
        """Have something under the name that *name* stands for."""
        super().__setitem__(identity(name), value)

    def get(self, name: str, default: Any = None) -> Any:
        """Return what is there under *name*, or under what it stands for; else the *default*."""
        return super().get(identity(name), default)

    def __eq__(self, other: object) -> bool:
        """Tell whether the same connectors have the same, by whichever of their names."""
        if not isinstance(other, Mapping):
            return NotImplemented
        return dict(self) == {_resolved(name): value for name, value in other.items()}

    def __ne__(self, other: object) -> bool:
        """Tell the opposite: a dict has an answer of its own, which does not ask `__eq__`."""
        return not self == other

    __hash__ = None


def identity(name: str) -> str:
    """Return the one name of all those that mean the same connector."""
    return ALIASES.get(name, name)


def identities(connectors: Iterable[Any]) -> list[str]:
    """Return who each of the *connectors*, which may be classes, is: its class.

    Where two classes have the same name, the second is told apart by its module as well. Those
    that share a module and a qualified name are one: a mock has a class of its own, for one.
    """
    taken: dict[str, str] = {}
    return [_identity(class_of(connector), taken) for connector in connectors]


def class_of(connector: Any) -> type:
    """Return the class of a *connector*, which may be that class; a stand-in says which it is."""
    kind = connector if isinstance(connector, type) else getattr(connector, "__class__", None)
    return kind if isinstance(kind, type) else type(connector)


def _resolved(name: object) -> object:
    return identity(name) if isinstance(name, str) else name


def _identity(kind: type, taken: dict[str, str]) -> str:
    """Return the name of a class, with its module if the name is *taken* by another class."""
    qualified = f"{kind.__module__}.{kind.__qualname__}"
    is_free = taken.setdefault(kind.__name__, qualified) == qualified
    return identity(kind.__name__ if is_free else qualified)
