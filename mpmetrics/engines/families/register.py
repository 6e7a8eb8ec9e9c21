"""Making prometheus_client's metrics from families of the catalogue, once for each registry."""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mpmetrics.engines.families.tables import Family

_CLASSES: Final = {"counter": "Counter", "gauge": "Gauge", "histogram": "Histogram"}

_made: weakref.WeakKeyDictionary[Any, dict[Family, Any]] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def metrics_of(families: Iterable[Family], registry: Any = None) -> dict[str, Any]:
    """Return a metric for each of the *families*, by name, in *registry* (None: the global one).

    They are made when they are first asked for, and are the same from then on. Raises
    `ValueError`, as prometheus_client does, when something else in the registry has the name.
    """
    import prometheus_client  # see the package

    given = prometheus_client.REGISTRY if registry is None else registry
    with _lock:
        made = _made.setdefault(given, {})
        for family in families:
            if family not in made:
                made[family] = _metric(family, given)
        return {family.name: made[family] for family in families}


def _metric(family: Family, registry: Any) -> Any:
    import prometheus_client  # see the package

    options: dict[str, Any] = {}
    if family.mode:
        options["multiprocess_mode"] = family.mode
    if family.buckets:
        options["buckets"] = family.buckets
    make = getattr(prometheus_client, _CLASSES[family.type])
    return make(family.name, family.help, family.labels, registry=registry, **options)
