"""Dynamo: callbacks of an endpoint, the registry tree, gauges and KVBM."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpmetrics._lazy import lazy_exports

if TYPE_CHECKING:
    from mpmetrics.engines.dynamo.callbacks import register_engine_metrics_callback
    from mpmetrics.engines.dynamo.endpoint import Endpoint
    from mpmetrics.engines.dynamo.gauges import ComponentGauges
    from mpmetrics.engines.dynamo.kvbm import KvbmMetrics, kvbm_port, serve_kvbm
    from mpmetrics.engines.dynamo.registry import MetricsRegistry
    from mpmetrics.engines.dynamo.setup import MetricsSetup, setup_metrics_collection

_MODULES = {
    "callbacks": ["register_engine_metrics_callback"],
    "endpoint": ["Endpoint"],
    "gauges": ["ComponentGauges"],
    "kvbm": ["KvbmMetrics", "kvbm_port", "serve_kvbm"],
    "registry": ["MetricsRegistry"],
    "setup": ["MetricsSetup", "setup_metrics_collection"],
}

__all__ = [
    "ComponentGauges",
    "Endpoint",
    "KvbmMetrics",
    "MetricsRegistry",
    "MetricsSetup",
    "kvbm_port",
    "register_engine_metrics_callback",
    "serve_kvbm",
    "setup_metrics_collection",
]

if not TYPE_CHECKING:  # or every name would pass for one of this module's
    __getattr__, __dir__ = lazy_exports(__name__, _MODULES, globals())
