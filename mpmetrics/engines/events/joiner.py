"""Joining of successive events that belong together, so that sinks send fewer.

The caller passes the time.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Final

from mpmetrics.engines.events.model import Cleared, Event, Removed, Stored

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MOST_BLOCKS: Final = 128
"""The largest number of blocks in a joined event."""


class _Pending:
    """The events of one rank that wait to be joined, and the time at which they are *due*."""

    def __init__(self, event: Stored | Removed, due: float) -> None:
        self.events = [event]
        self.blocks = len(event.hashes)
        self.due = due

    def add(self, event: Stored | Removed) -> None:
        self.events.append(event)
        self.blocks += len(event.hashes)


class EventJoiner:
    """The joining of successive events of one rank, each kept for *delay* seconds at the most.

    Stores are joined if each one continues the chain of the one before it, removals if they are of
    the same medium. The order of the events of a rank does not change.
    """

    def __init__(self, delay: float, most: int = MOST_BLOCKS) -> None:
        """Keep an event for *delay* seconds, or until it has *most* blocks."""
        self._delay = delay
        self._most = most
        self._pending: dict[int, _Pending] = {}

    @property
    def deadline(self) -> float | None:
        """The earliest time at which a pending event is due, None if no event is pending."""
        return min((pending.due for pending in self._pending.values()), default=None)

    def add(self, events: Iterable[Event], now: float) -> list[Event]:
        """Take *events*; return those that are to be sent now."""
        ready: list[Event] = []
        for event in events:
            if isinstance(event, Cleared):
                ready += [*self._release(event.rank), event]
            else:
                ready += self._keep(event, now)
        return ready

    def take_due(self, now: float) -> list[Event]:
        """Return the events that are due, and forget them."""
        ranks = [rank for rank, pending in self._pending.items() if pending.due <= now]
        return [event for rank in ranks for event in self._release(rank)]

    def flush(self) -> list[Event]:
        """Return all pending events, and forget them."""
        return [event for rank in list(self._pending) for event in self._release(rank)]

    def _keep(self, event: Stored | Removed, now: float) -> Sequence[Event]:
        """Add *event* to the pending ones of its rank, or replace them; return what is ready."""
        pending = self._pending.get(event.rank)
        before: Sequence[Event] = ()
        if (
            pending is not None
            and self._has_room(pending, event)
            and _is_continued(pending.events[-1], event)
        ):
            pending.add(event)
        else:
            before = self._release(event.rank)
            pending = self._pending[event.rank] = _Pending(event, now + self._delay)
        is_full = pending.blocks >= self._most
        return [*before, *self._release(event.rank)] if is_full else before

    def _has_room(self, pending: _Pending, event: Stored | Removed) -> bool:
        return pending.blocks + len(event.hashes) <= self._most

    def _release(self, rank: int) -> Sequence[Event]:
        """Return the pending events of *rank* as one event, and forget them."""
        pending = self._pending.pop(rank, None)
        return () if pending is None else (_join(pending.events),)


def _is_continued(first: Stored | Removed, second: Stored | Removed) -> bool:
    """Return whether *second* begins where *first* ends."""
    if type(first) is not type(second) or first.medium != second.medium:
        return False
    if isinstance(first, Removed) or isinstance(second, Removed):
        return True
    is_alike = (first.block_size, first.lora, first.salted) == (
        second.block_size,
        second.lora,
        second.salted,
    )
    is_chain = second.parent == first.hashes[-1]
    return is_alike and is_chain and _has_all_tokens(first) and _has_all_tokens(second)


def _has_all_tokens(event: Stored) -> bool:
    """Return whether every block has its tokens; else joined ones would be of wrong blocks."""
    return len(event.tokens) == len(event.hashes) * event.block_size


def _join(events: Sequence[Stored | Removed]) -> Stored | Removed:
    """Return one event for *events* that belong together."""
    first = events[0]
    if len(events) == 1:
        return first
    hashes = [*chain.from_iterable(event.hashes for event in events)]
    if isinstance(first, Removed):
        return first._replace(hashes=hashes)
    tokens = chain.from_iterable(event.tokens for event in events if isinstance(event, Stored))
    return first._replace(hashes=hashes, tokens=[*tokens])
