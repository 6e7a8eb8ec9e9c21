"""The registry tree: runtime, namespaces, components and endpoints, and one page of all.

It does what Dynamo's `MetricsRegistry` (`lib/runtime/src/metrics.rs`) does, with one difference:
what cannot be joined is left out and counted, and never costs the page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from mpmetrics._problem_log import ProblemLog
from mpmetrics._shared_call import SharedCall
from mpmetrics.engines.dynamo.endpoint import DEFAULT_TIMEOUT
from mpmetrics.engines.dynamo.labelled_metrics import MetricFactory, define_metric
from mpmetrics.exposition import Format, check_labels, render_families

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from prometheus_client import Metric

    from mpmetrics.engines.dynamo.endpoint import TypedFamily
    from mpmetrics.pages import Gathered

PREFIX: Final = "dynamo_component_"

_SEPARATOR: Final = "."


class MetricsRegistry:
    """One level of a tree of registries, with its metrics, callbacks and children.

    `namespace`, `component` and `endpoint` make the levels below; `add_child_registry` adds a
    registry that exists. A registry can be a source of a `Page`, or the registry of
    `register_engine_metrics_callback`.
    """

    in_process = True

    def __init__(
        self,
        name: str = "",
        *,
        prefix: str = PREFIX,
        labels: Mapping[str, str] | None = None,
        worker_id: int | str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> None:
        """Create a registry whose metrics get the *labels*, and the *prefix* before their names.

        A *worker_id* becomes a label, a number in hexadecimal. The *name* is for messages. Each
        callback has *timeout* seconds in a scrape. Raises `LabelError`.
        """
        from mpmetrics.engines.dynamo.registry_tree import Node

        self.name = name or "registry"
        self._prefix = prefix
        self._timeout = timeout
        worker = format(worker_id, "x") if isinstance(worker_id, int) else worker_id
        given = {**(labels or {}), **({"worker_id": worker} if worker else {})}
        self._labels = dict(check_labels(given))
        self._factory = MetricFactory(prefix, self._labels)
        self._node = Node(self.name, self._factory.registry, timeout)
        self._levels: dict[tuple[str, str], MetricsRegistry] = {}
        self._problem_log = ProblemLog()
        self._gather = SharedCall(self._node.gather)

    def namespace(self, name: str) -> MetricsRegistry:
        """Return the one registry of the namespace *name*; namespaces may be nested."""
        outer = self._labels.get("dynamo_namespace")
        return self._get_level("dynamo_namespace", f"{outer}{_SEPARATOR}{name}" if outer else name)

    def component(self, name: str) -> MetricsRegistry:
        """Return the one registry of the component *name* of this namespace."""
        return self._get_level("dynamo_component", name)

    def endpoint(self, name: str) -> MetricsRegistry:
        """Return the one registry of the endpoint *name* of this component."""
        return self._get_level("dynamo_endpoint", name)

    def _get_level(self, label: str, name: str) -> MetricsRegistry:
        key = (label, name)
        if key not in self._levels:
            labels = {**self._labels, label: name}
            level = MetricsRegistry(name, prefix=self._prefix, labels=labels, timeout=self._timeout)
            # Another thread may have made the level meanwhile.
            self.add_child_registry(self._levels.setdefault(key, level))
        return self._levels[key]

    def create_counter(
        self,
        name: str,
        documentation: str,
        labelnames: Iterable[str] = (),
        const_labels: Mapping[str, str] | None = None,
    ) -> Any:
        """Return a `prometheus_client.Counter`, or an object with its `labels` method.

        The automatic labels are set. Illegal characters in the names are replaced; label values
        are not changed. The same arguments return the same object.

        Raises `LabelError` for labels that are reserved or given twice, `NameSanitizingError`,
        `MetricConflictError` if there is another metric of that name, and what prometheus_client
        raises.
        """
        return self._factory.make(
            name, define_metric("counter", documentation, labelnames, const_labels)
        )

    def create_gauge(
        self,
        name: str,
        documentation: str,
        labelnames: Iterable[str] = (),
        const_labels: Mapping[str, str] | None = None,
        *,
        multiprocess_mode: str = "livesum",
    ) -> Any:
        """Return a `prometheus_client.Gauge`; everything else is as for `create_counter`.

        The mode decides how files are merged; by default, values of dead processes do not count.
        """
        mode = {"multiprocess_mode": multiprocess_mode}
        return self._factory.make(
            name, define_metric("gauge", documentation, labelnames, const_labels, **mode)
        )

    def create_histogram(
        self,
        name: str,
        documentation: str,
        labelnames: Iterable[str] = (),
        const_labels: Mapping[str, str] | None = None,
        *,
        buckets: Sequence[float] | None = None,
    ) -> Any:
        """Return a `prometheus_client.Histogram`; everything else is as for `create_counter`."""
        bounds = None if buckets is None else tuple(buckets)
        return self._factory.make(
            name,
            define_metric("histogram", documentation, labelnames, const_labels, buckets=bounds),
        )

    def add_child_registry(self, child: MetricsRegistry) -> None:
        """Add the families of *child* to this page; the same object is added once."""
        self._node.add_child(child._node)

    def add_update_callback(self, callback: Callable[[], object]) -> None:
        """Call *callback* before anything is gathered, so that it can set metrics."""
        self._node.add_update(callback)

    def add_expfmt_callback(self, callback: Callable[[], str | bytes]) -> None:
        """Join the families of the text that *callback* returns with those of the page."""
        self._node.add_text(callback)

    def add_typed_callback(self, callback: Callable[[], Iterable[TypedFamily]]) -> None:
        """Join the families that *callback* returns, in Dynamo's form, with those of the page."""
        self._node.add_typed(callback)

    def families(self) -> list[Metric]:
        """Return the families of the whole tree, each once, sorted by name."""
        return self._gather()[0]

    def collect(self) -> Iterable[Metric]:
        """Return the families, as a collector of a prometheus_client registry."""
        return self.families()

    def describe(self) -> Iterable[Metric]:
        """Return no families, so that no names are claimed: the families change."""
        return []

    def gather(self) -> Gathered:
        """Return the families and problems, as a source of a page."""
        from mpmetrics.pages import Gathered

        return Gathered(*self._gather())

    def render(self, openmetrics: bool = False) -> bytes:  # noqa: FBT001, FBT002 - public API
        """Return the page of the tree, with the number of problems by reason."""
        from mpmetrics.pages import problems_family

        families, problems = self._gather()
        self._problem_log.report(problems)
        counted = [problems_family(self.problems())] if self.problems() else []
        return render_families([*families, *counted], Format(openmetrics=openmetrics))

    def problems(self) -> Mapping[str, int]:
        """Return how often each reason of a problem has come up while the tree was rendered."""
        return self._problem_log.counts()
