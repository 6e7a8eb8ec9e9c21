"""The names under which the statistics of connectors are kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from mpmetrics.engines.connectors.known_families import ALIASES

if TYPE_CHECKING:
    from collections.abc import Iterable

T = TypeVar("T")


class AliasedDict(dict[str, T]):
    """A dict by name of connector, in which the aliases of a name find the same value."""

    def __missing__(self, name: str) -> T:
        """Return the value under the name that *name* is an alias of."""
        resolved = resolve_alias(name)
        if resolved == name:
            raise KeyError(name)
        return self[resolved]

    def __contains__(self, name: object) -> bool:
        """Return whether there is a value under *name* or the name that it is an alias of."""
        return super().__contains__(_resolve_key(name))

    def __setitem__(self, name: str, value: T) -> None:
        """Set the value under *name*, or under the name that it is an alias of."""
        super().__setitem__(resolve_alias(name), value)

    def get(self, name: str, default: Any = None) -> Any:
        """Return the value under *name* or the name that it is an alias of; else the *default*."""
        return super().get(resolve_alias(name), default)

    def __eq__(self, other: object) -> bool:
        """Return whether *other* has the same values for the same connectors."""
        if not isinstance(other, Mapping):
            return NotImplemented
        return dict(self) == {_resolve_key(name): value for name, value in other.items()}

    def __ne__(self, other: object) -> bool:
        """Return the opposite of `__eq__`, which dict's own `__ne__` does not call."""
        return not self == other

    __hash__ = None


def resolve_alias(name: str) -> str:
    """Return the one name that stands for all names of a connector."""
    return ALIASES.get(name, name)


def name_connectors(connectors: Iterable[Any]) -> list[str]:
    """Return the name of each of the *connectors*, or of classes of them: that of its class.

    If a second class has the same name, its module comes before its name. Classes with the same
    module and qualified name count as one, since each mock has a class of its own.
    """
    taken: dict[str, str] = {}
    return [_name_class(get_class(connector), taken) for connector in connectors]


def get_class(connector: Any) -> type:
    """Return the class of a *connector*, or a class itself.

    A mock reports the class that it replaces as its `__class__`.
    """
    kind = connector if isinstance(connector, type) else getattr(connector, "__class__", None)
    return kind if isinstance(kind, type) else type(connector)


def _resolve_key(name: object) -> object:
    return resolve_alias(name) if isinstance(name, str) else name


def _name_class(kind: type, taken: dict[str, str]) -> str:
    """Return the name of a class, with its module if the name is *taken* by another class."""
    qualified = f"{kind.__module__}.{kind.__qualname__}"
    is_free = taken.setdefault(kind.__name__, qualified) == qualified
    return resolve_alias(kind.__name__ if is_free else qualified)
