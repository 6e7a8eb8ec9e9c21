"""The link to a NATS server, which knows which messages the server has.

It opens a new connection after every failure, and sends again what the server has not confirmed.
Without JetStream a message may then come twice, and listeners recognize it by the number in its
envelope. JetStream recognizes it by its id within its duplicate window, two minutes unless
configured, and keeps one copy. Messages come in their order, except one that a stream has refused:
the stream may have kept those behind it before it is sent again.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from typing import TYPE_CHECKING, Final

from mpmetrics._forks import reset_in_children
from mpmetrics.engines.events.event_loop import LoopThread, wait_for
from mpmetrics.engines.events.link import INTERRUPTED, TOO_LARGE, LinkError
from mpmetrics.engines.events.nats_acks import StreamAcks, size_with_headers
from mpmetrics.engines.events.nats_connection import NatsConnection, explain, import_nats
from mpmetrics.engines.events.nats_options import NatsOptions, check_url, connect_arguments

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mpmetrics.engines.events.dynamo_protocol import Message

PATIENCE: Final = 5.0
"""Seconds that a server has to accept a connection, and to confirm messages."""

_TO_CLOSE: Final = 1.0
"""Seconds that `close` waits for the connection to end."""


class NatsLink:
    """A link to one of some NATS *servers*: URLs, separated by commas."""

    def __init__(
        self, servers: str, options: NatsOptions | None = None, *, patience: float = PATIENCE
    ) -> None:
        """Connect later; a server has *patience* seconds for each step.

        Raises `MissingExtraError`, `EventEndpointError`, `NatsOptionError`.
        """
        import_nats()  # that it is missing shows now, not with the first message
        self._servers = [check_url(url.strip()) for url in servers.split(",")]
        self._options = options or NatsOptions()
        self._options.check()
        self._patience = patience
        is_tls = any(url.startswith(("tls:", "wss:")) for url in self._servers)
        self._must_encrypt = self._options.wants_tls or is_tls
        self._arguments = connect_arguments(self._options, with_tls=self._must_encrypt)
        self._interrupted = False
        self._inherited: list[object] = []
        self._loop: LoopThread | None = None
        self._connection: NatsConnection | None = None
        self._sending: concurrent.futures.Future[None] | None = None
        self.reset_after_fork()
        reset_in_children(self)

    def reset_after_fork(self) -> None:
        """Start from scratch in a forked child: connection and loop are its parent's."""
        # References are kept, so that nothing is closed or sent on the parent's connection.
        self._inherited += [self._loop, self._connection]
        self._lock = threading.Lock()
        self._loop = self._connection = self._sending = None

    def send(self, subject: str, messages: Sequence[Message]) -> None:
        """Send *messages*, in their order, within seconds. Raises `LinkError`."""
        with self._lock:
            if self._interrupted:
                raise LinkError(INTERRUPTED, "the link was interrupted")
            if self._loop is None:
                self._loop = LoopThread("mpmetrics-nats")
            sending = self._sending = self._loop.start(self._send(subject, messages))
        try:
            sending.result()
        except concurrent.futures.CancelledError as error:
            raise LinkError(INTERRUPTED, "the link was interrupted") from error

    def interrupt(self) -> None:
        """Have a running `send` and all further ones raise; any thread may call this."""
        with self._lock:
            self._interrupted = True
            if self._sending is not None:
                self._sending.cancel()

    def close(self) -> None:
        """Disconnect; not during `send`."""
        loop, self._loop = self._loop, None
        if loop is None:
            return
        closing = loop.start(self._disconnect())
        try:
            closing.result(_TO_CLOSE)
        except (concurrent.futures.TimeoutError, concurrent.futures.CancelledError):
            closing.cancel()
        loop.close()

    async def _send(self, subject: str, messages: Sequence[Message]) -> None:
        """Send *messages*; any failure ends the connection."""
        try:
            connection = await self._connect()
            size_of = size_with_headers if self._options.jetstream else _size
            messages, excess = _select_allowed(messages, connection.client.max_payload, size_of)
            if messages:
                await self._publish(connection, subject, messages)
        except BaseException as error:  # it is raised in the thread that waits
            failed = self._connection
            await self._disconnect(at_once=True)
            if isinstance(error, asyncio.CancelledError):
                raise
            raise explain(error, failed.error if failed else None) from error
        if excess is not None:
            raise LinkError(TOO_LARGE, excess, taken=len(messages))

    async def _connect(self) -> NatsConnection:
        """Return the open connection, or open one."""
        if self._connection is None or not self._connection.is_open:
            await self._disconnect(at_once=True)
            # Set before it is open, so that `_disconnect` closes it whatever happens.
            self._connection = NatsConnection(
                self._servers,
                self._arguments,
                patience=self._patience,
                must_encrypt=self._must_encrypt,
            )
            await wait_for(self._connection.open(), self._patience)
        self._connection.error = None
        return self._connection

    async def _publish(
        self, connection: NatsConnection, subject: str, messages: Sequence[Message]
    ) -> None:
        """Publish *messages*, and wait until the server has confirmed them."""
        acks = StreamAcks(len(messages) if self._options.jetstream else 0)
        if self._options.jetstream:
            publication = acks.publish(connection, subject, messages)
        else:
            publication = connection.publish(subject, messages)
        try:
            await connection.wait_unless_closed(publication)
        except Exception as error:  # it costs these messages, and no others
            failure = explain(error, connection.error)
            failure.taken = acks.kept
            raise failure from error
        finally:
            acks.cancel()

    async def _disconnect(self, *, at_once: bool = False) -> None:
        """Close the connection, if there is one; *at_once* without sending what waits."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close(at_once=at_once)


def _select_allowed(
    messages: Sequence[Message], largest: int, size_of: Callable[[Message], int]
) -> tuple[Sequence[Message], str | None]:
    """Return the messages before the first one that is too large, and a line about that one."""
    for place, message in enumerate(messages):
        size = size_of(message)
        if size > largest:
            return messages[:place], f"a message of {size} bytes, and {largest} are allowed"
    return messages, None


def _size(message: Message) -> int:
    return len(message.packed)
