"""Joining events that belong together, so that there are fewer to send. No clock of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from mpmetrics.engines.events.model import Cleared, Event, Removed, Stored

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MOST_BLOCKS: Final = 128
"""Blocks that a joined event has at the most."""


class _Pending(NamedTuple):
    """What is kept of one rank, and when it is to be let go at the latest."""

    event: Stored | Removed
    due: float


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
        """Join *event* to what is kept, or keep it instead."""
        kept = self._pending.get(event.rank)
        joined = None if kept is None else _joined(kept.event, event)
        before: Sequence[Event] = ()
        if kept is None or joined is None or len(joined.hashes) > self._most:
            before = self._let_go(event.rank)
            kept, joined = _Pending(event, now + self._delay), event
        self._pending[event.rank] = kept._replace(event=joined)
        return [*before, *self._let_go(event.rank)] if self._is_full(joined) else before

    def _is_full(self, event: Stored | Removed) -> bool:
        return len(event.hashes) >= self._most

    def _let_go(self, rank: int) -> Sequence[Event]:
        kept = self._pending.pop(rank, None)
        return () if kept is None else (kept.event,)


def _joined(first: Stored | Removed, second: Stored | Removed) -> Stored | Removed | None:
    """Return both as one event, None if they are not to be joined."""
    if first.medium != second.medium:
        return None
    if isinstance(first, Removed) and isinstance(second, Removed):
        return first._replace(hashes=[*first.hashes, *second.hashes])
    if isinstance(first, Stored) and isinstance(second, Stored) and _goes_on(first, second):
        return first._replace(
            hashes=[*first.hashes, *second.hashes], tokens=[*first.tokens, *second.tokens]
        )
    return None


def _goes_on(first: Stored, second: Stored) -> bool:
    """Return whether the blocks of *second* are those behind the ones of *first*."""
    alike = (first.block_size, first.lora, first.salted) == (
        second.block_size,
        second.lora,
        second.salted,
    )
    return alike and second.parent == first.hashes[-1] and _is_whole(first) and _is_whole(second)


def _is_whole(event: Stored) -> bool:
    """Return whether the tokens are there, so that nobody takes them for those of other blocks."""
    return len(event.tokens) == len(event.hashes) * event.block_size
