"""KV events from a source to a callback, on one core; the publisher is on another one.

Run ``make bench ARGS=events``. A message has what an engine publishes after one step: blocks of 16
tokens that are stored, and as many that are removed. The publisher sends as fast as the bridge
reads, over TCP. The figures are those of the bridge: events a second, and a second of CPU time,
with ZeroMQ's thread. Each *stage* is measured alone with the same messages; the queue and the
callback are the rest.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import statistics
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import msgspec
import zmq

from mpmetrics.engines.events import CallbackSink, EventBridge, EventSource, Publisher
from mpmetrics.engines.events.decoder import Decoder
from mpmetrics.engines.events.pipeline import Pipeline
from tests.workers import fork

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mpmetrics.engines.events.model import Event

AIM: Final = 100_000
"""The aim: events a second."""

EVENTS: Final = 400_000
TOKENS: Final = 16
VOCABULARY: Final = 128_256
RESIDENT: Final = 20_000
PATIENCE: Final = 120.0


class Load(NamedTuple):
    """Messages of *events* events, with one to *blocks* blocks an event; as maps, or *arrays*."""

    name: str
    events: int
    blocks: int
    arrays: bool = False


LOADS: Final = (
    Load("decoding", 16, 1),
    Load("mixed", 16, 8),
    Load("arrays", 16, 8, arrays=True),
    Load("single", 1, 8),
)


class Figures(NamedTuple):
    """The result of one run: events or messages, *wall* and *cpu* seconds of the consumer."""

    received: int
    wall: float
    cpu: float


class Engine:
    """A simulated engine: it stores chains of blocks, and removes some once many are stored."""

    def __init__(self, load: Load) -> None:
        """Seed the engine, so that it publishes the same every time."""
        self._random = random.Random(load.name)
        self._load = load
        self._there: list[list[int]] = []

    def messages(self, events: int) -> Sequence[bytes]:
        """Return the payloads of messages with *events* events."""
        pack = msgspec.msgpack.Encoder().encode
        return [
            pack([time.time(), [self._make_event() for _ in range(self._load.events)], 0])
            for _ in range(events // self._load.events)
        ]

    def _make_event(self) -> Any:
        event = self._make_removed() if self._is_full() else self._make_stored()
        return list(event.values()) if self._load.arrays else event

    def _is_full(self) -> bool:
        crowd = len(self._there) * self._load.blocks / 2
        return self._random.random() < (0.5 if crowd > RESIDENT else 0.1) and bool(self._there)

    def _make_stored(self) -> dict[str, Any]:
        count = self._random.randint(1, self._load.blocks)
        parent = self._random.choice(self._there)[-1] if self._there else None
        hashes = [self._random.getrandbits(64) for _ in range(count)]
        self._there.append(hashes)
        return {
            "type": "BlockStored",
            "block_hashes": hashes,
            "parent_block_hash": parent,
            "token_ids": [self._random.randrange(VOCABULARY) for _ in range(TOKENS * count)],
            "block_size": TOKENS,
            "lora_id": None,
            "medium": "GPU",
            "lora_name": None,
        }

    def _make_removed(self) -> dict[str, Any]:
        place = self._random.randrange(len(self._there))
        self._there[place], self._there[-1] = self._there[-1], self._there[place]
        return {"type": "BlockRemoved", "block_hashes": self._there.pop(), "medium": "GPU"}


def measure_publishing(
    payloads: Sequence[bytes],
    cores: tuple[int, int],
    consume: Callable[[Publisher], Figures],
) -> Figures:
    """Publish *payloads* on the second of the *cores*; return what *consume* on the first does."""
    reading, writing = socket.socketpair()
    publisher = fork()
    if publisher == 0:
        try:
            os.sched_setaffinity(0, {cores[1]})
            _publish_all(payloads, writing)
        finally:
            os._exit(1)
    try:
        os.sched_setaffinity(0, {cores[0]})
        return consume(Publisher(0, reading.recv(1000).decode()))
    finally:
        os.sched_setaffinity(0, cores)
        reading.close()
        writing.close()
        os.kill(publisher, signal.SIGKILL)
        os.waitpid(publisher, 0)


def _publish_all(payloads: Sequence[bytes], control: socket.socket) -> None:
    """Publish after the first subscription; then wait to be killed."""
    publisher: Any = zmq.Context().socket(zmq.XPUB)
    # Wait rather than drop: the benchmark measures how fast the bridge reads.
    publisher.setsockopt(zmq.XPUB_NODROP, 1)
    port = publisher.bind_to_random_port("tcp://127.0.0.1")
    control.send(f"tcp://127.0.0.1:{port}".encode())
    publisher.recv()
    for number, payload in enumerate(payloads):
        publisher.send_multipart([b"", number.to_bytes(8, "big"), payload])
    signal.pause()


class Meter:
    """A meter of the time from the first to the last of *expected* things."""

    def __init__(self, expected: int) -> None:
        """Start with the first one."""
        self._expected = expected
        self._received = 0
        self._done = threading.Event()

    def count(self, _thing: object) -> None:
        """Count one thing."""
        if not self._received:
            self._wall, self._cpu = time.perf_counter(), time.process_time()
        self._received += 1
        if self._received == self._expected:
            self._wall = time.perf_counter() - self._wall
            self._cpu = time.process_time() - self._cpu
            self._done.set()

    def figures(self) -> Figures:
        """Return the figures, after the last thing."""
        if not self._done.wait(PATIENCE):
            message = f"{self._received} of {self._expected} after {PATIENCE:g} s"
            raise SystemExit(message)
        return Figures(self._received, self._wall, self._cpu)


def measure_bridge(publisher: Publisher, events: int) -> Figures:
    """Read all *events* with a bridge to a callback."""
    meter = Meter(events)
    sink = CallbackSink(cast("Callable[[Event], object]", meter.count))
    with EventBridge(EventSource([publisher]), [sink]):
        return meter.figures()


class _FakePipeline:
    """A fake pipeline that does nothing with messages."""

    deadline = None

    def __init__(self, count: Callable[[object], None]) -> None:
        self.tally: Counter[Any] = Counter()
        self._count = count

    def take(self, payload: bytes, rank: int, _now: float) -> int:
        self._count(payload)
        return rank

    def tick(self, now: float) -> None:
        pass


def measure_source(publisher: Publisher, messages: int) -> Figures:
    """Read all *messages* with a source only."""
    meter, source = Meter(messages), EventSource([publisher])
    pipeline = cast("Pipeline", _FakePipeline(meter.count))
    thread = threading.Thread(target=source.run, args=(pipeline,))
    thread.start()
    try:
        return meter.figures()
    finally:
        source.stop()
        thread.join()
        source.close()


def _take(pipeline: Pipeline, payload: bytes) -> None:
    pipeline.take(payload, 0, 0.0)
    pipeline.tick(0.0)


def measure_cpu(payloads: Sequence[bytes], handle: Callable[[bytes], object]) -> float:
    """Return the CPU seconds that it takes to *handle* all payloads."""
    start = time.process_time()
    for payload in payloads:
        handle(payload)
    return time.process_time() - start


def measure(load: Load, runs: int, cores: tuple[int, int]) -> None:
    """Print the figures of one *load*."""
    payloads = Engine(load).messages(EVENTS)
    events = len(payloads) * load.events
    done = [
        measure_publishing(payloads, cores, lambda at: measure_bridge(at, events))
        for _ in range(runs)
    ]
    rate = statistics.median(each.received / each.wall for each in done)
    cpu = statistics.median(each.cpu for each in done)
    print(
        f"{load.name:10}{load.events:8}{sum(map(len, payloads)) / events:14.0f}{rate:12,.0f}"
        f"{events / cpu:14,.0f}  {'ok' if rate >= AIM else 'BELOW'}"
    )
    os.sched_setaffinity(0, cores[:1])
    decoder, pipeline = Decoder(), Pipeline(lambda _events: None, wall=time.time)
    receive = measure_publishing(payloads, cores, lambda at: measure_source(at, len(payloads))).cpu
    decode = measure_cpu(payloads, decoder.decode)
    count = measure_cpu(payloads, lambda payload: _take(pipeline, payload)) - decode
    stages = {"receive": receive, "decode": decode, "count, dedup": count}
    stages["queue, callback"] = cpu - sum(stages.values())
    shares = (f"{name} {spent / events * 1e6:.1f} us" for name, spent in stages.items())
    print(f"{'':10}an event: {', '.join(shares)}", flush=True)


def main(runs: int = 3) -> None:
    """Measure all loads."""
    allowed = sorted(os.sched_getaffinity(0))
    cores = (allowed[0], allowed[-1])
    print(f"{'KV events':10}{'/message':>8}{'bytes/event':>14}{'events/s':>12}{'/CPU second':>14}")
    for load in LOADS:
        measure(load, runs, cores)
    print(f"asked for: {AIM:,} events/s on one core")


if __name__ == "__main__":
    main()
