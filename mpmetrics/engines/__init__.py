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
    from mpmetrics.engines.connectors.composite import MultiConnector
    from mpmetrics.engines.connectors.declarations import CONNECTOR_FAMILIES, offload_info
    from mpmetrics.engines.connectors.errors import (
        ConnectorConflictError,
        ConnectorDeclarationError,
        ConnectorDisagreementError,
        ConnectorMetadataError,
        ConnectorStatsError,
        HybridCacheError,
        TransferParamsClashError,
    )
    from mpmetrics.engines.connectors.families import ConnectorFamily, ConnectorSummary
    from mpmetrics.engines.connectors.metadata import (
        MultiConnectorMetadata,
        MultiConnectorWorkerMetadata,
    )
    from mpmetrics.engines.connectors.metrics import ConnectorMetrics, MultiConnectorMetrics
    from mpmetrics.engines.connectors.multistats import MultiConnectorStats
    from mpmetrics.engines.connectors.protocols import Connector, SupportsHMA, supports_hma
    from mpmetrics.engines.connectors.stats import ConnectorStats
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
    "CONNECTOR_FAMILIES": "connectors.declarations",
    "ComponentGauges": "gauges",
    "Connector": "connectors.protocols",
    "ConnectorConflictError": "connectors.errors",
    "ConnectorDeclarationError": "connectors.errors",
    "ConnectorDisagreementError": "connectors.errors",
    "ConnectorFamily": "connectors.families",
    "ConnectorMetadataError": "connectors.errors",
    "ConnectorMetrics": "connectors.metrics",
    "ConnectorStats": "connectors.stats",
    "ConnectorStatsError": "connectors.errors",
    "ConnectorSummary": "connectors.families",
    "DYNAMO_COMPONENT": "presets",
    "EndpointBoundError": "errors",
    "EngineMonitor": "monitor",
    "HybridCacheError": "connectors.errors",
    "IterationTokens": "ledger",
    "KVBM": "presets",
    "LMCACHE": "presets",
    "LMCACHE_MP": "presets",
    "MetricConflictError": "errors",
    "MetricsRegistry": "registry",
    "MetricsSetup": "collection",
    "MonitorTiming": "monitor",
    "MultiConnector": "connectors.composite",
    "MultiConnectorMetadata": "connectors.metadata",
    "MultiConnectorMetrics": "connectors.metrics",
    "MultiConnectorStats": "connectors.multistats",
    "MultiConnectorWorkerMetadata": "connectors.metadata",
    "MultiprocDirectory": "directory",
    "NameSanitizingError": "errors",
    "PrefillStats": "ledger",
    "PromptTokenStats": "ledger",
    "RAY_VLLM": "presets",
    "SGLANG": "presets",
    "StatLogger": "statlogger",
    "StatLoggerFactory": "statlogger",
    "SupportsHMA": "connectors.protocols",
    "TRTLLM": "presets",
    "TokenLedgerError": "errors",
    "TokenMetrics": "tokens",
    "TransferParamsClashError": "connectors.errors",
    "VLLM": "presets",
    "ensure_multiproc_dir": "directory",
    "first_schedule": "ledger",
    "offload_info": "connectors.declarations",
    "prefix_hit": "ledger",
    "register_engine_metrics_callback": "callbacks",
    "setup_metrics_collection": "collection",
    "supports_hma": "connectors.protocols",
}

__all__ = [
    "CONNECTOR_FAMILIES",
    "DYNAMO_COMPONENT",
    "KVBM",
    "LMCACHE",
    "LMCACHE_MP",
    "RAY_VLLM",
    "SGLANG",
    "TRTLLM",
    "VLLM",
    "ComponentGauges",
    "Connector",
    "ConnectorConflictError",
    "ConnectorDeclarationError",
    "ConnectorDisagreementError",
    "ConnectorFamily",
    "ConnectorMetadataError",
    "ConnectorMetrics",
    "ConnectorStats",
    "ConnectorStatsError",
    "ConnectorSummary",
    "EndpointBoundError",
    "EngineMonitor",
    "HybridCacheError",
    "IterationTokens",
    "MetricConflictError",
    "MetricsRegistry",
    "MetricsSetup",
    "MonitorTiming",
    "MultiConnector",
    "MultiConnectorMetadata",
    "MultiConnectorMetrics",
    "MultiConnectorStats",
    "MultiConnectorWorkerMetadata",
    "MultiprocDirectory",
    "NameSanitizingError",
    "PrefillStats",
    "PromptTokenStats",
    "StatLogger",
    "StatLoggerFactory",
    "SupportsHMA",
    "TokenLedgerError",
    "TokenMetrics",
    "TransferParamsClashError",
    "ensure_multiproc_dir",
    "first_schedule",
    "offload_info",
    "prefix_hit",
    "register_engine_metrics_callback",
    "setup_metrics_collection",
    "supports_hma",
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
