"""An engine that publishes the events of its KV cache, simulated: something for a bridge to read.

    python examples/kv_events.py &
    mpmetrics events --publisher tcp://127.0.0.1:5557 --replay tcp://127.0.0.1:5558 --print

It answers requests by a seeded trace: conversations that share system prompts, in a cache that is
too small for all of them. It publishes as vLLM does (`vllm/distributed/kv_events.py`), and answers
replays. When all requests are done it writes what a bridge must have counted by then, as JSON, and
goes on answering until it is interrupted.

Needs: pip install 'mpmetrics-toolkit[zmq]'
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
    """Blocks that are stored, those first that have not been used for longest."""

    def __init__(self) -> None:
        """Begin empty."""
        self._blocks: OrderedDict[int, None] = OrderedDict()
        self.truth: Counter[str] = Counter()

    def answer(self, conversation: Conversation) -> Iterator[dict[str, Any]]:
        """Answer a request; yield what becomes of blocks."""
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
        # The end of a conversation is the first to go: the beginning may be of use to others.
        for each in reversed(hashes):
            self._blocks[each] = None
            self._blocks.move_to_end(each)
        if gone := [self._blocks.popitem(last=False)[0] for _ in range(self.surplus)]:
            self.truth["removed"] += len(gone)
            yield {"type": "BlockRemoved", "block_hashes": gone, "medium": "GPU"}
        self.truth["resident"] = len(self._blocks)

    @property
    def surplus(self) -> int:
        """How many blocks there are too many."""
        return max(0, len(self._blocks) - CAPACITY)


def _chain(conversation: Conversation) -> list[int]:
    """Return the hash of each block, which is one of all that is before it, too."""
    hashes: list[int] = []
    for block in conversation:
        hashes.append(hash((hashes[-1] if hashes else 0, *block)) & (1 << 64) - 1)
    return hashes


def conversations(seed: int) -> Iterator[Conversation]:
    """Yield conversations without end: new ones with some system prompt, or longer old ones."""
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
    """Where the events go: to all who listen, and again to who asks for them."""

    def __init__(self, endpoint: str, replay: str) -> None:
        """Bind."""
        context: Any = zmq.Context.instance()
        self._live = context.socket(zmq.PUB)
        self._live.bind(endpoint)
        self._asked = context.socket(zmq.ROUTER)
        self._asked.bind(replay)
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
        """Answer replays for so many *seconds*, or without end."""
        until = None if seconds is None else time.monotonic() + seconds
        left = seconds
        while self._asked.poll(None if left is None else 1000 * left):
            self._replay(self._asked.recv_multipart())
            left = None if until is None else max(0.0, until - time.monotonic())

    def _replay(self, asked: Sequence[bytes]) -> None:
        """Send what is kept from a number on."""
        who, _, start = asked
        for number, payload in self._kept:
            if number >= start:
                self._asked.send_multipart([who, b"", b"", number, payload])
        self._asked.send_multipart([who, b"", b"", END, b""])


def main() -> None:
    """Simulate."""
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
