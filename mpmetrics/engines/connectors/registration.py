"""Registration of connectors' families with prometheus_client, once for each registry.

Only the registry itself knows which metrics it has, since engines unregister some again. Where
values are written to files, all registries of a process share the same files, and two metrics of
one name would overwrite each other's values: then a metric is made once for the whole process.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from mpmetrics._client import (
    MetricDefinition,
    collectors_by_name,
    definition_of,
    metric_class,
    values_in_memory,
)
from mpmetrics._forks import ForkSafeLock
from mpmetrics.engines.connectors.errors import ConnectorConflictError, ConnectorDeclarationError
from mpmetrics.exposition import TOTAL, registered_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from mpmetrics.engines.connectors.families import ConnectorFamily


class _Declaration(NamedTuple):
    """A family, its owner, and the definition of the metric that it asks for."""

    owner: str
    family: ConnectorFamily
    definition: MetricDefinition


class _Registrar:
    """The registration of families, one thread at a time, and the memory of earlier ones."""

    def __init__(self) -> None:
        self._lock = ForkSafeLock()
        self._owners: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
        """The owner of each metric that was made here."""
        self._in_files: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
        """The metrics that write to files, in whatever registry, by each name that they reserve."""

    def register(self, declarations: Iterable[_Declaration], registry: Any) -> dict[str, Any]:
        """Return the metrics of *declarations* in *registry* by the names of their definitions.

        All names are checked before the first metric is made; if one cannot be made, none is.
        """
        with self._lock:
            claims: dict[str, _Declaration] = {}
            new: dict[str, _Declaration] = {}
            metrics: dict[str, Any] = {}
            for declaration in declarations:
                metric = self._claim_names(claims, declaration, registry)
                name = declaration.definition.name
                if metric is None:
                    new.setdefault(name, declaration)
                else:
                    metrics[name] = metric
            metrics.update(self._add(metrics, new, registry))
            return metrics

    def _claim_names(
        self, claims: dict[str, _Declaration], declaration: _Declaration, registry: Any
    ) -> Any:
        """Claim the names of a metric; return the metric if it exists, else None.

        Raises `ConnectorConflictError` if one of the names belongs to another metric.
        """
        wanted = declaration.definition
        for name in registered_names(wanted.name, wanted.type):
            metric = self._find(name, registry)
            if metric is not None:
                first, known = self._owner_of(metric), definition_of(metric)
            else:
                first, _, known = claims.setdefault(name, declaration)
            if known != wanted:
                owners = (first, declaration.owner)
                raise ConnectorConflictError(name, owners, _describe(known), _describe(wanted))
        return self._find(wanted.name, registry)

    def _find(self, name: str, registry: Any) -> Any:
        """Return the metric that has a *name*, None if there is none."""
        return collectors_by_name(registry).get(name, self._in_files.get(name))

    def _owner_of(self, metric: Any) -> str:
        """Return the owner of a *metric*, as far as it is known."""
        return self._owners.get(metric, "an unknown owner")

    def _add(
        self, existing: Mapping[str, Any], new: Mapping[str, _Declaration], registry: Any
    ) -> dict[str, Any]:
        """Add *existing* metrics that the *registry* lacks, and make the *new* ones; or neither.

        Returns the new metrics by name.
        """
        added = []
        made = {}
        try:
            for name, metric in existing.items():
                if name not in collectors_by_name(registry):
                    registry.register(metric)
                    added.append(metric)
            for name, declaration in new.items():
                made[name] = _make_metric(declaration, registry)
                added.append(made[name])
                self._owners[made[name]] = declaration.owner
        except BaseException:
            for metric in added:
                registry.unregister(metric)
            raise
        if not values_in_memory():
            for name, declaration in new.items():
                for reserved in registered_names(name, declaration.definition.type):
                    self._in_files[reserved] = made[name]
        return made


_registrar: Final = _Registrar()
"""The one registrar of the process, as the files of values belong to the whole process, and a
conflict names the owner of a metric that any part of the process has made."""


def register_connector_families(
    families: Mapping[str, Iterable[ConnectorFamily]], labels: tuple[str, ...], registry: Any
) -> dict[str, Any]:
    """Return the metrics of *families*, which are given by owner, by name.

    *labels* come before a family's own. A metric that exists with the same type, labels and
    buckets is used, whatever code has made it. If one family cannot be registered, none is. Raises
    `ConnectorConflictError`, and `ConnectorDeclarationError` for what prometheus_client refuses.
    """
    import prometheus_client  # see the package of the engines

    declarations = [
        _Declaration(owner, family, _define(family, labels))
        for owner, owned in families.items()
        for family in owned
    ]
    metrics = _registrar.register(
        declarations, prometheus_client.REGISTRY if registry is None else registry
    )
    return {each.family.name: metrics[each.definition.name] for each in declarations}


def _define(family: ConnectorFamily, labels: tuple[str, ...]) -> MetricDefinition:
    """Return the definition of a *family* as prometheus_client keeps it."""
    # prometheus_client removes the suffix of a counter.
    name = family.name.removesuffix(TOTAL) if family.type == "counter" else family.name
    all_labels = (*labels, *family.labels)
    return MetricDefinition(name, family.type, all_labels, family.buckets, family.mode)


def _make_metric(declaration: _Declaration, registry: Any) -> Any:
    """Make one metric. Raises `ConnectorDeclarationError` if prometheus_client refuses."""
    _, family, definition = declaration
    make = metric_class(definition.type)
    options = dict(_options(definition))
    try:
        return make(family.name, family.help, definition.labels, registry=registry, **options)
    except ValueError as error:
        raise ConnectorDeclarationError(family.name, str(error)) from error


def _options(definition: MetricDefinition) -> Iterator[tuple[str, Any]]:
    if definition.mode:
        yield "multiprocess_mode", definition.mode
    if definition.buckets:
        yield "buckets", definition.buckets


def _describe(definition: MetricDefinition) -> str:
    """Return a *definition* as part of a sentence."""
    buckets = f", buckets {list(definition.buckets)}" if definition.buckets else ""
    mode = f", mode {definition.mode}" if definition.mode else ""
    return f"a {definition.type} (labels [{', '.join(definition.labels)}]{buckets}{mode})"
