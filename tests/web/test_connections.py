"""Which connection is closed when there are too many."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from mpmetrics.web.connections import RESERVED, Connection, Connections, choose_to_close
from mpmetrics.web.networks import make_known_networks

if TYPE_CHECKING:
    from mpmetrics.web.networks import KnownNetworks

FRIEND, STRANGER, CROWD = "192.0.2.1", "192.0.2.2", "192.0.2.3"


def known_friend() -> KnownNetworks:
    """Return a memory in which the friend is known."""
    known = make_known_networks()
    known.add(FRIEND)
    return known


def connections(*given: tuple[str, str, float]) -> list[Connection]:
    """Return connections of these networks, states and times."""
    return [
        Connection(network, lambda: None, since, busy=state == "busy")
        for network, state, since in given
    ]


CASES: dict[str, tuple[list[tuple[str, str, float]], str, int | None]] = {
    "nothing to close": ([], STRANGER, None),
    "the oldest of one network": (
        [(CROWD, "quiet", 2), (CROWD, "quiet", 1), (CROWD, "quiet", 3)],
        CROWD,
        1,
    ),
    "a quiet one before a busy one": ([(CROWD, "busy", 1), (CROWD, "quiet", 2)], STRANGER, 1),
    "of the network with the most": (
        [(STRANGER, "quiet", 1), (CROWD, "quiet", 2), (CROWD, "quiet", 3)],
        FRIEND,
        1,
    ),
    "not of a known network": (
        [(FRIEND, "quiet", 1), (FRIEND, "quiet", 2), (STRANGER, "quiet", 3)],
        STRANGER,
        2,
    ),
    "not for a network that has more": (
        [(STRANGER, "quiet", 1), (CROWD, "busy", 1), (CROWD, "busy", 2)],
        CROWD,
        None,
    ),
    "a busy one for a network that has fewer": (
        [(CROWD, "busy", 2), (CROWD, "busy", 1)],
        STRANGER,
        1,
    ),
    "no busy one for one of its own": ([(CROWD, "busy", 2), (CROWD, "busy", 1)], CROWD, None),
    "a busy one of its own for a known network": (
        [(FRIEND, "busy", 2), (FRIEND, "busy", 1)],
        FRIEND,
        1,
    ),
    "of a known network that has too many": (
        [(STRANGER, "quiet", 1), *[(FRIEND, "quiet", n) for n in range(2, RESERVED + 5)]],
        STRANGER,
        1,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_connection_to_close(case: str) -> None:
    """The connection to close is quiet if there is one, and of the network that has the most."""
    given, newcomer, expected = CASES[case]
    candidates = connections(*given)
    chosen = choose_to_close(candidates, newcomer, known_friend())
    assert (None if chosen is None else candidates.index(chosen)) == expected


class Pairs:
    """Pairs of connected sockets; the second of each is the client's."""

    def __init__(self, stack: ExitStack) -> None:
        """Close all pairs with *stack*."""
        self._stack = stack

    def make(self) -> tuple[socket.socket, socket.socket]:
        """Return a new pair."""
        ours, client = socket.socketpair()
        return self._stack.enter_context(ours), self._stack.enter_context(client)


def is_shut_down(client: socket.socket) -> bool:
    """Return whether the other end of *client* sends nothing more."""
    client.settimeout(0)
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False


def address(network: str) -> Any:
    """Return the address of a client in *network*."""
    return network, 50_000


def test_a_connection_makes_room_for_another() -> None:
    """One connection too many is admitted, and the oldest quiet one of its network is closed."""
    now = 0.0
    with ExitStack() as stack:
        pairs = Pairs(stack)
        admitted = Connections(3, known_friend(), clock=lambda: now)
        clients = []
        for _ in range(4):
            now += 1
            ours, client = pairs.make()
            assert admitted.admit(ours, address(CROWD))
            clients.append(client)
            if now == 1:
                connection = admitted.find(ours.fileno())
                assert connection is not None
                admitted.begin_answer(connection)
        assert [is_shut_down(client) for client in clients] == [False, True, False, False]


def test_a_connection_that_is_answered_may_refuse_another() -> None:
    """One connection too many is refused if all the others of its network are being answered."""
    with ExitStack() as stack:
        pairs = Pairs(stack)
        admitted = Connections(2, known_friend())
        clients = []
        for _ in range(2):
            ours, client = pairs.make()
            assert admitted.admit(ours, address(CROWD))
            connection = admitted.find(ours.fileno())
            assert connection is not None
            admitted.begin_answer(connection)
            clients.append(client)
        assert not admitted.admit(pairs.make()[0], address(CROWD))
        assert not any(map(is_shut_down, clients))
        assert admitted.admit(pairs.make()[0], address(FRIEND))
        assert sum(map(is_shut_down, clients)) == 1


def test_closed_connections_do_not_count() -> None:
    """A connection that was closed makes room for another one."""
    with ExitStack() as stack:
        pairs = Pairs(stack)
        admitted = Connections(1, known_friend())
        first, _ = pairs.make()
        assert admitted.admit(first, address(CROWD))
        first.close()
        second, client = pairs.make()
        assert admitted.admit(second, address(CROWD))
        assert not is_shut_down(client)
