"""The registry tree: runtime, namespaces, components and endpoints, and one page of all.

It does what Dynamo's `MetricsRegistry` (`lib/runtime/src/metrics.rs`) does, with other manners:
what cannot be joined is left out and counted, and never costs the page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from mpmetrics._problem_log import ProblemLog
from mpmetrics._shared_call import SharedCall
from mpmetrics.engines.dynamo.endpoint import DEFAULT_TIMEOUT
from mpmetrics.engines.dynamo.labelled_metrics import MetricShelf, definition
from mpmetrics.exposition import Format, check_labels, render_families

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from prometheus_client import Metric

    from mpmetrics.engines.dynamo.endpoint import TypedFamily
    from mpmetrics.pages import Gathered  # see the package

PREFIX: Final = "dynamo_component_"

_SEPARATOR: Final = "."


class MetricsRegistry:
    """One level of a tree of registries, with its metrics, callbacks and children.

    The levels below are made by `namespace`, `component` and `endpoint`, or added as they are by
    `add_child_registry`. A registry can be a source of a `Page`, or be given to
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
        """Begin without metrics: their names begin with *prefix*, and they have these *labels*.

        A *worker_id* becomes a label, a number in hexadecimal. The *name* is for messages.
        Callbacks have *timeout* seconds for a scrape. Raises `LabelError`.
        """
        from mpmetrics.engines.dynamo.registry_tree import Node  # see the package

        self.name = name or "registry"
        self._prefix = prefix
        self._timeout = timeout
        worker = format(worker_id, "x") if isinstance(worker_id, int) else worker_id
        given = {**(labels or {}), **({"worker_id": worker} if worker else {})}
        self._labels = dict(check_labels(given))
        self._shelf = MetricShelf(prefix, self._labels)
        self._node = Node(self.name, self._shelf.registry, timeout)
        self._levels: dict[tuple[str, str], MetricsRegistry] = {}
        self._problem_log = ProblemLog()
        self._gather = SharedCall(self._node.gather)

    def namespace(self, name: str) -> MetricsRegistry:
        """Return the registry of a namespace, always the same; it may be within another."""
        outer = self._labels.get("dynamo_namespace")
        return self._level("dynamo_namespace", f"{outer}{_SEPARATOR}{name}" if outer else name)

    def component(self, name: str) -> MetricsRegistry:
        """Return the registry of a component of this namespace, always the same."""
        return self._level("dynamo_component", name)

    def endpoint(self, name: str) -> MetricsRegistry:
        """Return the registry of an endpoint of this component, always the same."""
        return self._level("dynamo_endpoint", name)

    def _level(self, label: str, name: str) -> MetricsRegistry:
        key = (label, name)
        if key not in self._levels:
            labels = {**self._labels, label: name}
            level = MetricsRegistry(name, prefix=self._prefix, labels=labels, timeout=self._timeout)
            # Another thread may have made it meanwhile.
            self.add_child_registry(self._levels.setdefault(key, level))
        return self._levels[key]

    def create_counter(
        self,
        name: str,
        documentation: str,
        labelnames: Iterable[str] = (),
        const_labels: Mapping[str, str] | None = None,
    ) -> Any:
        """Return a `prometheus_client.Counter`, or what `labels` is to be called on.

        The automatic labels are set. Characters that the names may not have are replaced; values
        stay as they are. What is made twice is the same object.

        Raises `LabelError` for labels that are reserved or there twice, `NameSanitizingError`,
        `MetricConflictError` if there is another metric of that name, and what prometheus_client
        raises.
        """
        return self._shelf.make(
            name, definition("counter", documentation, labelnames, const_labels)
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

        The mode is for files: what a dead process has set does not count.
        """
        mode = {"multiprocess_mode": multiprocess_mode}
        return self._shelf.make(
            name, definition("gauge", documentation, labelnames, const_labels, **mode)
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
        return self._shelf.make(
            name, definition("histogram", documentation, labelnames, const_labels, buckets=bounds)
        )

    def add_child_registry(self, child: MetricsRegistry) -> None:
        """Have the *child* on this page, too; the same object is added once."""
        self._node.add_child(child._node)

    def add_update_callback(self, callback: Callable[[], object]) -> None:
        """Have *callback* called before anything is gathered, to set metrics."""
        self._node.add_update(callback)

    def add_expfmt_callback(self, callback: Callable[[], str | bytes]) -> None:
        """Have the families of the text that *callback* returns on the page, joined."""
        self._node.add_text(callback)

    def add_typed_callback(self, callback: Callable[[], Iterable[TypedFamily]]) -> None:
        """Have the families that *callback* returns, as Dynamo has them, on the page, joined."""
        self._node.add_typed(callback)

    def families(self) -> list[Metric]:
        """Return the families of the whole tree, each once, sorted by name."""
        return self._gather()[0]

    def collect(self) -> Iterable[Metric]:
        """Return the families: what a prometheus_client registry calls a collector's."""
        return self.families()

    def describe(self) -> Iterable[Metric]:
        """Claim no names: the families change."""
        return []

    def gather(self) -> Gathered:
        """Return the families, and what was wrong: what a page calls a source's."""
        from mpmetrics.pages import Gathered

        return Gathered(*self._gather())

    def render(self, openmetrics: bool = False) -> bytes:  # noqa: FBT001, FBT002 - public API
        """Return the page of the tree; what had to be left out of it is counted there."""
        from mpmetrics.pages import problems_family  # see the package

        families, problems = self._gather()
        self._problem_log.report(problems)
        counted = [problems_family(self.problems())] if self.problems() else []
        return render_families([*families, *counted], Format(openmetrics=openmetrics))

    def problems(self) -> Mapping[str, int]:
        """Return how often each reason of a problem has come up while the tree was rendered."""
        return self._problem_log.counts()
