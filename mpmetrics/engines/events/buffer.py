"""A bounded queue: when it is full it drops the oldest event, so that `put` never waits."""

from __future__ import annotations

import threading
from collections import Counter, deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mpmetrics.engines.events.model import Event


class TakenEvents(NamedTuple):
    """Events in their order, and how many were dropped before them, by rank."""

    events: Sequence[Event]
    dropped: Mapping[int, int]


class EventBuffer:
    """Up to *capacity* events for one consumer, beside those that the consumer has in hand.

    An event is waiting, in hand, done or dropped: always exactly one of these.
    """

    def __init__(self, capacity: int) -> None:
        """Create an empty buffer."""
        self._events: deque[Event] = deque()
        self._capacity = capacity
        self._changed = threading.Condition(threading.Lock())
        self._dropped: Counter[int] = Counter()  # by rank, since the last `take`
        self._closed = False
        self._in_hand: Counter[int] = Counter()
        self.dropped = 0

    def __len__(self) -> int:
        """Return how many events wait or are in hand."""
        return len(self._events) + sum(self._in_hand.values())

    def put(self, events: Sequence[Event]) -> None:
        """Add *events*, and drop the oldest beyond the capacity. A closed buffer drops all."""
        with self._changed:
            self._events.extend(events)
            self._drop(len(self._events) - (0 if self._closed else self._capacity))
            self._changed.notify()

    def take(self, most: int) -> TakenEvents | None:
        """Return up to *most* of the oldest events; wait while the buffer is empty.

        They are in hand until `mark_done` or `drop_in_hand` is called. Returns None once the buffer
        is closed and empty.
        """
        with self._changed:
            while not self._events and not self._closed:
                self._changed.wait()
            if not self._events:
                return None
            dropped, self._dropped = self._dropped, Counter()
            pop = self._events.popleft
            events = [pop() for _ in range(min(most, len(self._events)))]
            self._in_hand.update(event.rank for event in events)
            return TakenEvents(events, dropped)

    def mark_done(self, rank: int, count: int) -> None:
        """Mark *count* events in hand, of *rank*, as sent or rejected."""
        with self._changed:
            self._in_hand[rank] -= count

    def drop_in_hand(self) -> None:
        """Drop the events that are still in hand."""
        with self._changed:
            self._dropped.update(self._in_hand)
            self.dropped += sum(self._in_hand.values())
            self._in_hand.clear()

    def close(self, *, drop: bool = False) -> None:
        """Have `take` return None when the buffer is empty; with *drop*, drop what waits."""
        with self._changed:
            self._closed = True
            if drop:
                self._drop(len(self._events))
            self._changed.notify_all()

    def _drop(self, count: int) -> None:
        for _ in range(count):
            self._dropped[self._events.popleft().rank] += 1
            self.dropped += 1
