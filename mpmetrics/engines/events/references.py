"""How many holders each block has: a removal counts when the last one is gone.

An engine may store one block twice, in two places, and remove one of them: whoever is told of that
removal believes that the block is gone. The counts are by rank, medium and hash.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class References:
    """The holders of every block that is known to be there."""

    def __init__(self) -> None:
        """Begin with nothing stored."""
        self._counts: dict[tuple[int, str], dict[int, int]] = {}

    def stored(self, rank: int, medium: str, hashes: Sequence[int]) -> int:
        """Add a holder to each of the *hashes*; return how many of them are new."""
        counts = self._counts.get((rank, medium))
        if counts is None:
            counts = self._counts[rank, medium] = {}
        before = len(counts)
        for each in hashes:
            counts[each] = counts.get(each, 0) + 1
        return len(counts) - before

    def removed(self, rank: int, medium: str, hashes: Sequence[int]) -> tuple[list[int], int]:
        """Take a holder from each of the *hashes*.

        Returns those that have none left, or never had one, and how many were there until now.
        """
        counts = self._counts.get((rank, medium))
        if counts is None:
            return list(hashes), 0
        gone: list[int] = []
        before = len(counts)
        for each in hashes:
            holders = counts.get(each)
            if holders is not None and holders > 1:
                counts[each] = holders - 1
                continue
            if holders is not None:
                del counts[each]
            gone.append(each)
        return gone, before - len(counts)

    def cleared(self, rank: int) -> dict[str, int]:
        """Forget the *rank*; return how many blocks it had in each medium."""
        gone = {medium: len(counts) for (of, medium), counts in self._counts.items() if of == rank}
        self._counts.update({(rank, medium): {} for medium in gone})
        return gone

    def doubt(self, rank: int) -> None:
        """Take it that messages of the *rank* are lost, and with them any number of removals.

        Blocks stay, but nobody is known to hold them: the next removal is the last one. To be
        told too early that a block is gone costs a hit, never to be told costs many misses.
        """
        for known, medium in self._counts:
            if known == rank:
                counts = self._counts[known, medium]
                counts.update(dict.fromkeys(counts, 0))

    def has(self, rank: int, medium: str, block: int) -> bool:
        """Return whether the *block* is there."""
        return block in self._counts.get((rank, medium), ())

    def sizes(self) -> Iterator[tuple[int, str, int]]:
        """Yield each rank and medium, and how many blocks are there."""
        for (rank, medium), counts in list(self._counts.items()):
            yield rank, medium, len(counts)
