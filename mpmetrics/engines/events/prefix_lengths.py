"""The number of tokens in the prefix that ends with each block, for the blocks of one rank."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mpmetrics.engines.events.model import Stored


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
