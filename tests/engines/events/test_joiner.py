"""The joining of successive events."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mpmetrics.engines.events.joiner import EventJoiner
from mpmetrics.engines.events.model import Cleared, Event, Removed, Stored


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
