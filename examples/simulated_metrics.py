"""The metrics of `vllm_simulation.py`, made from the catalogue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prometheus_client import Counter, Gauge, Histogram

if TYPE_CHECKING:
    from mpmetrics.engines.catalogue import Family

MODEL = "example/simulated-8b"
SERVED_AS = "simulated"
"""The model, and the name by which clients ask for it."""

_TYPES: dict[str, Any] = {"counter": Counter, "gauge": Gauge, "histogram": Histogram}


def make_metric(family: Family) -> Any:  # noqa: ANN401 - a metric of any type
    """Return a metric as the engine makes it."""
    options: dict[str, Any] = {
        "gauge": {"multiprocess_mode": family.mode},
        "histogram": {"buckets": family.buckets},
    }
    return _TYPES[family.type](
        family.name, family.help, family.labels, **options.get(family.type, {})
    )
