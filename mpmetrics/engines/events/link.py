"""The interface of links, which carry messages out of this process, and why they may fail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from mpmetrics.errors import MpmetricsError

if TYPE_CHECKING:
    from collections.abc import Sequence

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


class LinkError(MpmetricsError, RuntimeError):
    """A failure to send messages: *reason* is the value of a label, *detail* a line for people.

    The first *taken* messages were sent; whether the others arrived is unknown.
    """

    def __init__(self, reason: str, detail: str, taken: int = 0) -> None:
        """Keep *reason*, *detail* and the number of messages *taken*."""
        super().__init__(reason, detail, taken)
        self.reason = reason
        self.detail = detail
        self.taken = taken

    def __str__(self) -> str:
        """Return one line for people."""
        return self.detail


class Link(Protocol):
    """A connection to listeners. It connects on first use, and reconnects when needed."""

    def send(self, subject: str, messages: Sequence[Message]) -> None:
        """Send *messages*, in their order, within seconds. Raises `LinkError`."""
        ...  # pragma: no cover - a protocol has no body

    def interrupt(self) -> None:
        """Have a running `send` and all further ones raise; any thread may call this."""
        ...  # pragma: no cover - a protocol has no body

    def close(self) -> None:
        """Disconnect; not during `send`."""
        ...  # pragma: no cover - a protocol has no body
