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
    """The publisher of one *rank*: its *endpoint*, and where to ask for a *replay*, if anywhere.

    With *bind* the publisher connects to the endpoint, and has to be listened to there.
    """

    rank: int
    endpoint: str
    replay: str = ""
    bind: bool = False


def publishers(
    endpoint: str, replay: str = "", *, ranks: int = 1, first_rank: int = 0, bind: bool = False
) -> Sequence[Publisher]:
    """Return the publishers of so many *ranks* of an engine that is configured with *endpoint*.

    vLLM listens on an endpoint with a `*`, and on `ipc://`; to others it connects, and *bind* is
    needed. Replays are asked for where it listens, in any case. Raises `EventEndpointError`.
    """
    return [
        Publisher(
            rank, offset(endpoint, rank, bind=bind), replay and offset(replay, rank), bind=bind
        )
        for rank in range(first_rank, first_rank + ranks)
    ]


def offset(endpoint: str, rank: int, *, bind: bool = False) -> str:
    """Return where the publisher of *rank* is: vLLM adds the rank to the port.

    An endpoint on which it listens everywhere is one to connect to on this machine, unless it is
    listened on here (*bind*). Raises `EventEndpointError`.
    """
    if match := _TCP.fullmatch(endpoint):
        port = int(match["port"])
        last = port + rank
        if not 0 < port <= last <= _LARGEST_PORT:
            raise EventEndpointError(endpoint, f"rank {rank} would have port {last}")
        host = match["host"]
        return f"tcp://{host if bind else _EVERYWHERE.get(host, host)}:{last}"
    scheme, _, rest = endpoint.partition("://")
    if scheme == "inproc" and rest:
        return f"{endpoint}_dp{rank}" if rank else endpoint
    if scheme == "ipc" and rest:
        if rank:
            raise EventEndpointError(endpoint, f"there is no ipc endpoint for rank {rank}")
        return endpoint
    raise EventEndpointError(endpoint, "it is not of the form tcp://HOST:PORT or ipc://PATH")
