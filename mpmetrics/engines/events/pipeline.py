"""The way from the messages of an engine to the events that are passed on, with all counts."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Final

from mpmetrics.engines.events.batch import FILTERED, UNDECODABLE
from mpmetrics.engines.events.block_counts import MOST_BLOCKS_KNOWN, BlockCounts
from mpmetrics.engines.events.decoder import Decoder
from mpmetrics.engines.events.model import DEVICE, Cleared, Event, Removed, Stored
from mpmetrics.engines.events.prefix_lengths import PrefixLengths

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mpmetrics.engines.events.joiner import EventJoiner

    Emit = Callable[[Sequence[Event]], None]
    Tally = Counter[tuple[str | int, ...]]

_MOST_READY: Final = 1024
"""The largest number of events that wait for a `tick`: more at once may be too many for a sink."""


class Pipeline:
    """The decoding, filtering and counting of events, on their way to *emit*; for one thread only.

    The *tally* counts by the name of a metric and the values of its labels. The *block_counts*
    count what becomes of blocks. The *connections* say whether a publisher is there, by its rank
    and by the name of its endpoint.
    """

    def __init__(
        self,
        emit: Emit,
        *,
        wall: Callable[[], float],
        joiner: EventJoiner | None = None,
        most_blocks: int = MOST_BLOCKS_KNOWN,
    ) -> None:
        """Pass events to *emit*, joined by *joiner* if there is one; *wall* returns the time.

        Of one rank in one medium *most_blocks* blocks are known.
        """
        self.tally: Tally = Counter()
        self.block_counts = BlockCounts(most_blocks)
        self.prefixes: dict[int, PrefixLengths] = {}
        self.lags: dict[int, float] = {}
        self.connections: dict[tuple[int, str], bool] = {}
        self._emit = emit
        self._wall = wall
        self._joiner = joiner
        self._decoder = Decoder()
        self._ready: list[Event] = []

    @property
    def deadline(self) -> float | None:
        """The latest time for the next `tick`, None if none is needed."""
        return None if self._joiner is None else self._joiner.deadline

    def take(self, payload: bytes, rank: int, now: float, publisher: int = 0) -> int:
        """Take a message of a *publisher* of *rank*; return the rank that it names, or *rank*.

        *publisher* is a number. Its events wait for the next `tick`, unless they are many.
        """
        batch = self._decoder.decode(payload, rank)
        if batch is None:
            self.tally["problems", UNDECODABLE] += 1
            return rank
        self.tally["batches", batch.rank] += 1
        if 0 <= batch.timestamp < math.inf:  # else it is the time of no clock
            self.lags[batch.rank] = max(0.0, self._wall() - batch.timestamp)
        for kind, how, reason in batch.refused:
            self.tally["filtered" if how == FILTERED else "issues", kind, reason] += 1
        count = self._count
        left = [count(event, publisher) for event in batch.events]
        self._keep([event for event in left if event is not None], now)
        return batch.rank

    def clear(self, rank: int, now: float) -> None:
        """Remove all blocks of *rank*, since its engine was restarted."""
        event = Cleared(rank)
        self._forget(event)
        self._keep([event], now)

    def doubt(self, rank: int) -> None:
        """Take the removals of *rank* as uncertain, since messages are lost."""
        for blocks in self.block_counts.of_rank(rank):
            blocks.doubt()

    def tick(self, now: float) -> None:
        """Send the events that are ready or due."""
        if self._joiner is not None:
            self._ready += self._joiner.take_due(now)
        self._send()

    def flush(self) -> None:
        """Send all events that wait."""
        if self._joiner is not None:
            self._ready += self._joiner.flush()
        self._send()

    def _keep(self, events: list[Event], now: float) -> None:
        self._ready += events if self._joiner is None else self._joiner.add(events, now)
        if len(self._ready) >= _MOST_READY:
            self._send()

    def _send(self) -> None:
        if self._ready:
            ready, self._ready = self._ready, []
            self._emit(ready)

    def _count(self, event: Event, publisher: int) -> Event | None:
        """Count *event* of *publisher*; return what is to be passed on of it."""
        match event:
            case Stored():
                self._store(event, publisher)
                return event
            case Removed():
                return self._remove(event, publisher)
            case Cleared():
                self.tally["accepted", "cleared"] += 1
                self._forget(event)
                return event

    def _store(self, event: Stored, publisher: int) -> None:
        self.tally["accepted", "stored"] += 1
        rank, medium, hashes = event.rank, event.medium, event.hashes
        blocks = self.block_counts.in_medium(rank, medium)
        is_new = hashes[0] not in blocks
        forgotten = blocks.store(hashes, publisher)
        if medium == DEVICE:
            prefixes = self.prefixes.get(rank)
            if prefixes is None:
                prefixes = self.prefixes[rank] = PrefixLengths()
                self.tally["hits", rank] += 0
            if found := prefixes.store(event, is_new=is_new):
                self.tally["hits", rank] += found
            if forgotten:
                prefixes.remove(forgotten)

    def _remove(self, event: Removed, publisher: int) -> Removed | None:
        """Take *publisher* from the holders; return a removal of the blocks that have none left."""
        self.tally["accepted", "removed"] += 1
        rank, medium, hashes = event.rank, event.medium, event.hashes
        gone = self.block_counts.in_medium(rank, medium).remove(hashes, publisher)
        if medium == DEVICE and rank in self.prefixes:
            self.prefixes[rank].remove(gone)
        if len(gone) == len(hashes):
            return event if gone else None
        return event._replace(hashes=gone) if gone else None

    def _forget(self, event: Cleared) -> None:
        for blocks in self.block_counts.of_rank(event.rank):
            blocks.clear()
        self.prefixes.pop(event.rank, None)
