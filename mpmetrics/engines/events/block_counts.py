"""The holders of each block, by rank and medium: the publishers that have reported it stored.

Several publishers may report blocks of one rank, say an engine and a cache beside it. A listener
that sees one of them remove a block would believe that the block is gone. So a removal counts when
the last holder is gone. A publisher that reports a block twice is one holder: an engine that is
asked for full reports repeats each block that a request has found in its cache.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MOST_BLOCKS_KNOWN: Final = 1 << 22
"""The largest number of blocks that are known of one rank in one medium."""

_PUBLISHERS: Final = 16
"""The publishers of one rank that are told apart; any others count as one."""


class MediumBlocks:
    """The holders of blocks in one medium of one rank, and how many blocks came and went."""

    def __init__(self, most: int = MOST_BLOCKS_KNOWN) -> None:
        """Know no block. Beyond *most* blocks it forgets the oldest."""
        self.stored = self.removed = self.held = self.forgotten = 0
        self._most = most
        self._holders: dict[int, int] = {}  # a bit for each publisher, above the floor
        self._bits: dict[int, int] = {}
        self._floor = 0  # a block whose number is below this has no known holder

    @property
    def resident(self) -> int:
        """The number of blocks that are stored."""
        return len(self._holders)

    def __contains__(self, block: int) -> bool:
        """Return whether the *block* is stored."""
        return block in self._holders

    def store(self, hashes: Sequence[int], publisher: int = 0) -> Sequence[int]:
        """Make *publisher* a holder of the *hashes*; return the blocks that are forgotten instead.

        Blocks that are stored already do not count again.
        """
        holders, floor, bit = self._holders, self._floor, self._find_bit(publisher)
        before = len(holders)
        for block in hashes:
            holders[block] = max(holders.get(block, 0), floor) | bit
        self.stored += len(holders) - before
        return () if len(holders) <= self._most else self._forget()

    def remove(self, hashes: Sequence[int], publisher: int = 0) -> Sequence[int]:
        """Take *publisher* from the holders of the *hashes*; return those that have none left.

        A block that is unknown has none, either: it may have been stored before the first message
        that was read.
        """
        holders, floor, others = self._holders, self._floor, ~self._find_bit(publisher)
        gone: list[int] = []
        for block in hashes:
            left = holders.get(block, 0) & others
            if left > floor:
                holders[block] = left
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
        """Forget the holders, since messages are lost, and with them perhaps removals.

        Blocks stay, but have no known holder: the next removal is the last one. A removal that is
        passed on too early costs a hit; one that is never passed on costs many misses.
        """
        if self._holders:
            self._floor += 1 << _PUBLISHERS

    def _find_bit(self, publisher: int) -> int:
        """Return the bit of *publisher* in the sets of holders."""
        bit = self._bits.get(publisher)
        if bit is None:
            bit = self._bits[publisher] = 1 << min(len(self._bits), _PUBLISHERS - 1)
        return bit

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
