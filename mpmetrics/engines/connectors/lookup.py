"""Lookup of the families that connectors declare, or that are known of their classes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from mpmetrics.engines.connectors.families import ConnectorFamily, unite_families
from mpmetrics.engines.connectors.known_families import CONNECTOR_FAMILIES
from mpmetrics.engines.connectors.names import get_class, resolve_alias

if TYPE_CHECKING:
    Families = tuple[ConnectorFamily, ...]


def find_families(connector: Any) -> Families:
    """Return the families of a *connector*, which may be a class.

    They are its `connector_families`, an attribute or a method. A connector without those has the
    families that are known of its class, or of the nearest base class.
    """
    given = getattr(connector, "connector_families", None)
    found = given() if callable(given) else given
    if isinstance(found, Iterable) and not isinstance(found, Mapping):
        families = tuple(family for family in found if isinstance(family, ConnectorFamily))
        if families or isinstance(found, tuple | list):
            return families
    names = (resolve_alias(base.__name__) for base in get_class(connector).__mro__)
    return next((CONNECTOR_FAMILIES[name] for name in names if name in CONNECTOR_FAMILIES), ())


def collect_families(connectors: Iterable[Any], names: Iterable[str]) -> dict[str, Families]:
    """Return the families of *connectors* by their *names*; connectors may share a name.

    Raises `ConnectorConflictError` when two connectors of one name declare a metric differently,
    and `ConnectorDeclarationError` when numbers would merge in two ways.
    """
    found: dict[str, list[tuple[str, ConnectorFamily]]] = {}
    for place, (name, connector) in enumerate(zip(names, connectors, strict=True)):
        for owner, families in _list_families(name, connector):
            owned = ((f"{owner}[{place}]", family) for family in families)
            found.setdefault(owner, []).extend(owned)
    return {owner: unite_families(families) for owner, families in found.items()}


def _list_families(name: str, connector: Any) -> Iterable[tuple[str, Families]]:
    """Return the families of a connector, or those of each connector within a composite."""
    nested = getattr(connector, "families_by_connector", None)
    found = nested() if callable(nested) and not isinstance(connector, type) else None
    if isinstance(found, Mapping):
        return found.items()
    return [(resolve_alias(name), find_families(connector))]
