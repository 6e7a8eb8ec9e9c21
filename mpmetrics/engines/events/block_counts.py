"""How many holders each block has: a removal counts when the last one is gone.

An engine may store one block twice, in two places, and remove one of them: whoever is told of that
removal believes that the block is gone. The counts are by rank, medium and hash.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mpmetrics.engines.events.model import Stored


class PrefixLengths:
    """For every block of a rank how many tokens its prefix has, and whether it is continued."""

    def __init__(self) -> None:
        """Begin with nothing stored."""
        self._tokens: dict[int, int] = {}  # less than zero where a block is continued

    def stored(self, event: Stored, *, is_new: bool) -> int:
        """Take note of blocks, the first of which *is_new*; return the tokens that were found."""
        known, parent, hashes = self._tokens, event.parent, event.hashes
        before = 0 if parent is None else known.get(parent, 0)
        if is_new and before > 0 and parent is not None:
            known[parent] = -before
        last = hashes[-1]
        is_continued = known.get(last, 0) < 0
        tokens = abs(before)
        for block in hashes:
            tokens += event.block_size
            known[block] = -tokens
        if not is_continued:
            known[last] = tokens
        return -before if is_new and before < 0 else 0

    def removed(self, hashes: Sequence[int]) -> None:
        """Forget blocks that are gone."""
        for block in hashes:
            self._tokens.pop(block, None)


MOST_KNOWN: Final = 1 << 22
"""Blocks of one rank in one medium that are known at the most."""

_DOUBT: Final = 1 << 32


class Place:
    """The holders of blocks in one medium of one rank, and how many blocks came and went."""

    def __init__(self, most: int = MOST_KNOWN) -> None:
        """Begin with nothing stored; of more than *most* blocks the oldest are forgotten."""
        self.stored = self.removed = self.held = self.forgotten = 0
        self._most = most
        self._holders: dict[int, int] = {}
        self._nobody = 0  # as so many holders count as none

    @property
    def resident(self) -> int:
        """How many blocks are there."""
        return len(self._holders)

    def __contains__(self, block: int) -> bool:
        """Return whether the *block* is there."""
        return block in self._holders

    def store(self, hashes: Sequence[int]) -> Sequence[int]:
        """Add a holder to each of the *hashes*; return blocks that are forgotten for it."""
        holders, nobody = self._holders, self._nobody
        for block in hashes:
            count = holders.get(block, 0)
            holders[block] = count + 1 if count > nobody else nobody + 1
        self.stored += len(hashes)
        return () if len(holders) <= self._most else self._forget()

    def remove(self, hashes: Sequence[int]) -> Sequence[int]:
        """Take a holder from each of the *hashes*; return those that have none left.

        What was never stored has none, either: it may have been before anybody listened.
        """
        holders, last = self._holders, self._nobody + 1
        gone: list[int] = []
        for block in hashes:
            count = holders.get(block, last)
            if count > last:
                holders[block] = count - 1
            else:
                holders.pop(block, None)
                gone.append(block)
        self.removed += len(gone)
        self.held += len(hashes) - len(gone)
        return gone

    def clear(self) -> None:
        """Take it that all blocks are gone."""
        self.removed += len(self._holders)
        self._holders, self._nobody = {}, 0

    def doubt(self) -> None:
        """Take it that messages are lost, and with them any number of removals.

        Blocks stay, but nobody is known to hold them: the next removal is the last one. To be
        told too early that a block is gone costs a hit, never to be told costs many misses.
        """
        if self._holders:
            self._nobody += _DOUBT

    def _forget(self) -> Sequence[int]:
        """Forget an eighth of all blocks, so that it is not to be done for each."""
        forgotten = list(islice(self._holders, 1 + self._most // 8))
        for block in forgotten:
            del self._holders[block]
        self.forgotten += len(forgotten)
        return forgotten


class References:
    """The holders of every block that is known to be there."""

    def __init__(self, most: int = MOST_KNOWN) -> None:
        """Begin with nothing stored; know *most* blocks in each place."""
        self._most = most
        self._places: dict[tuple[int, str], Place] = {}

    def place(self, rank: int, medium: str) -> Place:
        """Return the place of blocks of the *rank* in the *medium*."""
        place = self._places.get((rank, medium))
        if place is None:
            place = self._places[rank, medium] = Place(self._most)
        return place

    def of(self, rank: int) -> Sequence[Place]:
        """Return the places of the *rank*."""
        return [place for (of, _), place in self._places.items() if of == rank]

    def places(self) -> Iterator[tuple[int, str, Place]]:
        """Yield each rank and medium, and their place; for any thread."""
        for (rank, medium), place in list(self._places.items()):
            yield rank, medium, place
