"""The way from the publishers of an engine to sinks, in threads or beside an event loop."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from mpmetrics._log_limit import get_log
from mpmetrics.engines.events.joiner import EventJoiner
from mpmetrics.engines.events.metrics import EventCollector
from mpmetrics.engines.events.pipeline import Pipeline
from mpmetrics.engines.events.sinks import GRACE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from typing_extensions import Self

    from mpmetrics.engines.events.model import Event
    from mpmetrics.engines.events.sinks import Sink
    from mpmetrics.engines.events.source import EventSource

_log = get_log()


class EventBridge(AbstractContextManager["EventBridge"]):
    """A bridge that passes the events of a *source* to *sinks*, and counts them in its `metrics`.

    With *delay*, in seconds, events that belong together are joined, and kept that long at the
    most. Constant *labels* of the metrics distinguish several bridges on one page. Raises
    `LabelError`.
    """

    def __init__(
        self,
        source: EventSource,
        sinks: Sequence[Sink] = (),
        *,
        delay: float | None = None,
        labels: Mapping[str, str] | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Connect *source* to *sinks*; nothing is read before `start`."""
        self._source = source
        self._sinks = list(sinks)
        joiner = None if not delay else EventJoiner(delay)
        self._pipeline = Pipeline(self._emit, wall=wall, joiner=joiner)
        self.metrics = EventCollector(self._pipeline, self._sinks, labels)
        self._thread = threading.Thread(target=self._run, name="mpmetrics-events", daemon=True)

    @property
    def is_running(self) -> bool:
        """Whether events are being read."""
        return self._thread.is_alive()

    def start(self) -> Self:
        """Start the sinks and the thread that reads."""
        for sink in self._sinks:
            sink.start()
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop reading. What waits goes to the sinks within seconds, or is dropped and counted."""
        self._source.stop()
        if self._thread.ident is not None:
            self._thread.join()
        else:
            self._source.close()
        # All sinks share one deadline, so that many brokers that are down do not add up.
        for sink in self._sinks:
            sink.buffer.close()
        until = time.monotonic() + GRACE
        for sink in self._sinks:
            sink.stop(max(0.0, until - time.monotonic()))

    async def run(self) -> None:
        """Bridge until this task is cancelled, without blocking the event loop."""
        self.start()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await asyncio.get_running_loop().run_in_executor(None, self.stop)

    def __enter__(self) -> Self:
        """Start."""
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop."""
        self.stop()

    def _run(self) -> None:
        """Read until the source is stopped."""
        try:
            self._source.run(self._pipeline)
            self._pipeline.flush()
        except Exception:  # the thread has no caller to raise to
            _log.exception("no more events are read")
        finally:
            self._source.close()

    def _emit(self, events: Sequence[Event]) -> None:
        for sink in self._sinks:
            sink.put(events)
