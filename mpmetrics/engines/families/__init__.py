"""The families that engines emit, one table for each engine, and their registration.

The tables are data: reading them imports neither an engine nor prometheus_client.
`register_families` makes prometheus_client's metrics from rows of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpmetrics._lazy import lazy_exports

if TYPE_CHECKING:
    from mpmetrics.engines.families.dynamo import COMPONENT_FAMILIES, DYNAMO_FAMILIES
    from mpmetrics.engines.families.family import Family
    from mpmetrics.engines.families.lmcache import LMCACHE_FAMILIES
    from mpmetrics.engines.families.registration import register_families
    from mpmetrics.engines.families.vllm import KV_CONSUMER, VLLM_FAMILIES

_MODULES = {
    "dynamo": ["COMPONENT_FAMILIES", "DYNAMO_FAMILIES"],
    "family": ["Family"],
    "lmcache": ["LMCACHE_FAMILIES"],
    "registration": ["register_families"],
    "vllm": ["KV_CONSUMER", "VLLM_FAMILIES"],
}

__all__ = [
    "COMPONENT_FAMILIES",
    "DYNAMO_FAMILIES",
    "KV_CONSUMER",
    "LMCACHE_FAMILIES",
    "VLLM_FAMILIES",
    "Family",
    "register_families",
]

if not TYPE_CHECKING:  # or every name would pass for one of this module's
    __getattr__, __dir__ = lazy_exports(__name__, _MODULES, globals())
