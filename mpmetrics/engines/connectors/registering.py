"""Families of connectors in registries of prometheus_client: each is made once for a registry.

What is there is asked of the registry itself, since engines take metrics out of it again. It does
not say so in public, nor does a metric say what it is. Where values are written to files, those of
all registries of a process are the same files: a metric is made once for all of them then, as two
of one name would overwrite each other's values.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from mpmetrics._client import collectors_by_name, definition_of, values_in_memory
from mpmetrics._forks import ForkSafeLock
from mpmetrics.engines.connectors.errors import (
    ConnectorConflictError,
    ConnectorDeclarationError,
)
from mpmetrics.exposition import registered_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from mpmetrics.engines.connectors.families import ConnectorFamily

    Owned = tuple[str, "Shape"]

_CLASSES: Final = {"counter": "Counter", "gauge": "Gauge", "histogram": "Histogram"}


class Shape(NamedTuple):
    """What has to be the same of two families that are one."""

    name: str
    type: str
    labels: tuple[str, ...]
    buckets: tuple[float, ...] = ()
    mode: str = ""

    def __str__(self) -> str:
        """Return it for a sentence."""
        buckets = f", buckets {list(self.buckets)}" if self.buckets else ""
        mode = f", mode {self.mode}" if self.mode else ""
        return f"a {self.type} (labels [{', '.join(self.labels)}]{buckets}{mode})"


_owners: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
_written: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()


_registering = ForkSafeLock()
"""Held by the thread that registers families."""


def registered(
    families: Mapping[str, Iterable[ConnectorFamily]],
    labels: tuple[str, ...],
    registry: Any,
) -> dict[str, Any]:
    """Return the metrics of *families*, which are given by owner, by name.

    One that is there already with the same type, labels and buckets is taken, whoever has made
    it. All are looked at before the first is made, and if one cannot be made, none is. Raises
    `ConnectorConflictError`, and `ConnectorDeclarationError` for what prometheus_client refuses.
    """
    import prometheus_client  # see the package of the engines

    given = prometheus_client.REGISTRY if registry is None else registry
    with _registering:
        claims: dict[str, Owned] = {}
        new: dict[str, tuple[str, ConnectorFamily, Shape]] = {}
        metrics: dict[str, Any] = {}
        for owner, family in ((owner, one) for owner, each in families.items() for one in each):
            shape = _shape(family, labels)
            there = _claim(claims, owner, shape, given)
            if there is None:
                new.setdefault(shape.name, (owner, family, shape))
            else:
                metrics[shape.name] = there
        _join(metrics, new, given)
        return {one.name: metrics[_name(one)] for each in families.values() for one in each}


def _claim(
    claims: dict[str, Owned],
    owner: str,
    shape: Shape,
    registry: Any,
) -> Any:
    """Claim the names of a metric for its *owner*; return the metric, None if it is not there.

    Raises `ConnectorConflictError` if one of them belongs to another metric.
    """
    for name in registered_names(shape.name, shape.type):
        metric = _there(name, registry)
        if metric is not None:
            first, there = _owner(metric), _shape_of(metric)
        else:
            first, there = claims.setdefault(name, (owner, shape))
        if there != shape:
            raise ConnectorConflictError(name, (first, owner), str(there), str(shape))
    return _there(shape.name, registry)


def _there(name: str, registry: Any) -> Any:
    """Return the metric that has a *name*, None if there is none."""
    return collectors_by_name(registry).get(name, _written.get(name))


def _join(
    metrics: dict[str, Any],
    new: Mapping[str, tuple[str, ConnectorFamily, Shape]],
    registry: Any,
) -> None:
    """Have all *metrics* in the *registry*, and those that are *new* among them; or nothing."""
    joined = []
    try:
        for name, metric in metrics.items():
            if name not in collectors_by_name(registry):
                registry.register(metric)
                joined.append(metric)
        for name, (owner, family, shape) in new.items():
            metrics[name] = _make(family, shape, registry)
            joined.append(metrics[name])
            _owners[metrics[name]] = owner
    except BaseException:
        for metric in joined:
            registry.unregister(metric)
        raise
    if not values_in_memory():
        for name, (*_, shape) in new.items():
            _written.update((each, metrics[name]) for each in registered_names(name, shape.type))


def _make(family: ConnectorFamily, shape: Shape, registry: Any) -> Any:
    """Make one metric. Raises `ConnectorDeclarationError` if prometheus_client refuses."""
    import prometheus_client  # see the package of the engines

    make = getattr(prometheus_client, _CLASSES[shape.type])
    options = dict(_options(shape))
    try:
        return make(family.name, family.help, shape.labels, registry=registry, **options)
    except ValueError as error:
        raise ConnectorDeclarationError(family.name, str(error)) from error


def _options(shape: Shape) -> Iterator[tuple[str, Any]]:
    if shape.mode:
        yield "multiprocess_mode", shape.mode
    if shape.buckets:
        yield "buckets", shape.buckets


def _name(family: ConnectorFamily) -> str:
    """Return the name of a family as prometheus_client keeps it: a counter's without its end."""
    return family.name.removesuffix("_total") if family.type == "counter" else family.name


def _shape(family: ConnectorFamily, labels: tuple[str, ...]) -> Shape:
    """Return the shape of a *family* with *labels* in front of its own."""
    whole = (*labels, *family.labels)
    return Shape(_name(family), family.type, whole, family.buckets, family.mode)


def _owner(metric: Any) -> str:
    """Return who has declared a *metric*."""
    return _owners.get(metric, "somebody who has not declared it")


def _shape_of(metric: Any) -> Shape:
    """Return the shape of a *metric*, whoever has made it."""
    return Shape(*definition_of(metric))
