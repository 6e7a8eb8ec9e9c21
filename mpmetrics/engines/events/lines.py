"""Events as lines of JSON, for people and for programs that read lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpmetrics.engines.events.model import as_document
from mpmetrics.engines.events.sinks import CAPACITY, Sink
from mpmetrics.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Callable

    from mpmetrics.engines.events.buffer import Taken


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
            import msgspec  # noqa: PLC0415 - only who has events needs it
        except ImportError as error:
            raise MissingExtraError(package="msgspec", extra="zmq") from error
        self._encode = msgspec.json.Encoder().encode_lines
        self._write = write

    def _give(self, taken: Taken) -> None:
        lines = self._encode([as_document(event) for event in taken.events])
        try:
            self._write(lines)
        except Exception as error:  # noqa: BLE001 - whoever reads may be gone
            self._warn("raised", error)
        else:
            self.tally["sent", self.name] += len(taken.events)
            self._done(taken.events)
