"""What is counted of each block: its holders, and the tokens of the prefix that ends with it.

An engine may store one block twice, in two places, and remove one of them. A listener that sees
this removal would believe that the block is gone. So a removal counts when the last holder is gone.
Holders are counted by rank, medium and hash; prefixes by hash, for each rank.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mpmetrics.engines.events.model import Stored

MOST_BLOCKS_KNOWN: Final = 1 << 22
"""The largest number of blocks that are known of one rank in one medium."""

_DOUBT: Final = 1 << 32
"""More holders than any block can have."""


# -- Holders ---------------------------------------------------------------------------------------


class Place:
    """The holders of blocks in one medium of one rank, and how many blocks came and went."""

    def __init__(self, most: int = MOST_BLOCKS_KNOWN) -> None:
        """Create an empty place. Beyond *most* blocks it forgets the oldest."""
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
    """The places of all ranks and mediums."""

    def __init__(self, most: int = MOST_BLOCKS_KNOWN) -> None:
        """Create no place yet; each one will know *most* blocks."""
        self._most = most
        self._places: dict[tuple[int, str], Place] = {}

    def place(self, rank: int, medium: str) -> Place:
        """Return the place of the blocks of *rank* in *medium*."""
        place = self._places.get((rank, medium))
        if place is None:
            place = self._places[rank, medium] = Place(self._most)
        return place

    def places_of(self, rank: int) -> Sequence[Place]:
        """Return the places of *rank*."""
        return [place for (owner, _), place in self._places.items() if owner == rank]

    def items(self) -> Iterator[tuple[int, str, Place]]:
        """Yield each rank and medium, and their place; any thread may call this."""
        for (rank, medium), place in list(self._places.items()):
            yield rank, medium, place


# -- Prefixes --------------------------------------------------------------------------------------


class Prefix(NamedTuple):
    """The number of *tokens* up to the end of a block, and whether another block continues it."""

    tokens: int
    is_continued: bool


class _SharedPrefixes(dict[int, Prefix]):
    """Prefixes by their tokens: one object for all blocks that end at the same length.

    A million blocks have only a few thousand lengths, so this takes less memory than a number for
    each block.
    """

    _MOST = 1 << 16

    def __init__(self, *, is_continued: bool) -> None:
        super().__init__()
        self._is_continued = is_continued

    def __missing__(self, tokens: int) -> Prefix:
        if len(self) >= self._MOST:  # only garbage has so many lengths
            self.clear()
        # A prefix without tokens is never found, so it does not matter what continues it.
        prefix = self[tokens] = Prefix(tokens, self._is_continued and tokens > 0)
        return prefix


class PrefixLengths:
    """The prefixes of the blocks of one rank: their tokens, and whether they are continued."""

    def __init__(self) -> None:
        """Know no block."""
        self._prefixes: dict[int, Prefix] = {}
        self._continued = _SharedPrefixes(is_continued=True)
        self._ends = _SharedPrefixes(is_continued=False)

    def __len__(self) -> int:
        """Return how many blocks are known."""
        return len(self._prefixes)

    def store(self, event: Stored, *, is_new: bool) -> int:
        """Add the blocks of *event*, the first of which *is_new*; return the tokens it found.

        The tokens before it were found if another block continues the same prefix already.
        """
        prefixes, parent, hashes = self._prefixes, event.parent, event.hashes
        tokens = found = 0
        if parent is not None and (before := prefixes.get(parent)) is not None:
            tokens = before.tokens
            if is_new and before.is_continued:
                found = tokens
            elif is_new and tokens:
                prefixes[parent] = self._continued[tokens]
        last = prefixes.get(hashes[-1])
        continued, size = self._continued, event.block_size
        for block in hashes:
            tokens += size
            prefixes[block] = continued[tokens]
        if last is None or not last.is_continued:
            prefixes[hashes[-1]] = self._ends[tokens]
        return found

    def remove(self, hashes: Sequence[int]) -> None:
        """Forget the *hashes*."""
        for block in hashes:
            self._prefixes.pop(block, None)
