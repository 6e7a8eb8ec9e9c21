"""A queue with an end: when it is full the oldest goes, so that nobody who puts ever waits."""

from __future__ import annotations

import threading
from collections import Counter, deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mpmetrics.engines.events.model import Event


class Taken(NamedTuple):
    """Events in their order, and how many have been dropped before them, by rank."""

    events: Sequence[Event]
    dropped: Mapping[int, int]


class EventBuffer:
    """Keeps *capacity* events for one who takes them, beside those that he has in hand.

    What was put is either waiting, or was sent, or was dropped: nothing is ever both.
    """

    def __init__(self, capacity: int) -> None:
        """Begin empty."""
        self._events: deque[Event] = deque()
        self._capacity = capacity
        self._changed = threading.Condition(threading.Lock())
        self._gone: Counter[int] = Counter()
        self._closed = False
        self._in_hand: Counter[int] = Counter()
        self.dropped = 0

    def __len__(self) -> int:
        """Return how many events wait, or are in hand."""
        return len(self._events) + sum(self._in_hand.values())

    def put(self, events: Sequence[Event]) -> None:
        """Add *events*, and drop the oldest if there are too many. Once closed it drops all."""
        with self._changed:
            self._events.extend(events)
            self._drop(len(self._events) - (0 if self._closed else self._capacity))
            self._changed.notify()

    def take(self, most: int) -> Taken | None:
        """Return the oldest events, *most* of them at the most; wait while there are none.

        None once it is closed and empty. They are in hand until `done` or `lose` is called.
        """
        with self._changed:
            while not self._events and not self._closed:
                self._changed.wait()
            if not self._events:
                return None
            gone, self._gone = self._gone, Counter()
            pop = self._events.popleft
            events = [pop() for _ in range(min(most, len(self._events)))]
            self._in_hand.update(event.rank for event in events)
            return Taken(events, gone)

    def done(self, rank: int, count: int) -> None:
        """Take it that *count* events in hand, of *rank*, are given away, or never can be."""
        with self._changed:
            self._in_hand[rank] -= count

    def lose(self) -> None:
        """Drop what is still in hand."""
        with self._changed:
            self._gone.update(self._in_hand)
            self.dropped += sum(self._in_hand.values())
            self._in_hand.clear()

    def close(self, *, drop: bool = False) -> None:
        """Have `take` return None when nothing is left; *drop* what waits."""
        with self._changed:
            self._closed = True
            if drop:
                self._drop(len(self._events))
            self._changed.notify_all()

    def _drop(self, count: int) -> None:
        for _ in range(count):
            self._gone[self._events.popleft().rank] += 1
            self.dropped += 1
