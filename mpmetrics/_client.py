"""Access to the private parts of prometheus_client, all of it in one place.

Each function here relies on a name or a behaviour that prometheus_client may change in any release;
only the names in `metric_class` are documented. `tests/conformance/test_client.py` runs every
function under the oldest supported version and the installed one, and names the function that a
release has broken.

Importing this module does not import prometheus_client, which decides between memory and files at
that moment.
"""

from __future__ import annotations

import inspect
import os
import sys
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from mpmetrics.errors import UnsupportedReleaseError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from prometheus_client import CollectorRegistry, Metric

MULTIPROCESS: Final = "prometheus_client.multiprocess"
"""The module of the collector that `replace_collector` changes."""

_CLASSES: Final = {"counter": "Counter", "gauge": "Gauge", "histogram": "Histogram"}


class MetricDefinition(NamedTuple):
    """What a metric was made with: *name*, *type*, *labels*, and what its type adds.

    *name* has no `_total`. *buckets* are the finite bounds of a histogram, *mode* the
    multiprocess mode of a gauge.
    """

    name: str
    type: str
    labels: tuple[str, ...]
    buckets: tuple[float, ...] = ()
    mode: str = ""


def values_in_memory() -> bool:
    """Return whether prometheus_client has decided to keep this process's values in memory.

    It decides between memory and files when it is imported; before that the answer is False.
    """
    values: Any = sys.modules.get("prometheus_client.values")
    return values is not None and not getattr(values.ValueClass, "_multiprocess", False)


def new_registry() -> CollectorRegistry:
    """Return a registry whose page can be restricted by `?name[]=` to families it does not claim.

    Versions that lack the option restrict nothing, and get a plain registry.
    """
    from prometheus_client import CollectorRegistry

    option = "support_collectors_without_names"
    known = inspect.signature(CollectorRegistry).parameters
    options: dict[str, Any] = {option: True} if option in known else {}
    return CollectorRegistry(**options)


def collectors_by_name(registry: Any) -> Mapping[str, Any]:
    """Return the collectors of *registry* by each of the names that they claim."""
    collectors: Mapping[str, Any] = getattr(registry, "_names_to_collectors", {})
    return collectors


def names_by_collector(registry: Any) -> Mapping[Any, list[str]]:
    """Return the names that each collector of *registry* claims, which may be none."""
    return dict(getattr(registry, "_collector_to_names", None) or {})


def names_of_metrics(registry: Any) -> list[str]:
    """Return the sorted names of the metrics in *registry* that are prometheus_client's own.

    Custom collectors, among them those of the process and the platform, are left out.
    """
    from prometheus_client.metrics import MetricWrapperBase

    return sorted(
        min(names, key=len)
        for collector, names in names_by_collector(registry).items()
        if isinstance(collector, MetricWrapperBase) and names
    )


def merged_directories(registry: Any) -> list[str]:
    """Return the directories that prometheus_client's own collectors in *registry* merge.

    *registry* may also be such a collector itself.
    """
    from prometheus_client.multiprocess import MultiProcessCollector

    is_collector = isinstance(registry, MultiProcessCollector)
    collectors = [registry] if is_collector else names_by_collector(registry)
    paths = [
        getattr(collector, "_path", None)
        for collector in collectors
        if isinstance(collector, MultiProcessCollector)
    ]
    return [os.fspath(path) for path in paths if isinstance(path, str | os.PathLike)]


class CollectorMethods(NamedTuple):
    """What `replace_collector` replaces: two methods of the class, and a function beside it."""

    collect: Callable[[Any], Iterable[Metric]]
    merge: Callable[..., Iterable[Metric]]
    mark_process_dead: Callable[..., None]


def replace_collector(
    make_methods: Callable[[CollectorMethods], CollectorMethods], *, is_executed: bool = False
) -> Callable[[], None] | None:
    """Replace the methods of prometheus_client's `MultiProcessCollector`; return the way back.

    *make_methods* gets the former methods. All names that anyone has imported stay the same
    objects: the class gets other methods, and the function other instructions. Return None if the
    module is not imported yet, or is being imported and not known to be wholly executed. Raises
    `UnsupportedReleaseError` if it lacks a part.
    """
    module: Any = sys.modules.get(MULTIPROCESS)
    spec = getattr(module, "__spec__", None)
    if module is None or (getattr(spec, "_initializing", False) and not is_executed):
        return None
    try:
        owner, function = module.MultiProcessCollector, module.mark_process_dead
        collect, merge, code = owner.collect, owner.__dict__["merge"], function.__code__
    except (AttributeError, KeyError) as error:
        raise UnsupportedReleaseError(
            package="prometheus_client", release="", why=f"{MULTIPROCESS}: {error}"
        ) from error
    methods = make_methods(CollectorMethods(collect, owner.merge, function))
    owner.collect = methods.collect
    owner.merge = staticmethod(methods.merge)
    function.__code__ = methods.mark_process_dead.__code__

    def restore() -> None:
        # What another library has put on top since then stays.
        if owner.collect is methods.collect:
            owner.collect = collect
        if owner.merge is methods.merge:
            owner.merge = merge
        if function.__code__ is methods.mark_process_dead.__code__:
            function.__code__ = code

    return restore


def metric_class(type_: str) -> Any:
    """Return prometheus_client's class for metrics of *type_*: counter, gauge or histogram."""
    import prometheus_client

    return getattr(prometheus_client, _CLASSES[type_])


def definition_of(metric: Any) -> MetricDefinition:
    """Return the definition of any *metric*; what it lacks is empty."""
    kind = str(getattr(metric, "_type", type(metric).__qualname__))
    *bounds, _infinity = getattr(metric, "_upper_bounds", (0,))
    mode = str(getattr(metric, "_multiprocess_mode", ""))
    labels = tuple(getattr(metric, "_labelnames", ()))
    return MetricDefinition(str(getattr(metric, "_name", "")), kind, labels, tuple(bounds), mode)


def add_observations(histogram: Any, counts: Iterable[float], total: float) -> None:
    """Add *counts* to the buckets of *histogram*, not cumulated, and *total* to its sum.

    The public `observe` adds one observation at a time. Raises `ValueError` when there is not
    one count for each bucket.
    """
    for bucket, count in zip(histogram._buckets, counts, strict=True):
        if count:
            bucket.inc(count)
    histogram._sum.inc(total)
