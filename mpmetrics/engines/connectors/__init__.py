"""KV connectors: what they declare and send, and a composite of several.

`ConnectorFamily` declares a metric of a connector, `ConnectorStats` and `MultiConnectorStats` carry
its numbers, `ConnectorMetrics` and `MultiConnectorMetrics` show them. `MultiConnector` is several
connectors as one; the interface of a connector, `Connector`, follows vLLM's. No engine is imported.

* Declared: `families` and `known_families`, found by `lookup`.
* Sent: `numbers`, which `stats` and `multistats` keep under `names`; `summaries` for the log.
* Shown: `metrics`, made by `registration`, filled by `recording`; `rejections` counts the rest.
* Composite: `composite` and `delegation`, which call connectors by `fan_out`, with `metadata`,
  `pending_saves`, `transfer_params`, `transfer_results`, `hit_sources`, and the `child_settings` of
  each. `protocols` has the interface of a connector.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpmetrics._lazy import lazy_exports

if TYPE_CHECKING:
    from mpmetrics.engines.connectors.composite import MultiConnector
    from mpmetrics.engines.connectors.errors import (
        ConnectorConflictError,
        ConnectorDeclarationError,
        ConnectorDisagreementError,
        ConnectorMetadataError,
        ConnectorStatsError,
        HybridCacheError,
        TransferParamsClashError,
    )
    from mpmetrics.engines.connectors.families import (
        ConnectorFamily,
        ConnectorSummary,
        FamilyCopy,
    )
    from mpmetrics.engines.connectors.known_families import (
        CONNECTOR_FAMILIES,
        HF3FS,
        HISPARSE,
        LMCACHE_MP,
        MOONCAKE,
        MOONCAKE_STORE,
        NIXL,
        OFFLOAD_SETTINGS,
        OFFLOADING,
        SIMPLE_OFFLOADING,
        UMBP,
        offload_info,
    )
    from mpmetrics.engines.connectors.metadata import (
        MultiConnectorMetadata,
        MultiConnectorWorkerMetadata,
    )
    from mpmetrics.engines.connectors.metrics import ConnectorMetrics, MultiConnectorMetrics
    from mpmetrics.engines.connectors.multistats import MultiConnectorStats
    from mpmetrics.engines.connectors.protocols import Connector, SupportsHMA, supports_hma
    from mpmetrics.engines.connectors.stats import ConnectorStats

_MODULES = {
    "composite": ["MultiConnector"],
    "errors": [
        "ConnectorConflictError",
        "ConnectorDeclarationError",
        "ConnectorDisagreementError",
        "ConnectorMetadataError",
        "ConnectorStatsError",
        "HybridCacheError",
        "TransferParamsClashError",
    ],
    "families": ["ConnectorFamily", "ConnectorSummary", "FamilyCopy"],
    "known_families": [
        "CONNECTOR_FAMILIES",
        "HF3FS",
        "HISPARSE",
        "LMCACHE_MP",
        "MOONCAKE",
        "MOONCAKE_STORE",
        "NIXL",
        "OFFLOADING",
        "OFFLOAD_SETTINGS",
        "SIMPLE_OFFLOADING",
        "UMBP",
        "offload_info",
    ],
    "metadata": ["MultiConnectorMetadata", "MultiConnectorWorkerMetadata"],
    "metrics": ["ConnectorMetrics", "MultiConnectorMetrics"],
    "multistats": ["MultiConnectorStats"],
    "protocols": ["Connector", "SupportsHMA", "supports_hma"],
    "stats": ["ConnectorStats"],
}

__all__ = [
    "CONNECTOR_FAMILIES",
    "HF3FS",
    "HISPARSE",
    "LMCACHE_MP",
    "MOONCAKE",
    "MOONCAKE_STORE",
    "NIXL",
    "OFFLOADING",
    "OFFLOAD_SETTINGS",
    "SIMPLE_OFFLOADING",
    "UMBP",
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
    "FamilyCopy",
    "HybridCacheError",
    "MultiConnector",
    "MultiConnectorMetadata",
    "MultiConnectorMetrics",
    "MultiConnectorStats",
    "MultiConnectorWorkerMetadata",
    "SupportsHMA",
    "TransferParamsClashError",
    "offload_info",
    "supports_hma",
]

if not TYPE_CHECKING:  # or every name would pass for one of this module's
    __getattr__, __dir__ = lazy_exports(__name__, _MODULES, globals())
