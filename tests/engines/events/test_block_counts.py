"""The counts of blocks, their prefixes, and the joining of events."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mpmetrics.engines.events.block_counts import BlockCounts, MediumBlocks
from mpmetrics.engines.events.joiner import EventJoiner
from mpmetrics.engines.events.model import Cleared, Event, Removed, Stored
from mpmetrics.engines.events.prefix_lengths import PrefixLengths


def test_a_removal_counts_when_the_last_holder_is_gone() -> None:
    """A removal of a block that was stored twice counts when the second copy is removed."""
    known = MediumBlocks()
    known.store([1, 2])
    known.store([2, 3])
    assert known.remove([1, 2]) == [1]
    assert (known.stored, known.removed, known.held, known.resident) == (4, 1, 1, 2)
    assert known.remove([2, 3]) == [2, 3]
    assert (known.stored, known.removed, known.held, known.resident) == (4, 3, 1, 0)


def test_the_removal_of_an_unknown_block_counts() -> None:
    """The removal of an unknown block counts: it may have been stored before the first message."""
    known = MediumBlocks()
    assert known.remove([9, 9]) == [9, 9]
    known.store([1])
    assert known.remove([9]) == [9]


def test_ranks_and_mediums_have_holders_of_their_own() -> None:
    """The same hash of another rank or in another medium is another block."""
    counts = BlockCounts()
    for rank, medium in ((0, "device"), (1, "device"), (0, "host")):
        counts.in_medium(rank, medium).store([1])
    assert counts.in_medium(0, "device").remove([1]) == [1]
    for known in counts.of_rank(0):
        known.clear()
    assert [(rank, medium, known.resident) for rank, medium, known in counts.items()] == [
        (0, "device", 0),
        (1, "device", 1),
        (0, "host", 0),
    ]
    assert [known.removed for _, _, known in counts.items()] == [1, 0, 1]


def test_after_a_loss_the_next_removal_counts() -> None:
    """After lost messages blocks stay, and the next removal of each one counts."""
    known = MediumBlocks()
    known.doubt()
    known.store([1, 1, 2])
    known.doubt()
    assert known.resident == 2
    known.store([2, 3, 3])
    known.doubt()
    known.store([3, 3])
    assert known.remove([1, 2, 3]) == [1, 2]
    assert known.remove([3]) == [3]
    known.clear()
    known.store([1, 1])
    assert known.remove([1]) == []


def test_the_oldest_blocks_are_forgotten() -> None:
    """A full medium forgets its oldest blocks, so that lost removals do not fill memory."""
    known = MediumBlocks(most=16)
    assert known.store(range(16)) == ()
    assert known.store([16]) == [0, 1, 2]
    assert (known.resident, known.forgotten) == (14, 3)
    assert 3 in known
    assert known.remove([0, 3]) == [0, 3]
    for block in range(100, 10_000):
        known.store([block])
        assert known.resident <= 16
    assert known.stored == known.resident + known.forgotten + 1


mediums = st.tuples(st.integers(0, 1), st.sampled_from(["device", "host"]))
hashes = st.lists(st.integers(0, 3), max_size=4)
steps = st.sampled_from(["store", "remove", "clear", "doubt"])


@given(st.lists(st.tuples(steps, mediums, hashes)))
def test_the_counts_are_those_of_a_multiset(
    history: list[tuple[str, tuple[int, str], list[int]]],
) -> None:
    """The counts are those of a multiset; blocks in doubt are stored without a holder."""
    counts = BlockCounts()
    held: Counter[tuple[int, str, int]] = Counter()
    there: set[tuple[int, str, int]] = set()
    for what, (rank, medium), blocks in history:
        known = counts.in_medium(rank, medium)
        keys = [(rank, medium, block) for block in blocks]
        if what == "store":
            known.store(blocks)
            held.update(keys)
            there.update(keys)
        elif what == "remove":
            gone = []
            for key in keys:
                held[key] = max(0, held[key] - 1)
                if not held[key]:
                    there.discard(key)
                    gone.append(key[2])
            assert known.remove(blocks) == gone
        else:
            for each in counts.of_rank(rank):
                (each.clear if what == "clear" else each.doubt)()
            held = Counter({key: count for key, count in held.items() if key[0] != rank})
            there = {key for key in there if what == "doubt" or key[0] != rank}
        sizes = Counter({(rank, medium): at.resident for rank, medium, at in counts.items()})
        assert +sizes == Counter((rank, medium) for rank, medium, _ in there)


# -- prefixes --------------------------------------------------------------------------------------


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


# -- batching --------------------------------------------------------------------------------------


def stores(first: int, count: int, parent: int | None = None, rank: int = 0) -> Stored:
    """Return a store of a chain of blocks, of one token each."""
    blocks = list(range(first, first + count))
    return Stored(rank, "device", blocks, parent, blocks, 1)


def test_a_chain_is_joined_until_it_is_time() -> None:
    """A chain is joined until it is due, or until the next event would make it too long."""
    joiner = EventJoiner(0.5, most=4)
    assert joiner.add([stores(1, 1), stores(2, 1, 1)], 10.0) == []
    assert (joiner.deadline, joiner.take_due(10.4)) == (10.5, [])
    assert joiner.take_due(10.5) == [stores(1, 2)]
    assert joiner.add([stores(3, 3, 2), stores(6, 1, 5)], 11.0) == [stores(3, 4, 2)]
    assert joiner.add([stores(7, 3, 6), stores(10, 2, 9)], 11.0) == [stores(7, 3, 6)]
    assert joiner.flush() == [stores(10, 2, 9)]
    assert (joiner.flush(), joiner.deadline) == ([], None)


def test_events_that_do_not_belong_together_stay_apart() -> None:
    """Events that do not belong together stay apart, and keep their order."""
    events: list[Event] = [
        stores(1, 1),
        stores(5, 1, 4),
        Removed(0, "device", [1]),
        Removed(0, "host", [1]),
        Stored(0, "host", [2], 1, [2], 1),
        Stored(0, "host", [3], 2, [3], 1, "lora"),
        Stored(0, "host", [4], 3, [4], 1, "lora", salted=True),
        Stored(0, "host", [5], 4, [], 1, "lora", salted=True),
    ]
    joiner = EventJoiner(1.0)
    assert [*joiner.add(events, 0.0), *joiner.flush()] == events


def test_removals_are_joined_and_a_clear_releases_them() -> None:
    """Removals are joined, and a clear sends the pending events of its own rank first."""
    joiner = EventJoiner(1.0)
    events: list[Event] = [
        Removed(0, "device", [1]),
        Removed(1, "device", [7]),
        Removed(0, "device", [2]),
        Cleared(0),
    ]
    assert joiner.add(events, 0.0) == [Removed(0, "device", [1, 2]), Cleared(0)]
    assert joiner.flush() == [Removed(1, "device", [7])]


chains = st.builds(stores, st.integers(0, 5), st.integers(1, 3), st.integers(0, 5) | st.none())
removals = st.builds(
    lambda rank, blocks: Removed(rank, "device", blocks),
    st.integers(0, 1),
    st.lists(st.integers(0, 5), min_size=1, max_size=3),
)


def flat(events: list[Event], rank: int) -> list[tuple[str, int, int | None]]:
    """Return what *events* say of *rank*, block by block."""
    said: list[tuple[str, int, int | None]] = []
    for event in events:
        if event.rank != rank:
            continue
        if isinstance(event, Cleared):
            said.append(("cleared", 0, None))
        elif isinstance(event, Removed):
            said += [("removed", block, None) for block in event.hashes]
        else:
            parents = [event.parent, *event.hashes[:-1]]
            said += [
                ("stored", block, parent)
                for block, parent in zip(event.hashes, parents, strict=True)
            ]
    return said


@given(st.lists(chains | removals | st.builds(Cleared, st.integers(0, 1))), st.integers(1, 6))
def test_joined_events_say_the_same(events: list[Event], most: int) -> None:
    """Joined events say the same as single ones, block by block, and none has too many blocks."""
    joiner = EventJoiner(1.0, most)
    got: list[Event] = []
    for now, event in enumerate(events):
        got += [*joiner.take_due(now / 2), *joiner.add([event], now / 2)]
    got += joiner.flush()
    for rank in (0, 1):
        assert flat(got, rank) == flat(events, rank)
    for event in got:
        assert isinstance(event, Cleared) or len(event.hashes) <= max(most, 3)
