"""All use of private parts of nats-py. `tests/engines/events/test_nats_private.py` checks each one.

nats-py has no public way to end a connection at once, to see whether it is encrypted, or to check
it before the credentials are sent. The extra `nats` has an upper bound because of these names:
raise it when the tests pass with the next version.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

PRIVATE_NAMES: Final = {
    "Client": ("_connect_command", "_transport"),
    "TcpTransport": ("_io_writer",),
}
"""The private attributes that this module uses, by the class of nats-py."""


def abort(client: Any) -> None:
    """Close the socket of *client* at once, without sending what waits to be sent."""
    writer = _find_writer(client)
    if writer is not None:
        writer.transport.abort()


def is_encrypted(client: Any) -> bool:
    """Return whether *client* has a connection by TLS."""
    writer = _find_writer(client)
    return writer is not None and writer.get_extra_info("ssl_object") is not None


def check_before_credentials(client: Any, check: Callable[[], None]) -> None:
    """Have *client* call *check* before it sends its credentials; if that raises, it sends none."""
    make_command = client._connect_command  # noqa: SLF001 - see the module

    def check_and_make() -> bytes:
        check()
        return bytes(make_command())

    client._connect_command = check_and_make  # noqa: SLF001 - see the module


def _find_writer(client: Any) -> Any:
    """Return the stream to which *client* writes, None if it has none, as over WebSocket."""
    return getattr(getattr(client, "_transport", None), "_io_writer", None)
