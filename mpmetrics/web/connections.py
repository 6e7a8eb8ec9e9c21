"""The connections of a server, and which of them is closed for another one.

A client that holds connections must not keep others out. When there are too many, the network
with the most gives up the one that has been quiet for the longest time. Networks that were served
a page lately have some connections that do not count.
"""

from __future__ import annotations

import socket
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from mpmetrics.web.networks import network_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from mpmetrics.web.networks import KnownNetworks

RESERVED: Final = 20
"""Connections of a known network that do not count when one has to be closed."""


@dataclass(eq=False)
class Connection:
    """A connection from a *network*; *close* closes it.

    It is *busy* while it is answered, and else waits for a handshake or a request, *since* the
    time when it began to.
    """

    network: str
    close: Callable[[], object] = field(repr=False)
    since: float = 0.0
    busy: bool = False


def choose_to_close(
    connections: Iterable[Connection], newcomer: str, known: KnownNetworks
) -> Connection | None:
    """Return the connection to close for one from the network *newcomer*; None to refuse that one.

    Quiet connections go first, the oldest of the network that has the most. A connection that is
    being answered goes only if its network has more than the newcomer's, or if the newcomer is
    known. No network loses a connection to one that has more.
    """
    candidates = list(connections)
    counts = Counter([newcomer, *(each.network for each in candidates)])
    weights = {
        network: count - (RESERVED if network in known else 0) for network, count in counts.items()
    }
    own = weights[newcomer]

    def may_close(each: Connection) -> bool:
        if each.network == newcomer:
            return not each.busy or newcomer in known
        weight = weights[each.network]
        return weight > own if each.busy else weight >= own

    return min(
        filter(may_close, candidates),
        key=lambda each: (each.busy, -weights[each.network], each.since),
        default=None,
    )


class Connections:
    """The connections that are open, at most so *many*; all methods belong to one event loop."""

    def __init__(
        self, most: int, known: KnownNetworks, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin without connections; prefer the networks that are *known*."""
        self._most = most
        self._known = known
        self._clock = clock
        self._open: dict[int, tuple[socket.socket, Connection]] = {}

    def admit(self, accepted: socket.socket, address: Any) -> bool:
        """Return whether an *accepted* socket from *address* may stay; close another one for it."""
        # The event loop closes sockets, and one that is closed has no number.
        self._open = {
            number: each for number, each in self._open.items() if each[0].fileno() == number
        }
        network = network_of(address)
        if len(self._open) >= self._most:
            victim = choose_to_close(
                (connection for _, connection in self._open.values()), network, self._known
            )
            if victim is None:
                return False
            self._open = {
                number: each for number, each in self._open.items() if each[1] is not victim
            }
            victim.close()

        def shut_down() -> None:
            with suppress(OSError):  # the client has closed it
                accepted.shutdown(socket.SHUT_RDWR)

        self._open[accepted.fileno()] = accepted, Connection(network, shut_down, self._clock())
        return True

    def find(self, number: int) -> Connection | None:
        """Return the open connection whose socket has this *number*."""
        _, connection = self._open.get(number, (None, None))
        return connection

    def begin_answer(self, connection: Connection) -> None:
        """Note that a whole request has arrived at *connection*."""
        connection.busy = True

    def rest(self, connection: Connection) -> None:
        """Note that *connection* waits for a request from now on."""
        connection.busy = False
        connection.since = self._clock()
