"""Acknowledgements of messages by a stream of JetStream."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import TYPE_CHECKING, Any, Final

from mpmetrics.engines.events.link import NO_STREAM, REFUSED, TOO_LARGE, LinkError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mpmetrics.engines.events.dynamo_protocol import Message
    from mpmetrics.engines.events.nats_connection import NatsConnection

_ID: Final = "Nats-Msg-Id"
_HEADERS: Final = f"NATS/1.0\r\n{_ID}: \r\n\r\n"
"""The headers of a message, without its id."""

_NO_RESPONDERS: Final = "503"
"""The status with which a server reports that no stream listens on a subject."""

_MESSAGE_EXCEEDS_MAXIMUM: Final = 10054
"""The code with which a stream refuses a message that is larger than its limit."""


def size_with_headers(message: Message) -> int:
    """Return the size of a *message* with its headers, as a server counts it."""
    return len(_HEADERS) + len(message.id) + len(message.packed)


class StreamAcks:
    """The acknowledgements of some messages, in the order of the messages."""

    def __init__(self, count: int) -> None:
        """Expect *count* acknowledgements. For use in an event loop."""
        loop = asyncio.get_running_loop()
        # The result is "" for a message that the stream keeps, else why it never will.
        self._answers: Sequence[asyncio.Future[str]] = [loop.create_future() for _ in range(count)]

    @property
    def kept(self) -> int:
        """The number of messages that the stream keeps, before the first one that it does not."""
        return sum(1 for _ in itertools.takewhile(_is_kept, self._answers))

    async def publish(
        self, connection: NatsConnection, subject: str, messages: Sequence[Message]
    ) -> None:
        """Publish *messages*; return when a stream keeps them all. Raises `LinkError`.

        nats-py's own `publish` of JetStream does not report a stream that refuses a message.
        """
        client = connection.client
        inbox = client.new_inbox()

        async def take(reply: Any) -> None:
            answer = self._answers[int(reply.subject.rpartition(".")[2])]
            if not answer.done():
                settle(answer, reply.data, reply.headers or {})

        subscription = await client.subscribe(f"{inbox}.*", cb=take)
        for place, message in enumerate(messages):
            reply, headers = f"{inbox}.{place}", {_ID: message.id}
            await client.publish(subject, message.packed, reply=reply, headers=headers)
        await asyncio.wait(
            self._answers, timeout=connection.patience, return_when=asyncio.FIRST_EXCEPTION
        )
        self._raise_first(connection.error)
        await subscription.unsubscribe()

    def cancel(self) -> None:
        """Expect no further acknowledgement."""
        for answer in self._answers:
            answer.cancel()

    def _raise_first(self, denial: Exception | None) -> None:
        """Raise the error of the first message that is not kept, *denial* if it has no answer.

        A message counts as too large only when all before it are kept: the number of those is the
        only thing that identifies it.
        """
        for failure in [each.exception() for each in self._answers if each.done()]:
            if failure is not None:
                raise failure
        first = next((each for each in self._answers if not _is_kept(each)), None)
        if first is None:
            return
        if not first.done():
            raise denial or asyncio.TimeoutError
        raise LinkError(TOO_LARGE, first.result())


def settle(answer: asyncio.Future[str], data: bytes, headers: Mapping[str, str]) -> None:
    """Set the result of *answer* from the reply to a message.

    The result is "" if a stream keeps the message, else why it never will. What may change, such as
    that there is no stream, becomes an exception.
    """
    if headers.get("Status") == _NO_RESPONDERS:
        answer.set_exception(LinkError(NO_STREAM, "no stream keeps what is published"))
        return
    try:
        reply = json.loads(data)
    except ValueError:
        reply = data
    # Other subscribers of the subject may reply, too, with any text.
    if isinstance(reply, dict) and "stream" in reply and "error" not in reply:
        answer.set_result("")
    elif _is_too_large(reply):
        answer.set_result(f"a stream says {reply}")
    else:
        answer.set_exception(LinkError(REFUSED, f"a stream says {reply}"))


def _is_too_large(reply: object) -> bool:
    """Return whether a stream refuses the message for its size: do not send it again."""
    error = reply.get("error") if isinstance(reply, dict) else None
    return isinstance(error, dict) and error.get("err_code") == _MESSAGE_EXCEEDS_MAXIMUM


def _is_kept(answer: asyncio.Future[str]) -> bool:
    """Return whether a stream has confirmed the message of *answer*."""
    is_known = answer.done() and not answer.cancelled() and answer.exception() is None
    return is_known and not answer.result()
