"""The gauges of a Dynamo component, as Dynamo's other engines have them.

A value that is not known yet is absent, not 0: a series appears when its value is first set.
"""

from __future__ import annotations

from typing import Any

from mpmetrics.engines.families import COMPONENT_FAMILIES, register_families


class ComponentGauges:
    """Blocks, cache usage and hit rate by data-parallel rank, and the time to load the model.

    The merged value of several processes is the largest (mode `max`, as Dynamo has it), unless
    another mode is asked for. Any number of instances, for any models, may share a registry; the
    mode is that of the first.
    """

    def __init__(
        self,
        registry: Any = None,
        model_name: str = "",
        component_name: str = "",
        *,
        multiprocess_mode: str = "max",
    ) -> None:
        """Make the gauges in *registry* (None: the global one), unless it has them.

        Take the *multiprocess_mode* `mostrecent` where each report of an engine reaches one of
        several processes, as with several API servers: what the others have is old.
        """
        families = [family._replace(mode=multiprocess_mode) for family in COMPONENT_FAMILIES]
        self._gauges = register_families(families, registry)
        self._labels = {"model": model_name, "dynamo_component": component_name}

    def set_total_blocks(self, dp_rank: int | str, value: float | None) -> None:
        """Set the number of blocks of KV cache; None: not known."""
        self._set("dynamo_component_total_blocks", value, dp_rank=str(dp_rank))

    def set_gpu_cache_usage(self, dp_rank: int | str, value: float | None) -> None:
        """Set the share of the blocks that is in use, from 0 to 1; None: not known."""
        self._set("dynamo_component_gpu_cache_usage_percent", value, dp_rank=str(dp_rank))

    def set_kv_cache_hit_rate(self, dp_rank: int | str, value: float | None) -> None:
        """Set the share of the tokens that was found in the cache, from 0 to 1; None: not known."""
        self._set("dynamo_component_kv_cache_hit_rate", value, dp_rank=str(dp_rank))

    def set_model_load_time(self, value: float | None) -> None:
        """Set the time that loading the model took, in seconds; None: not known."""
        self._set("dynamo_component_model_load_time_seconds", value)

    def _set(self, name: str, value: float | None, **labels: str) -> None:
        if value is not None:
            self._gauges[name].labels(**self._labels, **labels).set(value)
