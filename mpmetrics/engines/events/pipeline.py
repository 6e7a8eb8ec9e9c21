"""From the messages of an engine to the events that others are told of, counted on the way."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from mpmetrics.engines.events.block_counts import PrefixLengths, References
from mpmetrics.engines.events.decoder import FILTERED, UNDECODABLE, Decoder
from mpmetrics.engines.events.model import DEVICE, Cleared, Event, Removed, Stored

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mpmetrics.engines.events.batcher import Batcher

    Emit = Callable[[Sequence[Event]], None]
    Tally = Counter[tuple[str | int, ...]]

_MOST_READY: Final = 1024
"""Events that wait for a `tick` at the most: more at once may be too many for who takes them."""


class Pipeline:
    """Decodes, filters and counts; what passes is given to *emit*. For one thread only.

    The *tally* counts by the name of a metric and the values of its labels; what becomes of blocks
    is counted in their *references*.
    """

    def __init__(
        self,
        emit: Emit,
        *,
        wall: Callable[[], float],
        batcher: Batcher | None = None,
    ) -> None:
        """Give events to *emit*, joined by the *batcher* if there is one; *wall* is the time."""
        self.tally: Tally = Counter()
        self.references = References()
        self.lags: dict[int, float] = {}
        self._emit = emit
        self._wall = wall
        self._batcher = batcher
        self._decoder = Decoder()
        self._prefixes: dict[int, PrefixLengths] = {}
        self._ready: list[Event] = []

    @property
    def deadline(self) -> float | None:
        """When `tick` is to be called at the latest, None if there is no need."""
        return None if self._batcher is None else self._batcher.deadline

    def take(self, payload: bytes, rank: int, now: float) -> int:
        """Take a message that came from the publisher of *rank*; return whose blocks it is of.

        What comes of it waits for the next `tick`, unless it is much.
        """
        batch = self._decoder.decode(payload, rank)
        if batch is None:
            self.tally["problems", UNDECODABLE] += 1
            return rank
        self.tally["batches", batch.rank] += 1
        lag = self._wall() - batch.timestamp
        if math.isfinite(lag):
            self.lags[batch.rank] = max(0.0, lag)
        for kind, how, reason in batch.refused:
            self.tally["filtered" if how == FILTERED else "issues", kind, reason] += 1
        handlers = self._HANDLERS
        handled = (handlers[type(event)](self, event) for event in batch.events)
        self._keep([event for event in handled if event is not None], now)
        return batch.rank

    def clear(self, rank: int, now: float) -> None:
        """Take it that *rank* has nothing any more: its engine has begun anew."""
        self._keep([self._forget(Cleared(rank))], now)

    def doubt(self, rank: int) -> None:
        """Take it that messages of *rank* are lost."""
        for place in self.references.of(rank):
            place.doubt()

    def tick(self, now: float) -> None:
        """Send what is ready, and what has been kept long enough."""
        if self._batcher is not None:
            self._ready += self._batcher.due(now)
        self._send()

    def flush(self) -> None:
        """Send all that is there."""
        if self._batcher is not None:
            self._ready += self._batcher.flush()
        self._send()

    def _keep(self, events: list[Event], now: float) -> None:
        self._ready += events if self._batcher is None else self._batcher.add(events, now)
        if len(self._ready) >= _MOST_READY:
            self._send()

    def _send(self) -> None:
        if self._ready:
            ready, self._ready = self._ready, []
            self._emit(ready)

    def _stored(self, event: Stored) -> Stored:
        self.tally["accepted", "stored"] += 1
        rank, medium, hashes = event.rank, event.medium, event.hashes
        place = self.references.place(rank, medium)
        is_new = hashes[0] not in place
        forgotten = place.store(hashes)
        if medium == DEVICE:
            prefixes = self._prefixes.get(rank)
            if prefixes is None:
                prefixes = self._prefixes[rank] = PrefixLengths()
                self.tally["hits", rank] += 0
            if found := prefixes.stored(event, is_new=is_new):
                self.tally["hits", rank] += found
            if forgotten:
                prefixes.removed(forgotten)
        return event

    def _removed(self, event: Removed) -> Removed | None:
        self.tally["accepted", "removed"] += 1
        rank, medium, hashes = event.rank, event.medium, event.hashes
        gone = self.references.place(rank, medium).remove(hashes)
        if medium == DEVICE and rank in self._prefixes:
            self._prefixes[rank].removed(gone)
        if len(gone) == len(hashes):
            return event if gone else None
        return event._replace(hashes=gone) if gone else None

    def _cleared(self, event: Cleared) -> Cleared:
        self.tally["accepted", "cleared"] += 1
        return self._forget(event)

    def _forget(self, event: Cleared) -> Cleared:
        for place in self.references.of(event.rank):
            place.clear()
        self._prefixes.pop(event.rank, None)
        return event

    _HANDLERS: Final[Mapping[type, Callable[[Pipeline, Any], Event | None]]] = {
        Stored: _stored,
        Removed: _removed,
        Cleared: _cleared,
    }
