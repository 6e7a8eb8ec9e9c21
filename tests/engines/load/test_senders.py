"""Senders of load: NATS and ZeroMQ, outages of a broker, and forked processes."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import pytest
import zmq

from mpmetrics.engines import (
    ActiveLoad,
    DebounceTiming,
    DynamoSender,
    NatsSender,
    WorkerLoadPublisher,
    ZmqSender,
)
from mpmetrics.engines.events import Address
from mpmetrics.engines.events.link import LinkError
from mpmetrics.engines.load.publisher import TOPIC
from tests.engines.events.brokers import Broker, Listener, silent
from tests.engines.events.messages import unpack
from tests.leftovers import no_threads_left
from tests.servers import LOOPBACK, eventually
from tests.workers import fork

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import NeedsProgram

ADDRESS = Address("my-ns", "back.end", "generate")


@pytest.fixture
def broker(needs_program: NeedsProgram, tmp_path: Path) -> Iterator[Broker]:
    """Return a running NATS server."""
    with Broker(needs_program("nats-server", package="nats-server"), tmp_path) as broker:
        yield broker


def test_load_over_nats(broker: Broker) -> None:
    """After an outage of the broker the newest load arrives, and the failures are counted."""
    broker.kill()
    timing = DebounceTiming(window=0, retry=0.05)
    publisher = WorkerLoadPublisher(NatsSender(broker.url, ADDRESS), 7, timing=timing)
    publisher.publish(1, kv_used_blocks=1)
    eventually(lambda: publisher.counts()["failed"], "a failure")
    publisher.publish(1, kv_used_blocks=2)
    broker.start()
    with Listener(broker.port) as listener:
        publisher.publish(1, kv_used_blocks=3)
        while (heard := listener.next()).documents["kv_used_blocks"] != 3:
            pass
        publisher.close()
    assert heard.subject == ADDRESS.subject(TOPIC)
    assert heard.envelope["topic"] == "kv_metrics"


def test_load_of_a_forked_child(broker: Broker) -> None:
    """A forked child sends under its own id and over its own connection."""
    sender = NatsSender(broker.url, ADDRESS)
    with Listener(broker.port) as listener:
        sender(ActiveLoad(7, 0, None, 1))
        first = listener.next()
        child = fork()
        if child == 0:
            status = 1
            try:
                sender(ActiveLoad(7, 0, None, 2))
                status = 0
            finally:
                os._exit(status)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        second = listener.next()
        sender(ActiveLoad(7, 0, None, 3))
        third = listener.next()
        sender.close()
    publishers = [each.envelope["publisher_id"] for each in (first, second, third)]
    assert publishers[0] == publishers[2] != publishers[1]
    assert [each.envelope["sequence"] for each in (first, second, third)] == [0, 0, 1]


def test_load_over_zmq() -> None:
    """The frames over ZeroMQ are those of Dynamo's event plane."""
    sender = ZmqSender(f"tcp://{LOOPBACK}:*", ADDRESS, publisher_id=7)
    with zmq.Context() as context, context.socket(zmq.SUB) as subscriber:
        subscriber.connect(sender.endpoint)
        subscriber.setsockopt(zmq.SUBSCRIBE, b"")

        def heard() -> Any:
            sender(ActiveLoad(7, 1, None, 9))
            return subscriber.recv_multipart() if subscriber.poll(100) else None

        topic, number, _, packed = eventually(heard, "a message")
    sender.close()
    assert (topic, number) == (b"kv_metrics", (7).to_bytes(8, "big"))
    payload = unpack(unpack(packed[5:])["payload"])
    assert payload == {
        "worker_id": 7,
        "dp_rank": 1,
        "active_decode_blocks": None,
        "active_prefill_tokens": None,
        "kv_used_blocks": 9,
    }


def test_a_broker_that_hangs() -> None:
    """A broker that hangs blocks neither `publish` nor `close`."""
    with silent() as port, no_threads_left():
        sender = NatsSender(f"nats://{LOOPBACK}:{port}", ADDRESS)
        publisher = WorkerLoadPublisher(sender, 7, timing=DebounceTiming(window=0))
        began = time.monotonic()
        for blocks in range(1000):
            publisher.publish(0, kv_used_blocks=blocks)
        publisher.close()
        assert time.monotonic() - began < 10
    with pytest.raises(LinkError, match="interrupted"):
        sender(ActiveLoad(7, 0, None, 1))


def test_a_child_has_no_endpoint_of_its_parent() -> None:
    """A forked child cannot send over the parent's bound endpoint, and does not disturb it."""
    sender = ZmqSender(f"tcp://{LOOPBACK}:*", ADDRESS)
    child = fork()
    if child == 0:
        status = 1
        try:
            sender(ActiveLoad(7, 0, None, 1))
        except LinkError as error:
            status = 0 if error.reason == "unreachable" else 2
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    sender(ActiveLoad(7, 0, None, 1))
    sender.close()


def test_a_publisher_of_dynamo() -> None:
    """A publisher of Dynamo gets the load in its own order of parameters."""
    published: list[tuple[Any, ...]] = []

    class Theirs:
        def publish(
            self,
            dp_rank: int | None = None,
            active_decode_blocks: int | None = None,
            kv_used_blocks: int | None = None,
        ) -> None:
            published.append((dp_rank, active_decode_blocks, kv_used_blocks))

    publisher = WorkerLoadPublisher(DynamoSender(Theirs()), 7)
    publisher.publish(2, kv_used_blocks=3)
    publisher.close()
    assert published == [(2, None, 3)]
