"""How many tokens of prompts were found in the cache, as far as stores of blocks tell.

A store names the block before its first one. Where that block has a continuation already, a second
prompt has found the prefix up to there, and has computed something else behind it. Of a prefix that
is continued once nothing is said: it may be the same prompt that goes on. So this is a lower bound,
but it needs nothing of an engine except its events.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mpmetrics.engines.events.model import Stored


class Prefixes:
    """For every block of a rank how many tokens its prefix has, and whether it is continued."""

    def __init__(self) -> None:
        """Begin with nothing stored."""
        self._tokens: dict[int, int] = {}
        self._continued: set[int] = set()

    def stored(self, event: Stored, *, is_new: bool) -> int:
        """Take note of blocks, the first of which *is_new*; return the tokens that were found."""
        found = 0
        parent, size = event.parent, event.block_size
        tokens = 0 if parent is None else self._tokens.get(parent, 0)
        if is_new and parent in self._tokens:
            if parent in self._continued:
                found = tokens
            else:
                self._continued.add(parent)
        for block in event.hashes:
            tokens += size
            self._tokens[block] = tokens
        self._continued.update(event.hashes[:-1])
        return found

    def removed(self, hashes: Sequence[int]) -> None:
        """Forget blocks that are gone."""
        for block in hashes:
            self._tokens.pop(block, None)
            self._continued.discard(block)
