"""A simulated engine that publishes the events of its KV cache, for a bridge to read.

    python examples/kv_events.py &
    mpmetrics events --publisher tcp://127.0.0.1:5557 --replay tcp://127.0.0.1:5558 --print

It answers requests by a seeded trace: conversations that share system prompts, in a cache that is
too small for all of them. It publishes as vLLM does (`vllm/distributed/kv_events.py`), and answers
replays. When all requests are done it writes what a bridge must have counted by then, as JSON, and
goes on answering until it is interrupted.

Needs the extra `zmq`: see "Install" in the README.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import time
from collections import Counter, OrderedDict, deque
from typing import TYPE_CHECKING, Any

import msgspec
import zmq

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BLOCK = 16
"""Tokens in a block."""

CAPACITY = 400
"""Blocks in the cache."""

KEPT = 10_000
"""Messages that are kept for replays, as in vLLM."""

END = b"\xff" * 8

Conversation = list[list[int]]
"""The tokens of each block."""


class Cache:
    """The stored blocks, in the order of their last use."""

    def __init__(self) -> None:
        """Create an empty cache."""
        self._blocks: OrderedDict[int, None] = OrderedDict()
        self.truth: Counter[str] = Counter()

    def answer(self, conversation: Conversation) -> Iterator[dict[str, Any]]:
        """Answer a request; yield the events of blocks that are stored and removed."""
        hashes = _chain(conversation)
        found = 0
        while found < len(hashes) and hashes[found] in self._blocks:
            found += 1
        if found < len(hashes):
            self.truth["stored"] += len(hashes) - found
            yield {
                "type": "BlockStored",
                "block_hashes": hashes[found:],
                "parent_block_hash": hashes[found - 1] if found else None,
                "token_ids": [token for block in conversation[found:] for token in block],
                "block_size": BLOCK,
                "lora_id": None,
                "medium": "GPU",
                "lora_name": None,
            }
        # The end of a conversation goes first: other conversations may share its beginning.
        for each in reversed(hashes):
            self._blocks[each] = None
            self._blocks.move_to_end(each)
        if gone := [self._blocks.popitem(last=False)[0] for _ in range(self.surplus)]:
            self.truth["removed"] += len(gone)
            yield {"type": "BlockRemoved", "block_hashes": gone, "medium": "GPU"}
        self.truth["resident"] = len(self._blocks)

    @property
    def surplus(self) -> int:
        """The number of blocks beyond the capacity."""
        return max(0, len(self._blocks) - CAPACITY)


def _chain(conversation: Conversation) -> list[int]:
    """Return the hash of each block, which depends on all blocks before it, too."""
    hashes: list[int] = []
    for block in conversation:
        hashes.append(hash((hashes[-1] if hashes else 0, *block)) & (1 << 64) - 1)
    return hashes


def conversations(seed: int) -> Iterator[Conversation]:
    """Yield conversations without end: new ones with a system prompt, or continued ones."""
    chance = random.Random(seed)

    def blocks(count: int) -> Conversation:
        return [[chance.randrange(32_000) for _ in range(BLOCK)] for _ in range(count)]

    prompts = [blocks(count) for count in (4, 12, 30)]
    going_on: deque[Conversation] = deque(maxlen=8)
    while True:
        before = chance.choice([*prompts, *going_on])
        conversation = before + blocks(chance.randint(1, 9))
        going_on.append(conversation)
        yield conversation


class Publisher:
    """The publisher of the events, which keeps them for replays."""

    def __init__(self, endpoint: str, replay: str) -> None:
        """Bind."""
        context: Any = zmq.Context.instance()
        self._live = context.socket(zmq.PUB)
        self._live.bind(endpoint)
        self._requests = context.socket(zmq.ROUTER)
        self._requests.bind(replay)
        self._kept: deque[tuple[bytes, bytes]] = deque(maxlen=KEPT)
        self._number = 0
        self._pack = msgspec.msgpack.Encoder().encode

    def publish(self, events: Sequence[dict[str, Any]]) -> None:
        """Send a message with some *events*."""
        message = self._number.to_bytes(8, "big"), self._pack([time.time(), events, 0])
        self._number += 1
        self._kept.append(message)
        self._live.send_multipart([b"", *message])

    def answer(self, seconds: float | None) -> None:
        """Answer replays for *seconds* seconds, or without end."""
        until = None if seconds is None else time.monotonic() + seconds
        left = seconds
        while self._requests.poll(None if left is None else 1000 * left):
            self._replay(self._requests.recv_multipart())
            left = None if until is None else max(0.0, until - time.monotonic())

    def _replay(self, request: Sequence[bytes]) -> None:
        """Send the messages that are kept, from the requested number on."""
        client, _, start = request
        for number, payload in self._kept:
            if number >= start:
                self._requests.send_multipart([client, b"", b"", number, payload])
        self._requests.send_multipart([client, b"", b"", END, b""])


def main() -> None:
    """Run the simulation."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--endpoint", default="tcp://127.0.0.1:5557")
    parser.add_argument("--replay", default="tcp://127.0.0.1:5558")
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--interval", type=float, default=0.05, help="seconds between two of them")
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    cache = Cache()
    publisher = Publisher(arguments.endpoint, arguments.replay)
    requests = conversations(arguments.seed)
    try:
        for _ in range(arguments.requests):
            publisher.publish(list(cache.answer(next(requests))))
            publisher.answer(arguments.interval)
        print(json.dumps(cache.truth), flush=True)
        publisher.answer(None)
    except KeyboardInterrupt:
        pass
    finally:
        zmq.Context.instance().destroy(linger=0)


if __name__ == "__main__":
    main()
