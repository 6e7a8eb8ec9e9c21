"""Sinks of events: each has a buffer and a thread of its own, and cannot delay other sinks."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING, Final

from mpmetrics._log_limit import get_log
from mpmetrics.engines.events.buffer import EventBuffer
from mpmetrics.engines.events.link import FAILED
from mpmetrics.engines.events.model import as_document
from mpmetrics.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mpmetrics.engines.events.buffer import TakenEvents
    from mpmetrics.engines.events.model import Event
    from mpmetrics.engines.events.pipeline import Tally


CAPACITY: Final = 100_000
"""The largest number of events that wait for a sink."""

GRACE: Final = 2.0
"""Seconds in which a sink that is stopped can send the events that wait."""

_RAISED: Final = "raised"

_TO_END: Final = 2.0
"""Seconds that a sink that has been given up has to close its connections."""

_AT_ONCE: Final = 1024
"""The largest number of events to take from a buffer at once."""

_log = get_log()


class Sink:
    """The base of all sinks: a *name*, which is the value of a label, a buffer, and a thread."""

    FAILURES: Sequence[str] = (FAILED,)
    REJECTIONS: Sequence[str] = ()
    """Reasons that are counted from zero: else Prometheus would not see the first increase."""

    def __init__(self, name: str, capacity: int = CAPACITY) -> None:
        """Keep *capacity* events at the most while they cannot be sent."""
        self.name = name
        self.buffer = EventBuffer(capacity)
        self.tally: Tally = Counter({("sent", name): 0})
        self.tally.update({("failures", name, reason): 0 for reason in self.FAILURES})
        self.tally.update({("rejected", name, reason): 0 for reason in self.REJECTIONS})
        self._warned: set[str] = set()
        self._thread = threading.Thread(target=self._run, name=f"mpmetrics-{name}", daemon=True)

    def put(self, events: Sequence[Event]) -> None:
        """Add *events* to the buffer; this never waits."""
        self.buffer.put(events)

    def start(self) -> None:
        """Start the thread that sends events."""
        self._thread.start()

    def stop(self, grace: float = GRACE) -> None:
        """Send the events that wait within *grace* seconds; drop and count the rest."""
        self.buffer.close()
        if self._thread.ident is None:
            self.buffer.close(drop=True)
            self._close()
            return
        self._thread.join(grace)
        self.buffer.close(drop=True)
        if self._thread.is_alive():
            self._give_up()
            self._thread.join(_TO_END)

    def _run(self) -> None:
        """Send events until the buffer is closed and empty."""
        while (taken := self.buffer.take(_AT_ONCE)) is not None:
            try:
                self._send(taken)
            except Exception as error:  # it must not end the thread
                self._warn(FAILED, error)
            self.buffer.drop_in_hand()
        self._close()

    def _send(self, taken: TakenEvents) -> None:
        """Send events, and mark those that are done in the buffer; it drops the others."""
        raise NotImplementedError

    def _mark_done(self, events: Sequence[Event]) -> None:
        """Mark *events* as done: all events that were taken at once, each for the first time."""
        for rank, count in Counter(event.rank for event in events).items():
            self.buffer.mark_done(rank, count)

    def _give_up(self) -> None:
        """Stop waiting for a receiver that does not take anything."""

    def _close(self) -> None:
        """Close connections after the last event."""

    def _warn(self, reason: str, error: BaseException) -> None:
        """Count a failure, and log the first one for this *reason*."""
        self.tally["failures", self.name, reason] += 1
        if reason not in self._warned:
            self._warned.add(reason)
            _log.warning("events to %s: %s: %s: %s", self.name, reason, type(error).__name__, error)


class CallbackSink(Sink):
    """A sink that calls a function with each event, in a thread of its own, and counts failures."""

    FAILURES = (_RAISED,)

    def __init__(
        self,
        callback: Callable[[Event], object],
        *,
        name: str = "callback",
        capacity: int = CAPACITY,
    ) -> None:
        """Call *callback*."""
        super().__init__(name, capacity)
        self._callback = callback

    def _send(self, taken: TakenEvents) -> None:
        callback = self._callback
        sent = 0
        for event in taken.events:
            try:
                callback(event)
            except Exception as error:  # it is code of others
                self._warn(_RAISED, error)
            else:
                sent += 1
        self.tally["sent", self.name] += sent
        self._mark_done(taken.events)


class LinesSink(Sink):
    """A sink that writes each event as a line of JSON.

    Lines for which *write* raises are dropped and counted.

    A line is an object: `event` is "stored", "removed" or "cleared", and the other members are the
    fields of that event. Hashes are numbers of 64 bits, which some readers of JSON do not keep.
    """

    def __init__(
        self,
        write: Callable[[bytes], object],
        *,
        name: str = "lines",
        capacity: int = CAPACITY,
    ) -> None:
        """Call *write* with some lines at a time. Raises `MissingExtraError`."""
        super().__init__(name, capacity)
        try:
            import msgspec  # only events need it
        except ImportError as error:
            raise MissingExtraError(package="msgspec", extra="zmq") from error
        self._encode = msgspec.json.Encoder().encode_lines
        self._write = write

    def _send(self, taken: TakenEvents) -> None:
        lines = self._encode([as_document(event) for event in taken.events])
        try:
            self._write(lines)
        except Exception as error:  # it is code of others
            self._warn(_RAISED, error)
        else:
            self.tally["sent", self.name] += len(taken.events)
            self._mark_done(taken.events)
