"""Who a connector is: the name under which its statistics are kept, and what it declares."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from mpmetrics.engines.connectors.declarations import ALIASES, CONNECTOR_FAMILIES
from mpmetrics.engines.connectors.errors import ConnectorConflictError
from mpmetrics.engines.connectors.families import ConnectorFamily, merges_of

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
        return super().__contains__(identity(name) if isinstance(name, str) else name)


def identity(name: str) -> str:
    """Return the one name of all those that mean the same connector."""
    return ALIASES.get(name, name)


def identities(connectors: Iterable[Any]) -> list[str]:
    """Return who each of the *connectors* is: its class.

    Where two classes have the same name, the second is told apart by its module as well.
    """
    taken: dict[str, type] = {}
    return [_identity(type(connector), taken) for connector in connectors]


def _identity(kind: type, taken: dict[str, type]) -> str:
    """Return the first name of a class that is not *taken* by another."""
    qualified = f"{kind.__module__}.{kind.__qualname__}"
    number = 1
    name = kind.__name__
    while taken.setdefault(name, kind) is not kind:
        name = qualified if number == 1 else f"{qualified}#{number}"
        number += 1
    return identity(name)


def declared(connector: Any) -> tuple[ConnectorFamily, ...]:  # noqa: ANN401 - any connector
    """Return the families of a *connector*.

    They are those that it gives as `connector_families`, a method or not; of one that gives none,
    those that are known of its class, or of one that it derives from.
    """
    given = getattr(connector, "connector_families", None)
    found = given() if callable(given) else given
    if isinstance(found, Iterable) and not isinstance(found, Mapping):
        families = tuple(family for family in found if isinstance(family, ConnectorFamily))
        if families or isinstance(found, tuple | list):
            return families
    names = (identity(base.__name__) for base in type(connector).__mro__)
    return next((CONNECTOR_FAMILIES[name] for name in names if name in CONNECTOR_FAMILIES), ())


def declarations(
    connectors: Iterable[Any], names: Iterable[str]
) -> dict[str, tuple[ConnectorFamily, ...]]:
    """Return the families of *connectors* by their *names*; all of those that share one.

    Raises `ConnectorConflictError` when two that share one declare a metric differently, and
    `ConnectorDeclarationError` when numbers would merge in two ways.
    """
    found: dict[str, dict[str, tuple[ConnectorFamily, str]]] = {}
    for place, (name, connector) in enumerate(zip(names, connectors, strict=True)):
        for owner, families in _by_connector(name, connector):
            known = found.setdefault(owner, {})
            for family in families:
                _agree(known, family, f"{owner}[{place}]")
            merges_of(tuple(family for family, _ in known.values()))
    return {owner: tuple(family for family, _ in known.values()) for owner, known in found.items()}


def _agree(
    known: dict[str, tuple[ConnectorFamily, str]], family: ConnectorFamily, owner: str
) -> None:
    """Make a *family* known, unless it is. Raises `ConnectorConflictError` if it is another."""
    there, first = known.setdefault(family.name, (family, owner))
    if str(there) != str(family):
        raise ConnectorConflictError(family.name, (first, owner), str(there), str(family))


def _by_connector(
    name: str,
    connector: Any,  # noqa: ANN401 - any connector
) -> Iterable[tuple[str, tuple[ConnectorFamily, ...]]]:
    """Return the families of a connector; of a composite, those of its connectors."""
    nested = getattr(connector, "families_by_connector", None)
    found = nested() if callable(nested) else None
    return found.items() if isinstance(found, Mapping) else [(identity(name), declared(connector))]
