"""Where the publishers of an engine are: one for each data-parallel rank."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from mpmetrics.engines.errors import EventEndpointError

if TYPE_CHECKING:
    from collections.abc import Sequence

_LARGEST_PORT: Final = 65535
_TCP: Final = re.compile(r"tcp://(?P<host>.+):(?P<port>[0-9]{1,5})")
_EVERYWHERE: Final = {"*": "127.0.0.1", "0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 - not bound


class Publisher(NamedTuple):
    """The publisher of one *rank*: its *endpoint*, and where to ask for a *replay*, if anywhere."""

    rank: int
    endpoint: str
    replay: str = ""


def publishers(
    endpoint: str, replay: str = "", *, ranks: int = 1, first_rank: int = 0
) -> Sequence[Publisher]:
    """Return the publishers of so many *ranks* of an engine that is configured with *endpoint*.

    Raises `EventEndpointError`.
    """
    return [
        Publisher(rank, offset(endpoint, rank), replay and offset(replay, rank))
        for rank in range(first_rank, first_rank + ranks)
    ]


def offset(endpoint: str, rank: int) -> str:
    """Return where the publisher of *rank* is: vLLM adds the rank to the port.

    An endpoint on which it listens everywhere is one to connect to on this machine. Raises
    `EventEndpointError`.
    """
    if match := _TCP.fullmatch(endpoint):
        port = int(match["port"])
        last = port + rank
        if not 0 < port <= last <= _LARGEST_PORT:
            raise EventEndpointError(endpoint, f"rank {rank} would have port {last}")
        return f"tcp://{_EVERYWHERE.get(match['host'], match['host'])}:{last}"
    scheme, _, rest = endpoint.partition("://")
    if scheme == "inproc" and rest:
        return f"{endpoint}_dp{rank}" if rank else endpoint
    if scheme == "ipc" and rest:
        if rank:
            raise EventEndpointError(endpoint, f"there is no ipc endpoint for rank {rank}")
        return endpoint
    raise EventEndpointError(endpoint, "it is not of the form tcp://HOST:PORT or ipc://PATH")
