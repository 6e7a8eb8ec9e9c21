"""A configuration of vLLM under which all families exist, as far as metrics read it."""

from __future__ import annotations

from importlib import import_module
from typing import Any
from unittest.mock import MagicMock


def load(module: str) -> Any:
    """Import a *module* of an engine, which type checkers do not see."""
    return import_module(module)


def make_config(**more: Any) -> Any:
    """Return a configuration; what is not set here is something that is there."""
    config = load("vllm.config")
    made = MagicMock()
    made.model_config.served_model_name = "m"
    made.model_config.max_model_len = 32_768
    made.model_config.is_diffusion = False
    made.observability_config = config.ObservabilityConfig(
        kv_cache_metrics=True, enable_mfu_metrics=True
    )
    made.cache_config = config.CacheConfig()
    made.cache_config.num_gpu_blocks = 100
    made.speculative_config.num_speculative_tokens = 3
    made.ec_transfer_config = None
    made.kv_transfer_config = config.KVTransferConfig(
        kv_connector="NixlConnector", kv_role="kv_both"
    )
    for name, value in more.items():
        setattr(made, name, value)
    return made
