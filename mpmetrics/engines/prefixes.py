"""Prefixes of engines' family names, for prefix filters.

Wherever a prefix filter takes several prefixes, one of these constants may be among them.
"""

from __future__ import annotations

from typing import Final

VLLM: Final = "vllm:"
LMCACHE: Final = "lmcache:"

DYNAMO_COMPONENT: Final = ("dynamo_component:", "dynamo_component_")
"""The prefix that Dynamo's own code filters by, and the one that Dynamo really emits."""

SGLANG: Final = "sglang:"
TRTLLM: Final = "trtllm_"
KVBM: Final = "kvbm_"

LMCACHE_MP: Final = "lmcache_mp_"
"""LMCache as a server of its own: it serves its own page, and writes no files."""

RAY_VLLM: Final = "ray_vllm_"
"""vLLM under Ray, which rewrites the names."""
