"""Events from an engine's publisher to a stream, while the broker is killed and restarted.

`make soak-events` does the same for minutes: `MPMETRICS_SOAK_EVENTS` is for how many seconds.
"""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from nats.errors import TimeoutError as NatsTimeoutError

from mpmetrics.engines.events import (
    Address,
    CallbackSink,
    EventBridge,
    EventSource,
    NatsOptions,
    NatsSink,
    Worker,
    publishers,
)
from tests.engines.events.brokers import STREAM, Broker, Heard, do, with_stream
from tests.engines.events.steady import SteadyPublisher
from tests.servers import eventually

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mpmetrics.engines.events.model import Event
    from tests.conftest import NeedsProgram

IS_LONG: Final = "MPMETRICS_SOAK_EVENTS" in os.environ
SECONDS: Final = float(os.environ.get("MPMETRICS_SOAK_EVENTS", "6"))
RESTART_EVERY: Final = min(20.0, SECONDS / 3)
RATE: Final = 1000
CAPACITY: Final = 1000

pytestmark = pytest.mark.timeout(0 if IS_LONG else 60)


def read(url: str) -> Sequence[Heard]:
    """Return the messages of the stream."""

    async def fetch(context: Any) -> Sequence[Heard]:
        total = (await context.stream_info(STREAM)).state.messages
        subscription = await context.pull_subscribe("namespace.>")
        found: list[Heard] = []
        try:
            while len(found) < total:
                for message in await subscription.fetch(500, timeout=5):
                    await message.ack()
                    found.append(Heard(message.subject, b"", message.data))
        except NatsTimeoutError:
            pass
        assert len(found) == total
        return found

    found = do(url, fetch)
    assert isinstance(found, list)
    return found


def outages(broker: Broker) -> int:
    """Kill and restart the broker for the given time; return how often."""
    end = time.monotonic() + SECONDS
    ways = itertools.cycle(
        [(signal.SIGKILL, 0.0), (signal.SIGTERM, 1.5), (signal.SIGKILL, 2.5), (signal.SIGTERM, 0.0)]
    )
    passing = threading.Event()
    for count in itertools.count():
        left = end - time.monotonic()
        passing.wait(max(0.0, min(RESTART_EVERY, left)))  # the time that it runs
        if left <= RESTART_EVERY:
            return count
        how, pause = next(ways)
        broker.kill(how)
        passing.wait(pause)  # the time that it is down
        broker.start()
    raise AssertionError


def test_nothing_twice_and_nothing_lost_but_what_is_counted(
    needs_program: NeedsProgram, tmp_path: Path, record_property: Any
) -> None:
    """Every event that was published is in the stream once, or was counted as dropped."""
    program = needs_program("nats-server", package="nats-server")
    seen: Counter[int] = Counter()

    def look(event: Event) -> None:
        seen.update(event.hashes)  # type: ignore[union-attr] # there are stores only

    files = len(list(Path("/proc/self/fd").iterdir()))
    with Broker(program, tmp_path) as broker, SteadyPublisher(RATE) as publisher:
        do(broker.url, with_stream)
        worker = Worker(77, Address("ns", "c", "e"))
        sink = NatsSink(broker.url, worker, NatsOptions(jetstream=True), capacity=CAPACITY)
        callback = CallbackSink(look)
        source = EventSource(publishers(publisher.endpoint))
        with EventBridge(source, [sink, callback]) as bridge:
            count = outages(broker)
            published = publisher.stop()
            eventually(lambda: len(seen) == published, "all events have been read")
            eventually(lambda: not len(sink.buffer), "all events have gone")
        heard = read(broker.url)
    assert len(list(Path("/proc/self/fd").iterdir())) <= files
    tally = bridge.metrics._pipeline.tally
    lost = [key for key, count in tally.items() if count and key[0] in {"lost", "gaps"}]
    figures = {
        "published": published,
        "restarts": count,
        "sent": sink.tally["sent", "nats"],
        "dropped": sink.buffer.dropped,
        "messages": len(heard),
        "failures": sum(n for key, n in sink.tally.items() if key[0] == "failures"),
    }
    record_property("figures", figures)
    print(figures)  # noqa: T201 - shown by `make soak-events`
    assert lost == []
    assert count > 0
    assert set(seen.values()) == {1}
    kept = Counter(
        block["block_hash"]
        for message in heard
        for document in message.documents
        for block in document["event"]["data"]["stored"]["blocks"]
    )
    numbers = [d["event"]["event_id"] for message in heard for d in message.documents]
    assert max(kept.values()) == 1, "counted twice"
    assert sorted(numbers) == numbers
    assert len(numbers) == len(set(numbers)) == sink.tally["sent", "nats"]
    assert published - len(kept) == sink.buffer.dropped
    # The routers are told of all gaps but one behind the last event.
    assert numbers[-1] - len(numbers) <= sink.buffer.dropped
    assert sink.buffer.dropped > 0, "no outage was long enough: the test shows nothing"
