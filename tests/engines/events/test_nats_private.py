"""The private parts of nats-py that mpmetrics uses, in the installed version."""

from __future__ import annotations

import importlib.metadata
import inspect
from typing import Any

import nats.aio.client
import nats.aio.transport
import pytest

from mpmetrics.engines.events.nats_private import PRIVATE_NAMES, check_before_credentials

MADE: dict[str, Any] = {
    "Client": nats.aio.client.Client(),
    "TcpTransport": nats.aio.transport.TcpTransport(),  # type: ignore[no-untyped-call]
}


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, names in PRIVATE_NAMES.items() for name in names]
)
def test_a_private_name_of_nats_py(kind: str, name: str) -> None:
    """Every private attribute that `nats_private` uses exists in the installed nats-py."""
    version = importlib.metadata.version("nats-py")
    assert hasattr(MADE[kind], name), (
        f"nats-py {version} has no {kind}.{name} any more: find its successor, change "
        "mpmetrics/engines/events/nats_private.py, or bound the extra `nats` below this version"
    )


def test_the_connect_command_of_nats_py() -> None:
    """nats-py gets what it sends first, with the credentials, from the method that is replaced."""
    source = inspect.getsource(nats.aio.client.Client)
    assert "self._connect_command()" in source, "Client never calls Client._connect_command"


def test_the_check_comes_before_the_credentials() -> None:
    """If the check raises, the command with the credentials is not made."""
    calls: list[str] = []

    class Client:
        def _connect_command(self) -> bytes:
            calls.append("credentials")
            return b"CONNECT"

    def refuse() -> None:
        calls.append("check")
        if len(calls) > 2:
            raise ConnectionError

    client: Any = Client()
    check_before_credentials(client, refuse)
    assert client._connect_command() == b"CONNECT"
    with pytest.raises(ConnectionError):
        client._connect_command()
    assert calls == ["check", "credentials", "check"]
