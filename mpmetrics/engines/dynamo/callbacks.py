"""Registering what an engine emits with a Dynamo endpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from mpmetrics.engines.dynamo.endpoint import DEFAULT_TIMEOUT, register_callbacks
from mpmetrics.engines.dynamo.labels import Place, identity_labels
from mpmetrics.exposition import PrefixFilter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mpmetrics.engines.dynamo.endpoint import Endpoint
    from mpmetrics.exposition import Prefixes


_ABOUT: Final = "mpmetrics"


def register_engine_metrics_callback(  # noqa: PLR0917 - Dynamo's signature
    endpoint: Endpoint,
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
    """Have the *endpoint* show the families of *registry*, as Dynamo's function of this name does.

    *registry* is a prometheus_client registry (None: the global one), a `Registration`, a `Page`,
    a multiprocess directory, or whatever else `Page` takes as a source. Filters go by the name of
    the family; exclude beats include. The labels are those of `identity_labels`.

    However often and with whatever this is called for the endpoints of a runtime, each family is
    shown once, and with its merged value if there is one. The callback waits *timeout* seconds
    for a source at the most, and raises nothing; of a source that is not up,
    `mpmetrics_source_up` says so, whatever the filter. Raises `SourceError`, `FilterError` or
    `LabelError`, all of them at once.
    """
    from mpmetrics.engines.dynamo.shared_page import Brought, board_of  # see the package
    from mpmetrics.engines.dynamo.sources import sources_of

    chosen = PrefixFilter.of(metric_prefix_filters, exclude_prefixes)
    place = Place(namespace_name, component_name, endpoint_name, model_name)
    labels = identity_labels(endpoint, place, inject_custom_labels)
    tells = any(prefix.startswith(_ABOUT) for prefix in chosen.include)
    brought = Brought(sources_of(registry), chosen, labels, timeout, tells)
    part = board_of(endpoint).add(brought)
    register_callbacks(endpoint, part.text, part.typed)
