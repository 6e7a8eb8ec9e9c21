"""Joining events that belong together, so that there are fewer to send. No clock of its own."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Final

from mpmetrics.engines.events.model import Cleared, Event, Removed, Stored

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MOST_BLOCKS: Final = 128
"""Blocks that a joined event has at the most."""


class _Pending:
    """What is kept of one rank: events to be joined, and when they are to be let go."""

    def __init__(self, event: Stored | Removed, due: float) -> None:
        self.events = [event]
        self.blocks = len(event.hashes)
        self.due = due

    def add(self, event: Stored | Removed) -> None:
        self.events.append(event)
        self.blocks += len(event.hashes)


class Batcher:
    """Joins what follows each other in one rank, and keeps it for *delay* seconds at the most.

    Stores are joined if each goes on where the one before it ends, removals if they are of the same
    medium. The order of the events of a rank stays as it is.
    """

    def __init__(self, delay: float, most: int = MOST_BLOCKS) -> None:
        """Keep an event for *delay* seconds, or until it has *most* blocks."""
        self._delay = delay
        self._most = most
        self._pending: dict[int, _Pending] = {}

    @property
    def deadline(self) -> float | None:
        """When something is to be let go, None if nothing is kept."""
        return min((kept.due for kept in self._pending.values()), default=None)

    def add(self, events: Iterable[Event], now: float) -> list[Event]:
        """Take *events*; return those that are to be sent now."""
        ready: list[Event] = []
        for event in events:
            if isinstance(event, Cleared):
                ready += [*self._let_go(event.rank), event]
            else:
                ready += self._keep(event, now)
        return ready

    def due(self, now: float) -> list[Event]:
        """Return what has been kept long enough."""
        ranks = [rank for rank, kept in self._pending.items() if kept.due <= now]
        return [event for rank in ranks for event in self._let_go(rank)]

    def flush(self) -> list[Event]:
        """Return all that is kept."""
        return [event for rank in list(self._pending) for event in self._let_go(rank)]

    def _keep(self, event: Stored | Removed, now: float) -> Sequence[Event]:
        """Keep *event* with what is kept, if they are to be joined, or instead of it."""
        kept = self._pending.get(event.rank)
        before: Sequence[Event] = ()
        if kept is not None and self._has_room(kept, event) and _belong(kept.events[-1], event):
            kept.add(event)
        else:
            before = self._let_go(event.rank)
            kept = self._pending[event.rank] = _Pending(event, now + self._delay)
        is_full = kept.blocks >= self._most
        return [*before, *self._let_go(event.rank)] if is_full else before

    def _has_room(self, kept: _Pending, event: Stored | Removed) -> bool:
        return kept.blocks + len(event.hashes) <= self._most

    def _let_go(self, rank: int) -> Sequence[Event]:
        kept = self._pending.pop(rank, None)
        return () if kept is None else (_joined(kept.events),)


def _belong(first: Stored | Removed, second: Stored | Removed) -> bool:
    """Return whether *second* goes on where *first* ends."""
    if type(first) is not type(second) or first.medium != second.medium:
        return False
    if isinstance(first, Removed) or isinstance(second, Removed):
        return True
    alike = (first.block_size, first.lora, first.salted) == (
        second.block_size,
        second.lora,
        second.salted,
    )
    return alike and second.parent == first.hashes[-1] and _is_whole(first) and _is_whole(second)


def _is_whole(event: Stored) -> bool:
    """Return whether the tokens are there, so that nobody takes them for those of other blocks."""
    return len(event.tokens) == len(event.hashes) * event.block_size


def _joined(events: Sequence[Stored | Removed]) -> Stored | Removed:
    """Return *events* that belong together as one."""
    first = events[0]
    if len(events) == 1:
        return first
    hashes = [*chain.from_iterable(event.hashes for event in events)]
    if isinstance(first, Removed):
        return first._replace(hashes=hashes)
    tokens = chain.from_iterable(event.tokens for event in events if isinstance(event, Stored))
    return first._replace(hashes=hashes, tokens=[*tokens])
