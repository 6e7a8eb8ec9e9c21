"""An engine's publisher that publishes at a steady rate, in a process of its own, until stopped.

Every event stores a block whose hash no other one has: the hashes are 1, 2, 3 and so on.
"""

from __future__ import annotations

import select
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Final

import zmq

from tests.engines.events.messages import batch, stored
from tests.workers import PATIENCE, environment, spawn

if TYPE_CHECKING:
    from typing_extensions import Self

AT_ONCE: Final = 10
"""Events in a message."""


class SteadyPublisher:
    """The process: it has an *endpoint*, and begins with the first subscription."""

    def __init__(self, rate: int) -> None:
        """Start the process, to publish *rate* events a second."""
        self._process = spawn(
            [sys.executable, "-m", __name__, str(rate)],
            env=environment(None, PYTHONPATH=":".join(sys.path)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.endpoint = self._line()

    def __enter__(self) -> Self:
        """Return the publisher."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Kill the process."""
        self._process.kill()
        with self._process:
            pass

    def stop(self) -> int:
        """Stop the process; return how many events it has published."""
        assert self._process.stdin is not None
        self._process.stdin.write("stop\n")
        self._process.stdin.flush()
        return int(self._line())

    def _line(self) -> str:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], PATIENCE)
        line = self._process.stdout.readline() if ready else ""
        assert line, "the publisher says nothing"
        return line.strip()


def publish(rate: int) -> None:
    """Publish until a line comes in."""
    with zmq.Context() as context, context.socket(zmq.XPUB) as live:
        live.setsockopt(zmq.SNDHWM, 0)  # nothing is to be lost here
        live.bind("tcp://127.0.0.1:*")
        _write_line(live.getsockopt_string(zmq.LAST_ENDPOINT))
        live.recv()
        began, number = time.monotonic(), 0
        while True:
            due = began + (number + 1) * AT_ONCE / rate
            if select.select([sys.stdin], [], [], max(0.0, due - time.monotonic()))[0]:
                break
            hashes = range(number * AT_ONCE + 1, (number + 1) * AT_ONCE + 1)
            events = [stored(each, tokens=[each, 0]) for each in hashes]
            payload = batch(*events, ts=time.time())
            live.send_multipart([b"", number.to_bytes(8, "big"), payload])
            number += 1
        _write_line(str(number * AT_ONCE))
        sys.stdin.read()


def _write_line(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    publish(int(sys.argv[1]))
