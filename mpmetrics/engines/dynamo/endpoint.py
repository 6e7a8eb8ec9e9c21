"""What is needed of a Dynamo endpoint, as protocols: Dynamo itself is never imported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    TypedSample = tuple[str, list[tuple[str, str]], float, float | None]
    TypedFamily = tuple[str, str, str, str, list[TypedSample]]
    """Name, help, type, unit, and for each sample its name, labels, value and timestamp."""

DEFAULT_TIMEOUT: Final = 1.0
"""Seconds that a scrape waits for a source; meanwhile it blocks a thread of the runtime."""


class EndpointMetrics(Protocol):
    """The `metrics` of an endpoint.

    Newer runtimes have `register_prometheus_typed_callback`, too, for a callable that returns a
    list of `TypedFamily`.
    """

    def register_prometheus_expfmt_callback(self, callback: Callable[[], str]) -> None:
        """Call *callback* at every scrape, and append its text to the page."""
        ...  # pragma: no cover - a protocol has no body


class Endpoint(Protocol):
    """A `dynamo.runtime.Endpoint`."""

    @property
    def metrics(self) -> EndpointMetrics:
        """The object with which callbacks are registered."""
        ...  # pragma: no cover - a protocol has no body

    def connection_id(self) -> int:
        """Return the number of the worker."""
        ...  # pragma: no cover - a protocol has no body


class EngineHandle(EndpointMetrics, Protocol):
    """A `dynamo._core.backend.EngineMetrics`, which an engine of the unified backend gets.

    It takes callbacks itself, and must not be kept.
    """

    @property
    def auto_labels(self) -> Mapping[str, str]:
        """The labels of the worker and its model."""
        ...  # pragma: no cover - a protocol has no body


def register_callbacks(
    endpoint: Endpoint | EngineHandle,
    text: Callable[[], str],
    typed: Callable[[], list[TypedFamily]],
) -> None:
    """Register *text*, and also *typed*, which feeds OTLP, if the endpoint takes one."""
    metrics: Any = getattr(endpoint, "metrics", endpoint)
    metrics.register_prometheus_expfmt_callback(text)
    register_typed = getattr(metrics, "register_prometheus_typed_callback", None)
    if callable(register_typed):
        register_typed(typed)
