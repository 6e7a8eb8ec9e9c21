"""vLLM's stat loggers, and a token ledger that stays consistent across prefill and decode.

`StatLogger` publishes and shows the load of a data-parallel rank; `TokenMetrics` counts tokens from
the ledger. vLLM itself is not imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpmetrics._lazy import lazy_exports

if TYPE_CHECKING:
    from mpmetrics.engines.vllm.stat_logger import StatLogger, StatLoggerFactory
    from mpmetrics.engines.vllm.token_ledger import (
        IterationTokens,
        PrefillStats,
        PromptTokenStats,
        first_schedule,
        prefix_hit,
    )
    from mpmetrics.engines.vllm.token_metrics import TokenMetrics

_MODULES = {
    "stat_logger": ["StatLogger", "StatLoggerFactory"],
    "token_ledger": [
        "IterationTokens",
        "PrefillStats",
        "PromptTokenStats",
        "first_schedule",
        "prefix_hit",
    ],
    "token_metrics": ["TokenMetrics"],
}

__all__ = [
    "IterationTokens",
    "PrefillStats",
    "PromptTokenStats",
    "StatLogger",
    "StatLoggerFactory",
    "TokenMetrics",
    "first_schedule",
    "prefix_hit",
]

if not TYPE_CHECKING:  # or every name would pass for one of this module's
    __getattr__, __dir__ = lazy_exports(__name__, _MODULES, globals())
