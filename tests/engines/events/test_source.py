"""A source with real publishers: processes that lose messages, replay them, and restart."""

from __future__ import annotations

import errno
import os
import random
import socket
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import pytest
import zmq

from mpmetrics.engines.errors import EventEndpointError
from mpmetrics.engines.events.gaps import OUTCOMES
from mpmetrics.engines.events.model import Cleared, Removed, Stored
from mpmetrics.engines.events.pipeline import Pipeline
from mpmetrics.engines.events.publisher_endpoints import Publisher, publishers
from mpmetrics.engines.events.source import EventSource
from tests.engines.events.messages import CLEARED, batch, removed, stored
from tests.engines.events.publishing import Consumer, EnginePublisher
from tests.leftovers import count_descriptors, no_threads_left, wait_for_descriptors
from tests.servers import free_ports
from tests.workers import PATIENCE, environment, run_python

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mpmetrics.engines.events.model import Event

SOON = 0.2
"""Seconds of patience with a replay that brings nothing."""


@pytest.fixture
def place() -> Iterator[Path]:
    """Return a directory whose path is short enough for sockets."""
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


@pytest.fixture
def publisher(place: Path) -> Publisher:
    """Return a publisher in that directory."""
    return Publisher(0, f"ipc://{place}/live", f"ipc://{place}/replay")


def start(publisher: Publisher, **options: Any) -> EnginePublisher:
    """Start the process of *publisher*."""
    return EnginePublisher(publisher.endpoint, publisher.replay, **options)


def blocks(*hashes: int, rank: int | None = None) -> list[bytes]:
    """Return a message for each of some blocks, with a store."""
    return [batch(stored(block), rank=rank) for block in hashes]


def test_events_of_a_live_publisher(publisher: Publisher) -> None:
    """Events of every form arrive in their order, and every metric counts them."""
    with start(publisher) as engine, Consumer(publisher) as consumer:
        engine.do("subscribed")
        engine.publish(
            batch(stored(1, 2), ["BlockStored", [2], 1, [3, 4], 2, None, "GPU"], ["New", 5]),
            batch(removed(1, 2), removed(7, medium="CPU"), removed(5, medium="nowhere")),
            b"\xc1",
            batch(CLEARED, stored(3)),
        )
        assert consumer.events_until(3) == [
            Stored(0, "device", [1, 2], None, [0, 1, 2, 3], 2),
            Stored(0, "device", [2], 1, [3, 4], 2),
            Removed(0, "device", [1, 2]),
            Removed(0, "host", [7]),
            Cleared(0),
            Stored(0, "device", [3], None, [0, 1], 2),
        ]
        series = consumer.series()
    assert series.pop("lag_seconds 0") > 0
    series.pop("sent_events_total callback", None)
    assert series == {
        "events_total received stored": 3,
        "events_total received removed": 3,
        "events_total received cleared": 1,
        "events_total received ignored": 1,
        "events_total accepted stored": 3,
        "events_total accepted removed": 2,
        "events_total accepted cleared": 1,
        "filtered_events_total ignored ignored_event": 1,
        "filtered_events_total removed unknown_medium": 1,
        "batches_total 0": 3,
        "malformed_messages_total undecodable": 1,
        "blocks_stored_total device 0": 3,
        "blocks_removed_total device 0": 2,
        "blocks_removed_total host 0": 1,
        "blocks_resident device 0": 1,
        "publisher_up 0 live": 1,
        "publisher_up 0 replay": 1,
    }


@pytest.mark.parametrize("form", [3, 4])
def test_lost_messages_are_replayed(publisher: Publisher, form: int) -> None:
    """A lost message is replayed once, in its place, by both forms of answers."""
    with start(publisher, form=form) as engine, Consumer(publisher) as consumer:
        engine.do("subscribed")
        engine.publish(*blocks(1, 2))
        engine.publish(*blocks(3, 4), lose=True)
        engine.publish(*blocks(5, 6))
        engine.publish(*blocks(7), lose=True)
        engine.publish(*blocks(8))
        assert consumer.until(8) == [1, 2, 3, 4, 5, 6, 7, 8]
        series = consumer.final_series()
        # The first replay brings both gaps, if it comes when all is published.
        asked = engine.do("asked")
    assert asked in ([2], [2, 6])
    gaps, replays = series["gaps_total 0 gap"], series["replays_total 0 complete"]
    assert gaps == replays == len(asked)
    assert series["batches_total 0"] == series["blocks_resident device 0"] == 8
    assert "lost_messages_total 0" not in series


@pytest.mark.parametrize(("keep", "lost"), [(100, 0), (31, 20)])
def test_a_late_start(publisher: Publisher, keep: int, lost: int) -> None:
    """Messages from before the start are replayed, as far as the publisher keeps them."""
    with start(publisher, keep=keep) as engine:
        engine.publish(*blocks(*range(1, 51)))
        with Consumer(publisher) as consumer:
            engine.do("subscribed")
            engine.publish(*blocks(51))
            assert consumer.until(51) == list(range(lost + 1, 52))
            series = consumer.final_series()
    assert series["gaps_total 0 late_start"] == 1
    assert series.get("lost_messages_total 0", 0) == lost
    outcome = "started_after_requested" if lost else "complete"
    assert series[f"replays_total 0 {outcome}"] == 1


def test_numbers_of_64_bits(publisher: Publisher) -> None:
    """Numbers of 64 bits are read like all others; a jump that no engine makes is a restart."""
    with start(publisher) as engine, Consumer(publisher) as consumer:
        engine.do("subscribed")
        engine.do("begin_with", (1 << 63) - 1)
        engine.publish(*blocks(1))
        engine.publish(*blocks(2), lose=True)
        engine.publish(*blocks(3))
        assert consumer.until(3) == [1, 2, 3]
        assert consumer.series().get("lost_messages_total 0", 0) == 0
        engine.do("begin_with", (1 << 64) - 2)
        engine.publish(*blocks(4))
        # All that the engine has comes again, since its blocks are cleared.
        assert consumer.until(4) == [0, 1, 2, 3, 4]
        series = consumer.series()
    assert series.get("lost_messages_total 0", 0) == 0
    assert series["gaps_total 0 restarted"] == 1


def test_one_number_of_a_far_future(publisher: Publisher) -> None:
    """One message with an impossible number loses nothing of those that follow."""
    with start(publisher) as engine, Consumer(publisher) as consumer:
        engine.do("subscribed")
        engine.publish(*blocks(1, 2))
        engine.send(b"kv", (1 << 62).to_bytes(8, "big"), *blocks(3))
        engine.publish(*blocks(4, 5))
        consumer.until(5)
        assert consumer.series().get("lost_messages_total 0", 0) == 0


@pytest.mark.parametrize(
    ("how", "outcome", "lost"),
    [
        ("nothing", "timeout", 3),
        ("with nonsense", "malformed", 3),
        ("without end", "timeout", 3),
        ("by halves", "timeout", 0),
    ],
)
def test_a_replay_that_goes_wrong(publisher: Publisher, how: str, outcome: str, lost: int) -> None:
    """A replay that goes wrong costs only the messages that it does not bring."""
    with start(publisher) as engine, Consumer(publisher, patience=SOON) as consumer:
        engine.do("subscribed")
        engine.do("answer", how)
        engine.publish(*blocks(1))
        engine.publish(*blocks(2, 3, 4), lose=True)
        engine.publish(*blocks(5, 6))
        assert consumer.until(6) == [1, *range(2, 5 - lost), 5, 6]
        series = consumer.final_series()
    # A replay that brings something is requested again.
    assert series[f"replays_total 0 {outcome}"] == 1
    assert series["gaps_total 0 gap"] == 1
    assert series.get("lost_messages_total 0", 0) == lost


def test_no_replay_endpoint(publisher: Publisher, place: Path) -> None:
    """A dead replay endpoint costs the patience; without one nothing is waited for."""
    for replay in (f"ipc://{place}/dead", ""):
        here = publisher._replace(replay=replay)
        with start(publisher) as engine, Consumer(here, patience=SOON) as consumer:
            engine.do("subscribed")
            engine.publish(*blocks(1))
            engine.publish(*blocks(2), lose=True)
            engine.publish(*blocks(3))
            assert consumer.until(3) == [1, 3]
            series = consumer.series()
        assert series["lost_messages_total 0"] == 1
        assert series.get("replays_total 0 timeout", 0) == (1 if replay else 0)


class ScarceContext:
    """A context of ZeroMQ that has one socket for replays, and then no descriptor any more."""

    def __init__(self, context: zmq.Context[Any]) -> None:
        """Take sockets from *context*."""
        self._context = context
        self._has_dealer = True

    def socket(self, kind: int) -> Any:
        """Return a socket, or raise as ZeroMQ does."""
        if kind == zmq.DEALER:
            if not self._has_dealer:
                raise zmq.ZMQError(errno.EMFILE)
            self._has_dealer = False
        return self._context.socket(kind)


def test_no_descriptor_for_a_replay(publisher: Publisher) -> None:
    """If no socket can be opened for a replay, its messages are lost, but none of the next ones."""
    with (
        start(publisher) as engine,
        zmq.Context() as context,
        # The one socket for replays is that which checks the endpoint.
        Consumer(publisher, context=ScarceContext(context)) as consumer,
    ):
        engine.do("subscribed")
        engine.publish(*blocks(1), lose=True)
        engine.publish(*blocks(2, 3))
        assert consumer.until(3) == [2, 3]
        assert consumer.series()["replays_total 0 unreachable"] == 1


def test_an_engine_that_is_killed(publisher: Publisher) -> None:
    """After a restart the blocks of all ranks of the engine are cleared."""
    with Consumer(publisher) as consumer:
        with start(publisher) as engine:
            engine.do("subscribed")
            engine.publish(*blocks(1, 2, 3), *blocks(9, rank=5))
            assert consumer.until(9) == [1, 2, 3, 9]
        with start(publisher) as engine:
            engine.do("subscribed")
            engine.publish(*blocks(2, 4))
            assert consumer.events_until(4)[:2] == [Cleared(0), Cleared(5)]
            series = consumer.series()
    assert series["gaps_total 0 restarted"] == 1
    assert series["blocks_resident device 0"] == 2
    assert series["blocks_removed_total device 0"] == 3
    assert "blocks_resident device 5" not in series
    assert "lost_messages_total 0" not in series


@pytest.mark.parametrize("ahead", [0, 5])
def test_an_engine_that_is_killed_and_soon_ahead(publisher: Publisher, ahead: int) -> None:
    """A restarted engine is noticed though its numbers are ahead, and is replayed from 0."""
    with Consumer(publisher) as consumer:
        with start(publisher) as engine:
            engine.do("subscribed")
            engine.publish(*blocks(1, 2, 3))
            assert consumer.until(3) == [1, 2, 3]
        with start(publisher) as engine:
            engine.do("subscribed")
            missed = range(11, 14 + ahead)
            engine.publish(*blocks(*missed), lose=True)
            engine.publish(*blocks(99))
            assert consumer.until(99) == [0, *missed, 99]
            series = consumer.final_series()
            assert engine.do("asked") == [2, 0]
    assert series["gaps_total 0 restarted"] == series["replays_total 0 restarted"] == 1
    assert series["replays_total 0 complete"] == series["gaps_total 0 late_start"] == 1


def test_an_engine_that_is_killed_while_its_messages_wait(publisher: Publisher) -> None:
    """No message of a killed engine is read after those of the next one."""
    is_reading = threading.Event()
    is_reading.set()

    def clock() -> float:
        is_reading.wait(PATIENCE)
        return time.monotonic()

    with Consumer(publisher, clock=clock) as consumer:
        with start(publisher) as engine:
            engine.do("subscribed")
            engine.publish(*blocks(1, 2))
            assert consumer.until(2) == [1, 2]
            is_reading.clear()
            engine.publish(*blocks(3, 4, 5))
        with start(publisher) as engine:
            missed = range(11, 18)
            engine.publish(*blocks(*missed), lose=True)
            engine.do("connected")
            is_reading.set()
            engine.do("subscribed")
            engine.publish(*blocks(99))
            assert consumer.until(99) == [0, *missed, 99]


@pytest.mark.parametrize("lost", [0, 3])
def test_a_connection_that_is_lost(publisher: Publisher, lost: int) -> None:
    """After a lost connection the same publisher goes on, with no message lost or repeated."""
    with start(publisher) as engine, Consumer(publisher) as consumer:
        engine.do("subscribed")
        engine.publish(*blocks(1, 2))
        assert consumer.until(2) == [1, 2]
        engine.do("disconnect")
        engine.do("subscribed")
        missed = range(3, 3 + lost)
        engine.publish(*blocks(*missed), lose=True)
        engine.publish(*blocks(98, 99))
        assert consumer.until(99) == [*missed, 98, 99]
        assert engine.do("asked") == [1]
        series = consumer.final_series()
    assert series["replays_total 0 complete"] == 1
    assert ("gaps_total 0 gap" in series) == bool(lost)
    assert "gaps_total 0 restarted" not in series


def test_another_server_has_the_port(place: Path) -> None:
    """An engine is read although another server, that is not ZeroMQ, had its endpoint before."""
    publisher = Publisher(0, f"ipc://{place}/live")
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(f"{place}/live")
        other.listen()
        with Consumer(publisher) as consumer:
            with other.accept()[0] as connection, suppress(ConnectionError):
                connection.sendall(bytes(range(256)) * 50)
                while connection.recv(1000):
                    pass
            (place / "live").unlink()
            with start(publisher) as engine:
                engine.do("subscribed")
                engine.publish(*blocks(7))
                assert consumer.until(7) == [7]


def test_a_message_that_is_too_large(place: Path) -> None:
    """A message that is too large costs the connection, and is lost; the next ones arrive."""
    publisher = Publisher(0, f"ipc://{place}/live")
    with start(publisher) as engine, Consumer(publisher, largest=1000) as consumer:
        engine.do("subscribed")
        engine.publish(*blocks(1), bytes(2000))
        assert consumer.until(1) == [1]
        engine.do("subscribed")
        engine.publish(*blocks(2))
        assert consumer.until(2) == [2]
        assert consumer.series()["lost_messages_total 0"] == 1


def test_ranks_have_publishers_of_their_own(place: Path) -> None:
    """A rank that waits for a replay does not delay the others."""
    both = [
        Publisher(rank, f"ipc://{place}/live{rank}", f"ipc://{place}/replay{rank}")
        for rank in (0, 1)
    ]
    with ExitStack() as stack:
        first, second = (stack.enter_context(start(each)) for each in both)
        consumer = stack.enter_context(Consumer(*both))
        for engine in (first, second):
            engine.do("subscribed")
        first.do("answer", "nothing")
        first.publish(*blocks(1), lose=True)
        first.publish(*blocks(2))
        second.publish(*blocks(3, 4))
        second.publish(*blocks(5), lose=True)
        second.publish(*blocks(6))
        events = consumer.events_until(6)
        assert [(event.rank, event.hashes[0]) for event in events if isinstance(event, Stored)] == [
            (1, block) for block in (3, 4, 5, 6)
        ]
        consumer.bridge.stop()
        assert consumer.until(2) == [2]
        series = consumer.series()
    assert series["replays_total 0 stopped"] == series["lost_messages_total 0"] == 1
    assert series["replays_total 1 complete"] == 1


def test_ranks_have_ports_in_a_row() -> None:
    """Ranks have successive ports, as in vLLM; the rank that a message names comes first."""
    first = free_ports(4)
    given = f"tcp://*:{first}", f"tcp://*:{first + 2}"
    ranks = publishers(*given, ranks=2)
    with ExitStack() as stack:
        engines = [stack.enter_context(start(each)) for each in ranks]
        consumer = stack.enter_context(Consumer(*ranks))
        for engine in engines:
            engine.do("subscribed")
            engine.publish(*blocks(1), lose=True)
        engines[0].publish(*blocks(2))
        assert [event.rank for event in consumer.events_until(2)] == [0, 0]
        engines[1].publish(*blocks(3), *blocks(4, rank=7))
        assert [event.rank for event in consumer.events_until(4)] == [1, 1, 7]


def test_addresses_of_ipv6() -> None:
    """Addresses of IPv6 are given in brackets, as in URLs."""
    try:
        first = free_ports(2, "::1")
    except OSError as error:
        pytest.skip(f"needs IPv6: {error}")
    (here,) = publishers(f"tcp://[::]:{first}", f"tcp://[::]:{first + 1}")
    with EnginePublisher(here.endpoint) as engine, Consumer(here._replace(replay="")) as consumer:
        engine.do("subscribed")
        engine.publish(*blocks(1))
        assert consumer.until(1) == [1]


def test_the_endpoints_of_each_side() -> None:
    """A bound source listens on all interfaces; an engine that does is reached by loopback."""
    _, second = publishers("tcp://*:5557", "tcp://*:6001", ranks=2, bind=True)
    assert second == Publisher(1, "tcp://*:5558", "tcp://127.0.0.1:6002", bind=True)
    assert publishers("tcp://*:5557") == [Publisher(0, "tcp://127.0.0.1:5557")]


@pytest.mark.parametrize("lost", [0, 1])
def test_a_publisher_that_connects(publisher: Publisher, lost: int) -> None:
    """A publisher can connect to the source; replays work the same, also after a restart."""
    here = publisher._replace(bind=True)
    with Consumer(here) as consumer:
        for _ in range(2):
            with EnginePublisher(f">{here.endpoint}", here.replay) as engine:
                engine.do("subscribed")
                engine.publish(*blocks(*range(1, 1 + lost)), lose=True)
                engine.publish(*blocks(8, 9))
                assert consumer.until(9)[-2 - lost :] == [*range(1, 1 + lost), 8, 9]
        series = consumer.series()
    assert series["gaps_total 0 restarted"] == 1
    assert series["batches_total 0"] == 2 * (2 + lost)


def test_a_topic(publisher: Publisher) -> None:
    """Messages on other topics are not read."""
    with start(publisher) as engine, Consumer(publisher, topic="kv") as consumer:
        engine.do("subscribed")
        engine.send(b"other", bytes(8), *blocks(1))
        engine.publish(*blocks(2))
        assert consumer.until(2) == [2]
        assert consumer.series()["batches_total 0"] == 1


def test_events_are_joined(publisher: Publisher) -> None:
    """Events are joined until they are due, or the bridge is stopped."""
    chain = [batch(stored(block, parent=block - 1)) for block in range(11, 20)]
    with start(publisher) as engine, Consumer(publisher, delay=SOON) as consumer:
        engine.do("subscribed")
        engine.publish(*chain)
        (event,) = consumer.events_until(11)
        assert isinstance(event, Stored)
        assert event.hashes == list(range(11, 20))
    with start(publisher) as engine, Consumer(publisher, delay=10 * PATIENCE) as consumer:
        engine.do("subscribed")
        engine.publish(*chain, *blocks(1))
        assert consumer.until(11) == [11]
        consumer.bridge.stop()
        assert consumer.until(1) == [1]


def test_garbage(publisher: Publisher) -> None:
    """Thousands of malformed messages are counted, and the messages after them are read."""
    rnd = random.Random(4)
    model = batch(stored(1, 2, parent=3), ["BlockRemoved", [4]], CLEARED, rank=1)
    frames: list[list[bytes]] = []
    number = 0
    while len(frames) < 4000:
        if rnd.random() < 0.3:
            sizes = [rnd.choice([0, 7, 9, 100]) for _ in range(rnd.choice([0, 1, 2, 4]))]
            frames.append([b"", *map(rnd.randbytes, sizes)])
        else:
            payload = bytearray(model)
            for _ in range(rnd.randint(1, 3)):
                payload[rnd.randrange(len(payload))] = rnd.randrange(256)
            del payload[rnd.choice([500, 500, rnd.randrange(len(payload))]) :]
            frames.append([b"", number.to_bytes(8, "big"), bytes(payload)])
            number += 1
    with start(publisher) as engine, Consumer(publisher) as consumer:
        engine.do("subscribed")
        for each in frames:
            engine.send(*each)
        engine.send(b"", number.to_bytes(8, "big"), batch(stored(99_999)))
        consumer.events_until(99_999)
        series = consumer.series()
    read = sum(value for name, value in series.items() if name.startswith("batches_total"))
    assert read > 300
    assert series["malformed_messages_total frames"] == len(frames) - number
    assert series["malformed_messages_total undecodable"] == number + 1 - read
    assert "malformed_messages_total failed" not in series
    assert not any(name.startswith(("gaps", "lost")) for name in series)


class FailingPipeline(Pipeline):
    """A pipeline that raises for some messages."""

    def take(self, payload: bytes, rank: int, now: float, publisher: int = 0) -> int:
        """Take a message, or raise."""
        if b"oops" in payload:
            raise ZeroDivisionError
        return super().take(payload, rank, now, publisher)


def test_a_message_that_raises(publisher: Publisher, caplog: pytest.LogCaptureFixture) -> None:
    """A message that raises costs only itself, is counted, and is logged once."""
    emitted: SimpleQueue[Sequence[Event]] = SimpleQueue()
    source = EventSource([publisher])
    pipeline = FailingPipeline(emitted.put, wall=time.time)
    thread = threading.Thread(target=source.run, args=(pipeline,))
    with start(publisher) as engine:
        thread.start()
        engine.do("subscribed")
        engine.publish(b"oops", *blocks(1), b"oops", *blocks(2))
        stores: list[Event] = []
        while len(stores) < 2:
            stores += emitted.get(timeout=PATIENCE)
        source.stop()
        thread.join()
    source.close()
    assert [event.hashes for event in stores if isinstance(event, Stored)] == [[1], [2]]
    assert pipeline.tally["problems", "failed"] == 2
    assert len(caplog.records) == 1


def test_the_former_name_of_a_source() -> None:
    """`Source` is still a name of `EventSource`."""
    from mpmetrics.engines.events import Source

    assert Source is EventSource


def test_counters_begin_with_zero(publisher: Publisher) -> None:
    """Counters exist from the beginning, so that Prometheus sees their first increase."""
    with start(publisher) as engine, Consumer(publisher) as consumer:
        engine.do("subscribed")
        engine.publish(*blocks(1))
        consumer.until(1)
        found = {
            " ".join([sample.name.removeprefix("mpmetrics_kv_"), *sample.labels.values()])
            for metric in consumer.bridge.metrics.collect()
            for sample in metric.samples
            if sample.value == 0
        }
    assert found >= {
        "lost_messages_total 0",
        *(f"gaps_total 0 {kind}" for kind in ("gap", "late_start", "restarted")),
        *(f"replays_total 0 {outcome}" for outcome in OUTCOMES),
        *(f"malformed_messages_total {reason}" for reason in ("frames", "undecodable", "failed")),
        "hit_tokens_total 0",
        "dropped_events_total callback",
    }


# -- a whole history -------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_each_message_is_received_once_or_counted_as_lost(publisher: Publisher, seed: int) -> None:
    """Each message is received once or counted as lost, over restarts, gaps and reconnections."""
    rnd = random.Random(seed)
    sent: list[int] = []
    got: list[int] = []
    with Consumer(publisher) as consumer:
        for _ in range(4):
            with start(publisher, form=rnd.choice([3, 4]), keep=20) as engine:
                engine.do("subscribed")
                for turn in range(60):
                    count = rnd.choice([1, 2, 5, 30])
                    new = range(len(sent) + 1, len(sent) + 1 + count)
                    engine.publish(*blocks(*new), lose=rnd.random() < 0.4)
                    sent += new
                    if turn % 20 == 7:
                        engine.do("disconnect")
                        engine.do("subscribed")
                sent.append(len(sent) + 1)
                engine.publish(*blocks(sent[-1]))
                got += [block for block in consumer.until(sent[-1]) if block]
        series = consumer.series()
    assert got == sorted(set(got))
    assert 0 < series["lost_messages_total 0"] == len(sent) - len(got)
    assert series["batches_total 0"] == len(got)
    assert series["gaps_total 0 restarted"] == 3


# -- what is left behind ---------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="only Linux lists descriptors")
def test_nothing_is_left_open(publisher: Publisher) -> None:
    """A stopped bridge leaves no descriptor and no thread, also during a replay."""
    before = count_descriptors()
    with no_threads_left():
        for how in ("nothing", "without end"):
            with start(publisher) as engine:
                with Consumer(publisher) as consumer:
                    engine.do("subscribed")
                    engine.do("answer", how)
                    engine.publish(*blocks(1), lose=True)
                    engine.publish(*blocks(2))
                    while not engine.do("asked"):
                        pass
                assert consumer.until(2) == [2]
                consumer.bridge.stop()
        Consumer(publisher).bridge.stop()
    wait_for_descriptors(before)


@pytest.mark.parametrize(
    ("endpoint", "replay"),
    [("tcp://127.0.0.1", ""), ("nonsense://x", ""), ("ipc:///tmp/x", "nonsense://x")],
)
def test_endpoints_that_are_not_valid(endpoint: str, replay: str) -> None:
    """An endpoint that is not valid raises an error at once, and leaves nothing open."""
    before = count_descriptors()
    good = Publisher(1, "tcp://127.0.0.1:5557")
    with pytest.raises(EventEndpointError, match=f"'{replay or endpoint}'"):
        EventSource([good, Publisher(0, endpoint, replay)])
    assert count_descriptors() == before


def test_without_assertions(publisher: Publisher) -> None:
    """A bridge works the same under `python -O`."""
    program = f"""
from queue import SimpleQueue
from mpmetrics.engines.events.bridge import EventBridge
from mpmetrics.engines.events.publisher_endpoints import Publisher, publishers
from mpmetrics.engines.events.sinks import CallbackSink
from mpmetrics.engines.events.source import EventSource
from tests.engines.events.messages import batch, stored
from tests.engines.events.publishing import EnginePublisher

if __debug__:
    raise SystemExit("not optimized")
publisher = Publisher{tuple(publisher)!r}
seen = SimpleQueue()
with EnginePublisher(publisher.endpoint, publisher.replay) as engine:
    with EventBridge(EventSource([publisher]), [CallbackSink(seen.put)]):
        engine.do("subscribed")
        engine.publish(batch(stored(1)), b"garbage", batch(["New"], stored()), lose=True)
        engine.publish(batch(stored(2)))
        print([seen.get(timeout=30).hashes for _ in range(2)])
"""
    env = environment(None, PYTHONPATH=os.pathsep.join(sys.path), PYTHONOPTIMIZE="1")
    assert run_python(program, env=env) == "[[1], [2]]\n"
