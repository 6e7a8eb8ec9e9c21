"""The source of cached tokens that no connector tells."""

from __future__ import annotations

import sys
from typing import Any, Final

UNSPECIFIED: Final = "external_unspecified"
"""The value of vLLM's `CacheHitSource.EXTERNAL_UNSPECIFIED`."""

_MODULE: Final = "vllm.v1.metrics.cache_hit_source"


def unspecified_hits(num_external_tokens: int) -> dict[Any, int]:
    """Return the sources of tokens whose connector does not tell them: only counts above 0.

    In a process that has imported vLLM, the key is vLLM's own, which equals the text.
    """
    if not num_external_tokens:
        return {}
    sources = getattr(sys.modules.get(_MODULE), "CacheHitSource", None)
    return {getattr(sources, "EXTERNAL_UNSPECIFIED", UNSPECIFIED): num_external_tokens}
