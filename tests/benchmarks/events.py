"""KV events through source, dedup and callback, on one core; the publisher is on another one.

``make bench ARGS=events``; a batch has what an engine says after one step: blocks of 16 tokens
that are stored, one to eight of them at a time, and blocks that are removed. The *share* of a
stage is its time for the same messages alone, without the others, as a part of the CPU time of all.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
import zmq

from mpmetrics.engines.events.bridge import EventBridge
from mpmetrics.engines.events.endpoints import Publisher
from mpmetrics.engines.events.pipeline import Pipeline
from mpmetrics.engines.events.sinks import CallbackSink
from mpmetrics.engines.events.source import Source
from mpmetrics.engines.events.wire import Decoder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mpmetrics.engines.events.model import Event

AIM: Final = 100_000
"""Events a second that are asked for."""

TOKENS: Final = 16
VOCABULARY: Final = 128_256
RESIDENT: Final = 20_000
PATIENCE: Final = 120.0


class Load(NamedTuple):
    """Messages of so many *events* each, with one to *blocks* blocks an event."""

    name: str
    events: int
    blocks: int


LOADS: Final = (
    Load("decoding", 16, 1),
    Load("steps", 16, 8),
    Load("single", 1, 8),
)


class Figures(NamedTuple):
    """What came of one run: *wall* and *cpu* seconds of the consumer."""

    received: int
    wall: float
    cpu: float


def messages(load: Load, events: int) -> Sequence[bytes]:
    """Return the payloads of *events* events: stores and, as many, removals."""
    rnd = random.Random(load.name)  # noqa: S311 - the same load every time
    pack = msgspec.msgpack.Encoder().encode
    engine = _Engine(rnd, load.blocks)
    return [
        pack([1.0, [engine.event() for _ in range(load.events)], 0])
        for _ in range(events // load.events)
    ]


class _Engine:
    """Stores chains of blocks, and removes them once so many are there."""

    def __init__(self, rnd: random.Random, blocks: int) -> None:
        self._rnd = rnd
        self._blocks = blocks
        self._there: list[list[int]] = []

    def event(self) -> dict[str, Any]:
        """Return the next event."""
        is_full = len(self._there) * self._blocks > RESIDENT
        if self._there and self._rnd.random() < (0.5 if is_full else 0.1):
            return {"type": "BlockRemoved", "block_hashes": self._taken(), "medium": "GPU"}
        count = self._rnd.randint(1, self._blocks)
        parent = self._rnd.choice(self._there)[-1] if self._there else None
        hashes = [self._rnd.getrandbits(64) for _ in range(count)]
        self._there.append(hashes)
        return {
            "type": "BlockStored",
            "block_hashes": hashes,
            "parent_block_hash": parent,
            "token_ids": [self._rnd.randrange(VOCABULARY) for _ in range(TOKENS * count)],
            "block_size": TOKENS,
            "lora_id": None,
            "medium": "GPU",
            "lora_name": None,
        }

    def _taken(self) -> list[int]:
        place = self._rnd.randrange(len(self._there))
        self._there[place], self._there[-1] = self._there[-1], self._there[place]
        return self._there.pop()


def consume(payloads: Sequence[bytes], events: int, cores: Sequence[int]) -> Figures:
    """Have a process publish *payloads* as fast as it can; return what it takes to read them."""
    reading, writing = socket.socketpair()
    publisher = os.fork()
    if publisher == 0:
        reading.close()
        try:
            _publish(payloads, writing, cores[1])
        finally:
            os._exit(0)
    writing.close()
    try:
        os.sched_setaffinity(0, {cores[0]})
        endpoint = reading.recv(1000).decode()
        return _consume(Publisher(0, endpoint), events)
    finally:
        reading.close()
        os.kill(publisher, signal.SIGKILL)
        os.waitpid(publisher, 0)


def _publish(payloads: Sequence[bytes], control: socket.socket, core: int) -> None:
    """Publish when somebody has subscribed; then wait to be killed."""
    os.sched_setaffinity(0, {core})
    context = zmq.Context()
    publisher = context.socket(zmq.XPUB)
    # Nothing may get lost here: what is measured is how fast it is read.
    publisher.setsockopt(zmq.XPUB_NODROP, 1)
    port = publisher.bind_to_random_port("tcp://127.0.0.1")
    control.send(f"tcp://127.0.0.1:{port}".encode())
    publisher.recv()
    for number, payload in enumerate(payloads):
        publisher.send_multipart([b"", number.to_bytes(8, "big"), payload])
    signal.pause()


def _consume(publisher: Publisher, events: int) -> Figures:
    """Read all *events*; return what it took."""
    done = threading.Event()
    received = 0
    start = cpu = 0.0

    def take(_event: Event) -> None:
        nonlocal received, start, cpu
        if not received:
            start, cpu = time.perf_counter(), time.process_time()
        received += 1
        if received == events:
            done.set()

    sink = CallbackSink(take, capacity=events)
    with EventBridge(Source([publisher]), [sink]):
        done.wait(PATIENCE)
        end, used = time.perf_counter(), time.process_time()
    return Figures(received, end - start, used - cpu)


def stages(payloads: Sequence[bytes]) -> Iterator[tuple[str, float]]:
    """Yield the stages that can be measured alone, and the seconds that each takes."""
    decoder = Decoder()
    decoding = _timed(lambda: [decoder.decode(payload) for payload in payloads])
    pipeline = Pipeline(lambda _events: None, wall=time.time)
    taking = _timed(lambda: [pipeline.take(payload, 0, 0.0) for payload in payloads])
    yield "decode", decoding
    yield "count and dedup", taking - decoding


def _timed(work: Callable[[], object]) -> float:
    """Return the CPU seconds that *work* takes."""
    start = time.process_time()
    work()
    return time.process_time() - start


def main(runs: int = 3, events: int = 400_000) -> None:
    """Print the figures of each load."""
    cores = sorted(os.sched_getaffinity(0))
    cores = [cores[0], cores[-1]]
    print(f"{'events':10}{'bytes/event':>12}{'events/s':>12}{'per CPU s':>12}{'aim':>10}")
    for load in LOADS:
        payloads = messages(load, events)
        count = len(payloads) * load.events
        best = max(
            (consume(payloads, count, cores) for _ in range(runs)),
            key=lambda figures: figures.received / figures.wall,
        )
        rate = best.received / best.wall
        print(
            f"{load.name:10}{sum(map(len, payloads)) / count:12.0f}{rate:12,.0f}"
            f"{best.received / best.cpu:12,.0f}{AIM:10,} {'ok' if rate >= AIM else 'BELOW'}"
        )
        for name, seconds in stages(payloads):
            print(f"  {name:18}{seconds / count * 1e6:6.2f} us {seconds / best.cpu:5.0%}")


if __name__ == "__main__":
    main()
