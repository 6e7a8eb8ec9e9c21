"""Pages on their way to clients that may be slow to read.

A client that does not read keeps its page in memory until its time is over. Pages that were made
at different times are different, and many such clients could fill the memory with them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mpmetrics.web.apps import Send

MOST_BYTES: Final = 64 << 20
"""Bytes of pages that may wait for clients, beside the newest page."""

_PIECE: Final = 1 << 16
"""Bytes of a page that are sent at once: what waits in a connection is a copy."""


class PageDroppedError(ConnectionAbortedError):
    """The page of a client that reads too slowly was dropped, for others that are newer."""


class _Waiting:
    """A page that is being sent; it has no *body* any more when it was dropped."""

    def __init__(self, body: bytes) -> None:
        self.body: bytes | None = body
        self.size = len(body)

    def piece(self, start: int) -> bytes:
        """Return the bytes from *start* on. Raises `PageDroppedError`."""
        if self.body is None:
            message = f"a client has read {start:,} of {self.size:,} bytes, and newer pages wait"
            raise PageDroppedError(message)
        return self.body[start : start + _PIECE]


class OutgoingPages:
    """The pages that are being sent: different ones up to *most_bytes*, and the newest."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        """Begin without pages."""
        self._most_bytes = most_bytes
        self._waiting: dict[_Waiting, None] = {}

    def begin(self, body: bytes) -> _Waiting:
        """Add a page with this *body*; drop the oldest ones if all together are too large.

        The caller must keep no reference to *body*.
        """
        waiting = _Waiting(body)
        self._waiting[waiting] = None
        sizes = {id(each.body): each.size for each in self._waiting}
        total = sum(sizes.values()) - len(body)
        for each in list(self._waiting):
            if total <= self._most_bytes:
                break
            if each.body is not body:
                total -= sizes.pop(id(each.body), 0)
                del self._waiting[each]
                each.body = None
        return waiting

    async def send(self, waiting: _Waiting, send: Send) -> None:
        """Send a page piece by piece, each when the client has read earlier ones.

        Raises `PageDroppedError` if the page was dropped meanwhile.
        """
        try:
            for start in range(0, waiting.size - _PIECE, _PIECE):
                piece = waiting.piece(start)
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            last = max(0, (waiting.size - 1) // _PIECE * _PIECE)
            await send({"type": "http.response.body", "body": waiting.piece(last)})
        finally:
            self._waiting.pop(waiting, None)
