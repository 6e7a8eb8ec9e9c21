"""The prefixes of what engines emit, to filter families by.

Wherever several prefixes are taken, one of these may be among them.
"""

from __future__ import annotations

from typing import Final

VLLM: Final = "vllm:"
LMCACHE: Final = "lmcache:"

DYNAMO_COMPONENT: Final = ("dynamo_component:", "dynamo_component_")
"""The name that is asked for, and the one that Dynamo really emits."""

SGLANG: Final = "sglang:"
TRTLLM: Final = "trtllm_"
KVBM: Final = "kvbm_"

LMCACHE_MP: Final = "lmcache_mp_"
"""LMCache as a server of its own: it has a page of its own, and writes no files."""

RAY_VLLM: Final = "ray_vllm_"
"""vLLM under Ray, which rewrites the names."""
