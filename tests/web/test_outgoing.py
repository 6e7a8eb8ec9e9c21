"""Pages that wait for slow clients: sent in pieces, and dropped when they take too much memory."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import pytest

from mpmetrics.web.outgoing import OutgoingPages, PageDroppedError

if TYPE_CHECKING:
    from collections.abc import MutableMapping

PIECE = 1 << 16


class Client:
    """A client that reads one piece, and then waits until it goes on."""

    def __init__(self) -> None:
        """Begin with nothing read."""
        self.received = b""
        self.is_complete = False
        self.goes_on = asyncio.Event()

    async def send(self, message: MutableMapping[str, Any]) -> None:
        """Take a piece, and return when the client goes on."""
        self.received += message["body"]
        assert len(message["body"]) <= PIECE
        self.is_complete = not message.get("more_body", False)
        await self.goes_on.wait()


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE, 3 * PIECE + 7])
def test_a_page_arrives_whole(size: int) -> None:
    """A page of any size arrives in pieces of at most 64 KiB, the last of which is marked."""

    async def send() -> None:
        client, pages = Client(), OutgoingPages()
        client.goes_on.set()
        body = bytes(number % 251 for number in range(size))
        await pages.send(pages.begin(body), client.send)
        assert (client.received, client.is_complete) == (body, True)

    asyncio.run(send())


def test_the_oldest_pages_are_dropped() -> None:
    """Of different pages that wait, the oldest are dropped; equal ones count once."""

    async def send() -> None:
        pages = OutgoingPages(most_bytes=8 * PIECE)
        clients = [Client() for _ in range(6)]
        shared = b"s" * 4 * PIECE
        bodies = [b"a" * 4 * PIECE, shared, shared, shared, b"b" * 4 * PIECE, b"c" * 4 * PIECE]
        tasks = []
        for client, body in zip(clients, bodies, strict=True):
            tasks.append(asyncio.ensure_future(pages.send(pages.begin(body), client.send)))
            await asyncio.sleep(0)
        for client in clients:
            client.goes_on.set()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [PageDroppedError, *[type(None)] * 5]
        assert "65,536 of 262,144 bytes" in str(outcomes[0])
        assert [client.is_complete for client in clients] == [False, *[True] * 5]

    asyncio.run(send())


def test_a_dropped_page_leaves_the_memory() -> None:
    """Nothing refers to a dropped page any more, while its client still does not read."""

    async def send() -> None:
        pages = OutgoingPages(most_bytes=PIECE)
        body = bytes(4 * PIECE)
        before = sys.getrefcount(body)
        slow, quick = Client(), Client()
        task = asyncio.ensure_future(pages.send(pages.begin(body), slow.send))
        await asyncio.sleep(0)
        assert sys.getrefcount(body) > before
        quick.goes_on.set()
        await pages.send(pages.begin(b"b" * 4 * PIECE), quick.send)
        assert sys.getrefcount(body) == before
        task.cancel()

    asyncio.run(send())
