"""Ways out of this process: what hands over messages, and why that may fail."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, Final, Protocol

from mpmetrics.errors import MpmetricsError

if TYPE_CHECKING:
    import concurrent.futures
    from collections.abc import Coroutine, Sequence

    from mpmetrics.engines.events.dynamo_protocol import Message

UNREACHABLE: Final = "unreachable"
LATE: Final = "late"
LOST: Final = "connection_lost"
DENIED: Final = "authorization"
REFUSED: Final = "refused"
NO_STREAM: Final = "no_stream"
TOO_LARGE: Final = "too_large"
INTERRUPTED: Final = "interrupted"
FAILED: Final = "error"

_TO_END: Final = 2.0
"""Seconds that what is under way has to end."""


class LinkError(MpmetricsError, RuntimeError):
    """Messages could not be handed over: *reason* is fit for a label, *detail* is for a person.

    The first *taken* of them were; of the others nobody knows.
    """

    def __init__(self, reason: str, detail: str, taken: int = 0) -> None:
        """Remember *reason*, *detail* and how many were *taken*."""
        super().__init__(reason, detail, taken)
        self.reason = reason
        self.detail = detail
        self.taken = taken

    def __str__(self) -> str:
        """Return one line for a person."""
        return self.detail


class Link(Protocol):
    """A way to those who listen. It connects when it is used, and anew when that is needed."""

    def send(self, subject: str, messages: Sequence[Message]) -> None:
        """Hand over *messages*, in their order, within seconds. Raises `LinkError`."""
        ...  # pragma: no cover - a protocol has no body

    def interrupt(self) -> None:
        """Have `send` raise now, and whenever it is called; any thread may call this."""
        ...  # pragma: no cover - a protocol has no body

    def close(self) -> None:
        """Disconnect; not while `send` is called."""
        ...  # pragma: no cover - a protocol has no body


class LoopThread:
    """An event loop in a thread of its own."""

    def __init__(self, name: str) -> None:
        """Begin."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def start(self, coroutine: Coroutine[Any, Any, None]) -> concurrent.futures.Future[None]:
        """Have the loop do something."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def close(self) -> None:
        """End; what the loop is still doing is cancelled."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_TO_END)

    def _run(self) -> None:
        try:
            self._loop.run_forever()
            self._loop.run_until_complete(self._cancelled())
        finally:
            self._loop.close()

    async def _cancelled(self) -> None:
        """Cancel all that is under way, and wait for the end of it."""
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_TO_END / 2)
        await asyncio.sleep(0)  # transports that are being closed are closed in the next round
