"""The holders of each block, by rank and medium: how many times the engine has stored it.

An engine may store one block twice, in two places, and remove one of them. A listener that sees
this removal would believe that the block is gone. So a removal counts when the last holder is gone.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MOST_BLOCKS_KNOWN: Final = 1 << 22
"""The largest number of blocks that are known of one rank in one medium."""

_DOUBT: Final = 1 << 32
"""More holders than any block can have."""


class MediumBlocks:
    """The holders of blocks in one medium of one rank, and how many blocks came and went."""

    def __init__(self, most: int = MOST_BLOCKS_KNOWN) -> None:
        """Know no block. Beyond *most* blocks it forgets the oldest."""
        self.stored = self.removed = self.held = self.forgotten = 0
        self._most = most
        self._holders: dict[int, int] = {}
        self._floor = 0  # a block with no more holders than this has no known holder

    @property
    def resident(self) -> int:
        """The number of blocks that are stored."""
        return len(self._holders)

    def __contains__(self, block: int) -> bool:
        """Return whether the *block* is stored."""
        return block in self._holders

    def store(self, hashes: Sequence[int]) -> Sequence[int]:
        """Add a holder to each of the *hashes*; return the blocks that are forgotten instead."""
        holders, floor = self._holders, self._floor
        for block in hashes:
            count = holders.get(block, 0)
            holders[block] = count + 1 if count > floor else floor + 1
        self.stored += len(hashes)
        return () if len(holders) <= self._most else self._forget()

    def remove(self, hashes: Sequence[int]) -> Sequence[int]:
        """Take a holder from each of the *hashes*; return those that have none left.

        A block that is unknown has none, either: it may have been stored before the first message
        that was read.
        """
        holders, last = self._holders, self._floor + 1
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
        """Remove all blocks."""
        self.removed += len(self._holders)
        self._holders, self._floor = {}, 0

    def doubt(self) -> None:
        """Forget the holders, since messages are lost, and with them any number of removals.

        Blocks stay, but have no known holder: the next removal is the last one. A removal that is
        passed on too early costs a hit; one that is never passed on costs many misses.
        """
        if self._holders:
            self._floor += _DOUBT

    def _forget(self) -> Sequence[int]:
        """Forget an eighth of all blocks at once, so that it does not happen with every store."""
        forgotten = list(islice(self._holders, 1 + self._most // 8))
        for block in forgotten:
            del self._holders[block]
        self.forgotten += len(forgotten)
        return forgotten


class BlockCounts:
    """The blocks of all ranks and mediums."""

    def __init__(self, most: int = MOST_BLOCKS_KNOWN) -> None:
        """Know no rank; in each of its mediums *most* blocks will be known."""
        self._most = most
        self._mediums: dict[tuple[int, str], MediumBlocks] = {}

    def in_medium(self, rank: int, medium: str) -> MediumBlocks:
        """Return the blocks of *rank* in *medium*."""
        known = self._mediums.get((rank, medium))
        if known is None:
            known = self._mediums[rank, medium] = MediumBlocks(self._most)
        return known

    def of_rank(self, rank: int) -> Sequence[MediumBlocks]:
        """Return the blocks of *rank*, medium by medium."""
        return [known for (owner, _), known in self._mediums.items() if owner == rank]

    def items(self) -> Iterator[tuple[int, str, MediumBlocks]]:
        """Yield each rank and medium, and the blocks there; any thread may call this."""
        for (rank, medium), known in list(self._mediums.items()):
            yield rank, medium, known
