"""The endpoints of an engine's publishers: one publisher for each data-parallel rank."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from mpmetrics.engines.errors import EventEndpointError

if TYPE_CHECKING:
    from collections.abc import Sequence

_LARGEST_PORT: Final = 65535
_TCP: Final = re.compile(r"tcp://(?P<host>.+):(?P<port>[0-9]{1,5})")
_LOOPBACK: Final = {"*": "127.0.0.1", "0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 - not bound
"""Where to connect to a publisher that listens on a wildcard address."""


class Publisher(NamedTuple):
    """The publisher of one *rank*: its *endpoint*, and the endpoint of its *replay*, if any.

    With *bind* the publisher connects to *endpoint*, and the source listens there.
    """

    rank: int
    endpoint: str
    replay: str = ""
    bind: bool = False


def publishers(
    endpoint: str, replay: str = "", *, ranks: int = 1, first_rank: int = 0, bind: bool = False
) -> Sequence[Publisher]:
    """Return the publishers of *ranks* ranks of an engine that is configured with *endpoint*.

    vLLM listens on an endpoint with a `*`, and on `ipc://`. It connects to any other endpoint, and
    then *bind* is needed. It always listens on *replay*. Raises `EventEndpointError`.
    """
    return [
        Publisher(
            rank,
            resolve_endpoint(endpoint, rank, bind=bind),
            replay and resolve_endpoint(replay, rank),
            bind=bind,
        )
        for rank in range(first_rank, first_rank + ranks)
    ]


def resolve_endpoint(endpoint: str, rank: int, *, bind: bool = False) -> str:
    """Return the endpoint of the publisher of *rank*: vLLM adds the rank to the port.

    A wildcard address becomes that of this machine, unless the source listens on it (*bind*).
    Raises `EventEndpointError`.
    """
    if match := _TCP.fullmatch(endpoint):
        port = int(match["port"])
        last = port + rank
        if not 0 < port <= last <= _LARGEST_PORT:
            raise EventEndpointError(endpoint, f"rank {rank} would have port {last}")
        host = match["host"]
        return f"tcp://{host if bind else _LOOPBACK.get(host, host)}:{last}"
    scheme, _, rest = endpoint.partition("://")
    if scheme == "inproc" and rest:
        return f"{endpoint}_dp{rank}" if rank else endpoint
    if scheme == "ipc" and rest:
        if rank:
            raise EventEndpointError(endpoint, f"there is no ipc endpoint for rank {rank}")
        return endpoint
    raise EventEndpointError(endpoint, "it is not of the form tcp://HOST:PORT or ipc://PATH")
