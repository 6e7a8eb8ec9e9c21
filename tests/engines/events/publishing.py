"""A publisher of events in a process of its own, as in an engine: live by PUB, replays by ROUTER.

It numbers its messages, keeps the last ones for replays, and answers those like vLLM, in the new or
the old form. It also misbehaves on command.
"""

from __future__ import annotations

import json
import select
import subprocess
import sys
from collections import deque
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final

import zmq
from zmq.utils.monitor import recv_monitor_message

from mpmetrics.engines.events.bridge import EventBridge
from mpmetrics.engines.events.model import Cleared
from mpmetrics.engines.events.sinks import CallbackSink
from mpmetrics.engines.events.source import EventSource
from tests.workers import PATIENCE, environment, spawn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from typing_extensions import Self

    from mpmetrics.engines.events.model import Event
    from mpmetrics.engines.events.publisher_endpoints import Publisher

END: Final = b"\xff" * 8


class EnginePublisher:
    """The process, driven over pipes. *form* is how many frames its answers have.

    It connects to an endpoint with a > before it.
    """

    def __init__(
        self, endpoint: str, replay: str = "", *, form: int = 4, keep: int = 10_000
    ) -> None:
        """Start the process, and wait until it is bound."""
        self.process = spawn(
            [sys.executable, "-m", __name__, endpoint, replay, str(form), str(keep)],
            env=environment(None, PYTHONPATH=":".join(sys.path)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        try:
            self.do("nothing")
        except BaseException:
            self.kill()
            raise

    def __enter__(self) -> Self:
        """Return the publisher."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Kill the process."""
        self.kill()

    def kill(self) -> None:
        """Kill the process, as happens to engines."""
        self.process.kill()
        with self.process:
            pass

    def do(self, command: str, *arguments: Any) -> Any:
        """Have the process run a *command*; return its answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([command, *arguments]).encode() + b"\n")
        self.process.stdin.flush()
        ready, _, _ = select.select([self.process.stdout], [], [], PATIENCE)
        line = self.process.stdout.readline() if ready else b""
        assert line, f"the publisher does not {command}"
        return json.loads(line)

    def publish(self, *payloads: bytes, lose: bool = False) -> None:
        """Publish messages; with *lose* they are numbered and kept, but not sent."""
        self.do("lose" if lose else "publish", *[payload.hex() for payload in payloads])

    def send(self, *frames: bytes) -> None:
        """Send frames without a number."""
        self.do("send", *[frame.hex() for frame in frames])


class _Engine:
    """The publisher inside the process."""

    def __init__(self, endpoint: str, replay: str, form: str, keep: str) -> None:
        self.context: Any = zmq.Context()
        self.endpoint = endpoint
        self.live = self.open_live()
        self.router = self.context.socket(zmq.ROUTER)
        self.router.setsockopt(zmq.SNDHWM, 2 * int(keep) + 2)
        if replay:
            self.router.bind(replay)
        self.topic = [b"kv"] if int(form) == 4 else []
        self.kept: deque[tuple[int, bytes]] = deque(maxlen=int(keep))
        self.number = 0
        self.asked: list[int] = []
        self.answers: Callable[[int], Iterator[Sequence[bytes]]] = self.replay
        self.is_endless = False
        self.endless: Sequence[bytes] = ()

    def open_live(self) -> Any:
        """Return a socket to publish with. On the wire it is PUB; it reports subscribers, too."""
        live = self.context.socket(zmq.XPUB)
        live.setsockopt(zmq.IPV6, 1)
        self.monitor = live.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_CLOSED)
        if self.endpoint.startswith(">"):
            live.connect(self.endpoint[1:])
        else:
            live.bind(self.endpoint)
        return live

    def serve(self) -> None:
        """Run commands, and answer replays."""
        while True:
            ready = self.poll(1 if self.endless else None)
            if self.router in ready:
                self.answer()
            if sys.stdin.fileno() in ready:
                line = sys.stdin.readline()
                if not line:
                    return
                command, *arguments = json.loads(line)
                answer = json.dumps(getattr(self, f"do_{command}")(*arguments))
                sys.stdout.write(f"{answer}\n")
                sys.stdout.flush()
            for _ in range(100 if self.endless else 0):
                self.router.send_multipart(self.endless)

    def poll(self, wait: int | None, *more: Any) -> Mapping[Any, int]:
        """Wait for a command or a request; return the sockets that can be read."""
        poller = zmq.Poller()
        for each in (sys.stdin.fileno(), self.router, *more):
            poller.register(each, zmq.POLLIN)
        return dict(poller.poll(wait))

    def answer(self) -> None:
        """Answer a request for a replay."""
        client, _, start = self.router.recv_multipart()
        self.asked.append(int.from_bytes(start, "big"))
        for frames in self.answers(self.asked[-1]):
            self.router.send_multipart([client, *frames])
            if self.is_endless:
                self.endless = [client, *frames]

    def replay(self, start: int) -> Iterator[Sequence[bytes]]:
        """Yield the messages that are kept, as vLLM does."""
        for number, payload in self.kept:
            if number >= start:
                yield [b"", *self.topic, number.to_bytes(8, "big"), payload]
        yield [b"", *[b"" for _ in self.topic], END, b""]

    def do_nothing(self) -> None:
        """Do nothing, so that the caller sees the answer."""

    def do_subscribed(self) -> None:
        """Wait for a subscription."""
        while True:
            ready = self.poll(None, self.live)
            if self.router in ready:
                self.answer()
            if self.live in ready and self.live.recv()[:1] == b"\1":
                return

    def do_connected(self) -> None:
        """Wait for a connection, which has no subscription before its owner reads."""
        self.wait_for_report(zmq.EVENT_HANDSHAKE_SUCCEEDED)

    def wait_for_report(self, event: int) -> None:
        """Wait until ZeroMQ reports *event*."""
        while recv_monitor_message(self.monitor)["event"] != event:
            pass

    def do_disconnect(self) -> None:
        """Lose the connections to all subscribers, and bind again."""
        self.live.unbind(self.endpoint)
        # ZeroMQ removes the file of an `ipc://` endpoint later: wait, or it removes the new one.
        self.wait_for_report(zmq.EVENT_CLOSED)
        self.live.close(linger=0)
        self.live = self.open_live()

    def do_publish(self, *payloads: str) -> None:
        """Publish messages."""
        for payload in payloads:
            number = self.number.to_bytes(8, "big")
            self.live.send_multipart([b"kv", number, bytes.fromhex(payload)])
            self.do_lose(payload)

    def do_lose(self, *payloads: str) -> None:
        """Keep messages, with their numbers, without sending them."""
        for payload in payloads:
            self.kept.append((self.number, bytes.fromhex(payload)))
            self.number += 1

    def do_send(self, *frames: str) -> None:
        """Send frames without a number."""
        self.live.send_multipart([bytes.fromhex(frame) for frame in frames])

    def do_begin_with(self, number: int) -> None:
        """Give the next message this number."""
        self.number = number

    def do_asked(self) -> Sequence[int]:
        """Return the numbers from which on replays were requested."""
        return self.asked

    def do_answer(self, how: str) -> None:
        """Answer replays in another way from now on."""
        past = [b"", bytes(8), b"x"]
        self.answers = {
            "nothing": lambda _start: iter(()),
            "with nonsense": lambda _start: iter([[b"what", b"is", b"it", b"?"]]),
            "without end": lambda _start: iter([past]),
            "by halves": lambda start: iter(list(self.replay(start))[:2]),
        }[how]
        self.is_endless = how == "without end"


class Consumer:
    """A bridge in this process, and the events that it passes on."""

    def __init__(
        self,
        *publishers: Publisher,
        patience: float = PATIENCE,
        delay: float | None = None,
        **options: Any,
    ) -> None:
        """Subscribe, with *options* of the source."""
        self.seen: SimpleQueue[Event] = SimpleQueue()
        self.source = EventSource(publishers, patience=patience, **options)
        self.bridge = EventBridge(self.source, [CallbackSink(self.seen.put)], delay=delay)

    def __enter__(self) -> Self:
        """Start the bridge."""
        self.bridge.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Stop the bridge."""
        self.bridge.stop()

    def until(self, block: int) -> list[int]:
        """Return the first block of each event, in order, until that is *block*; 0 if none."""
        return [_first(event) for event in self.events_until(block)]

    def events_until(self, block: int) -> list[Event]:
        """Return events, in order, until one begins with *block*."""
        events: list[Event] = []
        try:
            while not events or _first(events[-1]) != block:
                events.append(self.seen.get(timeout=PATIENCE))
        except Empty:
            raise AssertionError(events) from None
        return events

    def final_series(self) -> dict[str, float]:
        """Stop the bridge, so that a replay that has brought everything has ended; see `series`."""
        self.bridge.stop()
        return self.series()

    def series(self) -> dict[str, float]:
        """Return the metrics without their prefix and without those that are zero."""
        return {
            " ".join(
                [sample.name.removeprefix("mpmetrics_kv_"), *sample.labels.values()]
            ): sample.value
            for metric in self.bridge.metrics.collect()
            for sample in metric.samples
            if sample.value
        }


def _first(event: Event) -> int:
    return 0 if isinstance(event, Cleared) else event.hashes[0]


if __name__ == "__main__":
    _Engine(*sys.argv[1:]).serve()
