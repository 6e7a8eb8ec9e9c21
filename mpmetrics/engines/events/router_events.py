"""Events in the words of Dynamo's routers, which know blocks by a hash of their tokens, too."""

from __future__ import annotations

import struct
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from mpmetrics.engines.events.decoder import CONVERSION, EMPTY
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
"""With which Dynamo hashes the tokens of a block; the hash of a LoRA's name is added to it."""

MOST_SALTED: Final = 1 << 20
"""Blocks of salted requests of a rank that are known at the most; the oldest are forgotten."""


class Router:
    """Numbers and converts the events of one worker. The numbers of each rank begin with 1."""

    def __init__(self, worker_id: int, block_size: int | None = None, extra: str = "nats") -> None:
        """Convert for *worker_id*; blocks of another than this *block_size* are left out.

        Raises `MissingExtraError` for the *extra* that brings what is needed.
        """
        try:
            import xxhash  # only who publishes needs it
        except ImportError as error:
            raise MissingExtraError(package="xxhash", extra=extra) from error
        self._hash: Callable[..., int] = xxhash.xxh3_64_intdigest
        self._worker_id = worker_id
        self._block_size = block_size
        self._numbers: Counter[int] = Counter()
        self._salted: dict[int, dict[int, None]] = {}

    def skip(self, dropped: Mapping[int, int]) -> None:
        """Leave out numbers for events that are lost, by rank, so that routers see the gap."""
        self._numbers.update(dropped)

    def convert(self, event: Event) -> dict[str, Any] | str:
        """Return *event* as routers take it, or why that cannot be done."""
        data = self._CONVERSIONS[type(event)](self, event)
        if data in {CONVERSION, EMPTY} if isinstance(data, str) else False:
            return str(data)
        self._numbers[event.rank] += 1
        tier = DEVICE if isinstance(event, Cleared) else event.medium
        return {
            "worker_id": self._worker_id,
            "storage_tier": _TIERS[tier],
            "residency_domain": "worker",
            "event": {
                "event_id": self._numbers[event.rank],
                "data": data,
                "dp_rank": event.rank,
            },
        }

    def _stored(self, event: Stored) -> object:
        """Return the blocks with the hashes of their tokens, as far as all of those are known."""
        salted = self._salted.setdefault(event.rank, {})
        if event.salted or event.parent in salted:
            # What Dynamo makes of the salt is not known here, and it goes for all that follows.
            salted.update(dict.fromkeys(event.hashes))
            # Their removals may have been dropped.
            if len(salted) > MOST_SALTED:
                for block in [*islice(salted, 1 + MOST_SALTED // 8)]:
                    del salted[block]
            return CONVERSION
        size = event.block_size
        if not event.tokens or not size or len(event.tokens) != size * len(event.hashes):
            return EMPTY
        if self._block_size not in {None, size}:
            return EMPTY
        hashes = self._hashes_of_tokens(event.tokens, size, event.lora)
        if hashes is None:
            return CONVERSION
        blocks = [
            {"block_hash": block, "tokens_hash": tokens, "mm_extra_info": None}
            for block, tokens in zip(event.hashes, hashes, strict=True)
        ]
        return {"stored": {"parent_hash": event.parent, "start_position": None, "blocks": blocks}}

    def _hashes_of_tokens(
        self, tokens: Sequence[Any], size: int, lora: str | None
    ) -> list[int] | None:
        """Return a hash for each block of tokens, None if they are no numbers of 32 bits."""
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

    def _removed(self, event: Removed) -> object:
        if salted := self._salted.get(event.rank):
            for block in event.hashes:
                salted.pop(block, None)
        return {"removed": {"block_hashes": event.hashes}}

    def _cleared(self, event: Cleared) -> object:
        self._salted.pop(event.rank, None)
        return "cleared"

    _CONVERSIONS: Final[Mapping[type, Callable[[Router, Any], object]]] = {
        Stored: _stored,
        Removed: _removed,
        Cleared: _cleared,
    }
