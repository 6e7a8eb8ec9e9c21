"""The whole flow for one endpoint: which sources there are, and which callbacks give them."""

from __future__ import annotations

import logging
import os
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Final

from mpmetrics.directory import directory_from_environment
from mpmetrics.engines.directory import recreate_if_missing
from mpmetrics.engines.dynamo.endpoint import DEFAULT_TIMEOUT, register_callbacks
from mpmetrics.engines.dynamo.labels import Place, identity_labels
from mpmetrics.engines.prefixes import DYNAMO_COMPONENT, LMCACHE, VLLM
from mpmetrics.exposition import PrefixFilter

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from mpmetrics.engines.dynamo.endpoint import Endpoint
    from mpmetrics.engines.dynamo.shared_page import Board, Brought, Part
    from mpmetrics.exposition import Prefixes
    from mpmetrics.format import Labels
    from mpmetrics.registration import Mode, Registration


DEFAULT_PREFIXES: Final = (VLLM, LMCACHE)

_log = logging.getLogger("mpmetrics")


class MetricsSetup(AbstractContextManager["MetricsSetup"]):
    """What `setup_metrics_collection` has done, and the way to undo it.

    `mode` and `reason` say which of three situations it found: "shared", the registry accepted
    the merged view; "isolated", it had the same timeseries already, so the merged view has a
    callback of its own; "in_process", there was no merged view to be had. `path` is the
    directory, None if there was none; `labels` are those that are injected.
    """

    def __init__(
        self, registration: Registration, remark: str, board: Board, labels: Labels
    ) -> None:
        """Take what `register` said; parts are added to the *board* by `add`."""
        self.mode: Mode = registration.mode
        self.reason = f"{remark}{registration.reason}"
        self.path = registration.path
        self.registry = registration.registry
        self.labels: Mapping[str, str] = dict(labels)
        self.closed = False
        self._registration = registration
        self._board = board
        self._parts: list[Part] = []

    def add(self, endpoint: Endpoint, brought: Brought) -> None:
        """Register one callback; the first tells of the scrape, too."""
        part = self._board.add(brought._replace(tells=not self._parts))
        self._parts.append(part)
        register_callbacks(endpoint, part.text, part.typed)

    def problems(self) -> Mapping[str, int]:
        """Return how often each reason of a problem has come up on this endpoint."""
        return self._board.problems()

    def close(self) -> None:
        """Have the callbacks give nothing from now on, and leave the registry as it was."""
        if not self.closed:
            self.closed = True
            for part in self._parts:
                part.close()
            self._registration.withdraw()

    def __repr__(self) -> str:
        """Return what was found, and why."""
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
    endpoint: Endpoint,
    *,
    prefixes: Prefixes = DEFAULT_PREFIXES,
    exclude_prefixes: Prefixes = None,
    component_registry: Any = None,
    registry: Any = None,
    path: str | os.PathLike[str] | None = None,
    inject_custom_labels: Mapping[str, str] | None = None,
    namespace_name: str | None = None,
    component_name: str | None = None,
    endpoint_name: str | None = None,
    model_name: str | None = None,
    timeout: float = DEFAULT_TIMEOUT,
) -> MetricsSetup:
    """Have the *endpoint* show all families with one of *prefixes*, each once, and merged.

    They come from the multiprocess directory *path* (None: that of the environment, even if it
    is set later) and from the *registry* (None: prometheus_client's global one); of a family that
    both have, the merged one counts. A directory that is missing, now or later, is made anew if
    that is possible. The *component_registry* is shown as it is, without added labels, and what it
    has is shown from there alone.

    Labels and *timeout* are those of `register_engine_metrics_callback`. Raises `FilterError` or
    `LabelError`, before anything is registered.
    """
    from mpmetrics.engines.dynamo.shared_page import Brought, board_of  # see the package
    from mpmetrics.engines.dynamo.sources import EngineDirectorySource
    from mpmetrics.pages import RegistrySource
    from mpmetrics.registration import register

    chosen = PrefixFilter.of(prefixes, exclude_prefixes)
    place = Place(namespace_name, component_name, endpoint_name, model_name)
    labels = identity_labels(endpoint, place, inject_custom_labels)
    given = directory_from_environment() if path is None else os.fspath(path)
    remark = (
        f"{given} was missing and has been made anew; "
        if given and recreate_if_missing(given)
        else ""
    )
    registration = register(registry, given or None)
    setup = MetricsSetup(registration, remark, board_of(endpoint), labels)
    merged = EngineDirectorySource(given if path is not None else None)
    own = RegistrySource(registration.given)
    component = PrefixFilter.of(DYNAMO_COMPONENT, exclude_prefixes)
    if setup.mode == "isolated":
        wider = chosen.include and component_registry is not registration.given
        rest = PrefixFilter(chosen.include + component.include, chosen.exclude)
        setup.add(endpoint, Brought([merged], chosen, labels, timeout))
        setup.add(endpoint, Brought([own], rest if wider else chosen, labels, timeout))
    else:
        setup.add(endpoint, Brought([merged, own], chosen, labels, timeout))
    if component_registry is not None:
        source = RegistrySource(component_registry, "component_registry")
        setup.add(endpoint, Brought([source], component, (), timeout, alone=True))
    _log.info("engine metrics: %s: %s", setup.mode, setup.reason)
    return setup
