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
