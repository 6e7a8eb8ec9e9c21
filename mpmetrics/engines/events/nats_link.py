"""Handing messages to a NATS server, and knowing that it has them.

A connection of its own is made anew after every failure, since that of nats-py, when it comes back
by itself, does not tell which messages the server got. What the server has not confirmed is sent
again. Without JetStream it may then come twice, and its listeners know it by the number in the
envelope; JetStream knows it by its id for as long as its stream looks for duplicates, two minutes
unless configured, and keeps one. Messages come in their order, but for one that a stream has
refused: those behind it may have been kept before it is sent again.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import itertools
import threading
from typing import TYPE_CHECKING, Any, Final, TypeVar

from mpmetrics._forks import reset_in_children
from mpmetrics.engines.events.nats_acks import is_kept, raise_first, settle
from mpmetrics.engines.events.nats_options import NatsOptions, arguments, checked
from mpmetrics.engines.events.transport import (
    DENIED,
    INTERRUPTED,
    LATE,
    LOST,
    REFUSED,
    TOO_LARGE,
    UNREACHABLE,
    LinkError,
    LoopThread,
)
from mpmetrics.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Sequence

    from mpmetrics.engines.events.dynamo_protocol import Message

_Result = TypeVar("_Result")

PATIENCE: Final = 5.0
"""Seconds that a server has to let somebody in, and to confirm what it was given."""

_TO_CLOSE: Final = 0.5
_ID: Final = "Nats-Msg-Id"
_HEADERS: Final = f"NATS/1.0\r\n{_ID}: \r\n\r\n"
"""What a message has before its payload, beside its id."""

_DENIALS: Final = ("authorization", "authentication", "permissions")


class NatsLink:
    """A link to one of some NATS *servers*: URLs, separated by commas."""

    def __init__(
        self, servers: str, options: NatsOptions | None = None, *, patience: float = PATIENCE
    ) -> None:
        """Connect later; a server has *patience* seconds for each step.

        Raises `MissingExtraError`, `EventEndpointError`, `NatsOptionError`.
        """
        try:
            import nats  # only who has events needs it
        except ImportError as error:
            raise MissingExtraError(package="nats-py", extra="nats") from error
        self._nats: Any = nats
        self._servers = [checked(url.strip()) for url in servers.split(",")]
        self._options = (options or NatsOptions()).checked()
        self._patience = patience
        is_tls = any(url.startswith(("tls:", "wss:")) for url in self._servers)
        self._wants_tls = self._options.wants_tls or is_tls
        self._given = arguments(self._options, with_tls=self._wants_tls)
        self._strangers: list[object] = []
        self._interrupted = False
        self.reset_after_fork()
        reset_in_children(self)

    def reset_after_fork(self) -> None:
        """Connect anew in a forked child: the connection is its parent's, and so is the loop."""
        # Kept, so that nothing is closed or said where the parent goes on.
        self._strangers += [vars(self).get("_loop"), vars(self).get("_client")]
        self._lock = threading.Lock()
        self._loop: LoopThread | None = None
        self._sending: concurrent.futures.Future[None] | None = None
        self._client: Any = None
        self._lost: asyncio.Event
        self._error: Exception | None = None

    def send(self, subject: str, messages: Sequence[Message]) -> None:
        """Hand over *messages*, in their order, within seconds. Raises `LinkError`."""
        with self._lock:
            if self._interrupted:
                raise LinkError(INTERRUPTED, "it is over")
            if self._loop is None:
                self._loop = LoopThread("mpmetrics-nats")
            sending = self._sending = self._loop.start(self._sent(subject, messages))
        try:
            sending.result()
        except concurrent.futures.CancelledError as error:
            raise LinkError(INTERRUPTED, "it is over") from error

    def interrupt(self) -> None:
        """Have `send` raise now, and whenever it is called; any thread may call this."""
        with self._lock:
            self._interrupted = True
            if self._sending is not None:
                self._sending.cancel()

    def close(self) -> None:
        """Disconnect; not while `send` is called."""
        loop, self._loop = self._loop, None
        if loop is None:
            return
        closing = loop.start(self._disconnect())
        try:
            closing.result(2 * _TO_CLOSE)
        except (concurrent.futures.TimeoutError, concurrent.futures.CancelledError):
            closing.cancel()
        loop.close()

    async def _sent(self, subject: str, messages: Sequence[Message]) -> None:
        """Hand over *messages*; whatever goes wrong ends the connection."""
        try:
            client = await _within(self._patience, self._connected())
            self._error = None
            size = _size_with_id if self._options.jetstream else _size
            messages, larger = _fitting(messages, client.max_payload, size)
            if messages:
                await self._handed(client, subject, messages)
        except BaseException as error:  # it is raised where it is waited for
            await self._disconnect(at_once=True)
            if isinstance(error, asyncio.CancelledError):
                raise
            raise self._explained(error) from error
        if larger is not None:
            raise LinkError(TOO_LARGE, larger, taken=len(messages))

    async def _connected(self) -> Any:
        """Return a connection; there may be one."""
        if self._client is not None and self._client.is_connected:
            return self._client
        await self._disconnect(at_once=True)
        self._error = None
        self._lost = asyncio.Event()
        # Known before it is connected, so that `_disconnect` finds it whatever happens.
        client = self._client = self._nats.aio.client.Client()
        self._guard(client)
        await client.connect(
            self._servers,
            error_cb=self._note,
            closed_cb=self._lose,
            allow_reconnect=False,
            # What is 0 goes on for ever, with 1 each server is tried, and tried again.
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
            connect_timeout=self._patience,
            name="mpmetrics",
            **self._given,
        )
        self._refuse_plain(client)
        return client

    async def _handed(self, client: Any, subject: str, messages: Sequence[Message]) -> None:
        """Publish *messages*, and wait until the server has confirmed them."""
        answers: list[asyncio.Future[str]] = []
        if self._options.jetstream:
            answers += [asyncio.get_running_loop().create_future() for _ in messages]
            confirmed = self._kept(client, subject, messages, answers)
        else:
            confirmed = self._heard(client, subject, messages)
        try:
            await self._unless_lost(confirmed)
        except Exception as error:  # it costs these events, and no others
            failure = self._explained(error)
            failure.taken = sum(1 for _ in itertools.takewhile(is_kept, answers))
            raise failure from error
        finally:
            for answer in answers:
                answer.cancel()

    async def _heard(self, client: Any, subject: str, messages: Sequence[Message]) -> None:
        """Publish; the server answers a ping when it has read all that was before it."""
        for message in messages:
            await client.publish(subject, message.packed)
        # nats-py writes a ping at once, and what is published a little later. So the first answer
        # says nothing yet; before the second ping everything has been written.
        await client.flush(self._patience)
        await client.flush(self._patience)
        if self._error is not None:  # such as that the subject is not allowed
            raise self._error

    async def _kept(
        self,
        client: Any,
        subject: str,
        messages: Sequence[Message],
        answers: Sequence[asyncio.Future[str]],
    ) -> None:
        """Publish, and wait until a stream has each message."""
        # By hand: what nats-py has for this does not tell of a stream that refuses a message.
        inbox = client.new_inbox()

        async def take(reply: Any) -> None:
            answer = answers[int(reply.subject.rpartition(".")[2])]
            if not answer.done():
                settle(answer, reply.data, reply.headers or {})

        subscription = await client.subscribe(f"{inbox}.*", cb=take)
        for place, message in enumerate(messages):
            reply, headers = f"{inbox}.{place}", {_ID: message.id}
            await client.publish(subject, message.packed, reply=reply, headers=headers)
        await asyncio.wait(answers, timeout=self._patience, return_when=asyncio.FIRST_EXCEPTION)
        raise_first(answers, self._error)
        await subscription.unsubscribe()

    async def _unless_lost(self, confirmed: Coroutine[Any, Any, None]) -> None:
        """Wait for something that does not come any more when the connection is lost."""
        lost = asyncio.ensure_future(self._lost.wait())
        wanted = asyncio.ensure_future(confirmed)
        try:
            done = await _first((wanted, lost), 2 * self._patience)
        finally:
            lost.cancel()
        if wanted not in done and lost in done:
            raise LinkError(LOST, f"the connection was lost: {self._error or 'it was closed'}")
        await wanted

    def _explained(self, error: BaseException) -> LinkError:
        """Return why nothing was handed over, in one of a few words."""
        if isinstance(error, LinkError):
            return error
        if isinstance(error, self._nats.errors.NoServersError) and self._error is not None:
            error = self._error  # what it was that went wrong with the last server
        text = f"{type(error).__name__}: {error}".rstrip(": ")
        if any(word in text.lower() for word in _DENIALS):
            return LinkError(DENIED, text)
        # Since Python 3.11 one that is late is an OSError, too.
        if isinstance(error, asyncio.TimeoutError):
            return LinkError(LATE, text)
        if isinstance(error, OSError | self._nats.errors.NoServersError):
            return LinkError(UNREACHABLE, text)
        return LinkError(LOST, text)

    async def _note(self, error: Exception) -> None:
        """Remember the last error that nats-py tells of."""
        self._error = error

    async def _lose(self) -> None:
        self._lost.set()

    async def _disconnect(self, *, at_once: bool = False) -> None:
        """End the connection; *at_once* if what is still to be sent is of no use any more."""
        client, self._client = self._client, None
        if client is None:
            return
        writer = _writer(client)
        if at_once and writer is not None:
            writer.transport.abort()
        try:
            await _within(_TO_CLOSE, client.close())
        except Exception as error:  # a callback may raise anything
            self._error = self._error or error
        finally:
            # It would wait until the other side has read what is still to be sent.
            if writer is not None:
                writer.transport.abort()

    def _guard(self, client: Any) -> None:
        """Have *client* tell no secret to a server that listens in plain text if it is to encrypt.

        nats-py goes on in plain text, whatever it was given for TLS, when a server says so.
        """
        command = client._connect_command  # noqa: SLF001 - there is no other place in between

        def guarded() -> bytes:
            self._refuse_plain(client)
            return bytes(command())

        client._connect_command = guarded  # noqa: SLF001 - as above

    def _refuse_plain(self, client: Any) -> None:
        """Raise `LinkError` if the connection is to be encrypted and is not."""
        writer = _writer(client)
        if self._wants_tls and (writer is None or writer.get_extra_info("ssl_object") is None):
            raise LinkError(REFUSED, "the server does not encrypt")


async def _within(seconds: float, coroutine: Coroutine[Any, Any, _Result]) -> _Result:
    """Return what *coroutine* gives, or raise `asyncio.TimeoutError`.

    `asyncio.wait_for` waits until what it has cancelled has ended. Parts of nats-py take no notice
    of being cancelled, and end only with their connection.
    """
    task = asyncio.ensure_future(coroutine)
    await _first((task,), seconds)
    return await task


async def _first(tasks: Iterable[asyncio.Future[Any]], seconds: float) -> set[asyncio.Future[Any]]:
    """Wait for the first of *tasks*, and forget the others. Raises `asyncio.TimeoutError`."""
    waiting = {*tasks}
    try:
        done, _ = await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            if not task.done():
                task.add_done_callback(_forget)
                task.cancel()
    if not done:
        raise asyncio.TimeoutError
    return done


def _forget(task: asyncio.Future[Any]) -> None:
    """Have nobody complain that nobody has looked at how *task* ended."""
    if not task.cancelled():
        task.exception()


def _writer(client: Any) -> Any:
    """Return the stream to which nats-py writes, None if there is none; it has no public name."""
    return getattr(getattr(client, "_transport", None), "_io_writer", None)


def _fitting(
    messages: Sequence[Message], most: int, size_of: Callable[[Message], int]
) -> tuple[Sequence[Message], str | None]:
    """Return the messages before the first that the server will not take, and what is wrong."""
    for place, message in enumerate(messages):
        size = size_of(message)
        if size > most:
            return messages[:place], f"a message of {size} bytes, and {most} are allowed"
    return messages, None


def _size(message: Message) -> int:
    return len(message.packed)


def _size_with_id(message: Message) -> int:
    """Return the size of a *message* with its headers, which a server counts, too."""
    return len(_HEADERS) + len(message.id) + len(message.packed)
