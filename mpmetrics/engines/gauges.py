"""The gauges of a Dynamo component, as its other engines have them.

What is not known yet is absent, not 0: a series appears when its value is first set.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from prometheus_client import REGISTRY, Gauge

if TYPE_CHECKING:
    from collections.abc import Mapping

_OF_RANK: Final = ("model", "dynamo_component", "dp_rank")
_OF_MODEL: Final = ("model", "dynamo_component")


class _Definition(NamedTuple):
    help: str
    labels: tuple[str, ...]


_DEFINITIONS: Final[Mapping[str, _Definition]] = {
    "dynamo_component_total_blocks": _Definition("KV cache blocks of the worker", _OF_RANK),
    "dynamo_component_gpu_cache_usage_percent": _Definition(
        "Part of the KV cache that is in use, from 0 to 1", _OF_RANK
    ),
    "dynamo_component_kv_cache_hit_rate": _Definition(
        "Part of the tokens last looked up that the prefix cache had, from 0 to 1", _OF_RANK
    ),
    "dynamo_component_model_load_time_seconds": _Definition(
        "Time that it took to load the model", _OF_MODEL
    ),
}

_made: weakref.WeakKeyDictionary[Any, dict[str, Gauge]] = weakref.WeakKeyDictionary()


class ComponentGauges:
    """Blocks, cache usage and hit rate by data-parallel rank, and the time to load the model.

    Of several processes the largest value counts (mode `max`). Any number of these, of any
    models, may share a registry.
    """

    def __init__(
        self,
        registry: Any = None,  # noqa: ANN401 - registries are duck-typed
        model_name: str = "",
        component_name: str = "",
    ) -> None:
        """Make the gauges in *registry* (None: the global one), unless they are there."""
        self._gauges = _gauges(REGISTRY if registry is None else registry)
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


def _gauges(registry: Any) -> dict[str, Gauge]:  # noqa: ANN401 - registries are duck-typed
    """Return the gauges of *registry*, made when it is first asked for them."""
    if registry not in _made:
        _made[registry] = {
            name: Gauge(
                name,
                definition.help,
                definition.labels,
                multiprocess_mode="max",
                registry=registry,
            )
            for name, definition in _DEFINITIONS.items()
        }
    return _made[registry]
