"""The pipeline from messages to events and metrics, the endpoints of ranks, and the bridge."""

from __future__ import annotations

import asyncio
import logging
import math
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from mpmetrics.engines.errors import EventEndpointError
from mpmetrics.engines.events.block_counts import MOST_BLOCKS_KNOWN
from mpmetrics.engines.events.bridge import EventBridge
from mpmetrics.engines.events.dynamo_sinks import NatsSink, Worker
from mpmetrics.engines.events.joiner import EventJoiner
from mpmetrics.engines.events.metrics import EVENT_FAMILIES, EventCollector
from mpmetrics.engines.events.model import Cleared, Event, Removed, Stored, as_document
from mpmetrics.engines.events.pipeline import Pipeline
from mpmetrics.engines.events.publisher_endpoints import Publisher, publishers, resolve_endpoint
from mpmetrics.engines.events.sinks import GRACE, CallbackSink
from mpmetrics.engines.events.source import EventSource
from mpmetrics.errors import LabelError, MissingExtraError
from mpmetrics.pages.page import Page
from tests.engines.endpoints import series
from tests.engines.events.messages import CLEARED, batch, removed, stored
from tests.leftovers import no_threads_left
from tests.servers import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class RecordedPipeline:
    """A pipeline, the events that it emits, and its metrics."""

    def __init__(
        self, joiner: EventJoiner | None = None, most_blocks: int = MOST_BLOCKS_KNOWN
    ) -> None:
        """Create the pipeline; the time is 100."""
        self.emitted: list[Event] = []
        self.wall = 100.0
        self.pipeline = Pipeline(
            self._emit, wall=lambda: self.wall, joiner=joiner, most_blocks=most_blocks
        )

    def _emit(self, events: Sequence[Event]) -> None:
        assert events
        self.emitted += events

    def take(self, *payloads: bytes, now: float = 0.0, publisher: int = 0) -> list[Event]:
        """Take messages of a publisher of rank 0; return the events that are emitted."""
        self.emitted.clear()
        for payload in payloads:
            self.pipeline.take(payload, 0, now, publisher)
        self.pipeline.tick(now)
        return list(self.emitted)

    def series(self) -> dict[str, float]:
        """Return its metrics without their prefix."""
        registry = CollectorRegistry()
        registry.register(EventCollector(self.pipeline, []))
        found = series(generate_latest(registry).decode(), about=True)
        return {name.removeprefix("mpmetrics_kv_"): value for name, value in found.items()}


def test_copies_of_a_block() -> None:
    """A removal of a block that two publishers have stored is emitted with the second one."""
    recorded = RecordedPipeline()
    recorded.take(batch(stored(1, 2)))
    recorded.take(batch(stored(2, 3)), publisher=1)
    assert recorded.take(batch(removed(2))) == []
    assert recorded.take(batch(removed(2, 3)), publisher=1) == [Removed(0, "device", [2, 3])]
    assert recorded.take(batch(removed(1, 9))) == [Removed(0, "device", [1, 9])]
    assert recorded.take(batch(removed())) == []
    found = recorded.series()
    place = "{dp_rank=0,medium=device}"
    assert found[f"blocks_stored_total{place}"] == 3
    assert found[f"blocks_removed_total{place}"] == 4
    assert found[f"removals_held_total{place}"] == 1
    assert found[f"blocks_resident{place}"] == 0


def test_full_reports() -> None:
    """Blocks that an engine reports again are passed on, and count once."""
    recorded = RecordedPipeline()
    four = stored(1, 2, 3, 4)
    assert len(recorded.take(batch(four), batch(four))) == 2
    assert recorded.take(batch(removed(1, 2, 3, 4))) == [Removed(0, "device", [1, 2, 3, 4])]
    found = recorded.series()
    place = "{dp_rank=0,medium=device}"
    assert found[f"blocks_stored_total{place}"] == found[f"blocks_removed_total{place}"] == 4
    assert found[f"removals_held_total{place}"] == found[f"blocks_resident{place}"] == 0


def test_events_do_not_pile_up() -> None:
    """Events wait for a tick, but never more than 1024 of them."""
    recorded = RecordedPipeline()
    message = batch(*[stored(block) for block in range(100)])
    for count in range(1, 50):
        recorded.pipeline.take(message, 0, 0.0)
        assert 0 <= 100 * count - len(recorded.emitted) < 1024
    assert recorded.emitted
    assert len(recorded.emitted) % 100 == 0


def test_a_clear_takes_all_of_its_rank() -> None:
    """A clear removes the blocks of its rank in every medium, after the pending events."""
    recorded = RecordedPipeline(EventJoiner(1.0))
    here = [
        batch(stored(1, medium=medium), rank=rank) for medium in ("GPU", "CPU") for rank in (0, 1)
    ]
    assert [event.rank for event in recorded.take(*here)] == [0, 1]
    assert recorded.take(batch(CLEARED, rank=1)) == [
        Stored(1, "host", [1], None, [0, 1], 2),
        Cleared(1),
    ]
    assert recorded.take(now=1.0) == [Stored(0, "host", [1], None, [0, 1], 2)]
    found = recorded.series()
    resident = {name: value for name, value in found.items() if name.startswith("blocks_resident")}
    assert resident == {
        "blocks_resident{dp_rank=0,medium=device}": 1,
        "blocks_resident{dp_rank=0,medium=host}": 1,
        "blocks_resident{dp_rank=1,medium=device}": 0,
        "blocks_resident{dp_rank=1,medium=host}": 0,
    }
    assert found["blocks_removed_total{dp_rank=1,medium=host}"] == 1


def test_hit_tokens() -> None:
    """A prefix on the device is found when it is continued a second time, until it is gone."""
    recorded = RecordedPipeline()
    chain = stored(1, 2, size=16)
    recorded.take(batch(chain, stored(3, parent=2, size=16)))
    assert recorded.series()["hit_tokens_total{dp_rank=0}"] == 0
    again = [stored(9, parent=2, size=16, medium="CPU"), stored(3, parent=2, size=16)]
    recorded.take(batch(*again, stored(4, parent=2, size=16), stored(5, parent=1, size=16)))
    assert recorded.series()["hit_tokens_total{dp_rank=0}"] == 48
    recorded.take(batch(removed(2)), batch(stored(6, parent=2, size=16)))
    recorded.take(batch(CLEARED), batch(stored(7, parent=1, size=16)))
    assert recorded.series()["hit_tokens_total{dp_rank=0}"] == 48


def test_the_lag_of_messages() -> None:
    """The lag is never negative, and a time of no clock does not change it."""
    recorded = RecordedPipeline()
    for sent, lag in ((99.5, 0.5), (90, 10), (math.nan, 10), (math.inf, 10), (-1e9, 10), (101, 0)):
        recorded.take(batch(ts=sent, rank=4))
        assert recorded.series()["lag_seconds{dp_rank=4}"] == lag
    assert recorded.series()["batches_total{dp_rank=4}"] == 6


def test_after_a_loss() -> None:
    """After lost messages of one rank, the next removal of a block of that rank is emitted."""
    recorded = RecordedPipeline()
    for rank, publisher in ((0, 0), (0, 1), (1, 0), (1, 1)):
        recorded.take(batch(stored(1), rank=rank), publisher=publisher)
    recorded.pipeline.doubt(0)
    removals = [batch(removed(1), rank=rank) for rank in (0, 1)]
    assert recorded.take(*removals) == [Removed(0, "device", [1])]
    recorded.pipeline.clear(1, 0.0)
    recorded.pipeline.flush()
    assert recorded.emitted[-1] == Cleared(1)


def test_blocks_that_are_never_removed() -> None:
    """The oldest blocks and their prefixes are forgotten, so that they do not fill the memory."""
    recorded = RecordedPipeline(most_blocks=64)
    for block in range(1, 1000):
        recorded.take(batch(stored(block, parent=block - 1)))
        assert recorded.pipeline.block_counts.in_medium(0, "device").resident <= 64
        assert len(recorded.pipeline.prefixes[0]) <= 64
    found = recorded.series()
    assert found["blocks_forgotten_total{dp_rank=0,medium=device}"] > 900


def test_families_are_those_that_are_announced() -> None:
    """Every family has its name and help, and exists from the beginning."""
    collector = EventCollector(RecordedPipeline().pipeline, [])
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
    """A document has the kind of the event, and its fields."""
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
def test_the_endpoint_of_a_rank(endpoint: str, rank: int, there: str) -> None:
    """The endpoint of a rank has the port of the first one plus the rank, as in vLLM."""
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
def test_an_endpoint_without_the_rank(endpoint: str, rank: int) -> None:
    """An endpoint that has no place for the rank raises an error of one line that names it."""
    with pytest.raises(EventEndpointError) as caught:
        resolve_endpoint(endpoint, rank)
    assert str(caught.value).startswith(f"endpoint {endpoint!r}: ")
    assert "\n" not in str(caught.value)


def test_publishers_of_an_engine() -> None:
    """An engine has a publisher for each rank, with a replay endpoint if one is given."""
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
    """A missing package raises an error that names the extra."""
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"{package}.*zmq"):
        make()


# -- the bridge ------------------------------------------------------------------------------------


def make_idle_source() -> EventSource:
    """Return a source whose publisher does not exist."""
    return EventSource([Publisher(0, "ipc:///nowhere/at/all")])


def test_a_bridge_beside_an_event_loop() -> None:
    """A bridge beside an event loop ends when its task is cancelled, and leaves no thread."""

    async def main() -> None:
        bridge = EventBridge(make_idle_source(), [CallbackSink(print)])
        task = asyncio.create_task(bridge.run())
        await asyncio.sleep(0)
        assert bridge.is_running
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with no_threads_left():
        asyncio.run(main())


def test_a_bridge_that_never_began() -> None:
    """A bridge that was never started can be stopped, also more than once."""
    bridge = EventBridge(make_idle_source())
    bridge.stop()
    bridge.stop()
    with EventBridge(make_idle_source()) as other:
        other.stop()


def test_several_bridges_on_one_page() -> None:
    """Constant labels distinguish the metrics of several bridges on one page."""
    made = [
        EventBridge(make_idle_source(), labels={"engine": name}) for name in ("prefill", "decode")
    ]
    for number, bridge in enumerate(made):
        bridge._pipeline.tally["lost", "0"] = number
        bridge.stop()
    page = Page([bridge.metrics for bridge in made]).render().decode()
    for number, name in enumerate(("prefill", "decode")):
        line = f'mpmetrics_kv_lost_messages_total{{dp_rank="0",engine="{name}"}} {number}.0\n'
        assert line in page


@pytest.mark.parametrize("name", ["sink", "le", "a-b"])
def test_labels_that_cannot_be(name: str) -> None:
    """A constant label that is invalid or used by the metrics raises an error."""
    with pytest.raises(LabelError, match=name):
        EventCollector(RecordedPipeline().pipeline, [], {name: "x"})


def test_stopping_many_sinks() -> None:
    """Stopping many sinks takes no longer than stopping one, when all brokers are down."""
    worker = Worker(1)
    sinks = [NatsSink(f"nats://{LOOPBACK}:1", worker, name=f"nats-{n}") for n in range(20)]
    with EventBridge(make_idle_source(), sinks) as bridge:
        for sink in sinks:
            sink.put([Cleared(0)])
        began = time.monotonic()
        bridge.stop()
    assert time.monotonic() - began < len(sinks) * GRACE / 2
    assert [(sink.buffer.dropped, len(sink.buffer)) for sink in sinks] == [(1, 0)] * len(sinks)


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
    (message,) = caplog.messages
    assert message.startswith("no more events are read: ZeroDivisionError: ")
    assert all(subscription.live.closed for subscription in source._subscriptions)
