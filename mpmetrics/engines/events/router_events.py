"""Events in the form of Dynamo's routers, which know blocks by a hash of their tokens, too."""

from __future__ import annotations

import struct
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from mpmetrics.engines.events.batch import CONVERSION, EMPTY_STORE
from mpmetrics.engines.events.model import (
    DEVICE,
    DISK,
    EXTERNAL,
    HASHES,
    HOST,
    Cleared,
    Event,
    Removed,
    Stored,
)
from mpmetrics.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_TIERS: Final = {DEVICE: "device", HOST: "host_pinned", DISK: "disk", EXTERNAL: "external"}

_SEED: Final = 1337
"""The seed with which Dynamo hashes the tokens of a block; it adds the hash of a LoRA's name."""

MOST_SALTED: Final = 1 << 20
"""The largest number of blocks of salted requests that are known of a rank."""


class RouterEventConverter:
    """A converter for the events of one worker. It numbers those of each rank from 1."""

    def __init__(
        self,
        worker_id: int,
        block_size: int | None = None,
        pip_extra: str = "nats",
        *,
        most_salted: int = MOST_SALTED,
    ) -> None:
        """Convert for *worker_id*; leave out blocks of another size than *block_size*.

        Of the blocks of salted requests *most_salted* are known of each rank. Raises
        `MissingExtraError`, which names *pip_extra* as the extra to install.
        """
        try:
            import xxhash  # only publishing needs it
        except ImportError as error:
            raise MissingExtraError(package="xxhash", extra=pip_extra) from error
        self._hash: Callable[..., int] = xxhash.xxh3_64_intdigest
        self._worker_id = worker_id
        self._block_size = block_size
        self._numbers: Counter[int] = Counter()
        self._most_salted = most_salted
        self._salted: dict[int, dict[int, None]] = {}

    def skip(self, dropped: Mapping[int, int]) -> None:
        """Skip the numbers of *dropped* events, counted by rank, so that routers see the gap."""
        self._numbers.update(dropped)

    def convert(self, event: Event) -> dict[str, Any] | str:
        """Return *event* in the form of routers, or the reason for leaving it out."""
        match event:
            case Stored():
                blocks = self._convert_blocks(event)
                if isinstance(blocks, str):
                    return blocks
                stored = {"parent_hash": event.parent, "start_position": None, "blocks": blocks}
                return self._number(event.rank, event.medium, {"stored": stored})
            case Removed():
                if salted := self._salted.get(event.rank):
                    for block in event.hashes:
                        salted.pop(block, None)
                removed = {"block_hashes": event.hashes}
                return self._number(event.rank, event.medium, {"removed": removed})
            case Cleared():
                self._salted.pop(event.rank, None)
                return self._number(event.rank, DEVICE, "cleared")

    def _number(self, rank: int, medium: str, data: object) -> dict[str, Any]:
        """Return the next event of *rank*, with *data*."""
        self._numbers[rank] += 1
        return {
            "worker_id": self._worker_id,
            "storage_tier": _TIERS[medium],
            "residency_domain": "worker",
            "event": {"event_id": self._numbers[rank], "data": data, "dp_rank": rank},
        }

    def _convert_blocks(self, event: Stored) -> list[dict[str, Any]] | str:
        """Return the blocks with the hashes of their tokens, or the reason for leaving them out."""
        if self._is_salted(event):
            return CONVERSION
        size = event.block_size
        if not event.tokens or not size or len(event.tokens) != size * len(event.hashes):
            return EMPTY_STORE
        if self._block_size not in {None, size}:
            return EMPTY_STORE
        hashes = self._hash_tokens(event.tokens, size, event.lora)
        if hashes is None:
            return CONVERSION
        return [
            {"block_hash": block, "tokens_hash": tokens, "mm_extra_info": None}
            for block, tokens in zip(event.hashes, hashes, strict=True)
        ]

    def _is_salted(self, event: Stored) -> bool:
        """Return whether *event* is salted or continues a salted block; remember its blocks if so.

        How Dynamo hashes the salt is not known here, and it changes all blocks that follow.
        """
        salted = self._salted.setdefault(event.rank, {})
        if not event.salted and event.parent not in salted:
            return False
        salted.update(dict.fromkeys(event.hashes))
        if len(salted) > self._most_salted:  # their removals may have been dropped
            for block in [*islice(salted, 1 + self._most_salted // 8)]:
                del salted[block]
        return True

    def _hash_tokens(self, tokens: Sequence[Any], size: int, lora: str | None) -> list[int] | None:
        """Return a hash for each block of tokens, None if they are not numbers of 32 bits."""
        try:
            packed = struct.pack(f"<{len(tokens)}I", *tokens)
        except struct.error:
            return None
        seed = (_SEED + self._hash(lora.encode()) if lora else _SEED) & HASHES
        step = 4 * size
        return [
            self._hash(packed[start : start + step], seed=seed)
            for start in range(0, len(packed), step)
        ]
