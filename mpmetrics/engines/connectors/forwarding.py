"""What a composite hands on to all of its connectors, as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from mpmetrics.engines.connectors.calls import Children


def _forwarded(name: str, meaning: str) -> Callable[..., None]:
    """Return a method that calls the one called *name* of all, with what it is given."""

    def forward(self: Forwarding, *arguments: object, **named: object) -> None:
        self._children.all(name, *arguments, **named)

    forward.__name__ = name
    forward.__qualname__ = f"Forwarding.{name}"
    forward.__doc__ = f"{meaning}, in every connector."
    return forward


class Forwarding:
    """Tells all connectors of a composite what it is told, whatever they answer or raise."""

    def __init__(self, children: Children) -> None:
        """Tell these *children*."""
        self._children = children

    set_xfer_handshake_metadata = _forwarded(
        "set_xfer_handshake_metadata", "Take what the workers have said of themselves"
    )
    set_xfer_handshake_metadata_pp_aware = _forwarded(
        "set_xfer_handshake_metadata_pp_aware", "Take what the workers have said of themselves"
    )
    set_eagle_prefix_cache_hashing = _forwarded(
        "set_eagle_prefix_cache_hashing", "Take whether keys of the cache know what follows"
    )
    on_new_request = _forwarded("on_new_request", "Take note of a new request")
    bind_kv_cache_manager = _forwarded("bind_kv_cache_manager", "Take the manager of the cache")
    bind_gpu_block_pool = _forwarded("bind_gpu_block_pool", "Take the pool of blocks")
    register_cross_layers_kv_cache = _forwarded(
        "register_cross_layers_kv_cache", "Take the memory of the cache, in one piece"
    )
    register_kv_caches = _forwarded("register_kv_caches", "Take the memory of the cache")
    set_host_xfer_buffer_ops = _forwarded("set_host_xfer_buffer_ops", "Take the way to copy")
    start_load_kv = _forwarded("start_load_kv", "Begin to load")
    wait_for_layer_load = _forwarded("wait_for_layer_load", "Wait until a layer is loaded")
    save_kv_layer = _forwarded("save_kv_layer", "Begin to save a layer")
    wait_for_save = _forwarded("wait_for_save", "Wait until all is saved")
    finish_forward = _forwarded("finish_forward", "Take note that a step is computed")
    reset_capture_state = _forwarded("reset_capture_state", "Forget what was captured")
