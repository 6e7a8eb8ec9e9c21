"""The catalogue of what engines expose, and its registration with prometheus_client."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpmetrics._lazy import lazy_exports

if TYPE_CHECKING:
    from mpmetrics.engines.families.register import metrics_of
    from mpmetrics.engines.families.tables import DYNAMO_FAMILIES, VLLM_FAMILIES, Family

_MODULES = {
    "register": ["metrics_of"],
    "tables": ["DYNAMO_FAMILIES", "Family", "VLLM_FAMILIES"],
}

__all__ = [
    "DYNAMO_FAMILIES",
    "VLLM_FAMILIES",
    "Family",
    "metrics_of",
]

if not TYPE_CHECKING:  # or every name would pass for one of this module's
    __getattr__, __dir__ = lazy_exports(__name__, _MODULES, globals())
