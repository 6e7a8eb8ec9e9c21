"""The private parts of uvicorn that the server uses: they are there in the installed release."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import pytest
import uvicorn
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle
from uvicorn.server import ServerState

USES: Final[dict[str, str]] = {
    "H11Protocol.connection_made": "starts the time limit of the first request",
    "H11Protocol.data_received": "starts the time limit of a response",
    "H11Protocol.eof_received": "keeps a half-closed connection open",
    "H11Protocol.on_response_complete": "stops the time limit of a response",
    "H11Protocol.connection_lost": "stops every time limit",
    "H11Protocol.conn": "tells whether a part of a next request has arrived",
    "H11Protocol.cycle": "tells whether a request is being answered",
    "H11Protocol.loop": "calls when a time limit has passed",
    "H11Protocol.scheme": "tells TLS from plain HTTP",
    "H11Protocol.transport": "closes the connection",
    "RequestResponseCycle.response_complete": "tells whether a response is complete",
    "Server.server_state": "lists connections",
    "Server.startup": "reports that the server accepts clients",
    "ServerState.connections": "lists the connections to abort at the end",
    "Config.load": "is called before the TLS context is set",
    "Config.ssl": "takes a TLS context that is ready",
}
"""What `mpmetrics.web.uvicorn_server` does with each private name."""


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answer nothing."""


async def make_objects() -> dict[str, object]:
    """Return an object of each class by the name of the class; most names are of instances."""
    config = uvicorn.Config(application, log_config=None)
    config.load()
    loop = asyncio.get_running_loop()
    transport = asyncio.Transport()
    protocol = H11Protocol(config, ServerState(), {}, _loop=loop)
    protocol.transport = transport
    cycle = RequestResponseCycle(
        scope={"type": "http"},  # type: ignore[typeddict-item]  # nothing reads the rest
        conn=protocol.conn,
        transport=transport,
        flow=FlowControl(transport),
        logger=protocol.logger,
        access_logger=protocol.access_logger,
        access_log=False,
        default_headers=[],
        message_event=asyncio.Event(),
        on_response=lambda: None,
    )
    made = (config, uvicorn.Server(config), ServerState(), protocol, cycle)
    return {type(each).__name__: each for each in made}


@pytest.mark.parametrize("name", USES)
def test_a_private_name_is_there(name: str) -> None:
    """Each private name that the server uses is there; a failure says what broke."""
    owner, _, attribute = name.partition(".")
    found = asyncio.run(make_objects())[owner]
    assert hasattr(found, attribute), (
        f"uvicorn {uvicorn.__version__} has no {name}, which {USES[name]}: "
        "see mpmetrics/web/uvicorn_server.py"
    )
