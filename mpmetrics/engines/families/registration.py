"""Registration of the tables' families with prometheus_client, once for each registry."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Final

from mpmetrics._client import metric_class
from mpmetrics._forks import ForkSafeLock

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mpmetrics.engines.families.family import Family


class _Registrations:
    """The metrics that `register_families` has made, by registry and family."""

    def __init__(self) -> None:
        self._lock = ForkSafeLock()
        self._metrics: weakref.WeakKeyDictionary[Any, dict[Family, Any]] = (
            weakref.WeakKeyDictionary()
        )

    def get_or_make(self, families: Iterable[Family], registry: Any) -> dict[str, Any]:
        """Return the metrics of *families* in *registry* by name; make those that are missing."""
        with self._lock:
            metrics = self._metrics.setdefault(registry, {})
            found = {}
            for family in families:
                key = family._replace(mode="")  # the first mode counts: there is one metric
                if key not in metrics:
                    metrics[key] = _make_metric(family, registry)
                found[family.name] = metrics[key]
            return found


_registrations: Final = _Registrations()
"""The one instance of the process: a registry is shared by all of it, and refuses a second metric
of one name. An entry lives as long as its registry."""


def register_families(families: Iterable[Family], registry: Any = None) -> dict[str, Any]:
    """Return the metrics of *families*, by name, in *registry* (None: the global one).

    The first call for a family makes its metric; later calls return the same one, since
    `_registrations` keeps it for the whole process. Raises `ValueError`, as prometheus_client
    does, when another metric in the registry has the name.
    """
    import prometheus_client  # see the package

    return _registrations.get_or_make(
        families, prometheus_client.REGISTRY if registry is None else registry
    )


def _make_metric(family: Family, registry: Any) -> Any:
    options: dict[str, Any] = {}
    if family.mode:
        options["multiprocess_mode"] = family.mode
    if family.buckets:
        options["buckets"] = family.buckets
    make = metric_class(family.type)
    return make(family.name, family.help, family.labels, registry=registry, **options)
