"""The sink for ZeroMQ: listeners, a broker that goes and comes back, and mistakes."""

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
    """Run a sink, which leaves no thread."""
    sink = ZmqSink(endpoint, WORKER, **more)
    with no_threads_left():
        sink.start()
        try:
            yield sink
        finally:
            sink.stop()


@contextmanager
def subscribed(kind: int, endpoint: str, *, bind: bool = False) -> Iterator[Any]:
    """Yield a socket that receives all messages."""
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
    """Return a removal."""
    return Removed(0, DEVICE, hashes)


def publish_until_heard(sink: ZmqSink, subscriber: Any) -> list[bytes]:
    """Publish until *subscriber* gets a message: ZeroMQ does not report subscribers."""
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


def test_the_frames_of_a_message() -> None:
    """The frames are the topic, the publisher, the number, and the envelope behind its length."""
    with running(publisher_id=0xABC) as sink, subscribed(zmq.SUB, sink.endpoint) as subscriber:
        topic, publisher, number, packed = publish_until_heard(sink, subscriber)
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


def test_stopping_sends_what_waits() -> None:
    """Stopping sends the events that wait, also those that ZeroMQ has not sent yet."""
    with running() as sink, subscribed(zmq.SUB, sink.endpoint) as subscriber:
        publish_until_heard(sink, subscriber)
        sink.put([removed(number) for number in range(1, 5000)])
        sink.stop()
        blocks = 0
        while blocks < 4999:
            documents = unpack(unpack(subscriber.recv_multipart()[3][5:])["payload"])
            blocks = documents[-1]["event"]["data"]["removed"]["block_hashes"][0]
    assert sink.tally["sent", "zmq"] >= 5000
    assert sink.buffer.dropped == 0


def test_a_broker() -> None:
    """Events wait while the broker is down; the oldest are dropped when there are too many."""
    endpoint = f"tcp://{LOOPBACK}:{free_port()}"
    with running(endpoint, bind=False, capacity=10) as sink:
        sink.put([removed(number) for number in range(100)])
        eventually(lambda: sink.tally["failures", "zmq", "unreachable"], "a failure")
        assert not sink.tally["sent", "zmq"]
        assert sink.buffer.dropped == 90
        for _ in range(2):
            with subscribed(zmq.XSUB, endpoint, bind=True) as broker:
                publish_until_heard(sink, broker)
            wait_for_failure(sink)


def test_another_server_has_the_port_of_a_broker() -> None:
    """A broker gets events although another server had its port before."""
    with socket.create_server((LOOPBACK, 0)) as other:
        endpoint = f"tcp://{LOOPBACK}:{other.getsockname()[1]}"
        with running(endpoint, bind=False) as sink:
            with other.accept()[0] as connection, suppress(ConnectionError):
                connection.sendall(bytes(range(256)) * 50)
                while connection.recv(1000):
                    pass
            other.close()
            with subscribed(zmq.XSUB, endpoint, bind=True) as broker:
                publish_until_heard(sink, broker)


def wait_for_failure(sink: ZmqSink) -> None:
    """Put events until the broker is unreachable once more."""
    before = sink.tally["failures", "zmq", "unreachable"]

    def has_failed() -> bool:
        sink.put([removed(1)])
        return sink.tally["failures", "zmq", "unreachable"] > before

    eventually(has_failed, "a failure")


def test_a_broker_that_is_down_delays_no_caller() -> None:
    """Events for a broker that is down are dropped and counted when the sink is stopped."""
    sink = ZmqSink(f"tcp://{LOOPBACK}:{free_port()}", WORKER, bind=False)
    sink.start()
    sink.put([removed(1)])
    sink.stop(0.1)
    assert (sink.tally["sent", "zmq"], sink.buffer.dropped, len(sink.buffer)) == (0, 1, 0)


@pytest.mark.parametrize("bind", [True, False])
@pytest.mark.parametrize("endpoint", ["", "tcp://", "nonsense", "tcp://127.0.0.1:99999"])
def test_endpoints_that_are_not_valid(endpoint: str, *, bind: bool) -> None:
    """An endpoint that is not valid raises an error at once."""
    with pytest.raises(EventEndpointError, match="endpoint "):
        ZmqSink(endpoint, WORKER, bind=bind)


def test_a_long_endpoint_is_shortened_in_the_message() -> None:
    """A message stays one short line, whatever is given; the attribute has all of it."""
    endpoint = f"tcp://{'x' * 100_000}"
    with pytest.raises(EventEndpointError) as caught:
        ZmqSink(endpoint, WORKER)
    assert len(str(caught.value)) < 500
    assert caught.value.endpoint == endpoint


def test_an_endpoint_in_use() -> None:
    """An endpoint in use raises an error at once."""
    with running() as sink, pytest.raises(EventEndpointError, match="in use"):
        ZmqSink(sink.endpoint, WORKER)
