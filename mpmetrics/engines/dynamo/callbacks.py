"""The function that registers an engine's metrics with a Dynamo endpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from mpmetrics.engines.dynamo.endpoint import DEFAULT_TIMEOUT, register_callbacks
from mpmetrics.engines.dynamo.labels import EndpointNames, make_identity_labels
from mpmetrics.exposition import PrefixFilter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mpmetrics.engines.dynamo.endpoint import Endpoint, EngineHandle
    from mpmetrics.exposition import Prefixes


_SELF_METRICS: Final = "mpmetrics"
"""How a prefix begins that includes self-metrics."""


def register_engine_metrics_callback(  # noqa: PLR0917 - Dynamo's signature
    endpoint: Endpoint | EngineHandle,
    registry: Any,
    metric_prefix_filters: Prefixes = None,
    exclude_prefixes: Prefixes = None,
    inject_custom_labels: Mapping[str, str] | None = None,
    namespace_name: str | None = None,
    component_name: str | None = None,
    endpoint_name: str | None = None,
    model_name: str | None = None,
    *,
    timeout: float = DEFAULT_TIMEOUT,
) -> None:
    """Show the families of *registry* on the page of *endpoint*.

    The parameters are those of Dynamo's function of this name. *endpoint* may also be the handle
    that an engine of Dynamo's unified backend gets (`EngineMetrics`), which has its own labels.
    *registry* is a prometheus_client registry (None: the global one), a `Registration`, a `Page`, a
    multiprocess directory, or any other source that `Page` takes.

    The prefix filter works on family names: *metric_prefix_filters* are the prefixes to include
    (None: all families), *exclude_prefixes* those to exclude; exclude beats include. `Page` calls
    the two *include* and *exclude*.

    With both *namespace_name* and *component_name*, each series gets the labels
    `dynamo_namespace`, `dynamo_component`, `dynamo_endpoint` (*endpoint_name*, or "generate"),
    `worker_id` if the endpoint knows its number, and with *model_name* both `model` and
    `model_name`. The custom labels of *inject_custom_labels* are added in any case. A label that
    the series itself has beats an automatic one, which beats a custom one.

    You can call this any number of times, with any sources, for any endpoint of a runtime: each
    family is shown once, and with its merged value if there is one. The callback waits at most
    *timeout* seconds for a source, and raises nothing. If a source is not up,
    `mpmetrics_source_up` shows that, whatever the prefix filter. Raises `SourceError`,
    `FilterError` or `LabelError`, before anything is registered.
    """
    from mpmetrics.engines.dynamo.runtime_pages import PAGES
    from mpmetrics.engines.dynamo.shared_page import CallbackSpec
    from mpmetrics.engines.dynamo.sources import resolve_sources

    prefix_filter = PrefixFilter.of(metric_prefix_filters, exclude_prefixes)
    names = EndpointNames(namespace_name, component_name, endpoint_name, model_name)
    labels = make_identity_labels(endpoint, names, inject_custom_labels)
    spec = CallbackSpec(
        resolve_sources(registry),
        prefix_filter,
        labels,
        timeout,
        has_self_metrics=any(each.startswith(_SELF_METRICS) for each in prefix_filter.include),
    )
    part = PAGES.get(endpoint).add(spec)
    register_callbacks(endpoint, part.text, part.typed)
