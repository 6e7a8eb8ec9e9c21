"""Where events go: each place has a buffer and a thread of its own, and can hold up nobody."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from typing import TYPE_CHECKING, Final

from mpmetrics.engines.events.buffer import EventBuffer
from mpmetrics.engines.events.model import as_document
from mpmetrics.engines.events.transport import FAILED
from mpmetrics.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mpmetrics.engines.events.buffer import Taken
    from mpmetrics.engines.events.model import Event
    from mpmetrics.engines.events.pipeline import Tally


CAPACITY: Final = 100_000
"""Events that wait for a sink at the most."""

GRACE: Final = 2.0
"""Seconds that a sink has at the end for what waits."""

_RAISED: Final = "raised"

_TO_END: Final = 2.0
"""Seconds that a sink which has been told to give up has to close its connections."""

_AT_ONCE: Final = 1024

_log = logging.getLogger("mpmetrics")


class Sink:
    """What all sinks have: a *name*, which is the value of a label, and a buffer."""

    FAILURES: Sequence[str] = (FAILED,)
    REJECTIONS: Sequence[str] = ()
    """Reasons that are counted from zero, since a first increase from nothing is not seen."""

    def __init__(self, name: str, capacity: int = CAPACITY) -> None:
        """Keep *capacity* events at the most while they cannot be given away."""
        self.name = name
        self.buffer = EventBuffer(capacity)
        self.tally: Tally = Counter({("sent", name): 0})
        self.tally.update({("failures", name, reason): 0 for reason in self.FAILURES})
        self.tally.update({("rejected", name, reason): 0 for reason in self.REJECTIONS})
        self._warned: set[str] = set()
        self._thread = threading.Thread(target=self._run, name=f"mpmetrics-{name}", daemon=True)

    def put(self, events: Sequence[Event]) -> None:
        """Take *events*; this never waits."""
        self.buffer.put(events)

    def start(self) -> None:
        """Begin to give events away."""
        self._thread.start()

    def stop(self, grace: float = GRACE) -> None:
        """Give away what waits, within *grace* seconds; the rest is dropped, and counted."""
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
        """Give away what comes, until there is no more."""
        while (taken := self.buffer.take(_AT_ONCE)) is not None:
            try:
                self._give(taken)
            except Exception as error:  # whatever it is, there is no number
                self._warn(FAILED, error)
            self.buffer.lose()
        self._close()

    def _give(self, taken: Taken) -> None:
        """Give away some events, and tell the buffer of each that is done; others are dropped."""
        raise NotImplementedError

    def _done(self, events: Sequence[Event]) -> None:
        """Tell the buffer of *events*, which all came from it at once, and none of them before."""
        for rank, count in Counter(event.rank for event in events).items():
            self.buffer.done(rank, count)

    def _give_up(self) -> None:
        """Wait no longer for whoever does not take anything."""

    def _close(self) -> None:
        """Let go of everything, when nothing more is given away."""

    def _warn(self, reason: str, error: BaseException) -> None:
        """Log a failure, if it is the first for this *reason*; count it in any case."""
        self.tally["failures", self.name, reason] += 1
        if reason not in self._warned:
            self._warned.add(reason)
            _log.warning("events to %s: %s: %s: %s", self.name, reason, type(error).__name__, error)


class CallbackSink(Sink):
    """Calls a function with each event, in a thread of its own. What it raises is counted."""

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

    def _give(self, taken: Taken) -> None:
        callback = self._callback
        sent = 0
        for event in taken.events:
            try:
                callback(event)
            except Exception as error:  # senders are anybody's code
                self._warn(_RAISED, error)
            else:
                sent += 1
        self.tally["sent", self.name] += sent
        self._done(taken.events)


class LinesSink(Sink):
    """Writes each event as a line of JSON. Lines for which *write* raises are dropped, and counted.

    A line is an object: `event` is "stored", "removed" or "cleared", and the other members are the
    fields of that event. Hashes are numbers of 64 bits, which not every reader of JSON keeps.
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
            import msgspec  # only who has events needs it
        except ImportError as error:
            raise MissingExtraError(package="msgspec", extra="zmq") from error
        self._encode = msgspec.json.Encoder().encode_lines
        self._write = write

    def _give(self, taken: Taken) -> None:
        lines = self._encode([as_document(event) for event in taken.events])
        try:
            self._write(lines)
        except Exception as error:  # whatever it raises is the answer
            self._warn("raised", error)
        else:
            self.tally["sent", self.name] += len(taken.events)
            self._done(taken.events)
