"""Registering what an engine emits with a Dynamo endpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from prometheus_client import REGISTRY, multiprocess

from mpmetrics.engines.board import DEFAULT_TIMEOUT, Brought, board_of
from mpmetrics.engines.endpoint import register_callbacks
from mpmetrics.engines.identity import Place, identity_labels
from mpmetrics.filters import PrefixFilter
from mpmetrics.page import Page
from mpmetrics.registration import Registration
from mpmetrics.sources import DirectorySource, Gathered, RegistrySource, Source, as_source

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mpmetrics.engines.endpoint import Endpoint

    Prefixes = str | Iterable[str | Iterable[str]] | None

_ABOUT: Final = "mpmetrics"


def register_engine_metrics_callback(  # noqa: PLR0913, PLR0917 - Dynamo's signature
    endpoint: Endpoint,
    registry: Any,  # noqa: ANN401 - whatever a source can be
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

    However often and with whatever this is called for one endpoint, each family is shown once,
    and with its merged value if there is one. The callback waits *timeout* seconds for a source
    at the most, and raises nothing; of a source that is not up, `mpmetrics_source_up` says so,
    whatever the filter. Raises `SourceError`, `FilterError` or `LabelError`, all of them at once.
    """
    chosen = PrefixFilter.of(metric_prefix_filters, exclude_prefixes)
    place = Place(namespace_name, component_name, endpoint_name, model_name)
    labels = identity_labels(endpoint, place, inject_custom_labels)
    tells = any(prefix.startswith(_ABOUT) for prefix in chosen.include)
    brought = Brought(sources_of(registry), chosen, labels, timeout, tells)
    part = board_of(endpoint).add(brought)
    register_callbacks(endpoint, part.text, part.typed)


def sources_of(registry: Any) -> list[Source]:  # noqa: ANN401 - whatever a source can be
    """Return the sources that *registry* stands for. Raises `SourceError`."""
    if registry is None:
        registry = REGISTRY
    if isinstance(registry, Registration):
        return registry.sources()
    if isinstance(registry, Page):
        return [PageSource(registry)]
    source = as_source(registry)
    if not isinstance(source, RegistrySource):
        return [source]
    # In a registry, what another collector has merged looks like this process's share.
    return [*(DirectorySource(path) for path in _directories_of(registry)), source]


class PageSource:
    """The families of a page, with its labels."""

    in_process = False

    def __init__(self, page: Page, name: str = "page") -> None:
        """Scrape *page* whenever asked."""
        self.name = name
        self._page = page

    def gather(self) -> Gathered:
        """Scrape the page, which raises nothing for what its sources do."""
        return Gathered(self._page.families())


def _directories_of(registry: Any) -> list[str]:  # noqa: ANN401 - duck-typed
    """Return the directories that prometheus_client's own collectors in a *registry* merge.

    Neither they nor the registry tell of it in public.
    """
    collectors = list(getattr(registry, "_collector_to_names", None) or ())
    if isinstance(registry, multiprocess.MultiProcessCollector):
        collectors = [registry]
    paths = [
        getattr(collector, "_path", None)
        for collector in collectors
        if isinstance(collector, multiprocess.MultiProcessCollector)
    ]
    return [path for path in paths if isinstance(path, str)]
