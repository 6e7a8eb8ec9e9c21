"""Comparisons of passwords: one at a time, in turn, and none for a client that has gone."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from mpmetrics.web.networks import make_known_networks
from mpmetrics.web.password_queue import MOST_OF_A_NETWORK, PasswordQueue, QueueFullError
from mpmetrics.web.users import Users
from tests.workers import PATIENCE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HASHED = b"$2b$04$" + b"x" * 53
KNOWN, STRANGER, CROWD = "192.0.2.1", "192.0.2.2", "192.0.2.3"


class Comparer:
    """A comparison of passwords that waits until it may go on, and notes what it compares."""

    def __init__(self) -> None:
        """Begin closed."""
        self.begun = threading.Event()
        self.may_go_on = threading.Event()
        self.compared: list[bytes] = []
        self.threads: set[str] = set()

    def __call__(self, password: bytes, _: bytes) -> bool:
        """Return whether the *password* is "right", when it may."""
        self.compared.append(password)
        self.threads.add(threading.current_thread().name)
        self.begun.set()
        assert self.may_go_on.wait(PATIENCE)
        if password == b"broken":
            raise ValueError(password)
        return password == b"right"


@asynccontextmanager
async def queueing(comparer: Comparer) -> AsyncIterator[PasswordQueue]:
    """Yield a queue whose first comparison has begun, and waits."""
    known = make_known_networks()
    known.add(KNOWN)
    queue = PasswordQueue(Users({"alice": HASHED}, comparer), known)
    first = asyncio.ensure_future(queue.run(CROWD, "alice", b"first"))
    await asyncio.sleep(0)
    assert await asyncio.to_thread(comparer.begun.wait, PATIENCE)
    try:
        yield queue
    finally:
        comparer.may_go_on.set()
        await asyncio.wait({first})
        queue.close()


def test_networks_take_turns() -> None:
    """A network that asks much waits for others; known networks have every other turn."""
    comparer = Comparer()

    async def ask() -> None:
        async with queueing(comparer) as queue:
            asked = [
                *((CROWD, b"crowd %d" % number) for number in range(4)),
                *((STRANGER, b"stranger %d" % number) for number in range(2)),
                *((KNOWN, b"known %d" % number) for number in range(3)),
            ]
            tasks = [
                asyncio.ensure_future(queue.run(network, "alice", password))
                for network, password in asked
            ]
            await asyncio.sleep(0)
            comparer.may_go_on.set()
            assert await asyncio.gather(*tasks) == [False] * len(asked)

    asyncio.run(ask())
    assert [password.decode() for password in comparer.compared] == [
        "first",
        "known 0",
        "crowd 0",
        "known 1",
        "stranger 0",
        "known 2",
        "crowd 1",
        "stranger 1",
        "crowd 2",
        "crowd 3",
    ]
    assert len(comparer.threads) == 1


def test_nothing_is_compared_for_a_caller_that_is_cancelled() -> None:
    """A comparison whose caller has gone is not made; the others are."""
    comparer = Comparer()

    async def ask() -> None:
        async with queueing(comparer) as queue:
            gone = [
                asyncio.ensure_future(queue.run(CROWD, "alice", b"%d" % number))
                for number in range(MOST_OF_A_NETWORK)
            ]
            await asyncio.sleep(0)
            for task in gone:
                task.cancel()
            await asyncio.gather(*gone, return_exceptions=True)
            comparer.may_go_on.set()
            assert await queue.run(CROWD, "alice", b"right")

    asyncio.run(ask())
    assert comparer.compared == [b"first", b"right"]


def test_equal_pairs_are_compared_once() -> None:
    """A pair that waits many times is compared once, and then answered from memory."""
    comparer = Comparer()

    async def ask() -> None:
        async with queueing(comparer) as queue:
            tasks = [
                asyncio.ensure_future(queue.run(network, "alice", password))
                for network in (CROWD, STRANGER)
                for password in (b"right", b"wrong", b"right", b"wrong")
            ]
            await asyncio.sleep(0)
            comparer.may_go_on.set()
            assert await asyncio.gather(*tasks) == [True, False] * 4

    asyncio.run(ask())
    assert sorted(comparer.compared) == [b"first", b"right", b"wrong"]


def test_a_full_queue_refuses_its_network_only() -> None:
    """A network with too many comparisons is refused one more; another network is not."""
    comparer = Comparer()

    async def ask() -> None:
        async with queueing(comparer) as queue:
            tasks = [
                asyncio.ensure_future(queue.run(CROWD, "alice", b"%d" % number))
                for number in range(MOST_OF_A_NETWORK)
            ]
            await asyncio.sleep(0)
            with pytest.raises(QueueFullError):
                await queue.run(CROWD, "alice", b"more")
            other = asyncio.ensure_future(queue.run(STRANGER, "alice", b"right"))
            await asyncio.sleep(0)
            comparer.may_go_on.set()
            assert await other
            await asyncio.gather(*tasks)

    asyncio.run(ask())


def test_a_comparison_that_raises_costs_only_itself() -> None:
    """What a comparison raises goes to its caller, and the next comparison is made."""
    comparer = Comparer()

    async def ask() -> None:
        async with queueing(comparer) as queue:
            broken = asyncio.ensure_future(queue.run(CROWD, "alice", b"broken"))
            right = asyncio.ensure_future(queue.run(CROWD, "alice", b"right"))
            await asyncio.sleep(0)
            comparer.may_go_on.set()
            assert await right
            with pytest.raises(ValueError, match="broken"):
                await broken

    asyncio.run(ask())


def test_a_queue_that_is_closed_gives_up() -> None:
    """Closing cancels what waits, and the thread ends with the comparison that it makes."""
    comparer = Comparer()

    async def ask() -> None:
        async with queueing(comparer) as queue:
            waiting = asyncio.ensure_future(queue.run(STRANGER, "alice", b"right"))
            await asyncio.sleep(0)
            queue.close()
            with pytest.raises(asyncio.CancelledError):
                await waiting

    asyncio.run(ask())
    for thread in threading.enumerate():
        if thread.name in comparer.threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()
    assert comparer.compared == [b"first"]
