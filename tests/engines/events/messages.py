"""Messages as engines send them, as maps or as arrays."""

from __future__ import annotations

from typing import Any

import msgspec

pack = msgspec.msgpack.Encoder().encode
unpack = msgspec.msgpack.Decoder().decode


def stored(
    *hashes: Any, parent: Any = None, tokens: Any = None, size: int = 2, **more: Any
) -> dict[str, Any]:
    """Return a store as a map, with *more* fields."""
    given = list(range(size * len(hashes))) if tokens is None else tokens
    return {
        "type": "BlockStored",
        "block_hashes": list(hashes),
        "parent_block_hash": parent,
        "token_ids": given,
        "block_size": size,
        "lora_id": None,
        "medium": "GPU",
        "lora_name": None,
        **more,
    }


def removed(*hashes: Any, **more: Any) -> dict[str, Any]:
    """Return a removal as a map, with *more* fields."""
    return {"type": "BlockRemoved", "block_hashes": list(hashes), "medium": "GPU", **more}


CLEARED = {"type": "AllBlocksCleared"}


def batch(*events: Any, ts: float = 1.0, rank: int | None = None) -> bytes:
    """Return the payload of a message."""
    return pack([ts, list(events)] if rank is None else [ts, list(events), rank])
