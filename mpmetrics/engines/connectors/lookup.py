"""What connectors declare, all of them together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from mpmetrics.engines.connectors.families import ConnectorFamily, united
from mpmetrics.engines.connectors.known_families import CONNECTOR_FAMILIES
from mpmetrics.engines.connectors.names import class_of, identity

if TYPE_CHECKING:
    Families = tuple[ConnectorFamily, ...]


def declared(connector: Any) -> Families:
    """Return the families of a *connector*, which may be a class.

    They are those that it gives as `connector_families`, a method or not; of one that gives none,
    those that are known of its class, or of one that it derives from.
    """
    given = getattr(connector, "connector_families", None)
    found = given() if callable(given) else given
    if isinstance(found, Iterable) and not isinstance(found, Mapping):
        families = tuple(family for family in found if isinstance(family, ConnectorFamily))
        if families or isinstance(found, tuple | list):
            return families
    names = (identity(base.__name__) for base in class_of(connector).__mro__)
    return next((CONNECTOR_FAMILIES[name] for name in names if name in CONNECTOR_FAMILIES), ())


def declarations(connectors: Iterable[Any], names: Iterable[str]) -> dict[str, Families]:
    """Return the families of *connectors* by their *names*; all of those that share one.

    Raises `ConnectorConflictError` when two that share one declare a metric differently, and
    `ConnectorDeclarationError` when numbers would merge in two ways.
    """
    found: dict[str, list[tuple[str, ConnectorFamily]]] = {}
    for place, (name, connector) in enumerate(zip(names, connectors, strict=True)):
        for owner, families in _by_connector(name, connector):
            owned = ((f"{owner}[{place}]", family) for family in families)
            found.setdefault(owner, []).extend(owned)
    return {owner: united(families) for owner, families in found.items()}


def _by_connector(
    name: str,
    connector: Any,
) -> Iterable[tuple[str, Families]]:
    """Return the families of a connector; of a composite, those of its connectors."""
    nested = getattr(connector, "families_by_connector", None)
    found = nested() if callable(nested) and not isinstance(connector, type) else None
    return found.items() if isinstance(found, Mapping) else [(identity(name), declared(connector))]
