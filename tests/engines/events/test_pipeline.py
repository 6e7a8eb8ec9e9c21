"""From messages to events and metrics, endpoints of ranks, and a bridge beside an event loop."""

from __future__ import annotations

import asyncio
import logging
import math
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from mpmetrics.engines.errors import EventEndpointError
from mpmetrics.engines.events.batcher import Batcher
from mpmetrics.engines.events.block_counts import MOST_BLOCKS_KNOWN
from mpmetrics.engines.events.bridge import EventBridge
from mpmetrics.engines.events.dynamo_sinks import NatsSink, Worker
from mpmetrics.engines.events.metrics import EVENT_FAMILIES, EventCollector
from mpmetrics.engines.events.model import Cleared, Event, Removed, Stored, as_document
from mpmetrics.engines.events.pipeline import Pipeline
from mpmetrics.engines.events.publisher import Publisher, publishers, resolve_endpoint
from mpmetrics.engines.events.sinks import GRACE, CallbackSink
from mpmetrics.engines.events.source import EventSource
from mpmetrics.errors import LabelError, MissingExtraError
from mpmetrics.pages.page import Page
from tests.engines.endpoints import series
from tests.engines.events.messages import CLEARED, batch, removed, stored
from tests.servers import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Taken:
    """A pipeline, what it emits, and its metrics."""

    def __init__(
        self, batcher: Batcher | None = None, most_blocks: int = MOST_BLOCKS_KNOWN
    ) -> None:
        """Begin at the time 100."""
        self.emitted: list[Event] = []
        self.wall = 100.0
        self.pipeline = Pipeline(
            self._emit, wall=lambda: self.wall, batcher=batcher, most_blocks=most_blocks
        )

    def _emit(self, events: Sequence[Event]) -> None:
        assert events
        self.emitted += events

    def take(self, *payloads: bytes, now: float = 0.0) -> list[Event]:
        """Take messages of the publisher of rank 0; return what they make it emit."""
        self.emitted.clear()
        for payload in payloads:
            self.pipeline.take(payload, 0, now)
        self.pipeline.tick(now)
        return list(self.emitted)

    def series(self) -> dict[str, float]:
        """Return its metrics without their prefix."""
        registry = CollectorRegistry()
        registry.register(EventCollector(self.pipeline, []))
        found = series(generate_latest(registry).decode(), about=True)
        return {name.removeprefix("mpmetrics_kv_"): value for name, value in found.items()}


def test_copies_of_a_block() -> None:
    """Only what is no longer there is told to be removed."""
    taken = Taken()
    taken.take(batch(stored(1, 2), stored(2, 3)))
    assert taken.take(batch(removed(2))) == []
    assert taken.take(batch(removed(1, 2, 3))) == [Removed(0, "device", [1, 2, 3])]
    taken.take(batch(stored(1), stored(1), stored(5)))
    assert taken.take(batch(removed(1, 5, 9))) == [Removed(0, "device", [5, 9])]
    assert taken.take(batch(removed())) == []
    found = taken.series()
    place = "{dp_rank=0,medium=device}"
    assert found[f"blocks_stored_total{place}"] == 7
    assert found[f"blocks_removed_total{place}"] == 5
    assert found[f"removals_held_total{place}"] == 2
    assert found[f"blocks_resident{place}"] == 1


def test_events_do_not_pile_up() -> None:
    """Until a tick they wait for others, so that there is less to wake for; but not all of them."""
    taken = Taken()
    message = batch(*[stored(block) for block in range(100)])
    for count in range(1, 50):
        taken.pipeline.take(message, 0, 0.0)
        assert 0 <= 100 * count - len(taken.emitted) < 1024
    assert taken.emitted
    assert len(taken.emitted) % 100 == 0


def test_a_clear_takes_all_of_its_rank() -> None:
    """In every medium; what was kept to be joined goes before it."""
    taken = Taken(Batcher(1.0))
    here = [
        batch(stored(1, medium=medium), rank=rank) for medium in ("GPU", "CPU") for rank in (0, 1)
    ]
    assert [event.rank for event in taken.take(*here)] == [0, 1]
    assert taken.take(batch(CLEARED, rank=1)) == [
        Stored(1, "host", [1], None, [0, 1], 2),
        Cleared(1),
    ]
    assert taken.take(now=1.0) == [Stored(0, "host", [1], None, [0, 1], 2)]
    found = taken.series()
    resident = {name: value for name, value in found.items() if name.startswith("blocks_resident")}
    assert resident == {
        "blocks_resident{dp_rank=0,medium=device}": 1,
        "blocks_resident{dp_rank=0,medium=host}": 1,
        "blocks_resident{dp_rank=1,medium=device}": 0,
        "blocks_resident{dp_rank=1,medium=host}": 0,
    }
    assert found["blocks_removed_total{dp_rank=1,medium=host}"] == 1


def test_tokens_that_were_found() -> None:
    """Of a prefix on the device that goes on in two ways; until it is gone."""
    taken = Taken()
    chain = stored(1, 2, size=16)
    taken.take(batch(chain, stored(3, parent=2, size=16)))
    assert taken.series()["hit_tokens_total{dp_rank=0}"] == 0
    again = [stored(9, parent=2, size=16, medium="CPU"), stored(3, parent=2, size=16)]
    taken.take(batch(*again, stored(4, parent=2, size=16), stored(5, parent=1, size=16)))
    assert taken.series()["hit_tokens_total{dp_rank=0}"] == 48
    taken.take(batch(removed(2)), batch(stored(6, parent=2, size=16)))
    taken.take(batch(CLEARED), batch(stored(7, parent=1, size=16)))
    assert taken.series()["hit_tokens_total{dp_rank=0}"] == 48


def test_how_late_messages_are() -> None:
    """Clocks may differ, and a time may be no number."""
    taken = Taken()
    for sent, lag in ((99.5, 0.5), (90, 10), (math.nan, 10), (math.inf, 10), (101, 0)):
        taken.take(batch(ts=sent, rank=4))
        assert taken.series()["lag_seconds{dp_rank=4}"] == lag
    assert taken.series()["batches_total{dp_rank=4}"] == 5


def test_after_a_loss() -> None:
    """Of the rank that lost it, the next removal of a block counts."""
    taken = Taken()
    for rank in (0, 1):
        taken.take(batch(stored(1), stored(1), rank=rank))
    taken.pipeline.doubt(0)
    removals = [batch(removed(1), rank=rank) for rank in (0, 1)]
    assert taken.take(*removals) == [Removed(0, "device", [1])]
    taken.pipeline.clear(1, 0.0)
    taken.pipeline.flush()
    assert taken.emitted[-1] == Cleared(1)


def test_blocks_that_are_never_removed() -> None:
    """The oldest blocks and their prefixes are forgotten, so that they do not fill the memory."""
    taken = Taken(most_blocks=64)
    for block in range(1, 1000):
        taken.take(batch(stored(block, parent=block - 1)))
        assert taken.pipeline.block_counts.place(0, "device").resident <= 64
        assert len(taken.pipeline.prefixes[0]) <= 64
    found = taken.series()
    assert found["blocks_forgotten_total{dp_rank=0,medium=device}"] > 900


def test_families_are_those_that_are_announced() -> None:
    """Each has its name and help, and is there from the beginning."""
    collector = EventCollector(Taken().pipeline, [])
    assert list(collector.describe()) == []
    names = [(family.name, family.documentation) for family in collector.collect()]
    assert names == [(family.name, family.help) for family in EVENT_FAMILIES]
    assert len({name for name, _ in names}) == len(names)
    assert all(name.startswith("mpmetrics_kv_") for name, _ in names)


@pytest.mark.parametrize(
    ("event", "document"),
    [
        (Cleared(1), {"event": "cleared", "rank": 1}),
        (Removed(0, "host", [2]), {"event": "removed", "rank": 0, "medium": "host", "hashes": [2]}),
    ],
)
def test_documents(event: Event, document: dict[str, Any]) -> None:
    """An event is shown with its kind."""
    assert as_document(event) == document


# -- endpoints -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("endpoint", "rank", "there"),
    [
        ("tcp://*:5557", 0, "tcp://127.0.0.1:5557"),
        ("tcp://*:5557", 3, "tcp://127.0.0.1:5560"),
        ("tcp://0.0.0.0:5557", 1, "tcp://127.0.0.1:5558"),
        ("tcp://[::]:5557", 1, "tcp://[::1]:5558"),
        ("tcp://host-7.example:65534", 1, "tcp://host-7.example:65535"),
        ("inproc://kv", 0, "inproc://kv"),
        ("inproc://kv", 2, "inproc://kv_dp2"),
        ("ipc:///run/kv", 0, "ipc:///run/kv"),
    ],
)
def test_where_a_rank_is(endpoint: str, rank: int, there: str) -> None:
    """As vLLM has it: the next port."""
    assert resolve_endpoint(endpoint, rank) == there


@pytest.mark.parametrize(
    ("endpoint", "rank"),
    [
        ("tcp://host:65535", 1),
        ("tcp://host:0", 0),
        ("tcp://host:99999", 0),
        ("tcp://host", 0),
        ("tcp://:5557", 0),
        ("ipc:///run/kv", 1),
        ("ipc://", 0),
        ("inproc://", 0),
        ("udp://host:5557", 0),
        ("", 0),
    ],
)
def test_where_no_rank_is(endpoint: str, rank: int) -> None:
    """It is said with the endpoint, in one line."""
    with pytest.raises(EventEndpointError) as caught:
        resolve_endpoint(endpoint, rank)
    assert str(caught.value).startswith(f"endpoint {endpoint!r}: ")
    assert "\n" not in str(caught.value)


def test_publishers_of_an_engine() -> None:
    """One for each rank, with its replays if there are any."""
    assert publishers("tcp://h:10", "tcp://h:20", ranks=2, first_rank=4) == [
        Publisher(4, "tcp://h:14", "tcp://h:24"),
        Publisher(5, "tcp://h:15", "tcp://h:25"),
    ]
    assert publishers("tcp://h:10") == [Publisher(0, "tcp://h:10")]


@pytest.mark.parametrize(
    ("module", "package", "make"),
    [
        ("zmq", "pyzmq", lambda: EventSource([])),
        ("msgspec", "msgspec", lambda: Pipeline(print, wall=lambda: 0.0)),
    ],
)
def test_packages_that_are_missing(
    module: str, package: str, make: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said which extra brings them."""
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"{package}.*zmq"):
        make()


# -- the bridge ------------------------------------------------------------------------------------


def nobody() -> EventSource:
    """Return a source where nobody is."""
    return EventSource([Publisher(0, "ipc:///nowhere/at/all")])


def test_a_bridge_beside_an_event_loop() -> None:
    """It ends when it is cancelled, and leaves no thread behind."""
    threads = threading.active_count()

    async def main() -> None:
        bridge = EventBridge(nobody(), [CallbackSink(print)])
        task = asyncio.create_task(bridge.run())
        await asyncio.sleep(0)
        assert threading.active_count() > threads
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert threading.active_count() == threads


def test_a_bridge_that_never_began() -> None:
    """It can be stopped, and more than once."""
    bridge = EventBridge(nobody())
    bridge.stop()
    bridge.stop()
    with EventBridge(nobody()) as other:
        other.stop()


def test_several_bridges_on_one_page() -> None:
    """Constant labels tell their metrics apart."""
    made = [EventBridge(nobody(), labels={"engine": name}) for name in ("prefill", "decode")]
    for number, bridge in enumerate(made):
        bridge._pipeline.tally["lost", "0"] = number
        bridge.stop()
    page = Page([bridge.metrics for bridge in made]).render().decode()
    for number, name in enumerate(("prefill", "decode")):
        line = f'mpmetrics_kv_lost_messages_total{{dp_rank="0",engine="{name}"}} {number}.0\n'
        assert line in page


@pytest.mark.parametrize("name", ["sink", "le", "a-b"])
def test_labels_that_cannot_be(name: str) -> None:
    """The metrics have them already, or nobody can."""
    with pytest.raises(LabelError, match=name):
        EventCollector(Taken().pipeline, [], {name: "x"})


def test_stopping_many_sinks() -> None:
    """Takes no longer than stopping one, when all brokers are down."""
    worker = Worker(1)
    sinks = [NatsSink(f"nats://{LOOPBACK}:1", worker, name=f"nats-{n}") for n in range(4)]
    with EventBridge(nobody(), sinks) as bridge:
        for sink in sinks:
            sink.put([Cleared(0)])
        began = time.monotonic()
        bridge.stop()
    assert time.monotonic() - began < 3 * GRACE
    assert [(sink.buffer.dropped, len(sink.buffer)) for sink in sinks] == [(1, 0)] * 4


class FailingSource(EventSource):
    """A source with a defect."""

    def run(self, pipeline: Pipeline) -> None:
        """Raise."""
        raise ZeroDivisionError(pipeline)


def test_an_unexpected_exception(caplog: pytest.LogCaptureFixture) -> None:
    """An unexpected exception ends the reading, is logged, and closes the source."""
    source = FailingSource([Publisher(0, "ipc:///nowhere/at/all")])
    with caplog.at_level(logging.ERROR, "mpmetrics"), EventBridge(source) as bridge:
        bridge._thread.join()
    assert [record.message for record in caplog.records] == ["no more events are read"]
    assert all(subscription.live.closed for subscription in source._subscriptions)
