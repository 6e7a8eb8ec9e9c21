"""The methods of a composite that need no state: they call all connectors, and reduce the answers.

Some reduce them to one answer, and some only forward the call and return nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from mpmetrics.engines.connectors.child_settings import split_config, split_extra
from mpmetrics.engines.connectors.errors import ConnectorDisagreementError

if TYPE_CHECKING:
    from collections.abc import Callable

    from mpmetrics.engines.connectors.fan_out import Children

_POOLS: Final = "Multiple connectors provide a KV cache memory pool, and it can be in one only"
_COUNTS: Final = "connectors wait for different numbers of workers to finish"
_LAYOUTS: Final = "connectors need different layouts of the KV cache"


def _forward(name: str, summary: str) -> Callable[..., None]:
    """Return a method that calls the method *name* of every connector with its own arguments."""

    def forward(self: Delegation, *arguments: object, **named: object) -> None:
        self._children.call_all(name, *arguments, **named)

    forward.__name__ = name
    forward.__qualname__ = f"Delegation.{name}"
    forward.__doc__ = f"{summary}, in every connector."
    return forward


class Delegation:
    """The part of a composite that delegates to all of its connectors."""

    def __init__(self, children: Children) -> None:
        """Delegate to these *children*."""
        self._children = children

    # -- Reduced to one answer ---------------------------------------------------------------------

    @property
    def supports_divergent_local_hybrid_hits(self) -> bool:
        """Whether every connector supports local hits of different lengths; False without any."""
        return self._all_have("supports_divergent_local_hybrid_hits")

    @property
    def requires_kv_delivery(self) -> bool:
        """Whether any connector requires the delivery of the KV cache."""
        return any(self._children.read_flags("requires_kv_delivery"))

    @property
    def prefer_cross_layer_blocks(self) -> bool:
        """Whether every connector prefers blocks across all layers; False without any."""
        return self._all_have("prefer_cross_layer_blocks")

    @property
    def role(self) -> Any:
        """The role of the connectors, scheduler or worker; None if no connector has one."""
        return next(
            filter(None, (getattr(c, "role", None) for c in self._children.connectors)), None
        )

    def _all_have(self, flag: str) -> bool:
        flags = self._children.read_flags(flag)
        return bool(flags) and all(flags)

    def supports_sleep_mode(self, kv_transfer_config: Any = None) -> bool:
        """Return whether every connector can follow the sleep mode; False without any.

        Each is asked with its own part of the configuration. A connector without the method can.
        """
        configs = split_config(kv_transfer_config, len(self._children))
        answers = self._children.call_each("supports_sleep_mode", [(each,) for each in configs])
        return bool(answers) and all(answers)

    def requires_piecewise_for_cudagraph(self, extra_config: Any = None) -> bool:
        """Return whether any connector requires CUDA graphs in pieces.

        Each is asked with its own part of the settings.
        """
        settings = split_extra({} if extra_config is None else extra_config, len(self._children))
        asked = [(each,) for each in settings]
        return any(self._children.call_each("requires_piecewise_for_cudagraph", asked))

    def get_kv_connector_kv_cache_events(self) -> None:
        """Return None, as vLLM's composite does: such events have no part for each connector."""

    def get_finished_count(self) -> Any:
        """Return how many workers have to finish, None if any connector returns None.

        Raises `ConnectorDisagreementError` when two numbers differ.
        """
        counts = self._children.call_all("get_finished_count")
        return None if None in counts else self._children.agree(_COUNTS, counts)

    def get_required_kvcache_layout(self, *arguments: object) -> Any:
        """Return the layout that the connectors require, None if none requires one.

        Raises `ConnectorDisagreementError` when two layouts differ.
        """
        layouts = self._children.call_all("get_required_kvcache_layout", *arguments)
        return self._children.agree(_LAYOUTS, layouts)

    def register_finished_partial_tail(self, *arguments: object) -> bool:
        """Pass on the last, partly filled block of a request; return whether any takes it."""
        return any(self._children.call_all("register_finished_partial_tail", *arguments))

    def has_pending_block_frees(self) -> bool:
        """Return whether any connector has blocks that it will free later."""
        return any(self._children.call_all("has_pending_block_frees"))

    def has_pending_push_work(self) -> bool:
        """Return whether any connector has data that it will push later."""
        return any(self._children.call_all("has_pending_push_work"))

    def reset_cache(self) -> bool:
        """Reset the caches of all connectors; return whether none has failed."""
        return all(answer is not False for answer in self._children.call_all("reset_cache"))

    def get_block_ids_with_load_errors(self) -> set[int]:
        """Return the blocks that any connector has failed to load."""
        answers = self._children.call_all("get_block_ids_with_load_errors")
        return {block for blocks in answers for block in blocks or ()}

    def get_handshake_metadata(self) -> Any:
        """Return the handshake metadata of the first connector that has any, else None."""
        found = self._children.pair_given(self._children.call_all("get_handshake_metadata"))
        return found[0][1] if found else None

    def get_mem_pool_context(self) -> Any:
        """Return the memory pool of the one connector that has a pool, else None.

        Raises `ConnectorDisagreementError` when several connectors have one.
        """
        found = self._children.pair_given(self._children.call_all("get_mem_pool_context"))
        if len(found) > 1:
            raise ConnectorDisagreementError(_POOLS, found)
        return found[0][1] if found else None

    # -- Forwarded ---------------------------------------------------------------------------------

    set_xfer_handshake_metadata = _forward(
        "set_xfer_handshake_metadata", "Take the handshake metadata of the workers"
    )
    set_xfer_handshake_metadata_pp_aware = _forward(
        "set_xfer_handshake_metadata_pp_aware", "Take the handshake metadata of the workers"
    )
    set_eagle_prefix_cache_hashing = _forward(
        "set_eagle_prefix_cache_hashing", "Take whether cache keys depend on the next token"
    )
    on_new_request = _forward("on_new_request", "Note a new request")
    bind_kv_cache_manager = _forward("bind_kv_cache_manager", "Take the manager of the cache")
    bind_gpu_block_pool = _forward("bind_gpu_block_pool", "Take the pool of blocks")
    register_cross_layers_kv_cache = _forward(
        "register_cross_layers_kv_cache", "Take the memory of the cache, in one piece"
    )
    register_kv_caches = _forward("register_kv_caches", "Take the memory of the cache")
    unregister_kv_caches = _forward(
        "unregister_kv_caches", "Let go of the memory of the cache, before the engine sleeps"
    )
    restore_kv_caches = _forward(
        "restore_kv_caches", "Take the memory of the cache again, once the engine is awake"
    )
    set_host_xfer_buffer_ops = _forward("set_host_xfer_buffer_ops", "Take the copy operation")
    start_load_kv = _forward("start_load_kv", "Start to load")
    wait_for_layer_load = _forward("wait_for_layer_load", "Wait until a layer is loaded")
    save_kv_layer = _forward("save_kv_layer", "Start to save a layer")
    wait_for_save = _forward("wait_for_save", "Wait until all is saved")
    finish_forward = _forward("finish_forward", "Note that a step is computed")
    reset_capture_state = _forward("reset_capture_state", "Drop what was captured")
