"""Dynamo: the page of an endpoint, a registry tree, and metrics that Dynamo's dashboards know.

`setup` and `callbacks` register callbacks with an `endpoint`. Their `sources` are gathered and
joined as one `shared_page`, found by `runtime_pages`; `callback_shares` divides it among the
callbacks, and `encoders` write it. `registry` is the tree, joined by `registry_tree`, of
`labelled_metrics` with names from `sanitize`. `labels` has those of a worker, `gauges` the gauges
of a component, `kvbm` the metrics of the KV block manager, with `kvbm_families` and `kvbm_server`.

Names are loaded on first use, because many modules here import prometheus_client. The modules
that do not, import the others inside functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpmetrics._lazy import lazy_exports

if TYPE_CHECKING:
    from mpmetrics.engines.dynamo.callbacks import register_engine_metrics_callback
    from mpmetrics.engines.dynamo.endpoint import Endpoint
    from mpmetrics.engines.dynamo.gauges import ComponentGauges
    from mpmetrics.engines.dynamo.kvbm import KvbmMetrics
    from mpmetrics.engines.dynamo.kvbm_server import kvbm_port, serve_kvbm
    from mpmetrics.engines.dynamo.registry import MetricsRegistry
    from mpmetrics.engines.dynamo.setup import MetricsSetup, setup_metrics_collection

_MODULES = {
    "callbacks": ["register_engine_metrics_callback"],
    "endpoint": ["Endpoint"],
    "gauges": ["ComponentGauges"],
    "kvbm": ["KvbmMetrics"],
    "kvbm_server": ["kvbm_port", "serve_kvbm"],
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

if not TYPE_CHECKING:  # otherwise type checkers would accept any name of this module
    __getattr__, __dir__ = lazy_exports(__name__, _MODULES, globals())
