"""Families of connectors in registries of prometheus_client: each is made once for a registry.

What is there is asked of the registry itself, since engines take metrics out of it again. It does
not say so in public, nor does a metric say what it is.
"""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from mpmetrics.engines.connectors.errors import (
    ConnectorConflictError,
    ConnectorDeclarationError,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from mpmetrics.engines.connectors.families import ConnectorFamily

    Owned = tuple[str, "Shape"]

_CLASSES: Final = {"counter": "Counter", "gauge": "Gauge", "histogram": "Histogram"}

_CLAIMED: Final = {
    "counter": ("", "_total", "_created"),
    "gauge": ("",),
    "histogram": ("", "_bucket", "_sum", "_count", "_created"),
}
"""The ends of the names that a metric of a type has all for itself."""


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
_lock = threading.Lock()


def registered(
    families: Mapping[str, Iterable[ConnectorFamily]],
    labels: tuple[str, ...],
    registry: Any,  # noqa: ANN401 - registries are duck-typed
) -> dict[str, Any]:
    """Return the metrics of *families*, which are given by owner, by name.

    One that is there already with the same type, labels and buckets is taken, whoever has made
    it. All are looked at before the first is made, and if one cannot be made, none is. Raises
    `ConnectorConflictError`, and `ConnectorDeclarationError` for what prometheus_client refuses.
    """
    import prometheus_client  # noqa: PLC0415 - see the package of the engines

    given = prometheus_client.REGISTRY if registry is None else registry
    with _lock:
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
        metrics.update(_all_made(new, given))
        return {one.name: metrics[_name(one)] for each in families.values() for one in each}


def _claim(
    claims: dict[str, Owned],
    owner: str,
    shape: Shape,
    registry: Any,  # noqa: ANN401 - registries are duck-typed
) -> Any:  # noqa: ANN401 - one of three classes
    """Claim the names of a metric for its *owner*; return the metric, None if it is not there.

    Raises `ConnectorConflictError` if one of them belongs to another metric.
    """
    known = getattr(registry, "_names_to_collectors", {})
    for end in _CLAIMED[shape.type]:
        name = shape.name + end
        metric = known.get(name)
        if metric is not None:
            first, there = _owner(metric), _shape_of(metric)
        else:
            first, there = claims.setdefault(name, (owner, shape))
        if there != shape:
            raise ConnectorConflictError(name, (first, owner), str(there), str(shape))
    return known.get(shape.name)


def _all_made(
    new: Mapping[str, tuple[str, ConnectorFamily, Shape]],
    registry: Any,  # noqa: ANN401 - registries are duck-typed
) -> dict[str, Any]:
    """Make all that is *new*, or nothing."""
    made: dict[str, Any] = {}
    try:
        for name, (owner, family, shape) in new.items():
            made[name] = _make(family, shape, registry)
            _owners[made[name]] = owner
    except BaseException:
        for metric in made.values():
            registry.unregister(metric)
        raise
    return made


def _make(family: ConnectorFamily, shape: Shape, registry: Any) -> Any:  # noqa: ANN401 - one of three classes
    """Make one metric. Raises `ConnectorDeclarationError` if prometheus_client refuses."""
    import prometheus_client  # noqa: PLC0415 - see the package of the engines

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


def _owner(metric: Any) -> str:  # noqa: ANN401 - of any class
    """Return who has declared a *metric*."""
    return _owners.get(metric, "somebody who has not declared it")


def _shape_of(metric: Any) -> Shape:  # noqa: ANN401 - of any class
    """Return the shape of a *metric*, whoever has made it."""
    kind = str(getattr(metric, "_type", type(metric).__qualname__))
    *edges, _last = getattr(metric, "_upper_bounds", (0,))
    mode = str(getattr(metric, "_multiprocess_mode", ""))
    labels = tuple(getattr(metric, "_labelnames", ()))
    return Shape(str(getattr(metric, "_name", "")), kind, labels, tuple(edges), mode)
