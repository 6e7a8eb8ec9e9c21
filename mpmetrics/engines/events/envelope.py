"""How Dynamo's event plane carries what is published: subjects, envelopes, frames of ZeroMQ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote

from mpmetrics.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Callable

KV_EVENTS: Final = "kv-events"
"""The topic of KV events."""

_VERSION: Final = 1


class Address(NamedTuple):
    """Whose events they are: an *endpoint* of a *component* in a *namespace*, as Dynamo has it."""

    namespace: str = "dynamo"
    component: str = "backend"
    endpoint: str = "generate"

    def subject(self, topic: str = KV_EVENTS) -> str:
        """Return the subject on which these events of a *topic* are published."""
        names = zip(self._fields, self, strict=True)
        parts = (f"{field}.{escaped(name)}" for field, name in names)
        return ".".join([*parts, topic])


def escaped(segment: str) -> str:
    """Return a *segment* of a subject in which only letters, digits, `-` and `_` are themselves."""
    # Of what the library leaves alone these two have to be escaped, too.
    return quote(segment, safe="").replace(".", "%2E").replace("~", "%7E")


def packer(extra: str) -> Callable[[object], bytes]:
    """Return what packs values by msgpack. Raises `MissingExtraError` for the *extra*."""
    try:
        import msgspec  # noqa: PLC0415 - only who has events needs it
    except ImportError as error:
        raise MissingExtraError(package="msgspec", extra=extra) from error
    return msgspec.msgpack.Encoder().encode


class Envelope(NamedTuple):
    """A *payload*, who has published it, as which of his messages, and when, in milliseconds."""

    publisher_id: int
    sequence: int
    published_at: int
    topic: str
    payload: bytes


def frames(envelope: Envelope, packed: bytes) -> list[bytes]:
    """Return an *envelope*, which is *packed* already, as a message of the plane by ZeroMQ."""
    return [
        envelope.topic.encode(),
        envelope.publisher_id.to_bytes(8, "big"),
        envelope.sequence.to_bytes(8, "big"),
        bytes([_VERSION]) + len(packed).to_bytes(4, "big") + packed,
    ]
