"""The sink for ZeroMQ: listeners, a broker in between that goes and comes back, and mistakes."""

from __future__ import annotations

import socket
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest
import zmq

from mpmetrics.engines.errors import EventEndpointError
from mpmetrics.engines.events import Address, Removed, Worker, ZmqSink
from mpmetrics.engines.events.model import DEVICE
from tests.engines.events.messages import unpack
from tests.leftovers import no_threads_left
from tests.servers import LOOPBACK, eventually, free_port
from tests.workers import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator

WORKER = Worker(77, Address("ns", "c", "e"))
ANY = f"tcp://{LOOPBACK}:*"


@contextmanager
def running(endpoint: str = ANY, **more: Any) -> Iterator[ZmqSink]:
    """Run a sink; it leaves no thread."""
    sink = ZmqSink(endpoint, WORKER, **more)
    with no_threads_left():
        sink.start()
        try:
            yield sink
        finally:
            sink.stop()


@contextmanager
def subscribed(kind: int, endpoint: str, *, bind: bool = False) -> Iterator[Any]:
    """Yield a socket that hears everything."""
    with zmq.Context() as context, context.socket(kind) as subscriber:
        subscriber.setsockopt(zmq.LINGER, 0)
        subscriber.setsockopt(zmq.RCVTIMEO, int(PATIENCE * 1000))
        (subscriber.bind if bind else subscriber.connect)(endpoint)
        if kind == zmq.SUB:
            subscriber.setsockopt(zmq.SUBSCRIBE, b"")
        else:
            subscriber.send(b"\1")
        yield subscriber


def removed(*hashes: int) -> Removed:
    """Return an event."""
    return Removed(0, DEVICE, hashes)


def heard(sink: ZmqSink, subscriber: Any) -> list[bytes]:
    """Have a sink publish until it is heard: nobody tells it who has subscribed."""
    subscriber.setsockopt(zmq.RCVTIMEO, 50)
    for _ in range(int(PATIENCE / 0.05)):
        sink.put([removed(1)])
        try:
            frames = subscriber.recv_multipart()
        except zmq.Again:
            continue
        subscriber.setsockopt(zmq.RCVTIMEO, int(PATIENCE * 1000))
        assert isinstance(frames, list)
        return frames
    raise AssertionError(sink.tally)


def test_the_frames() -> None:
    """The topic, the publisher, the number, and a version, a length and the envelope."""
    with running(publisher_id=0xABC) as sink, subscribed(zmq.SUB, sink.endpoint) as subscriber:
        topic, publisher, number, packed = heard(sink, subscriber)
        first = int.from_bytes(number, "big")
        sink.put([removed(2)])
        second = subscriber.recv_multipart()
    assert (topic, publisher) == (b"kv-events", (0xABC).to_bytes(8, "big"))
    assert packed[:5] == b"\1" + (len(packed) - 5).to_bytes(4, "big")
    envelope = unpack(packed[5:])
    assert envelope.pop("published_at")
    (document,) = unpack(envelope.pop("payload"))
    assert envelope == {"publisher_id": 0xABC, "sequence": first, "topic": "kv-events"}
    assert document["event"]["event_id"] == first + 1
    assert document["event"]["data"] == {"removed": {"block_hashes": [1]}}
    assert int.from_bytes(second[2], "big") == first + 1


def test_what_waits_is_sent_when_it_stops() -> None:
    """Also what ZeroMQ has not sent yet."""
    with running() as sink, subscribed(zmq.SUB, sink.endpoint) as subscriber:
        heard(sink, subscriber)
        sink.put([removed(number) for number in range(1, 5000)])
        sink.stop()
        blocks = 0
        while blocks < 4999:
            documents = unpack(unpack(subscriber.recv_multipart()[3][5:])["payload"])
            blocks = documents[-1]["event"]["data"]["removed"]["block_hashes"][0]
    assert sink.tally["sent", "zmq"] >= 5000
    assert sink.buffer.dropped == 0


def test_a_broker() -> None:
    """Events wait while it is not there; the oldest are dropped when there are too many."""
    endpoint = f"tcp://{LOOPBACK}:{free_port()}"
    with running(endpoint, bind=False, capacity=10) as sink:
        sink.put([removed(number) for number in range(100)])
        eventually(lambda: sink.tally["failures", "zmq", "unreachable"], "a failure")
        assert not sink.tally["sent", "zmq"]
        assert sink.buffer.dropped == 90
        for _ in range(2):
            with subscribed(zmq.XSUB, endpoint, bind=True) as broker:
                heard(sink, broker)
            before = sink.tally["failures", "zmq", "unreachable"]
            eventually(lambda: _tried(sink) > before, "a failure")  # noqa: B023 - it is called at once


def test_somebody_else_has_the_port_of_a_broker() -> None:
    """What is no ZeroMQ makes it give up for good; the broker gets everything all the same."""
    with socket.create_server((LOOPBACK, 0)) as other:
        endpoint = f"tcp://{LOOPBACK}:{other.getsockname()[1]}"
        with running(endpoint, bind=False) as sink:
            with other.accept()[0] as connection, suppress(ConnectionError):
                connection.sendall(bytes(range(256)) * 50)
                while connection.recv(1000):
                    pass
            other.close()
            with subscribed(zmq.XSUB, endpoint, bind=True) as broker:
                heard(sink, broker)


def _tried(sink: ZmqSink) -> int:
    sink.put([removed(1)])
    return sink.tally["failures", "zmq", "unreachable"]


def test_a_broker_that_is_not_there_keeps_nobody() -> None:
    """What waits for it is dropped, and counted."""
    sink = ZmqSink(f"tcp://{LOOPBACK}:{free_port()}", WORKER, bind=False)
    sink.start()
    sink.put([removed(1)])
    sink.stop(0.1)
    assert (sink.tally["sent", "zmq"], sink.buffer.dropped, len(sink.buffer)) == (0, 1, 0)


@pytest.mark.parametrize("bind", [True, False])
@pytest.mark.parametrize("endpoint", ["", "tcp://", "nonsense", "tcp://127.0.0.1:99999"])
def test_endpoints_that_are_none(endpoint: str, *, bind: bool) -> None:
    """Are found at once."""
    with pytest.raises(EventEndpointError, match="endpoint "):
        ZmqSink(endpoint, WORKER, bind=bind)


def test_an_endpoint_that_is_taken() -> None:
    """Is found at once, too."""
    with running() as sink, pytest.raises(EventEndpointError, match="in use"):
        ZmqSink(sink.endpoint, WORKER)
