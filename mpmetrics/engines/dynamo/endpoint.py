"""What is needed of a Dynamo endpoint. Dynamo itself is never imported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    TypedSample = tuple[str, list[tuple[str, str]], float, float | None]
    TypedFamily = tuple[str, str, str, str, list[TypedSample]]
    """Name, help, type, unit, and for each sample its name, labels, value and timestamp."""

DEFAULT_TIMEOUT: Final = 1.0
"""Seconds that a scrape waits for a source: a thread of the runtime is kept so long."""


class EndpointMetrics(Protocol):
    """The `metrics` of an endpoint.

    Newer ones have `register_prometheus_typed_callback` as well, for a callable that returns a
    list of `TypedFamily`.
    """

    def register_prometheus_expfmt_callback(self, callback: Callable[[], str]) -> None:
        """Have *callback* called at every scrape; its text is appended to the page."""
        ...  # pragma: no cover - a protocol has no body


class Endpoint(Protocol):
    """A `dynamo.runtime.Endpoint`."""

    @property
    def metrics(self) -> EndpointMetrics:
        """Where callbacks are registered."""
        ...  # pragma: no cover - a protocol has no body

    def connection_id(self) -> int:
        """Return the number of the worker."""
        ...  # pragma: no cover - a protocol has no body


def register_callbacks(
    endpoint: Endpoint, text: Callable[[], str], typed: Callable[[], list[TypedFamily]]
) -> None:
    """Register *text*, and *typed* where the endpoint takes one: it feeds another export."""
    metrics: Any = endpoint.metrics
    metrics.register_prometheus_expfmt_callback(text)
    register_typed = getattr(metrics, "register_prometheus_typed_callback", None)
    if callable(register_typed):
        register_typed(typed)
