"""One connection to a NATS server, by nats-py. It is not used again after a failure.

nats-py can reconnect by itself, but does not report which messages the server got before that. So a
connection does not reconnect; `NatsLink` opens a new one.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from mpmetrics.engines.events import nats_private
from mpmetrics.engines.events.event_loop import wait_for, wait_for_first
from mpmetrics.engines.events.link import (
    DENIED,
    LATE,
    LOST,
    REFUSED,
    UNREACHABLE,
    LinkError,
)
from mpmetrics.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping, Sequence

    from mpmetrics.engines.events.dynamo_protocol import Message

_TO_CLOSE: Final = 0.5
"""Seconds in which a connection has to close."""

_DENIALS: Final = ("authorization", "authentication", "permissions")


def import_nats() -> Any:
    """Return the module of nats-py. Raises `MissingExtraError`."""
    try:
        import nats  # only sinks for NATS need it
    except ImportError as error:
        raise MissingExtraError(package="nats-py", extra="nats") from error
    return nats


class NatsConnection:
    """A connection to one of some *servers*, with the *arguments* of nats-py's `connect`."""

    def __init__(
        self,
        servers: Sequence[str],
        arguments: Mapping[str, Any],
        *,
        patience: float,
        must_encrypt: bool,
    ) -> None:
        """Connect later; a server has *patience* seconds for each step."""
        self._servers = servers
        self._arguments = arguments
        self._must_encrypt = must_encrypt
        self._closed = asyncio.Event()
        self.patience = patience
        self.client: Any = import_nats().aio.client.Client()
        self.error: Exception | None = None
        """The last error that nats-py reported."""
        # nats-py goes on in plain text when a server says so, whatever it was given for TLS.
        nats_private.check_before_credentials(self.client, self._check_encryption)

    @property
    def is_open(self) -> bool:
        """Whether messages can be published."""
        return bool(self.client.is_connected)

    async def open(self) -> None:
        """Connect to the first server that accepts."""
        await self.client.connect(
            self._servers,
            error_cb=self._keep_error,
            closed_cb=self._note_closed,
            allow_reconnect=False,
            # With 0 nats-py tries for ever, with 1 it tries each server twice.
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
            connect_timeout=self.patience,
            name="mpmetrics",
            **self._arguments,
        )
        self._check_encryption()

    async def close(self, *, at_once: bool = False) -> None:
        """Disconnect; *at_once* without sending what waits to be sent."""
        if at_once:
            nats_private.abort(self.client)
        try:
            await wait_for(self.client.close(), _TO_CLOSE)
        except Exception as error:  # callbacks of nats-py may raise anything
            self.error = self.error or error
        finally:
            # Else the socket would wait until the server has read what waits to be sent.
            nats_private.abort(self.client)

    async def publish(self, subject: str, messages: Sequence[Message]) -> None:
        """Publish *messages*; return when the server has read them all.

        A server answers a ping after it has read all that came before the ping.
        """
        for message in messages:
            await self.client.publish(subject, message.packed)
        # nats-py writes a ping at once, but messages a little later. So the answer to the first
        # ping proves nothing; before the second one all messages have been written.
        await self.client.flush(self.patience)
        await self.client.flush(self.patience)
        if self.error is not None:  # for instance, the subject is not allowed
            raise self.error

    async def wait_unless_closed(self, publication: Coroutine[Any, Any, None]) -> None:
        """Wait for *publication*; raise `LinkError` if the connection closes before its end."""
        closing = asyncio.ensure_future(self._closed.wait())
        publishing = asyncio.ensure_future(publication)
        try:
            done = await wait_for_first((publishing, closing), 2 * self.patience)
        finally:
            closing.cancel()
        if publishing not in done and closing in done:
            raise LinkError(LOST, f"the connection was lost: {self.error or 'it was closed'}")
        await publishing

    def _check_encryption(self) -> None:
        """Raise `LinkError` if the connection has to be encrypted and is not."""
        if self._must_encrypt and not nats_private.is_encrypted(self.client):
            raise LinkError(REFUSED, "the server does not encrypt")

    async def _keep_error(self, error: Exception) -> None:
        self.error = error

    async def _note_closed(self) -> None:
        self._closed.set()


def explain(error: BaseException, reported: Exception | None) -> LinkError:
    """Return *error* as a `LinkError` with its reason; *reported* is the last error of nats-py."""
    if isinstance(error, LinkError):
        return error
    no_servers = import_nats().errors.NoServersError
    if isinstance(error, no_servers) and reported is not None:
        error = reported  # that of the last server
    text = f"{type(error).__name__}: {error}".rstrip(": ")
    if any(word in text.lower() for word in _DENIALS):
        return LinkError(DENIED, text)
    # Before OSError: since Python 3.11 a TimeoutError is one, too.
    if isinstance(error, asyncio.TimeoutError):
        return LinkError(LATE, text)
    if isinstance(error, OSError | no_servers):
        return LinkError(UNREACHABLE, text)
    return LinkError(LOST, text)
