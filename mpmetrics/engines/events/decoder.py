"""The decoder of an engine's batches: the fast way for usual ones, event by event for others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpmetrics.engines.events.any_decoder import AnyDecoder
from mpmetrics.engines.events.fast_decoder import FastDecoder
from mpmetrics.engines.events.filtering import AttentionFilter

if TYPE_CHECKING:
    from mpmetrics.engines.events.batch import Batch


class Decoder:
    """A decoder of batches, which remembers the groups of layers of earlier ones."""

    def __init__(self) -> None:
        """Know no group. Raises `MissingExtraError`."""
        attention = AttentionFilter()
        self._decode_fast = FastDecoder(attention).decode
        self._decode_any = AnyDecoder(attention).decode

    def decode(self, payload: bytes, rank: int = 0) -> Batch | None:
        """Return the batch in *payload*, or None; it is of *rank* unless it names another one."""
        return self._decode_fast(payload, rank) or self._decode_any(payload, rank)
