"""From the messages of an engine to the events that others are told of, counted on the way."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from mpmetrics.engines.events.model import DEVICE, KINDS, Cleared, Event, Removed, Stored
from mpmetrics.engines.events.prefixes import Prefixes
from mpmetrics.engines.events.references import References
from mpmetrics.engines.events.wire import FILTERED, Decoder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mpmetrics.engines.events.batching import Batcher

    Emit = Callable[[Sequence[Event]], None]
    Tally = Counter[tuple[str, ...]]

UNDECODABLE: Final = "undecodable"
"""Why a message is left out: its payload is no batch of events."""


class Pipeline:
    """Decodes, filters and counts; what passes is given to *emit*. For one thread only.

    The *tally* counts by the name of a metric and the values of its labels.
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
        self._prefixes: dict[int, Prefixes] = {}

    @property
    def deadline(self) -> float | None:
        """When `tick` is to be called, None if there is no need."""
        return None if self._batcher is None else self._batcher.deadline

    def take(self, payload: bytes, rank: int, now: float) -> int:
        """Take a message that came from the publisher of *rank*; return whose blocks it is of."""
        batch = self._decoder.decode(payload, rank)
        if batch is None:
            self.tally["problems", UNDECODABLE] += 1
            return rank
        self.tally["batches", str(batch.rank)] += 1
        lag = self._wall() - batch.timestamp
        if math.isfinite(lag):
            self.lags[batch.rank] = max(0.0, lag)
        for kind, how, reason in batch.refused:
            self.tally["events", "received", kind] += 1
            self.tally["filtered" if how == FILTERED else "issues", kind, reason] += 1
        self._pass(batch.events, now)
        return batch.rank

    def clear(self, rank: int, now: float) -> None:
        """Take it that *rank* has nothing any more: its engine has begun anew."""
        self._send([self._cleared(Cleared(rank))], now)

    def doubt(self, rank: int) -> None:
        """Take it that messages of *rank* are lost."""
        self.references.doubt(rank)

    def tick(self, now: float) -> None:
        """Send what has been kept long enough."""
        if self._batcher is not None and (due := self._batcher.due(now)):
            self._emit(due)

    def flush(self) -> None:
        """Send what is kept."""
        if self._batcher is not None and (kept := self._batcher.flush()):
            self._emit(kept)

    def _pass(self, events: Sequence[Event], now: float) -> None:
        """Count *events*, and send those that tell something."""
        passed: list[Event] = []
        kinds = Counter(map(type, events))
        for kind, count in kinds.items():
            self.tally["events", "received", KINDS[kind]] += count
            self.tally["events", "accepted", KINDS[kind]] += count
        for event in events:
            handled = self._HANDLERS[type(event)](self, event)
            if handled is not None:
                passed.append(handled)
        self._send(passed, now)

    def _send(self, events: list[Event], now: float) -> None:
        ready = events if self._batcher is None else self._batcher.add(events, now)
        if ready:
            self._emit(ready)

    def _stored(self, event: Stored) -> Stored:
        rank, medium, hashes = event.rank, event.medium, event.hashes
        is_new = not self.references.has(rank, medium, hashes[0])
        self.references.stored(rank, medium, hashes)
        label = str(rank)
        self.tally["stored", medium, label] += len(hashes)
        if medium == DEVICE:
            prefixes = self._prefixes.get(rank)
            if prefixes is None:
                prefixes = self._prefixes[rank] = Prefixes()
            if found := prefixes.stored(event, is_new=is_new):
                self.tally["hits", label] += found
        return event

    def _removed(self, event: Removed) -> Removed | None:
        rank, medium, hashes = event.rank, event.medium, event.hashes
        gone, _ = self.references.removed(rank, medium, hashes)
        held = len(hashes) - len(gone)
        if gone:
            self.tally["removed", medium, str(rank)] += len(gone)
            if medium == DEVICE and rank in self._prefixes:
                self._prefixes[rank].removed(gone)
        if not held:
            return event if gone else None
        self.tally["held", medium, str(rank)] += held
        return event._replace(hashes=gone) if gone else None

    def _cleared(self, event: Cleared) -> Cleared:
        for medium, count in self.references.cleared(event.rank).items():
            self.tally["removed", medium, str(event.rank)] += count
        self._prefixes.pop(event.rank, None)
        return event

    _HANDLERS: Final[Mapping[type, Callable[[Pipeline, Any], Event | None]]] = {
        Stored: _stored,
        Removed: _removed,
        Cleared: _cleared,
    }
