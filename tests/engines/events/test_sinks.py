"""What all sinks have: a bounded buffer, exact counts, and a stop that does not hang."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpmetrics.engines.events import (
    CallbackSink,
    Cleared,
    NatsSink,
    Removed,
    Stored,
    Worker,
)
from mpmetrics.engines.events.buffer import EventBuffer
from mpmetrics.engines.events.dynamo_sinks import DynamoSink
from mpmetrics.engines.events.link import LOST, TOO_LARGE, LinkError
from mpmetrics.engines.events.model import DEVICE
from mpmetrics.engines.events.router_events import RouterEventConverter
from tests.engines.events.messages import unpack
from tests.servers import eventually
from tests.workers import PATIENCE, environment, run_python

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mpmetrics.engines.events.dynamo_protocol import Message


def removed(number: int, rank: int = 0) -> Removed:
    """Return a removal."""
    return Removed(rank, DEVICE, [number])


# -- The buffer -----------------------------------------------------------------------------------


def test_a_full_buffer_drops_the_oldest() -> None:
    """A full buffer drops the oldest events, and reports their ranks with the next ones."""
    buffer = EventBuffer(3)
    buffer.put([removed(number, rank=number % 2) for number in range(5)])
    assert (len(buffer), buffer.dropped) == (3, 2)
    taken = buffer.take(2)
    assert taken is not None
    assert taken.events == [removed(2, 0), removed(3, 1)]
    assert taken.dropped == {0: 1, 1: 1}
    again = buffer.take(2)
    assert again is not None
    assert (again.events, again.dropped) == ([removed(4)], {})


def test_events_in_hand() -> None:
    """Events in hand count as waiting until they are done or lost."""
    buffer = EventBuffer(10)
    buffer.put([removed(number, rank=number % 2) for number in range(5)])
    buffer.take(4)
    assert len(buffer) == 5
    buffer.mark_done(0, 2)
    assert (len(buffer), buffer.dropped) == (3, 0)
    buffer.drop_in_hand()
    assert (len(buffer), buffer.dropped) == (1, 2)
    taken = buffer.take(4)
    assert taken is not None
    assert taken.dropped == {1: 2, 0: 0}


def test_a_closed_buffer() -> None:
    """A closed buffer returns what is left, and drops what is put."""
    buffer = EventBuffer(10)
    buffer.put([removed(1)])
    buffer.close()
    taken = buffer.take(4)
    assert taken is not None
    assert taken.events == [removed(1)]
    assert buffer.take(4) is None
    buffer.put([removed(2)])
    assert buffer.take(4) is None
    assert buffer.dropped == 1


def test_take_waits() -> None:
    """`take` waits until there is an event, or the buffer is closed."""
    buffer = EventBuffer(10)
    taken: list[Any] = []

    def take() -> None:
        while (some := buffer.take(1)) is not None:
            taken.append(some.events)

    thread = threading.Thread(target=take)
    thread.start()
    buffer.put([removed(1)])
    buffer.put([removed(2)])
    buffer.close()
    thread.join(30)
    assert taken == [[removed(1)], [removed(2)]]


# -- Callbacks ------------------------------------------------------------------------------------


def test_a_callback_that_raises() -> None:
    """A callback that raises costs that event, is counted, and is logged once."""
    seen = []

    def callback(event: Any) -> None:
        if event.rank:
            raise ValueError(event)
        seen.append(event)

    sink = CallbackSink(callback)
    sink.start()
    sink.put([Cleared(1), Cleared(0), Cleared(1)])
    sink.stop()
    assert seen == [Cleared(0)]
    counts = Counter({("sent", "callback"): 1, ("failures", "callback", "raised"): 2})
    assert (sink.tally, sink.buffer.dropped, len(sink.buffer)) == (counts, 0, 0)


def test_a_callback_that_hangs() -> None:
    """A callback that hangs delays neither `put` nor, for long, `stop`."""
    release, hangs = threading.Event(), threading.Event()

    def callback(_: Any) -> None:
        hangs.set()
        release.wait()

    sink = CallbackSink(callback, capacity=3)
    sink.start()
    sink.put([Cleared(0)])
    assert hangs.wait(30)
    sink.put([Cleared(0)] * 10)
    began = time.monotonic()
    sink.stop(0.1)
    assert time.monotonic() - began < PATIENCE
    assert sink.buffer.dropped == 10
    release.set()
    eventually(lambda: not len(sink.buffer), "it ends")


# -- Links that fail ------------------------------------------------------------------------------


class FakeLink:
    """A link that takes a limited number of messages at a time, and then fails."""

    def __init__(self, *limits: int, reason: str = LOST) -> None:
        """Take everything after the last of the *limits*."""
        self._limits = list(limits)
        self._reason = reason
        self.taken: list[Message] = []
        self.calls: list[str] = []

    def send(self, subject: str, messages: Sequence[Message]) -> None:
        """Take some of *messages*."""
        assert subject.endswith(".kv-events")
        limit = self._limits.pop(0) if self._limits else len(messages)
        self.taken += messages[:limit]
        if limit < len(messages):
            raise LinkError(self._reason, "no more", taken=limit)

    def interrupt(self) -> None:
        """Record the call."""
        self.calls.append("interrupt")

    def close(self) -> None:
        """Record the call."""
        self.calls.append("close")


@given(
    st.lists(st.integers(0, 3), max_size=8),
    st.lists(st.integers(0, 4), min_size=1, max_size=40),
    st.sampled_from([LOST, TOO_LARGE]),
)
def test_every_event_is_counted_once(limits: list[int], ranks: list[int], reason: str) -> None:
    """Every event is counted once, whatever a link takes, and is sent in the order of its rank."""
    link = FakeLink(*limits, reason=reason)
    sink = DynamoSink("plane", Worker(1), link, pip_extra="nats", first_pause=0.0)
    sink.put([removed(number, rank) for number, rank in enumerate(ranks)])
    sink.start()
    sink.stop(30)
    sent, rejected = sink.tally["sent", "plane"], sink.tally["rejected", "plane", TOO_LARGE]
    assert sent + rejected == len(ranks)
    assert (sink.buffer.dropped, len(sink.buffer)) == (0, 0)
    numbers: dict[int, list[int]] = {}
    for document in itertools.chain(*(unpack(each.envelope.payload) for each in link.taken)):
        event = document["event"]
        numbers.setdefault(event["dp_rank"], []).append(event["data"]["removed"]["block_hashes"][0])
    assert sum(map(len, numbers.values())) == sent
    assert all(found == sorted(set(found)) for found in numbers.values())
    if reason == LOST:
        assert Counter({rank: len(found) for rank, found in numbers.items()}) == Counter(ranks)
    assert link.calls == ["close"]


def test_the_size_of_what_is_sent_at_once() -> None:
    """Messages are sent in portions of a limited size; a message that is larger goes alone."""
    sizes: list[list[int]] = []

    class ListeningLink(FakeLink):
        def send(self, subject: str, messages: Sequence[Message]) -> None:
            sizes.append([len(each.packed) for each in messages])
            super().send(subject, messages)

    def large(blocks: int) -> Removed:
        return Removed(0, DEVICE, [1 << 63] * blocks)

    sink = DynamoSink("plane", Worker(1), ListeningLink(), pip_extra="nats")
    sink.put([large(8192)] * 100 + [large(200_000), large(1)])
    sink.start()
    sink.stop(30)
    assert sink.tally["sent", "plane"] == 102
    assert sum(map(len, sizes)) == 102
    assert all(sum(each) <= 1 << 20 or len(each) == 1 for each in sizes)
    assert len(sizes) <= 12


def test_what_a_link_raises() -> None:
    """An exception of a link costs no event: the events are sent again."""

    class OddLink(FakeLink):
        odd = True

        def send(self, subject: str, messages: Sequence[Message]) -> None:
            if self.odd:
                self.odd = False
                raise RuntimeError(subject)
            super().send(subject, messages)

    sink = DynamoSink("plane", Worker(1), OddLink(), pip_extra="nats")
    sink.start()
    sink.put([Cleared(0)])
    sink.stop(30)
    assert sink.tally == Counter({("sent", "plane"): 1, ("failures", "plane", "error"): 1})


def test_failures_are_counted_from_zero() -> None:
    """Every failure is counted from zero, so that Prometheus sees the first one as an increase."""
    sink = NatsSink("nats://localhost", Worker(1))
    assert sink.tally["sent", "nats"] == 0
    reasons = {key[2] for key in sink.tally if key[0] == "failures"}
    assert {"unreachable", "late", "connection_lost", "no_stream"} <= reasons
    assert ("rejected", "nats", "too_large") in sink.tally
    assert not any(sink.tally.values())


# -- What is not installed ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("package", "made", "extra"),
    [
        ("nats", "NatsSink('nats://localhost', Worker(1))", "nats"),
        ("xxhash", "NatsSink('nats://localhost', Worker(1))", "nats"),
        ("msgspec", "NatsSink('nats://localhost', Worker(1))", "nats"),
        ("zmq", "ZmqSink('tcp://127.0.0.1:*', Worker(1))", "zmq"),
        ("xxhash", "ZmqSink('tcp://127.0.0.1:*', Worker(1))", "zmq"),
        ("zmq", "EventSource([])", "zmq"),
    ],
)
def test_a_missing_package(package: str, made: str, extra: str) -> None:
    """A missing package raises an error of one line that says what to install."""
    program = f"""
import sys
sys.modules[{package!r}] = None
from mpmetrics.engines.events import *
from mpmetrics.errors import MissingExtraError
try:
    {made}
except MissingExtraError as error:
    print(error)
"""
    said = run_python(program, env=environment(None)).strip()
    assert f"pip install '.[{extra}]'" in said
    assert "\n" not in said


def test_blocks_of_salted_requests() -> None:
    """Blocks of salted requests and those after them are rejected; the oldest are forgotten."""
    converter = RouterEventConverter(7, most_salted=16)

    def store(block: int, parent: int | None = None, *, salted: bool = False) -> object:
        return converter.convert(Stored(0, DEVICE, [block], parent, [5], 1, salted=salted))

    assert store(1, salted=True) == store(2, 1) == "conversion_none"
    converter.convert(Removed(0, DEVICE, [1]))
    assert isinstance(store(3, 1), dict)
    for block in range(100, 200):
        store(block, salted=True)
    assert store(300, 199) == "conversion_none"
    assert isinstance(store(301, 2), dict)
    assert len(converter._salted[0]) <= 16
