"""The prefixes of blocks: their tokens, and which of them a second prompt has found."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mpmetrics.engines.events.model import Stored
from mpmetrics.engines.events.prefix_lengths import PrefixLengths


def test_a_second_continuation_has_found_the_prefix() -> None:
    """The second continuation of a prefix has found it; the first may be the rest of its prompt."""
    prefixes = PrefixLengths()

    def store(*blocks: int, parent: int | None = None, is_new: bool = True) -> int:
        event = Stored(0, "device", blocks, parent, block_size=16)
        return prefixes.store(event, is_new=is_new)

    assert store(1, 2, 3) == 0
    assert store(4, parent=3) == 0
    assert store(5, parent=2) == 32
    assert store(6, 7, parent=2) == 32
    assert store(6, parent=2, is_new=False) == 0
    assert store(8, parent=7) == 0
    assert store(9, parent=7) == 64
    assert store(10, parent=99) == 0
    prefixes.remove([7])
    assert store(11, parent=7) == 0


stores_of_prefixes = st.tuples(
    st.lists(st.integers(1, 6), min_size=1, max_size=3, unique=True),
    st.none() | st.integers(0, 6),
    st.booleans(),
)


@given(st.lists(stores_of_prefixes | st.lists(st.integers(1, 6), max_size=2)))
def test_prefixes_are_those_of_a_tree(history: list[Any]) -> None:
    """Prefixes are those of a tree with tokens and continuations; a list of blocks is a removal."""
    prefixes = PrefixLengths()
    tokens: dict[int, int] = {}
    continued: set[int] = set()
    for step in history:
        if isinstance(step, list):
            prefixes.remove(step)
            continued.difference_update(step)
            tokens = {block: count for block, count in tokens.items() if block not in step}
            continue
        blocks, parent, is_new = step
        found = tokens[parent] if is_new and parent in continued else 0
        if is_new and parent in tokens:
            continued.add(parent)
        count = tokens.get(parent, 0)
        tokens |= {block: count + 16 * place for place, block in enumerate(blocks, 1)}
        continued.update(blocks[:-1])
        event = Stored(0, "device", blocks, parent, block_size=16)
        assert prefixes.store(event, is_new=is_new) == found
