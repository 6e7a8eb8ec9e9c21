"""vLLM, LMCache and Dynamo on one correct page. No engine is ever imported.

`ensure_multiproc_dir` is to be called before anything imports prometheus_client, and it is imported
together with the other names here. So none of them imports it, or a module that does, before it is
called.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mpmetrics.engines.callbacks import register_engine_metrics_callback
    from mpmetrics.engines.collection import MetricsSetup, setup_metrics_collection
    from mpmetrics.engines.directory import MultiprocDirectory, ensure_multiproc_dir
    from mpmetrics.engines.errors import (
        EndpointBoundError,
        MetricConflictError,
        NameSanitizingError,
        TokenLedgerError,
    )
    from mpmetrics.engines.gauges import ComponentGauges
    from mpmetrics.engines.ledger import (
        IterationTokens,
        PrefillStats,
        PromptTokenStats,
        first_schedule,
        prefix_hit,
    )
    from mpmetrics.engines.monitor import EngineMonitor, MonitorTiming
    from mpmetrics.engines.presets import (
        DYNAMO_COMPONENT,
        KVBM,
        LMCACHE,
        LMCACHE_MP,
        RAY_VLLM,
        SGLANG,
        TRTLLM,
        VLLM,
    )
    from mpmetrics.engines.registry import MetricsRegistry
    from mpmetrics.engines.statlogger import StatLogger, StatLoggerFactory
    from mpmetrics.engines.tokens import TokenMetrics

_HOMES = {
    "ComponentGauges": "gauges",
    "DYNAMO_COMPONENT": "presets",
    "EndpointBoundError": "errors",
    "EngineMonitor": "monitor",
    "IterationTokens": "ledger",
    "KVBM": "presets",
    "LMCACHE": "presets",
    "LMCACHE_MP": "presets",
    "MetricConflictError": "errors",
    "MetricsRegistry": "registry",
    "MetricsSetup": "collection",
    "MonitorTiming": "monitor",
    "MultiprocDirectory": "directory",
    "NameSanitizingError": "errors",
    "PrefillStats": "ledger",
    "PromptTokenStats": "ledger",
    "RAY_VLLM": "presets",
    "SGLANG": "presets",
    "StatLogger": "statlogger",
    "StatLoggerFactory": "statlogger",
    "TRTLLM": "presets",
    "TokenLedgerError": "errors",
    "TokenMetrics": "tokens",
    "VLLM": "presets",
    "ensure_multiproc_dir": "directory",
    "first_schedule": "ledger",
    "prefix_hit": "ledger",
    "register_engine_metrics_callback": "callbacks",
    "setup_metrics_collection": "collection",
}

__all__ = [
    "DYNAMO_COMPONENT",
    "KVBM",
    "LMCACHE",
    "LMCACHE_MP",
    "RAY_VLLM",
    "SGLANG",
    "TRTLLM",
    "VLLM",
    "ComponentGauges",
    "EndpointBoundError",
    "EngineMonitor",
    "IterationTokens",
    "MetricConflictError",
    "MetricsRegistry",
    "MetricsSetup",
    "MonitorTiming",
    "MultiprocDirectory",
    "NameSanitizingError",
    "PrefillStats",
    "PromptTokenStats",
    "StatLogger",
    "StatLoggerFactory",
    "TokenLedgerError",
    "TokenMetrics",
    "ensure_multiproc_dir",
    "first_schedule",
    "prefix_hit",
    "register_engine_metrics_callback",
    "setup_metrics_collection",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the name stands for
    """Load a public name on first use."""
    if name not in _HOMES:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names, loaded or not."""
    return sorted({*globals(), *__all__})
