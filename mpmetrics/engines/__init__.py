"""vLLM, LMCache and Dynamo on one correct page. No engine is ever imported.

`ensure_multiproc_dir` is to be called before anything imports prometheus_client, and it is imported
together with the other names here. So none of them imports it, or a module that does, before it is
called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpmetrics.engines.loading import lazily

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
    from mpmetrics.engines.debounce import DebounceTiming
    from mpmetrics.engines.directory import MultiprocDirectory, ensure_multiproc_dir
    from mpmetrics.engines.errors import (
        DebounceTimingError,
        EndpointBoundError,
        EventEndpointError,
        KvbmError,
        LoadError,
        MetricConflictError,
        NameSanitizingError,
        NatsOptionError,
        TokenLedgerError,
    )
    from mpmetrics.engines.events.bridge import EventBridge
    from mpmetrics.engines.events.natsoptions import NatsOptions
    from mpmetrics.engines.events.planes import NatsSink, ZmqSink
    from mpmetrics.engines.events.sinks import CallbackSink
    from mpmetrics.engines.gauges import ComponentGauges
    from mpmetrics.engines.kvbm import KvbmMetrics, kvbm_port, serve_kvbm
    from mpmetrics.engines.ledger import (
        IterationTokens,
        PrefillStats,
        PromptTokenStats,
        first_schedule,
        prefix_hit,
    )
    from mpmetrics.engines.load import ActiveLoad, WorkerLoadPublisher
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
    from mpmetrics.engines.senders import DynamoSender, NatsSender, ZmqSender
    from mpmetrics.engines.statlogger import StatLogger, StatLoggerFactory
    from mpmetrics.engines.tokens import TokenMetrics

_HOMES = {
    "ActiveLoad": "load",
    "CONNECTOR_FAMILIES": "connectors.declarations",
    "CallbackSink": "events.sinks",
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
    "DebounceTiming": "debounce",
    "DebounceTimingError": "errors",
    "DynamoSender": "senders",
    "EndpointBoundError": "errors",
    "EngineMonitor": "monitor",
    "EventBridge": "events.bridge",
    "EventEndpointError": "errors",
    "HybridCacheError": "connectors.errors",
    "IterationTokens": "ledger",
    "KVBM": "presets",
    "KvbmError": "errors",
    "KvbmMetrics": "kvbm",
    "LMCACHE": "presets",
    "LMCACHE_MP": "presets",
    "LoadError": "errors",
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
    "NatsOptionError": "errors",
    "NatsOptions": "events.natsoptions",
    "NatsSender": "senders",
    "NatsSink": "events.planes",
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
    "WorkerLoadPublisher": "load",
    "ZmqSender": "senders",
    "ZmqSink": "events.planes",
    "ensure_multiproc_dir": "directory",
    "first_schedule": "ledger",
    "kvbm_port": "kvbm",
    "offload_info": "connectors.declarations",
    "prefix_hit": "ledger",
    "register_engine_metrics_callback": "callbacks",
    "serve_kvbm": "kvbm",
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
    "ActiveLoad",
    "CallbackSink",
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
    "DebounceTiming",
    "DebounceTimingError",
    "DynamoSender",
    "EndpointBoundError",
    "EngineMonitor",
    "EventBridge",
    "EventEndpointError",
    "HybridCacheError",
    "IterationTokens",
    "KvbmError",
    "KvbmMetrics",
    "LoadError",
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
    "NatsOptionError",
    "NatsOptions",
    "NatsSender",
    "NatsSink",
    "PrefillStats",
    "PromptTokenStats",
    "StatLogger",
    "StatLoggerFactory",
    "SupportsHMA",
    "TokenLedgerError",
    "TokenMetrics",
    "TransferParamsClashError",
    "WorkerLoadPublisher",
    "ZmqSender",
    "ZmqSink",
    "ensure_multiproc_dir",
    "first_schedule",
    "kvbm_port",
    "offload_info",
    "prefix_hit",
    "register_engine_metrics_callback",
    "serve_kvbm",
    "setup_metrics_collection",
    "supports_hma",
]

__getattr__, __dir__ = lazily(__name__, _HOMES, globals())
