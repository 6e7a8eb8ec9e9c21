"""The holders of blocks, by rank and medium."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from mpmetrics.engines.events.block_counts import BlockCounts, MediumBlocks


def test_a_removal_counts_when_the_last_holder_is_gone() -> None:
    """A removal of a block that two publishers have stored counts when both have removed it."""
    known = MediumBlocks()
    known.store([1, 2], publisher=0)
    known.store([2, 3], publisher=1)
    assert known.remove([1, 2], publisher=0) == [1]
    assert (known.stored, known.removed, known.held, known.resident) == (3, 1, 1, 2)
    assert known.remove([2, 3], publisher=1) == [2, 3]
    assert (known.stored, known.removed, known.held, known.resident) == (3, 3, 1, 0)


def test_a_block_that_is_reported_again() -> None:
    """A publisher that reports blocks again is one holder, and its removals count."""
    known = MediumBlocks()
    for _ in range(3):
        known.store([1, 2, 3, 4])
    assert (known.stored, known.resident) == (4, 4)
    assert known.remove([1, 2, 3, 4]) == [1, 2, 3, 4]
    assert (known.stored, known.removed, known.held, known.resident) == (4, 4, 0, 0)


def test_the_removal_by_another_publisher() -> None:
    """A removal by a publisher that is not known to hold the block leaves it to the others."""
    known = MediumBlocks()
    known.store([1], publisher=0)
    assert known.remove([1], publisher=1) == []
    assert known.remove([1], publisher=0) == [1]


def test_many_publishers_of_one_rank() -> None:
    """Publishers beyond the first fifteen count as one."""
    known = MediumBlocks()
    for publisher in range(40):
        known.store([1], publisher)
    for publisher in range(15):
        assert known.remove([1], publisher) == []
    assert known.remove([1], 20) == [1]


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
    for publisher in (0, 1):
        known.store([1, 2], publisher)
    known.doubt()
    assert known.resident == 2
    for publisher in (0, 1):
        known.store([2, 3], publisher)
    assert known.remove([1, 2, 3], publisher=1) == [1]
    known.doubt()
    assert known.remove([2], publisher=1) == [2]
    known.clear()
    for publisher in (0, 1):
        known.store([1], publisher)
    assert known.remove([1], publisher=1) == []


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


@given(st.lists(st.tuples(steps, mediums, st.integers(0, 2), hashes)))
def test_the_counts_are_those_of_sets_of_holders(
    history: list[tuple[str, tuple[int, str], int, list[int]]],
) -> None:
    """The counts are those of a set of holders for each block; in doubt there are none."""
    counts = BlockCounts()
    holders: dict[tuple[int, str, int], set[int]] = {}
    for what, (rank, medium), publisher, blocks in history:
        known = counts.in_medium(rank, medium)
        keys = [(rank, medium, block) for block in blocks]
        if what == "store":
            known.store(blocks, publisher)
            for key in keys:
                holders.setdefault(key, set()).add(publisher)
        elif what == "remove":
            gone = []
            for key in keys:
                if not holders.setdefault(key, set()) - {publisher}:
                    del holders[key]
                    gone.append(key[2])
                else:
                    holders[key].discard(publisher)
            assert known.remove(blocks, publisher) == gone
        else:
            for each in counts.of_rank(rank):
                (each.clear if what == "clear" else each.doubt)()
            own = [key for key in holders if key[0] == rank]
            for key in own:
                holders[key] = set()
                if what == "clear":
                    del holders[key]
        sizes = Counter({(rank, medium): at.resident for rank, medium, at in counts.items()})
        assert +sizes == Counter((rank, medium) for rank, medium, _ in holders)
