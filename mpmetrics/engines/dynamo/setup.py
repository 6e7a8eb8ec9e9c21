"""The whole set-up of one endpoint: find the sources, and register the callbacks."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from mpmetrics._log_limit import get_log
from mpmetrics.directory import directory_from_environment
from mpmetrics.engines.directory import recreate_if_missing
from mpmetrics.engines.dynamo.endpoint import DEFAULT_TIMEOUT, register_callbacks
from mpmetrics.engines.dynamo.labels import EndpointNames, make_identity_labels
from mpmetrics.engines.prefixes import DYNAMO_COMPONENT, LMCACHE, VLLM
from mpmetrics.errors import FilterError
from mpmetrics.exposition import PrefixFilter

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType

    from mpmetrics.engines.dynamo.endpoint import Endpoint, EngineHandle
    from mpmetrics.engines.dynamo.shared_page import CallbackSpec, PagePart, SharedPage
    from mpmetrics.exposition import Prefixes
    from mpmetrics.format import Labels
    from mpmetrics.registration import Mode, Registration


DEFAULT_INCLUDE: Final = (VLLM, LMCACHE)

_log = get_log()


class _NotGiven(Enum):
    """The default of an argument for which None has a meaning."""

    NOT_GIVEN = "not given"

    def __repr__(self) -> str:
        return "<not given>"


_NOT_GIVEN: Final = _NotGiven.NOT_GIVEN


class MetricsSetup(AbstractContextManager["MetricsSetup"]):
    """What `setup_metrics_collection` has done, and the way to undo it.

    `mode` and `reason` describe which of three situations it found, and `details` has the names
    that are too many for a reason. "shared": the registry
    accepted the merged view. "isolated": the registry had the same timeseries already, so the
    merged view has a callback of its own. "in_process": there was no directory to merge. `path` is
    the directory, None if there was none; `labels` are the injected labels.
    """

    def __init__(
        self, registration: Registration, remark: str, page: SharedPage, labels: Labels
    ) -> None:
        """Take the outcome of `register`; `add` adds parts to the *page*."""
        self.mode: Mode = registration.mode
        self.reason = f"{remark}{registration.reason}"
        self.details = registration.details
        self.path = registration.path
        self.registry = registration.registry
        self.labels: Mapping[str, str] = dict(labels)
        self.closed = False
        self._registration = registration
        self._page = page
        self._parts: list[PagePart] = []

    def add(self, endpoint: Endpoint | EngineHandle, spec: CallbackSpec) -> None:
        """Register one callback with *endpoint*; the first one has the self-metrics, too."""
        part = self._page.add(spec._replace(has_self_metrics=not self._parts))
        self._parts.append(part)
        register_callbacks(endpoint, part.text, part.typed)

    def problems(self) -> Mapping[str, int]:
        """Return how often each reason of a problem has come up on this endpoint's page."""
        return self._page.problems()

    def close(self) -> None:
        """Silence the callbacks, and leave the registry as it was before the set-up."""
        if not self.closed:
            self.closed = True
            for part in self._parts:
                part.close()
            self._registration.withdraw()

    def __repr__(self) -> str:
        """Return the mode and the reason."""
        return f"<MetricsSetup {self.mode}: {self.reason}>"

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()


def setup_metrics_collection(
    endpoint: Endpoint | EngineHandle,
    *,
    include: Prefixes = DEFAULT_INCLUDE,
    exclude: Prefixes = None,
    component_registry: Any = None,
    registry: Any = None,
    path: str | os.PathLike[str] | None = None,
    inject_custom_labels: Mapping[str, str] | None = None,
    namespace_name: str | None = None,
    component_name: str | None = None,
    endpoint_name: str | None = None,
    model_name: str | None = None,
    timeout: float = DEFAULT_TIMEOUT,
    prefixes: Prefixes | _NotGiven = _NOT_GIVEN,
    exclude_prefixes: Prefixes | _NotGiven = _NOT_GIVEN,
) -> MetricsSetup:
    """Show all families that pass the prefix filter on the *endpoint*: each once, and merged.

    *endpoint* may also be the handle of Dynamo's unified backend (`EngineMetrics`).

    They come from the multiprocess directory *path* (None: that of the environment, even if it
    is set later) and from the *registry* (None: prometheus_client's global one); of a family that
    both have, the merged one counts. A directory that is missing, now or later, is recreated if
    possible. The families of the *component_registry* are shown without added labels, and from
    there alone.

    The prefix filter *include*, *exclude* is that of `Page`. Its former names, *prefixes* and
    *exclude_prefixes*, still work. Labels and *timeout* are those of
    `register_engine_metrics_callback`.

    Raises `FilterError`, also for an argument that is given under both names, or `LabelError`,
    before anything is registered.
    """
    from mpmetrics.engines.dynamo.runtime_pages import PAGES
    from mpmetrics.engines.dynamo.shared_page import CallbackSpec
    from mpmetrics.engines.dynamo.sources import EngineDirectorySource
    from mpmetrics.registration import register

    prefix_filter = PrefixFilter.of(
        _choose(include, prefixes, DEFAULT_INCLUDE, "include", "prefixes"),
        _choose(exclude, exclude_prefixes, None, "exclude", "exclude_prefixes"),
    )
    names = EndpointNames(namespace_name, component_name, endpoint_name, model_name)
    labels = make_identity_labels(endpoint, names, inject_custom_labels)
    directory = directory_from_environment() if path is None else os.fspath(path)
    remark = (
        f"{directory} was missing and has been recreated; "
        if directory and recreate_if_missing(directory)
        else ""
    )
    registration = register(registry, directory or None)
    setup = MetricsSetup(registration, remark, PAGES.get(endpoint), labels)
    merged = EngineDirectorySource(directory if path is not None else None)
    spec = CallbackSpec([merged], prefix_filter, labels, timeout)
    for each in _make_specs(spec, registration, component_registry):
        setup.add(endpoint, each)
    _log.info("engine metrics: %s: %s", setup.mode, setup.reason)
    return setup


def _make_specs(
    merged: CallbackSpec, registration: Registration, component_registry: Any
) -> Iterator[CallbackSpec]:
    """Yield the specifications of all callbacks, of which *merged* has the merged view alone."""
    from mpmetrics.pages import RegistrySource

    own = RegistrySource(registration.given)
    include, exclude = merged.prefix_filter
    if registration.mode == "isolated":
        yield merged
        # No other callback has the component's families that are in the registry.
        if include and component_registry is not registration.given:
            include += DYNAMO_COMPONENT
        yield merged._replace(sources=[own], prefix_filter=PrefixFilter(include, exclude))
    else:
        yield merged._replace(sources=[*merged.sources, own])
    if component_registry is not None:
        yield merged._replace(
            sources=[RegistrySource(component_registry, "component_registry")],
            prefix_filter=PrefixFilter(DYNAMO_COMPONENT, exclude),
            labels=(),
            exclusive=True,
        )


def _choose(
    value: Prefixes,
    former_value: Prefixes | _NotGiven,
    default: Prefixes,
    name: str,
    former_name: str,
) -> Prefixes:
    """Return the argument that was given by its *name* or its *former_name*.

    Raises `FilterError` if it was given by both.
    """
    if former_value is _NOT_GIVEN:
        return value
    if value is not default:
        message = f"{former_name} is the former name of {name}: give {name} alone"
        raise FilterError(message)
    return former_value
