"""The gauges of a Dynamo component, as its other engines have them.

What is not known yet is absent, not 0: a series appears when its value is first set.
"""

from __future__ import annotations

from typing import Any

from mpmetrics.engines.families import DYNAMO_FAMILIES, register_families


class ComponentGauges:
    """Blocks, cache usage and hit rate by data-parallel rank, and the time to load the model.

    Of several processes the largest value counts (mode `max`). Any number of these, of any
    models, may share a registry.
    """

    def __init__(
        self,
        registry: Any = None,
        model_name: str = "",
        component_name: str = "",
    ) -> None:
        """Make the gauges in *registry* (None: the global one), unless they are there."""
        self._gauges = register_families(DYNAMO_FAMILIES, registry)
        self._who = {"model": model_name, "dynamo_component": component_name}

    def set_total_blocks(self, dp_rank: int | str, value: float | None) -> None:
        """Set how many blocks of KV cache there are; None: not known."""
        self._set("dynamo_component_total_blocks", value, dp_rank=str(dp_rank))

    def set_gpu_cache_usage(self, dp_rank: int | str, value: float | None) -> None:
        """Set which part of the blocks is in use, from 0 to 1; None: not known."""
        self._set("dynamo_component_gpu_cache_usage_percent", value, dp_rank=str(dp_rank))

    def set_kv_cache_hit_rate(self, dp_rank: int | str, value: float | None) -> None:
        """Set which part of the tokens was found in the cache, from 0 to 1; None: not known."""
        self._set("dynamo_component_kv_cache_hit_rate", value, dp_rank=str(dp_rank))

    def set_model_load_time(self, value: float | None) -> None:
        """Set how many seconds the model took to load; None: not known."""
        self._set("dynamo_component_model_load_time_seconds", value)

    def _set(self, name: str, value: float | None, **labels: str) -> None:
        if value is not None:
            self._gauges[name].labels(**self._who, **labels).set(value)
