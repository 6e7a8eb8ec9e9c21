"""The families of a Dynamo component, as the stat loggers of this project show them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mpmetrics.engines.families.family import Family

if TYPE_CHECKING:
    from collections.abc import Sequence

_RANK: Final = ("model", "dynamo_component", "dp_rank")

DYNAMO_FAMILIES: Final[Sequence[Family]] = (
    Family("dynamo_component_total_blocks", "gauge", _RANK, "Blocks of the KV cache", "max"),
    Family(
        "dynamo_component_gpu_cache_usage_percent",
        "gauge",
        _RANK,
        "Share of the KV cache that is in use, 0 to 1",
        "max",
    ),
    Family(
        "dynamo_component_kv_cache_hit_rate",
        "gauge",
        _RANK,
        "Share of the tokens last looked for that the prefix cache had, 0 to 1",
        "max",
    ),
    Family(
        "dynamo_component_model_load_time_seconds",
        "gauge",
        _RANK[:2],
        "Time that it took to load the model",
        "max",
    ),
)
